"""The line: everything between bytes and alerts, in one place.

No clock and no I/O: `run` and `replay` both call `step`; they differ in source and sink alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.judge.roll import StreamCounters

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
        self.first_event_ns = -1  # of the first batch with events, for people who count from there
        self.next_offsets: dict[int, int] = {}  # by partition: what was read lies before it

    def step(self, raw: RawBatch) -> Step:
        """Take one batch (or tick) all the way to alert changes."""
        events = self.decoder.decode(raw)
        if raw.rows:
            self.next_offsets[raw.partition] = int(raw.offset[-1]) + 1
        for gone in self.next_offsets.keys() - {*raw.assigned, raw.partition}:
            del self.next_offsets[gone]
        if self.first_event_ns < 0 and events.rows:
            self.first_event_ns = int(events.time_ns.min())
        declines = self.observer.absorb(raw, events)
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
