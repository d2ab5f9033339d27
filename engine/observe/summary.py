"""All that crosses from observe to judge: the additive facts of one slice of one partition.

Only quantities that add over partitions are here; levels, peaks, rates, ages and quantiles are computed after
merging. A summary carries names, never process-local ids, and is the cumulative value for (topic, partition,
slice, revision): whoever receives a higher revision replaces the lower one, so nothing counts twice.

Who is alive, by start slice, follows exactly. A call enters as one ADMITTED of its true start slice, or as
one OPENED_UNKNOWN, and leaves as one end row (UNSEEN ones were never in) with that start slice, or -1.
Counted from the answer: it enters with `bin_answers` and leaves with `end_answer_ns`. When a start or an
answer comes late, it enters in the next revision of its true slice, while the level changes in the slice that
is open then.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from engine.decode.events import Cause, Note

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BIN_NS = 100_000_000  # arrivals and level changes are kept per 100 ms


class Count(IntEnum):
    """Columns of `SliceSummary.counts`."""

    STARTED = 0  # attempts that asked for capacity, declined ones included
    ANSWERED = 1
    ENDED = 2  # ends of calls, declined attempts not included
    DECLINED = 3
    QUEUED = 4
    TURNS = 5
    AGENTS_JOINED = 6
    TRANSFERS_ENDED = 7
    DEPENDENCY_CALLS = 8
    OPENED_UNKNOWN = 9  # calls first seen by an answer, heartbeat or turn: age unknown
    ENDED_UNKNOWN = 10  # ends of calls whose start was never seen
    HEALED_HEARTBEAT = 11  # calls taken out of flight: heartbeats stopped
    HEALED_TTL = 12  # ... time-to-live passed
    HEALED_LISTED = 13  # ... not in the platform's own list
    AMENDED = 14  # rows that came late and were added afterwards
    ADMITTED = 15  # entered flight with a known start in this slice and were not declined in it
    HEALED_LATE = 16  # ... their end came too late to count as one


class EndKind(IntEnum):
    """How a call left the set of calls in flight."""

    ENDED = 0  # a known end: counts in the holding-time estimate
    DECLINED = 1  # declined in a later slice than it started: was never admitted
    HEALED = 2  # taken out without an end: censored in the holding-time estimate
    UNSEEN = 3  # ended, but never in flight here: start inferred from its duration, for holding times only


class SliceSummary(NamedTuple):
    """Sparse, additive facts of one slice [start_ns, start_ns + slice_ns) of one partition.

    Row numbers below index `series`; arrays of one group have the same length. An attempt that is declined in
    the slice in which it started counts in `counts` and in `bin_arrivals` and nowhere else. Rows are sorted,
    and rows that would only hold zeros are left out, so that equal facts are equal summaries.
    """

    topic: str
    partition: int
    start_ns: int
    slice_ns: int
    revision: int
    labels: tuple[str, ...]  # names of the series labels
    series: tuple[tuple[str, ...], ...]  # label values of each series present, in the order of `labels`
    counts: NDArray[np.int64]  # (series, len(Count))
    # net changes per 100 ms bin, one row per (series, bin) that changed
    bin_series: NDArray[np.int32]
    bin_index: NDArray[np.int16]
    bin_arrivals: NDArray[np.int32]  # attempts, declined ones included
    bin_level: NDArray[np.int32]  # change of calls in flight, counted from `call.started`
    bin_answers: NDArray[np.int32]
    bin_answered_level: NDArray[np.int32]  # change of calls in flight, counted from `call.answered`
    # calls that left flight, by the slice in which they started and were answered
    end_series: NDArray[np.int32]
    end_start_ns: NDArray[np.int64]  # start of the slice in which the call started; -1: age unknown
    end_answer_ns: NDArray[np.int64]  # start of the slice in which it was answered; -1: never, or not seen
    end_kind: NDArray[np.uint8]  # EndKind
    end_count: NDArray[np.int32]
    # how attempts ended or were declined
    causes: tuple[Cause, ...]
    cause_series: NDArray[np.int32]
    cause_index: NDArray[np.int32]  # row of `causes`
    cause_count: NDArray[np.int64]
    # latency: counts per bucket, and exact sums
    stages: tuple[str, ...]
    latency_series: NDArray[np.int32]
    latency_stage: NDArray[np.int16]  # row of `stages`
    latency_bucket: NDArray[np.int16]  # dense bucket number, see observe/latency.py
    latency_count: NDArray[np.int64]
    sum_series: NDArray[np.int32]
    sum_stage: NDArray[np.int16]
    sum_us: NDArray[np.int64]
    notes: tuple[Note, ...]

    @property
    def end_ns(self) -> int:
        """Where the slice ends; half-open."""
        return self.start_ns + self.slice_ns


class FirstDecline(NamedTuple):
    """The early exit: a decline that was seen before its slice closed."""

    time_ns: int
    slice_end_ns: int
    labels: tuple[str, ...]
    values: tuple[str, ...]
    cause: Cause
