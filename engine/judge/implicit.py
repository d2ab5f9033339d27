"""Limits that are in no register, and what was inferred of them.

Caps that nobody wrote down are looked for where caps usually sit: on all calls, on a trunk, on a provider. So
levels and ages are kept for these as if they were limits of unknown value, `set_by: inferred`, and what is
inferred becomes a value that is forecast like any other. Until then nobody sees them: not in pages, reports
or metrics, and no decline is put down to them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from engine.limits import CONCURRENCY, INFERRED_PREFIX, Limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.judge.detection import LearnedLimit
    from engine.limits import LimitInstance

INFERRED = "inferred"
TOTAL = f"{INFERRED_PREFIX}total"
Key = tuple[str, tuple[tuple[str, str], ...]]


class Implicit(NamedTuple):
    """Limits that are in no register, and how many instances of them there may be."""

    limits: tuple[Limit, ...] = ()
    instances_max: int = 0


NOTHING_IMPLICIT = Implicit()


class LearnedValue(NamedTuple):
    """An inferred cap as it is kept in a file: by name and split, as rows are numbered anew at each start."""

    limit: str
    split: tuple[tuple[str, str], ...]
    value: float
    since_ns: int  # event time at which it was inferred


def implicit_limits(labels: Sequence[str], instances_max: int) -> Implicit:
    """Make a limit of unknown value for all calls, and one by each of `labels`."""
    if instances_max <= 0:
        return NOTHING_IMPLICIT
    splits = [(TOTAL, ()), *((f"{INFERRED_PREFIX}{label}", (label,)) for label in labels)]
    limits = tuple(
        Limit(name=name, kind=CONCURRENCY, split_by=split_by, set_by=INFERRED) for name, split_by in splits
    )
    return Implicit(limits, instances_max)


class LearnedValues:
    """The inferred values in force, by limit and split: of instances that are here, and those of a file."""

    def __init__(self) -> None:
        """Start with nothing inferred."""
        self.values: tuple[LearnedValue, ...] = ()
        self._by_key: dict[Key, LearnedValue] = {}

    def know(self, learned: Sequence[LearnedValue]) -> None:
        """Take what was inferred before this start."""
        self._by_key |= {(one.limit, one.split): one for one in learned}
        self._keep()

    def take(self, learned: Sequence[LearnedLimit], limits: Sequence[LimitInstance]) -> None:
        """Take what a detector has inferred in a slice."""
        for one in learned:
            key = key_of(limits[one.row])
            if math.isnan(one.value):
                self._by_key.pop(key, None)
            else:
                self._by_key[key] = LearnedValue(*key, one.value, one.time_ns)
        if learned:
            self._keep()

    def value_of(self, instance: LimitInstance) -> float | None:
        """Give the inferred value of an instance; None: nothing was inferred."""
        known = self._by_key.get(key_of(instance)) if self._by_key else None
        return None if known is None else known.value

    def _keep(self) -> None:
        self.values = tuple(self._by_key[key] for key in sorted(self._by_key))


def key_of(instance: LimitInstance) -> Key:
    """Name an instance so that it is found again after a start."""
    return instance.limit.name, instance.split
