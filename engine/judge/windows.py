"""Slices merged over partitions, rolled into windows: what detectors and metrics see."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.decode.events import Note
    from engine.judge.occupancy import LimitUse

WINDOWS = ("1m", "5m", "1h")
WINDOWS_NS = (60_000_000_000, 300_000_000_000, 3_600_000_000_000)


class WindowView(NamedTuple):
    """Windows that end with the slice. Rows are label sets: the total, each single label value, each whole series.

    `labels[row]` is the label set as (label, value) pairs, () being the total. Arrays of shape (rows, windows):
    `arrivals`, `ended` (ended attempts, capacity declines excluded), `errors`, `declined`. Latency has rows of its own:
    `latency_row[k]` is the label row and `latency_stage[k]` the stage of latency row k; `p50_s`, `p99_s` (NaN: empty)
    and `latency_count` have shape (latency rows, windows).
    """

    labels: tuple[tuple[tuple[str, str], ...], ...]
    arrivals: NDArray[np.int64]
    ended: NDArray[np.int64]
    errors: NDArray[np.int64]
    declined: NDArray[np.int64]
    latency_row: NDArray[np.int32]
    latency_stage: tuple[str, ...]
    latency_count: NDArray[np.int64]
    p50_s: NDArray[np.float64]
    p99_s: NDArray[np.float64]


class StreamUse(NamedTuple):
    """How the stream itself does at this slice, apart from any limit."""

    events: int  # rows absorbed in the slice
    arrivals: int  # call attempts in the slice, all series
    last_event_ns: int  # newest event time so far
    amended: int
    clock_ahead: int  # rows whose time lay ahead of the receipt, in the slice
    unkeyed_calls: int  # ends whose start was seen in another partition, in the slice
    lag_rows: int  # rows known to wait in the log, -1: not known
    platforms: tuple[tuple[str, int], ...]  # last event time by platform


class WindowSummary(NamedTuple):
    """One closed slice [start_ns, end_ns) with the windows that end with it: all that a detector sees."""

    start_ns: int
    end_ns: int
    first_ns: int  # start of the first slice of the stream
    is_partial: bool  # attached to a busy platform a short while ago; levels may be too low
    limits: LimitUse
    windows: WindowView
    stream: StreamUse
    notes: tuple[Note, ...]  # changes, plans and reports of this slice
