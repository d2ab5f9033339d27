"""The growing columns of one batch: Python lists while rows come in, arrays once at the end.

Appending to a list costs a few tens of nanoseconds; storing one number into a numpy array costs three times that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engine.decode.events import EventBatch, Note
from engine.decode.identity import identity_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Columns:
    """Lists of one entry per row (of one entry per measure or note, where the name says so)."""

    __slots__ = (
        "call", "cause_id", "duration_ms", "event", "measure_ms", "measure_row", "measure_stage", "note_row", "notes",
        "offset", "series_id", "time_ns", "type_id",
    )  # fmt: skip

    def __init__(self) -> None:
        """Begin with no rows."""
        self.time_ns: list[int] = []
        self.offset: list[int] = []
        self.type_id: list[int] = []
        self.call: list[bytes] = []  # message of the identity; empty: none
        self.event: list[bytes] = []
        self.series_id: list[int] = []
        self.cause_id: list[int] = []
        self.duration_ms: list[float] = []
        self.measure_row: list[int] = []
        self.measure_stage: list[int] = []
        self.measure_ms: list[float] = []
        self.note_row: list[int] = []
        self.notes: list[Note] = []

    def add_measure(self, stage_id: int, latency_ms: float) -> None:
        """Add a latency to the row that is appended next."""
        self.measure_row.append(len(self.time_ns))
        self.measure_stage.append(stage_id)
        self.measure_ms.append(latency_ms)

    def add_note(self, note: Note) -> None:
        """Add a note to the row that is appended next."""
        self.note_row.append(len(self.time_ns))
        self.notes.append(note)

    def batch(self, topic: str, partition: int, received_ns: NDArray[np.int64], time_ns: NDArray[np.int64],
              key: NDArray[np.uint64]) -> EventBatch:  # fmt: skip
        """Make the arrays and hash the identities."""
        return EventBatch(
            topic=topic,
            partition=partition,
            time_ns=time_ns,
            received_ns=received_ns,
            offset=np.array(self.offset, np.int64),
            type_id=np.array(self.type_id, np.uint8),
            call_key=identity_keys(self.call, key),
            event_key=identity_keys(self.event, key),
            series_id=np.array(self.series_id, np.int32),
            cause_id=np.array(self.cause_id, np.int32),
            duration_ms=np.array(self.duration_ms, np.float64),
            measure_row=np.array(self.measure_row, np.int32),
            measure_stage=np.array(self.measure_stage, np.int16),
            measure_ms=np.array(self.measure_ms, np.float64),
            note_row=tuple(self.note_row),
            notes=tuple(self.notes),
        )
