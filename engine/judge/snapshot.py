"""What one step publishes: an immutable picture that HTTP, metrics and checkpoints read.

Kernels write their own arrays only while a step runs; everything here is a copy that nobody writes again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.judge.detection import ReleaseVerdict
    from engine.judge.lifecycle import Alert
    from engine.judge.quantiles import LatencyQuantiles
    from engine.judge.windows import WindowView


class LimitStatus(NamedTuple):
    """One limit instance as `/api/v1/headroom` shows it; NaN or inf where nothing is known."""

    limit: str
    split: tuple[tuple[str, str], ...]  # (label, value) of the instance
    kind: str
    owner: str
    applies_to: tuple[tuple[str, tuple[str, ...]], ...]  # label -> values that count; none: every call
    value: float
    used: float  # calls counted here and `unseen_use`; NaN: not measured
    unseen_use: float  # what the platform reports beyond the calls counted here; 0 if nothing
    peak: float  # highest use in the last slice; NaN: not measured
    declined_total: int
    expected_used: float  # forecast use at the page horizon, `unseen_use` included
    probability: float  # of reaching the limit within the page horizon
    offered_load: float
    holding_s: float
    time_to_limit_s: float
    time_to_limit_s_low: float
    time_to_limit_s_high: float
    safe_load: float  # the static guard rail solved from Erlang-B, in calls; NaN for other kinds
    state: str  # ok | warning | critical | reached | unknown | no_baseline


class HistogramFamily(NamedTuple):
    """Cumulative latency histograms since the start, one row per (series, stage).

    `page_of` (rows, OCTAVES) int32 says which page an octave of a row has, -1: nothing was counted in it;
    `pages` (pages, PER_OCTAVE) int64 are counts in the buckets of observe/latency.py (not accumulated over
    buckets), `sum_us` (rows,) int64. `values[row]` are the label values in the order of `labels`, the stage
    last. Rows are only ever appended, so a renderer may cache the prefix of a row by its number.
    """

    labels: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    page_of: NDArray[np.int32]
    pages: NDArray[np.int64]
    sum_us: NDArray[np.int64]


class Snapshot(NamedTuple):
    """The engine after a step. Times are event time in ns, -1 where there is none yet."""

    watermark_ns: int
    received_ns: int
    rows_read: int
    rows_absorbed: int
    rows_lost: tuple[tuple[str, int], ...]  # by LossReason name in lower case
    rows_amended: int
    rows_clock_ahead: int
    calls_in_flight: int
    series: int
    series_collapsed: int  # rows whose labels fell to `__other__`
    causes_collapsed: int  # ends whose cause lost its reason or more, because the table was full
    measures_collapsed: int  # latencies whose stage fell to `__other__`
    fields_ignored: tuple[tuple[str, int], ...]  # values that could not be used, by field, in rows that were
    alerts_refused: int  # findings that became no alert because the book was full
    bounds_met: tuple[tuple[str, int], ...]  # by bound: how often something did not fit
    slices_closed: int
    in_flight_healed: tuple[tuple[str, int], ...]  # by cause
    limits: tuple[LimitStatus, ...]
    windows: WindowView
    quantiles: LatencyQuantiles  # of the latency rows of `windows`
    latency: HistogramFamily
    arrivals_total: tuple[tuple[tuple[str, str], ...], ...]  # label sets of the counters below (whole series)
    counters: tuple[tuple[str, NDArray[np.int64]], ...]  # name -> (label sets,) cumulative
    alerts: tuple[Alert, ...]  # pending, firing, and resolved ones still re-sent
    releases: tuple[ReleaseVerdict, ...] = ()  # of every release that takes calls, or did an hour ago
    # The part of `rows_lost` that came with the checkpoint: lost before this process took over.
    rows_lost_before: tuple[tuple[str, int], ...] = ()
