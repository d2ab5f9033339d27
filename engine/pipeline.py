"""The line: everything between bytes and alerts, in one place.

No clock and no I/O: `run` and `replay` both call `step`; they differ in source and sink alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.judge.roll import StreamCounters
from engine.limits import FAR_NS

if TYPE_CHECKING:
    from engine.decode.decoder import Decoder
    from engine.decode.events import Note
    from engine.judge.judge import Judge, Judgement
    from engine.judge.lifecycle import Alert, AlertChange
    from engine.observe.observer import Observer
    from engine.observe.summary import SliceSummary
    from engine.source.contract import RawBatch


class Step(NamedTuple):
    """What one step brought to deliver."""

    changes: tuple[AlertChange, ...]  # in order of time
    early: tuple[Alert, ...]  # fire already, before their slice is closed
    notes: tuple[Note, ...]


class Pipeline:
    """read -> [decode -> absorb -> close -> roll -> detect -> update] -> deliver."""

    def __init__(self, decoder: Decoder, observer: Observer, judge: Judge) -> None:
        """Put the three parts together; nothing has been read."""
        self.decoder = decoder
        self.observer = observer
        self.judge = judge
        self.next_offsets: dict[int, int] = {}  # by partition: what was read lies before it

    @property
    def first_event_ns(self) -> int:
        """Give when the first event was, lost rows aside, for people who count from there; -1: none."""
        return -1 if self.observer.first_ns == FAR_NS else self.observer.first_ns

    def step(self, raw: RawBatch) -> Step:
        """Take one batch (or tick) all the way to alert changes."""
        events = self.decoder.decode(raw)
        if raw.rows:
            self.next_offsets[raw.partition] = int(raw.offset[-1]) + 1
        self.next_offsets.update(raw.places)  # Behind what is no row: that may be deleted, and nothing lost.
        for gone in self.next_offsets.keys() - {*raw.assigned, raw.partition}:
            del self.next_offsets[gone]
        declines = self.observer.absorb(raw, events)
        self.judge.hear(declines)
        summaries = self.observer.close()
        judgement = self._judge(summaries, self.observer.watermark_ns)
        return Step(judgement.changes, self.judge.preview(declines), judgement.notes)

    def finish(self) -> Step:
        """End of a log: close every slice and judge it. Nothing is resolved for that."""
        summaries = self.observer.finish()
        end_ns = max((summary.end_ns for summary in summaries), default=self.observer.watermark_ns)
        judgement = self._judge(summaries, max(end_ns, self.observer.watermark_ns))
        return Step(judgement.changes, (), judgement.notes)

    def _judge(self, summaries: list[SliceSummary], watermark_ns: int) -> Judgement:
        counters = StreamCounters(self.observer.rows_clock_ahead, self.observer.unkeyed_calls)
        return self.judge.take(summaries, watermark_ns, counters)
