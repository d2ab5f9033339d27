"""What a simulated process talks to: a clock, a broker with one topic, an Alertmanager. All in one thread.

The consumer answers what `Member` and `KafkaSource` ask of aiokafka's, and the connection what the sink asks
of aiohttp's; nothing ever waits, so that `now` can take a coroutine to its end at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from aiokafka import TopicPartition, errors
from aiokafka.structs import OffsetAndTimestamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Coroutine, Iterator

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


TOPIC_ID = bytes(range(16))
OUTAGE_FORGIVEN_NS = 120 * NS_PER_S  # after its end: alerts had less than a minute left, and are resent
OUTAGE_NS = 300 * NS_PER_S  # up to here a restart resolves nothing and pages nobody again
LOOP = asyncio.new_event_loop()  # which never waits


def now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Take a coroutine that waits for nothing to its end; what it asks at once is asked in a loop of ours."""
    return LOOP.run_until_complete(coroutine)


class VirtualClock:
    """Time that goes on when it is told to, and by a nanosecond whenever it is asked for."""

    def __init__(self, at_ns: int) -> None:
        self.at_ns = at_ns

    def time_ns(self) -> int:
        self.at_ns += 1
        return self.at_ns

    def time_s(self) -> float:
        return self.time_ns() / NS_PER_S

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Be the clock of the shell, which reads it from `time`; what measures durations stays as it is."""
        real = {name: getattr(time, name) for name in ("time", "time_ns", "monotonic")}
        for name, own in {"time": self.time_s, "time_ns": self.time_ns, "monotonic": self.time_s}.items():
            setattr(time, name, own)
        try:
            yield
        finally:
            for name, one in real.items():
                setattr(time, name, one)


class Record(NamedTuple):
    offset: int
    value: bytes
    appended_ns: int


class Log:
    """One partition: records from `begin` on, the older ones are deleted."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.begin = 0

    @property
    def end(self) -> int:
        """Give the offset after the last record."""
        return len(self.records)

    def append(self, value: bytes, now_ns: int) -> None:
        """Acknowledge a record; its offset is its number."""
        self.records.append(Record(len(self.records), value, now_ns))


class Broker:
    """One topic, what the group has committed, and how often it was arranged anew."""

    def __init__(self, topic: str, partitions: int) -> None:
        self.topic = topic
        self.logs = [Log() for _ in range(partitions)]
        self.committed: dict[int, int] = {}
        self.generation = 0

    def places(self) -> tuple[TopicPartition, ...]:
        """Give every partition."""
        return tuple(TopicPartition(self.topic, number) for number in range(len(self.logs)))


