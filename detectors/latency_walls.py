"""Where latencies may meet a wall: timeouts of the register, atoms seen before, and usual defaults."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from engine.judge.facts import DEPENDENCY, SETUP, TRANSFER
from engine.limits import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

NONE, USUAL, SEEN, REGISTERED = 0, 1, 2, 3
USUAL_WALLS_S = (5.0, 10.0, 15.0, 20.0, 30.0, 60.0)
USUAL_STAGES = frozenset((SETUP, TRANSFER, DEPENDENCY))  # what stands behind proxies and gateways
WALLS_MAX = 12
DEPENDENCY_PREFIX = DEPENDENCY + ":"
MATCH_S = (0.15, 0.15)  # an atom so far below or above a timeout of the register is that timeout
Labels = tuple[tuple[str, str], ...]


def timeout_rows(limits: Sequence[LimitInstance]) -> list[tuple[int, LimitInstance]]:
    """Give the timeouts of the register with their rows among all limits."""
    return [(row, one) for row, one in enumerate(limits) if one.limit.kind == TIMEOUT]


def timeouts_of(
    rows: Sequence[tuple[int, LimitInstance]], summary: WindowSummary
) -> list[tuple[LimitInstance, float]]:
    """Give those of `timeout_rows` that have a value now."""
    values = summary.limits.value
    return [
        (one, float(values[row])) for row, one in rows if row < len(values) and not math.isnan(values[row])
    ]


def stage_of(operation: str) -> str:
    """Give the stage whose latency an operation is measured by; also what labels may say, without a name."""
    return DEPENDENCY if operation.startswith(DEPENDENCY_PREFIX) else operation


def names_of(stage: str) -> tuple[str, ...]:
    """Give the names by which a timeout of the register may speak of a stage."""
    return stage, stage_of(stage), stage.removeprefix(DEPENDENCY_PREFIX)


def cuts(instance: LimitInstance, stage: str, labels: Labels) -> bool:
    """Say whether a timeout cuts this stage for calls of these labels."""
    limit = instance.limit
    if limit.stage not in names_of(stage):
        return False
    given = dict(labels)
    wanted = {label: set(values) for label, values in limit.applies_to.items()}
    wanted |= {label: {value} for label, value in instance.split}
    return all(label not in given or given[label] in values for label, values in wanted.items())


def matching(
    timeouts: Sequence[tuple[LimitInstance, float]], stage: str, labels: Labels, duration_s: float
) -> list[tuple[LimitInstance, float]]:
    """Give the timeouts of the register that an atom at `duration_s` may be."""
    below, above = MATCH_S
    return [
        (instance, value)
        for instance, value in timeouts
        if value - below <= duration_s <= value + above and cuts(instance, stage, labels)
    ]


def walls_of(
    rows: Sequence[tuple[str, Labels]],
    timeouts: Sequence[tuple[LimitInstance, float]],
    seen: Sequence[tuple[str, float]],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give the walls of each (stage, labels): seconds (NaN: none) and kinds, (rows, WALLS_MAX)."""
    walls = np.full((len(rows), WALLS_MAX), np.nan)
    kinds = np.zeros((len(rows), WALLS_MAX), np.int64)
    by_stage = {stage: _of_stage(stage, timeouts, seen) for stage in {stage for stage, _ in rows}}
    for number, (stage, labels) in enumerate(rows):
        own, others = by_stage[stage]
        found = [(value, REGISTERED) for one, value in own if cuts(one, stage, labels)]
        # Where the register knows the timeout, guesses would only distract from it.
        is_guessed = stage in USUAL_STAGES and not found
        found += others
        if is_guessed:
            found += [(value, USUAL) for value in USUAL_WALLS_S]
        if found:
            many = min(len(found), WALLS_MAX)
            walls[number, :many], kinds[number, :many] = zip(*found[:many], strict=True)
    return walls, kinds


def _of_stage(
    stage: str, timeouts: Sequence[tuple[LimitInstance, float]], seen: Sequence[tuple[str, float]]
) -> tuple[list[tuple[LimitInstance, float]], list[tuple[float, int]]]:
    """Give the timeouts that cut some calls of a stage, and the walls that were seen in it."""
    own = [(one, value) for one, value in timeouts if one.limit.stage in names_of(stage)]
    return own, [(value, SEEN) for where, value in seen if stage_of(where) == stage]
