"""Feeds events of the oracle to a real `Observer` and checks the law of conservation on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from engine.decode.events import Cause, EventBatch, EventType, Note
from engine.observe.observer import Observer
from engine.settings import EngineSettings
from engine.source.contract import RawBatch, tick

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.observe.summary import FirstDecline, SliceSummary
    from tests.observe_events import Event

TOPIC = "calls"


@dataclass
class Series:
    """A series table as the decoder has one."""

    labels: tuple[str, ...] = ("tenant",)
    values: list[tuple[str, ...]] = field(default_factory=list)


@dataclass
class Causes:
    """A cause table as the decoder has one."""

    causes: list[Cause] = field(default_factory=list)


@dataclass
class Stages:
    """A stage table as the decoder has one."""

    names: list[str] = field(default_factory=list)


def number(names: list, name: object) -> int:  # type: ignore[type-arg]
    """Give the id of a name, made if it is new."""
    if name not in names:
        names.append(name)
    return names.index(name)


class Driver:
    """An observer with its tables; counts what it was given."""

    def __init__(
        self,
        settings: EngineSettings | None = None,
        labels: tuple[str, ...] = ("tenant",),
        *,
        is_live: bool = False,
    ) -> None:
        """Start with nothing read; `is_live`: as from a broker, whose receipts are the time."""
        self.is_live, self.newest_ns = is_live, 0
        self.series, self.causes, self.stages = Series(labels), Causes(), Stages()
        self.observer = Observer(settings or EngineSettings(), self.series, self.causes, self.stages)
        self.summaries: list[SliceSummary] = []
        self.declines: list[FirstDecline] = []
        self.given = 0
        self.offsets: dict[int, int] = {}
        self.assigned: tuple[int, ...] = (0,)

    def feed(self, events: Sequence[Event], received_ns: int = -1, caught_up: tuple[int, ...] = ()) -> None:
        """Give events of one partition as one batch, and close what can be closed."""
        partition = events[0].partition
        first = self.offsets.get(partition, 0)
        self.offsets[partition] = first + len(events)
        self.batch(events, np.arange(first, first + len(events)), received_ns, caught_up)

    def batch(
        self, events: Sequence[Event], offset: np.ndarray, received_ns: int, caught_up: tuple[int, ...] = ()
    ) -> None:
        """Give events with offsets of the caller's choice."""
        self.given += len(events)
        columns = self.columns(events, offset, received_ns)
        if self.is_live and received_ns < 0:
            received_ns = self.newest_ns = max(self.newest_ns, int(columns.received_ns.max()))
        rows = np.arange(len(events))
        partition = events[0].partition
        raw = RawBatch(b"", rows, rows, offset, TOPIC, partition, received_ns, self.assigned, caught_up)
        self.declines += self.observer.absorb(raw, columns)
        self.close()

    def tick(self, received_ns: int, caught_up: tuple[int, ...]) -> None:
        """Say what time it is."""
        raw = tick(TOPIC, received_ns, self.assigned, caught_up)
        self.declines += self.observer.absorb(raw, self.columns([], np.zeros(0, np.int64), received_ns))
        self.close()

    def close(self) -> None:
        """Close what can be closed."""
        self.check()
        self.summaries += self.observer.close()
        self.check()

    def finish(self) -> list[SliceSummary]:
        """Close everything; give all summaries so far."""
        self.summaries += self.observer.finish()
        self.check()
        assert self.observer.rows_held == 0
        return self.summaries

    def check(self) -> None:
        """Every row that was given is absorbed, held or lost."""
        one = self.observer
        assert one.rows_absorbed + one.rows_held + int(one.losses.sum()) == self.given

    def columns(self, events: Sequence[Event], offset: np.ndarray, received_ns: int) -> EventBatch:
        """Write events as columns; a log's receipt is its own time, unless the event says another."""
        measures = [(row, stage, ms) for row, one in enumerate(events) for stage, ms in one.latencies]
        listed = [(row, one) for row, one in enumerate(events) if one.type_id >= EventType.LIMIT_REPORTED]
        own = [one.time_ns if one.received_ns < 0 else one.received_ns for one in events]
        received = own if received_ns < 0 else [received_ns] * len(events)
        return EventBatch(
            TOPIC,
            events[0].partition if events else -1,
            np.array([one.time_ns for one in events], np.int64),
            np.array(received, np.int64),
            offset.astype(np.int64),
            np.array([one.type_id for one in events], np.uint8),
            np.array([one.call for one in events], np.uint64),
            np.array([one.event_id for one in events], np.uint64),
            np.array([number(self.series.values, one.series) for one in events], np.int32),
            np.array(
                [number(self.causes.causes, one.cause) if one.cause else -1 for one in events], np.int32
            ),
            np.array([one.duration_ms for one in events], np.float64),
            np.array([row for row, _, _ in measures], np.int32),
            np.array([number(self.stages.names, stage) for _, stage, _ in measures], np.int16),
            np.array([ms for _, _, ms in measures], np.float64),
            tuple(row for row, _ in listed),
            tuple(
                Note(one.time_ns, int(one.type_id), one.labels, (("call_keys", one.listed),))
                for _, one in listed
            ),
        )