class Client:
    """Answers the one question that is asked past the consumer: which topic this is."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def get_random_node(self) -> int:
        return 0

    async def send(self, _node: int, _request: object) -> SimpleNamespace:
        return SimpleNamespace(topics=[(0, self._topic, TOPIC_ID)])


class Consumer:
    """What a member of the group sees of the broker."""

    def __init__(self, broker: Broker, clock: VirtualClock) -> None:
        self._broker, self._clock = broker, clock
        self._coordinator = self
        self._client = Client(broker.topic)
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()

    @property
    def generation(self) -> int:
        return self._broker.generation

    async def _do_heartbeat(self) -> bool:
        return True

    def assign(self, partitions: Collection[TopicPartition]) -> None:
        """Take what the group gives; positions come by `seek`."""
        self._positions = dict.fromkeys(partitions, -1)
        self._paused = set()

    def assignment(self) -> set[TopicPartition]:
        return set(self._positions)

    def pause(self, *partitions: TopicPartition) -> None:
        self._paused |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self._paused -= set(partitions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._positions[partition] = offset

    def fetch(self, rows_max: int, order: list[int]) -> dict[TopicPartition, list[Record]]:
        """Give records of the partitions in this order, so many at most."""
        fetched = {}
        wanted = [TopicPartition(self._broker.topic, number) for number in order]
        wanted = [tp for tp in wanted if tp in self._positions and tp not in self._paused]
        for tp in wanted:
            log, at = self._broker.logs[tp.partition], self._positions[tp]
            if not log.begin <= at <= log.end:
                raise errors.OffsetOutOfRangeError({tp: at})
        for tp in wanted:
            log, at = self._broker.logs[tp.partition], self._positions[tp]
            records = log.records[at : at + rows_max]
            if records and rows_max > 0:
                fetched[tp] = records
                self._positions[tp] = records[-1].offset + 1
                rows_max -= len(records)
        return fetched

    def highwater(self, partition: TopicPartition) -> int:
        log: Log = self._broker.logs[partition.partition]
        return log.end

    last_stable_offset = highwater

    def last_poll_timestamp(self, _partition: TopicPartition) -> int:
        return self._clock.at_ns // NS_PER_MS

    async def committed(self, partition: TopicPartition) -> int | None:
        return self._broker.committed.get(partition.partition)

    async def position(self, partition: TopicPartition) -> int:
        return self._positions[partition]

    async def beginning_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self._broker.logs[tp.partition].begin for tp in partitions}

    async def end_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self._broker.logs[tp.partition].end for tp in partitions}

    async def offsets_for_times(
        self, since_ms: dict[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        found = {}
        for tp, at_ms in since_ms.items():
            log = self._broker.logs[tp.partition]
            later = (one for one in log.records[log.begin :] if one.appended_ns // NS_PER_MS >= at_ms)
            first = next(later, None)
            found[tp] = first and OffsetAndTimestamp(first.offset, first.appended_ns // NS_PER_MS)
        return found


class Told(NamedTuple):
    """A notification."""

    at_ns: int
    what: str  # page | resolved | lapsed, or what an outage forgives
    labels: tuple[tuple[str, str], ...]


class Alertmanager:
    """Who is paged: for an alert that was not active, and when it ends, by word or by its end running out."""

    def __init__(self) -> None:
        self.is_up = True
        self._current_ns = 0  # when somebody was last there who had read everything, and was heard
        self._outage_ended_ns = -OUTAGE_FORGIVEN_NS
        self.told: list[Told] = []
        self._forgiven: set[tuple[tuple[str, str], ...]] = set()
        self._ends_ns: dict[tuple[tuple[str, str], ...], int] = {}

    def receive(self, body: bytes, now_ns: int) -> None:
        """Take a batch as it is posted."""
        for one in orjson.loads(body):
            labels = tuple(sorted(one["labels"].items()))
            ends_ns = _nanoseconds(one["endsAt"])
            if ends_ns > now_ns:
                if labels not in self._ends_ns:
                    what = "page after an outage" if labels in self._forgiven else "page"
                    self.told.append(Told(now_ns, what, labels))
                    self._forgiven.discard(labels)
                self._ends_ns[labels] = ends_ns
            elif self._ends_ns.pop(labels, None) is not None:
                self.told.append(Told(now_ns, "resolved", labels))

    def note_current(self, at_ns: int) -> None:
        """Take note that somebody was there who had read everything, sends what he knew, and can be heard."""
        if at_ns - self._current_ns > OUTAGE_NS:
            self._outage_ended_ns = at_ns
        self._current_ns = max(self._current_ns, at_ns)

    def wait(self, now_ns: int) -> None:
        """Let alerts run out that nobody has sent again: forgiven after five minutes without anybody to."""
        is_outage = (
            now_ns - self._current_ns > OUTAGE_NS or now_ns - self._outage_ended_ns < OUTAGE_FORGIVEN_NS
        )
        for labels in [one for one, ends_ns in self._ends_ns.items() if ends_ns <= now_ns]:
            del self._ends_ns[labels]
            self.told.append(Told(now_ns, "lapsed in an outage" if is_outage else "lapsed", labels))
            if is_outage:
                self._forgiven.add(labels)

    def active(self) -> set[tuple[tuple[str, str], ...]]:
        """Give what fires."""
        return set(self._ends_ns)

    def counts(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], int]:
        """Say how often was told what."""
        found: dict[tuple[str, tuple[tuple[str, str], ...]], int] = defaultdict(int)
        for one in self.told:
            found[one.what, one.labels] += 1
        return found


class Connection:
    """What a sink posts over."""

    def __init__(self, alertmanager: Alertmanager, clock: VirtualClock) -> None:
        self._alertmanager, self._clock = alertmanager, clock

    @contextlib.asynccontextmanager
    async def post(self, _url: object, data: bytes, **_options: object) -> AsyncIterator[SimpleNamespace]:
        """Take a batch, or refuse the connection."""
        if not self._alertmanager.is_up:
            raise ConnectionRefusedError
        self._alertmanager.receive(data, self._clock.time_ns())
        yield SimpleNamespace(status=200)


def _nanoseconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * NS_PER_MS) * 1000
