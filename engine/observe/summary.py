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
DURATION_BIN_NS = 10_000_000  # durations of what failed are kept to 10 ms ...
DURATION_BINS = 1 << 14  # ... up to 163.84 s; the last bin holds all that lasted longer
SCORE_BINS = 101  # scores from 0 to 1 in steps of 0.01, rounded


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
    ENDED_ANSWERED = 17  # ends of calls that were seen from their start and had been answered
    ENDED_WITHOUT_TURN = 18  # of these: no turn was ever seen
    ENDED_WITHOUT_AGENT = 19  # of these: no agent ever joined


class EndKind(IntEnum):
    """How a call left the set of calls in flight."""

    ENDED = 0  # a known end: counts in the holding-time estimate
    DECLINED = 1  # declined in a later slice than it started: was never admitted
    HEALED = 2  # taken out without an end: censored in the holding-time estimate
    UNSEEN = 3  # ended, but never in flight here: start inferred from its duration, for holding times only


class SliceSummary(NamedTuple):
    """Sparse, additive facts of one slice [start_ns, start_ns + slice_ns) of one partition.

    Row numbers below index `series`; arrays of one group have the same length. An attempt that is declined in
    the slice in which it started counts in `counts`, `bin_arrivals`, `bin_declines` and nowhere else. Rows
    are sorted, and rows that would only hold zeros are left out, so that equal facts are equal summaries.
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
    bin_declines: NDArray[np.int32]  # attempts declined for any reason; by their start, if in this slice
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
    # how transfers and calls of dependencies ended
    side_series: NDArray[np.int32]
    side_cause: NDArray[np.int32]  # row of `causes`
    side_count: NDArray[np.int64]
    # how long what did not go well had lasted: attempts, transfers and calls of dependencies
    failure_series: NDArray[np.int32]
    failure_cause: NDArray[np.int32]
    failure_answered: NDArray[np.uint8]  # 1: an answered call, from its answer
    failure_bin: NDArray[np.int32]  # of DURATION_BIN_NS
    failure_count: NDArray[np.int64]
    # calls that ended after a dependency had failed them
    caller_series: NDArray[np.int32]
    caller_cause: NDArray[np.int32]  # how the dependency failed
    caller_end: NDArray[np.int32]  # how the call ended; row of `causes`
    caller_count: NDArray[np.int64]
    # quality scores by metric; the stage is METRIC + its name
    score_series: NDArray[np.int32]
    score_stage: NDArray[np.int16]
    score_bin: NDArray[np.int16]  # round(100 x score)
    score_count: NDArray[np.int64]
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
