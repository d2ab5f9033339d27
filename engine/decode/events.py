"""The columns that a batch of call events becomes: one row per event, labels and names as dense ids.

Everything after the decoder works on these arrays; no per-event Python object goes further than this step,
apart from the rare `Note`s (limit reports, announced load, changes, call lists).
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EventType(IntEnum):
    """The types of events (config/events.md has the contract); the name in the event is `.wire`."""

    CALL_QUEUED = 0
    CALL_STARTED = 1
    CALL_ANSWERED = 2
    AGENT_JOINED = 3
    CALL_HEARTBEAT = 4
    CALL_ENDED = 5
    CALL_DECLINED = 6
    TURN_COMPLETED = 7
    TRANSFER_STARTED = 8
    TRANSFER_ENDED = 9
    DEPENDENCY_CALLED = 10
    QUALITY_SCORED = 11
    LIMIT_REPORTED = 12
    CALLS_LISTED = 13
    LOAD_PLANNED = 14
    CHANGE_MADE = 15

    @property
    def wire(self) -> str:
        """The name as events carry it, such as `call.started`."""
        return self.name.lower().replace("_", ".")


LABELS = ("tenant", "region", "platform", "provider", "trunk", "agent", "release", "direction")
ALERT_LABELS = (  # every label that an alert may carry
    "alertname", "severity", "limit", "owner", "dependency", "stage", "metric", "problem", "cycle", "action",
    *LABELS,
)  # fmt: skip


class Note(NamedTuple):
    """A rare event that is kept as it is, already cut to its allow-listed, bounded fields.

    `fields` holds only: limit, used, max, expected, from_ns, until_ns, what, from, to, by, and for
    `calls.listed` the keyed hashes of the calls under `call_keys` (tuple of int). `labels` are (label, value)
    pairs in the order of LABELS, without those that are missing.
    """

    time_ns: int
    type_id: int
    labels: tuple[tuple[str, str], ...]
    fields: tuple[tuple[str, object], ...]


class EventBatch(NamedTuple):
    """Columns of the rows of one `RawBatch` that decoded, in their order; shape (rows,) unless said.

    Losses are not here: the decoder counts them by reason. `received_ns` is a number for every row: that of
    the batch, or for a plain log the running maximum of event time (so that no row of it is ever ahead).
    """

    topic: str
    partition: int
    time_ns: NDArray[np.int64]  # event time
    received_ns: NDArray[np.int64]
    offset: NDArray[np.int64]
    type_id: NDArray[np.uint8]  # EventType
    call_key: NDArray[np.uint64]  # keyed hash of (platform, tenant, call_id); 0: none
    event_key: NDArray[np.uint64]  # keyed hash of the event's `id`; 0: none
    series_id: NDArray[np.int32]  # row of the series table
    cause_id: NDArray[np.int32]  # row of the cause table, how it ended or was declined; -1: none
    duration_ms: NDArray[np.float64]  # NaN: none
    measure_row: NDArray[np.int32]  # shape (measures,): which row a latency or score belongs to, ascending
    measure_stage: NDArray[np.int16]  # shape (measures,): row of the stage table
    measure_ms: NDArray[np.float64]  # shape (measures,): latency, never negative; a score from 0 to 1
    note_row: tuple[int, ...]  # which row each note belongs to
    notes: tuple[Note, ...]

    @property
    def rows(self) -> int:
        """How many events there are."""
        return len(self.time_ns)


class Cause(NamedTuple):
    """How an attempt ended or was declined: what declines are classified by. Text is redacted, bounded.

    Transfers and calls of dependencies end in the same way; `operation` says that it was one of these.
    """

    declined: bool
    outcome: str  # one of OUTCOMES; "" when declined
    platform: str
    code: int  # 0: none
    reason: str
    limit: str
    operation: str = ""  # "": the attempt itself; TRANSFER; DEPENDENCY + the name of the dependency
    fallback: str = ""  # what was done when a dependency failed: one of FALLBACKS, "": not said


TRANSFER, DEPENDENCY = "transfer", "dependency:"
FALLBACKS = ("none", "open", "closed")
# What went as it was meant to; how long the others had lasted is kept.
GOOD_OUTCOMES = frozenset(("completed", "voicemail", "transferred", "ok"))
OUTCOMES = (
    "completed", "failed", "timeout", "abandoned", "canceled", "busy", "no_answer", "voicemail",
    "transferred", "ok", "error", "throttled", "other",
)  # fmt: skip
