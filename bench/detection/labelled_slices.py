"""Closed slices of given rows, for detectors that add up facts: as many as wanted, without the line before.

Rows are fixed from the start: the total, then single labels. Windows are kept exactly, by rings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine.judge.facts import FailureDurations, SliceLatency, no_facts
from engine.judge.occupancy import LimitUse
from engine.judge.windows import WINDOWS_NS, StreamUse, WindowSummary, WindowView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engine.limits import LimitInstance

S = 1_000_000_000
START_NS = 1_795_305_600 * S  # a whole day
Labels = tuple[tuple[str, str], ...]


class Failures(NamedTuple):
    """Failures of a slice: arrays of shape (facts,); `row` numbers the timing rows that were given."""

    row: NDArray[np.int64]
    duration_s: NDArray[np.float64]


class Latencies(NamedTuple):
    """Latencies of a slice: arrays of shape (facts,); `row` numbers the latency rows that were given."""

    row: NDArray[np.int64]
    bucket: NDArray[np.int64]


class LabelledSlices:
    """Writes one slice after the other."""

    def __init__(
        self,
        labels: Sequence[Labels],
        slice_s: float = 5.0,
        timings: Sequence[tuple[int, str]] = (),
        stages: Sequence[tuple[int, str]] = (),
        limits: Sequence[LimitInstance] = (),
    ) -> None:
        """Take the rows: `timings` are (window row, operation), `stages` (window row, stage)."""
        self.labels = tuple(labels)
        self.timings, self.stages = tuple(timings), tuple(stages)
        self.slice_ns = int(slice_s * S)
        self.first_ns = self.next_ns = START_NS
        self.limits = tuple(limits)
        lengths = [max(window_ns // self.slice_ns, 1) for window_ns in WINDOWS_NS]
        shape = (len(self.labels), 3)
        self._rings = [np.zeros((length, *shape), np.int64) for length in lengths]
        self._sums = [np.zeros(shape, np.int64) for _ in lengths]
        self._written = 0

    def skip(self, seconds: float) -> None:
        """Let time pass that nobody judged; what was before has left every window."""
        self.next_ns += int(seconds * S) // self.slice_ns * self.slice_ns
        for ring, sums in zip(self._rings, self._sums, strict=True):
            ring[:], sums[:] = 0, 0

    def write(
        self,
        ended: NDArray[np.int64] | None = None,
        errors: NDArray[np.int64] | None = None,
        failures: Failures | None = None,
        latencies: Latencies | None = None,
    ) -> WindowSummary:
        """Give the next slice; counts are by row."""
        rows = len(self.labels)
        nothing = np.zeros(rows, np.int64)
        ended = nothing if ended is None else ended
        errors = nothing if errors is None else errors
        table = np.stack([ended, ended, errors], axis=1)
        for window, ring in enumerate(self._rings):
            place = self._written % len(ring)
            self._sums[window] += table - ring[place]
            ring[place] = table
        self._written += 1
        start_ns, self.next_ns = self.next_ns, self.next_ns + self.slice_ns
        facts = no_facts(rows)._replace(
            ended=ended, errors=errors, failures=self._failures(failures), latency=_latency(latencies)
        )
        stream = StreamUse(int(ended[0]), int(ended[0]), 0, 0, 0, 0)
        return WindowSummary(
            start_ns, self.next_ns, self.first_ns, False, self._use(), self._view(), stream, facts, ()
        )

    def _failures(self, failures: Failures | None) -> FailureDurations:
        found = failures or Failures(np.zeros(0, np.int64), np.zeros(0))
        bins = np.minimum((found.duration_s * 100 + 1e-9).astype(np.int64), (1 << 14) - 1)
        flat, counted = np.unique(found.row * (1 << 14) + bins, return_counts=True)
        return FailureDurations(
            np.array([row for row, _ in self.timings], np.int32),
            tuple(operation for _, operation in self.timings),
            (flat >> 14).astype(np.int32),
            (flat & ((1 << 14) - 1)).astype(np.int32),
            counted.astype(np.int64),
        )

    def _view(self) -> WindowView:
        windows = np.stack(self._sums, axis=1)
        return WindowView(
            labels=self.labels,
            arrivals_in_slice=windows[:, 0, 0],
            arrivals=windows[..., 0],
            ended=windows[..., 1],
            errors=windows[..., 2],
            declined=np.zeros_like(windows[..., 0]),
            latency_row=np.array([row for row, _ in self.stages], np.int32),
            latency_stage=tuple(stage for _, stage in self.stages),
        )

    def _use(self) -> LimitUse:
        """Give the limits with their values; nothing of them is used."""
        many = len(self.limits)
        fields: dict[str, Any] = {}
        for name in LimitUse._fields:
            is_wide = name.endswith(("per_bin", "by_age")) or name == "alive"
            kind = np.bool_ if name.startswith("is_") else np.float64
            fields[name] = np.zeros((many, 50) if is_wide else many, kind)
        values = [one.value_at(self.next_ns) for one in self.limits]
        value = np.array([np.nan if one is None else one for one in values], np.float64)
        return LimitUse(**fields)._replace(value=value, declared=value)


def _latency(latencies: Latencies | None) -> SliceLatency:
    found = latencies or Latencies(np.zeros(0, np.int64), np.zeros(0, np.int64))
    flat, counted = np.unique(found.row * (1 << 12) + found.bucket, return_counts=True)
    return SliceLatency(
        (flat >> 12).astype(np.int32), (flat & ((1 << 12) - 1)).astype(np.int16), counted.astype(np.int64)
    )
