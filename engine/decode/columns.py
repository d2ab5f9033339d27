"""The growing columns of one batch: Python tuples and lists while rows come in, arrays once at the end.

One tuple per row is appended, not one number to each of many lists: that many calls would cost more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engine.decode.events import EventBatch, Note
from engine.decode.identity import identity_keys
from engine.source.contract import NO_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

# time_ns, offset, type_id, message of the call's identity (empty: none), of the event's, series_id, cause_id,
# duration_ms
Row = tuple[int, int, int, bytes, bytes, int, int, float]


class Columns:
    """What the rows of a batch came to so far."""

    __slots__ = ("measure_ms", "measure_row", "measure_stage", "note_row", "notes", "rows")

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.measure_row: list[int] = []
        self.measure_stage: list[int] = []
        self.measure_ms: list[float] = []
        self.note_row: list[int] = []
        self.notes: list[Note] = []

    def add_measure(self, stage_id: int, latency_ms: float) -> None:
        """Add a latency to the row that is appended next."""
        self.measure_row.append(len(self.rows))
        self.measure_stage.append(stage_id)
        self.measure_ms.append(latency_ms)

    def add_note(self, note: Note) -> None:
        """Add a note to the row that is appended next."""
        self.note_row.append(len(self.rows))
        self.notes.append(note)

    def batch(self, topic: str, partition: int, key: NDArray[np.uint64]) -> EventBatch:
        """Make the arrays and hash the identities; `received_ns` is left empty."""
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * 8
        time_ns, offset, type_id, call, event, series_id, cause_id, duration_ms = columns
        return EventBatch(
            topic=topic,
            partition=partition,
            time_ns=np.array(time_ns, np.int64),
            received_ns=NO_ROWS,
            offset=np.array(offset, np.int64),
            type_id=np.array(type_id, np.uint8),
            call_key=identity_keys(call, key),
            event_key=identity_keys(event, key),
            series_id=np.array(series_id, np.int32),
            cause_id=np.array(cause_id, np.int32),
            duration_ms=np.array(duration_ms, np.float64),
            measure_row=np.array(self.measure_row, np.int32),
            measure_stage=np.array(self.measure_stage, np.int16),
            measure_ms=np.array(self.measure_ms, np.float64),
            note_row=tuple(self.note_row),
            notes=tuple(self.notes),
        )
