"""Slices as detectors see them, written by hand: what ended, how long it took, what dependencies did.

Rows are numbered as the engine numbers them: in order of appearance, the total, each single label and each
whole series; latency rows and score rows likewise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine.judge.facts import DependencyUse, SliceLatency, SliceScores, no_facts
from engine.judge.occupancy import LimitUse
from engine.judge.windows import StreamUse, WindowSummary, WindowView
from engine.observe.latency import bucket_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

S = 1_000_000_000
SLICE_NS = 5 * S
START_NS = 1_795_358_400 * S
NOTHING_CALLED = no_facts(0).dependencies
DEPENDENCY_COUNTS = (
    "calls", "failed", "timeouts", "throttled", "opened", "closed", "callers", "callers_failed",
    "callers_hung_up",
)  # fmt: skip


class Did(NamedTuple):
    """What one series did in a slice."""

    arrivals: int = 0
    ended: int = 0
    errors: int = 0
    latencies_s: Mapping[str, Sequence[float]] = {}  # stage -> values
    scores: Mapping[str, Sequence[float]] = {}  # metric -> values


class Slices:
    """Writes one slice after the other."""

    def __init__(self, start_ns: int = START_NS) -> None:
        self.first_ns = self.next_ns = start_ns
        self.labels: dict[tuple[tuple[str, str], ...], int] = {(): 0}
        self.stages: dict[tuple[int, str], int] = {}
        self.metrics: dict[tuple[int, str], int] = {}

    def skip(self, seconds: float) -> None:
        """Let time pass that nobody judged."""
        self.next_ns += int(seconds * S) // SLICE_NS * SLICE_NS

    def write(
        self,
        did: Mapping[tuple[tuple[str, str], ...], Did] | None = None,
        dependencies: DependencyUse = NOTHING_CALLED,
    ) -> WindowSummary:
        """Give the next slice; `did` is by label set of the series."""
        counts: dict[int, np.ndarray] = {}
        latencies: dict[tuple[int, int], int] = {}
        scores: dict[tuple[int, int], int] = {}
        for labels, one in (did or {}).items():
            for row in self._rows(labels):
                did_here = np.array([one.arrivals, one.ended, one.errors], np.int64)
                counts[row] = counts.get(row, np.zeros(3, np.int64)) + did_here
                for stage, values in one.latencies_s.items():
                    number = self.stages.setdefault((row, stage), len(self.stages))
                    for value in values:
                        key = (number, bucket_number(value))
                        latencies[key] = latencies.get(key, 0) + 1
                for metric, values in one.scores.items():
                    number = self.metrics.setdefault((row, metric), len(self.metrics))
                    for value in values:
                        key = (number, round(100 * value))
                        scores[key] = scores.get(key, 0) + 1
        table = np.zeros((len(self.labels), 3), np.int64)
        for row, found in counts.items():
            table[row] = found
        facts = no_facts(len(self.labels))._replace(
            ended=table[:, 1],
            errors=table[:, 2],
            latency=SliceLatency(*_columns(latencies, np.int16)),
            scores=SliceScores(
                np.array([row for row, _ in self.metrics], np.int32),
                tuple(metric for _, metric in self.metrics),
                *_columns(scores, np.int32),
            ),
            dependencies=dependencies,
        )
        start_ns, self.next_ns = self.next_ns, self.next_ns + SLICE_NS
        stream = StreamUse(int(table[0].sum()), int(table[0, 0]), 0, 0, 0, 0)
        return WindowSummary(
            start_ns, self.next_ns, self.first_ns, False, no_limits(), self._view(table), stream, facts, ()
        )

    def _rows(self, labels: tuple[tuple[str, str], ...]) -> list[int]:
        wanted = sorted({(), labels, *((pair,) for pair in labels)})
        return [self.labels.setdefault(one, len(self.labels)) for one in wanted]

    def _view(self, table: np.ndarray) -> WindowView:
        windows = np.repeat(table[:, None, :], 3, axis=1)
        return WindowView(
            labels=tuple(self.labels),
            arrivals_in_slice=table[:, 0],
            arrivals=windows[..., 0],
            ended=windows[..., 1],
            errors=windows[..., 2],
            declined=np.zeros_like(windows[..., 0]),
            latency_row=np.array([row for row, _ in self.stages], np.int32),
            latency_stage=tuple(stage for _, stage in self.stages),
        )


def _columns(found: dict[tuple[int, int], int], kind: type) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.array([row for row, _ in found], np.int32),
        np.array([value for _, value in found], kind),
        np.array(list(found.values()), np.int64),
    )


def no_limits() -> LimitUse:
    """Give the use of no limit at all."""
    fields: dict[str, Any] = {}
    for name in LimitUse._fields:
        is_wide = name.endswith(("per_bin", "by_age")) or name == "alive"
        fields[name] = np.zeros((0, 50) if is_wide else 0, np.bool_ if name.startswith("is_") else np.float64)
    return LimitUse(**fields)


def dependencies(
    *rows: tuple[str, Mapping[str, int]], policy: Mapping[str, int] | None = None
) -> DependencyUse:
    """Say what was called: (name, counts), with the policy of guardrails by name."""
    columns = {
        name: np.array([given.get(name, 0) for _, given in rows], np.int64) for name in DEPENDENCY_COUNTS
    }
    names = tuple(name for name, _ in rows)
    policies = np.array([(policy or {}).get(name, 0) for name in names], np.int8)
    return DependencyUse(name=names, policy=policies, **columns)
