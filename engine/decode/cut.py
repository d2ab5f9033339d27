"""A decoder that keeps only the events of a span of event time, for replaying a part of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from engine.decode.decoder import Decoder, Sample
    from engine.decode.events import EventBatch
    from engine.source.contract import RawBatch


class TimeCut:
    """Wraps a decoder; rows outside [from_ns, to_ns) were not asked for and count nowhere."""

    def __init__(self, decoder: Decoder, from_ns: int | None, to_ns: int | None) -> None:
        """Keep rows from `from_ns` (None: from the start) to before `to_ns` (None: to the end)."""
        self._decoder = decoder
        self._from_ns = np.iinfo(np.int64).min if from_ns is None else from_ns
        self._to_ns = np.iinfo(np.int64).max if to_ns is None else to_ns
        self._cut = 0
        self.losses = decoder.losses
        self.fields_ignored = decoder.fields_ignored
        self.series = decoder.series
        self.causes = decoder.causes
        self.stages = decoder.stages
        self.mask = decoder.mask
        self.rejects = decoder.rejects

    @property
    def rows_read(self) -> int:
        """Rows that were asked for, lost ones included."""
        return self._decoder.rows_read - self._cut

    def samples(self) -> tuple[Sample, ...]:
        """Give the most recent rows that were lost."""
        return self._decoder.samples()

    def decode(self, raw: RawBatch) -> EventBatch:
        """Decode, and drop the rows outside the span."""
        batch = self._decoder.decode(raw)
        keep = (batch.time_ns >= self._from_ns) & (batch.time_ns < self._to_ns)
        if keep.all():
            return batch
        self._cut += int((~keep).sum())
        new_row = np.cumsum(keep) - 1
        kept_measures = keep[batch.measure_row]
        kept_notes = [place for place, row in enumerate(batch.note_row) if keep[row]]
        return batch._replace(
            time_ns=batch.time_ns[keep],
            received_ns=batch.received_ns[keep],
            offset=batch.offset[keep],
            type_id=batch.type_id[keep],
            call_key=batch.call_key[keep],
            event_key=batch.event_key[keep],
            series_id=batch.series_id[keep],
            cause_id=batch.cause_id[keep],
            duration_ms=batch.duration_ms[keep],
            measure_row=new_row[batch.measure_row[kept_measures]].astype(np.int32),
            measure_stage=batch.measure_stage[kept_measures],
            measure_ms=batch.measure_ms[kept_measures],
            note_row=tuple(int(new_row[batch.note_row[place]]) for place in kept_notes),
            notes=tuple(batch.notes[place] for place in kept_notes),
        )
