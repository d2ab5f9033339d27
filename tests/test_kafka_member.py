"""What a member must know before it may read, it asks for more than once."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from engine.settings import KafkaSettings
from engine.source.kafka import KafkaSource
from engine.source.kafka_member import PLACE_TRIES, Member
from engine.source.kafka_places import Progress
from tests.line_traffic import START_NS, TOPIC
from tests.simulated_world import Broker, Consumer, VirtualClock, now

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

PARTITION = TopicPartition(TOPIC, 0)
S = 1_000_000_000
HOUR_NS = 3600 * S


def failing(times: int, error: Exception, then: Callable[..., Any]) -> Callable[..., Any]:
    """Give a coroutine function that fails so often before it does what `then` does."""
    left = [error] * times

    async def ask(*arguments: Any) -> Any:
        if left:
            raise left.pop()
        return await then(*arguments)

    return ask


def a_member() -> tuple[Member, Progress, Any]:
    consumer: Any = Consumer(Broker(TOPIC, 1), VirtualClock(START_NS))
    progress = Progress()
    settings = KafkaSettings(topic=TOPIC, start="earliest")
    consumer.assign([PARTITION])
    return Member(consumer, settings, progress, lambda *_: None), progress, consumer


async def test_a_broker_that_is_late_is_asked_again() -> None:
    """For the id of the topic and for the place alike."""
    member, progress, consumer = a_member()
    consumer._client.send = failing(1, TimeoutError(), consumer._client.send)
    consumer.beginning_offsets = failing(1, TimeoutError(), consumer.beginning_offsets)
    await member.on_partitions_assigned([PARTITION])
    assert (2, "", {0}) == (progress.asked_again, member.failed, member.placed)


@pytest.mark.parametrize("error", [TimeoutError(), KafkaError()])
async def test_a_broker_that_goes_on_to_fail_is_given_up(error: Exception) -> None:
    """The consumer is thrown away."""
    member, progress, consumer = a_member()
    consumer.beginning_offsets = failing(PLACE_TRIES, error, consumer.beginning_offsets)
    await member.on_partitions_assigned([PARTITION])
    assert (PLACE_TRIES - 1, set()) == (progress.asked_again, member.placed)
    assert member.failed


async def test_a_partition_that_is_added_later_is_read_from_its_first_row() -> None:
    """What is in it came after the start, so `latest` leaves nothing of it out."""
    broker = Broker(TOPIC, 3)
    consumer: Any = Consumer(broker, VirtualClock(START_NS))
    progress = Progress()
    member = Member(consumer, KafkaSettings(topic=TOPIC, start="latest"), progress, lambda *_: None)
    for log in broker.logs:
        for _ in range(5):
            log.append(b"row", START_NS)
    for partitions in (broker.places()[:2], broker.places()):
        consumer.assign(partitions)
        await member.on_partitions_assigned(partitions)
    assert progress.places == {0: 5, 1: 5, 2: 0}
    assert [await consumer.position(tp) for tp in broker.places()] == [5, 5, 0]


async def test_an_answer_without_topics_tells_no_id() -> None:
    """Then nothing can be compared: the topic is not taken for another one."""
    member, progress, consumer = a_member()
    await member.on_partitions_assigned([PARTITION])
    known = progress.topic_id

    async def null(*_: object) -> Any:
        return SimpleNamespace(topics=None)

    consumer._client.send = null
    await member.watch_topic()
    assert (known, "", {0}) == (progress.topic_id, member.failed, member.placed)
    assert 0 == progress.asked_again


async def test_what_is_known_is_saved_before_partitions_go() -> None:
    """Whoever gets them reads it, so no row may be taken any more; there is nothing to save a second time."""
    member, progress, _ = a_member()
    saved: list[set[int]] = []

    async def save() -> None:
        saved.append(set(member.placed))

    progress.save = save
    await member.on_partitions_assigned([PARTITION])
    for _ in range(2):
        await member.on_partitions_revoked([PARTITION])
    assert saved == [set()]


@pytest.mark.parametrize(("age_s", "at_end"), [(0, (0,)), (1, (0,)), (3, ()), (-60, ())])
async def test_only_a_fresh_answer_says_that_a_partition_was_read_to_its_end(
    age_s: int, at_end: tuple[int, ...]
) -> None:
    """While a broker is away its log may grow: a partition that counts as idle would lose these rows."""
    clock = VirtualClock(time.time_ns() - age_s * S)
    consumer: Any = Consumer(Broker(TOPIC, 1), clock)
    member = Member(consumer, KafkaSettings(topic=TOPIC, start="earliest"), Progress(), lambda *_: None)
    consumer.assign([PARTITION])
    await member.on_partitions_assigned([PARTITION])
    assert await member.caught_up() == at_end


async def test_a_consumer_without_a_position_moves_no_place() -> None:
    """As in a rebalance: rows would be taken twice."""
    member, progress, consumer = a_member()
    progress.begin(0, 7)
    await member.on_partitions_assigned([PARTITION])
    consumer.seek(PARTITION, 9)
    await member.pass_markers()
    assert progress.places == {0: 9}
    consumer.position = failing(1, KafkaError(), consumer.position)
    await member.pass_markers()
    assert progress.places == {0: 9}


async def test_commits_go_on_whatever_a_broker_answers(caplog: pytest.LogCaptureFixture) -> None:
    """What nobody expects is said and counted, and costs no more than that round."""
    source = KafkaSource(KafkaSettings(topic=TOPIC), commit_every_s=0.01)
    consumer: Any = Consumer(Broker(TOPIC, 1), VirtualClock(START_NS))
    member = Member(consumer, KafkaSettings(topic=TOPIC), source.progress, lambda *_: None)
    consumer.assign([PARTITION])
    await member.on_partitions_assigned([PARTITION])
    committed = asyncio.Event()

    async def commit(_: object) -> None:
        committed.set()

    consumer.commit = failing(1, AttributeError(), commit)
    consumer._client.send = failing(1, TypeError(), consumer._client.send)
    source.supervisor.member = member
    committing = asyncio.create_task(source._commit_often())
    await asyncio.wait_for(committed.wait(), 30)
    committing.cancel()
    assert (1, 1) == (source.stats().asked_again, source.stats().commits_failed)
    assert ["the id of the topic could not be asked for (TypeError)"] == caplog.messages


LIMIT_S = 20.0
ROWS = 5


class Watched:
    """A member that is placed in so many partitions, and when its consumer is well."""

    def __init__(self, clock: VirtualClock, partitions: int) -> None:
        """No row waits yet. The member looks at `clock`, which is installed."""
        self.broker = Broker(TOPIC, partitions)
        self._clock = clock
        self._consumer: Any = Consumer(self.broker, clock)
        self._consumer.assign(self.broker.places())
        self._progress = Progress()
        self._member = Member(self._consumer, KafkaSettings(topic=TOPIC), self._progress, lambda *_: None)
        self._member.placed = set(range(partitions))
        for tp in self.broker.places():
            self._consumer.seek(tp, self._progress.begin(tp.partition, 0))

    def fill(self, *partitions: int, rows: int) -> None:
        """Append rows."""
        for partition in partitions:
            for _ in range(rows):
                self.broker.logs[partition].append(b"row", self._clock.at_ns)

    def poll(self, *order: int) -> str:
        """Read a few rows of the first partition that has any, and a second later say what is so."""
        for tp, records in self._consumer.fetch(ROWS, list(order)).items():
            self._progress.places[tp.partition] = records[-1].offset + 1
        self._clock.at_ns += 1_000_000_000
        return self._member.stuck(LIMIT_S)


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """Give the clock that everything looks at."""
    clock = VirtualClock(START_NS)
    with clock.installed():
        yield clock


def test_a_partition_that_waits_for_its_turn_is_well(clock: VirtualClock) -> None:
    """Three that have more fill the answers for a minute; the fourth comes when they are done."""
    watched = Watched(clock, 4)
    watched.fill(0, 1, 2, rows=20 * ROWS)
    watched.fill(3, rows=ROWS)
    assert {""} == {watched.poll(second % 3) for second in range(60)}
    assert {""} == {watched.poll() for _ in range(15)}, "it has not waited alone for so long as the limit"
    assert {""} == {watched.poll(3) for _ in range(60)}


def test_rows_that_nobody_fetches_cost_the_consumer(clock: VirtualClock) -> None:
    """Within the limit where no other partition has more, and in the end whatever the others do."""
    watched = Watched(clock, 4)
    watched.fill(3, rows=ROWS)
    said = []
    for _ in range(25):
        watched.fill(0, rows=ROWS)
        said.append(watched.poll(0))
    assert said == [""] * 21 + ["rows wait and are not fetched"] * 4
    watched = Watched(clock, 4)
    watched.fill(3, rows=ROWS)
    watched.fill(0, rows=200 * ROWS)
    said = [watched.poll(0) for _ in range(85)]
    assert said == [""] * 81 + ["rows wait and are not fetched"] * 4


def test_a_group_that_took_its_time_is_not_held_against_the_consumer(clock: VirtualClock) -> None:
    """Nobody answers heartbeats or fetches meanwhile: it would be thrown away as soon as it has joined."""
    consumer: Any = Consumer(Broker(TOPIC, 1), clock)
    member = Member(consumer, KafkaSettings(topic=TOPIC), Progress(), lambda *_: None)
    for _ in range(2):
        clock.at_ns += 45 * S
        consumer.assign([PARTITION])
        now(member.on_partitions_assigned([PARTITION]))
        assert member.stuck(LIMIT_S) == ""
        now(member.on_partitions_revoked([PARTITION]))


def test_a_partition_that_was_quiet_has_the_time_that_others_have(clock: VirtualClock) -> None:
    """Its place has not moved for long, but nothing has waited there."""
    watched = Watched(clock, 1)
    assert {""} == {watched.poll(0) for _ in range(100)}
    watched.fill(0, rows=ROWS)
    assert "" == watched.poll()


@pytest.mark.parametrize("start", ["rewind", "earliest", "latest"])
async def test_a_partition_that_was_added_in_an_outage_is_read_from_its_first_row(start: str) -> None:
    """However long that was: a checkpoint knows the others, and nobody has read what is in it."""
    now_ns = time.time_ns()
    broker = Broker(TOPIC, 2)
    consumer: Any = Consumer(broker, VirtualClock(now_ns))
    progress = Progress()
    member = Member(consumer, KafkaSettings(topic=TOPIC, start=start), progress, lambda *_: None)
    for log, hours in ((broker.logs[0], 7), (broker.logs[1], 5), (broker.logs[1], 1)):
        for _ in range(5):
            log.append(b"row", now_ns - hours * HOUR_NS)

    async def resume(_topic_id: str, _log_ends: Mapping[int, int]) -> dict[int, int]:
        return {0: 5}

    progress.resume = resume
    consumer.assign(broker.places())
    await member.on_partitions_assigned(broker.places())
    assert progress.places == {0: 5, 1: 0}


@pytest.mark.parametrize("start", ["rewind", "earliest", "latest"])
async def test_a_topic_that_is_made_anew_while_it_is_read_begins_at_its_first_row(start: str) -> None:
    """It is noticed seconds later, when there are rows in it."""
    settings, progress = KafkaSettings(topic=TOPIC, start=start), Progress()
    for number in range(3):
        broker = Broker(TOPIC, 1)
        consumer: Any = Consumer(broker, VirtualClock(START_NS))
        consumer._client.send = telling(bytes([number + 1] * 16))
        for _ in range(10 * (number + 1)):
            broker.logs[0].append(b"row", START_NS)
        member = Member(consumer, settings, progress, lambda *_: None)
        consumer.assign([PARTITION])
        if number == 1:  # It is seen between two assignments, at which the consumer is thrown away.
            await member.look_at_topic((0,))
        await member.on_partitions_assigned([PARTITION])
        assert number == 0 or progress.places == {0: 0}
    assert not progress.is_made_anew


async def test_a_topic_that_was_made_anew_while_another_read_it_begins_as_a_start_does() -> None:
    """Who stood by has missed all of it, and takes over as it would have begun."""
    member, progress, consumer = a_member()
    member = Member(consumer, KafkaSettings(topic=TOPIC, start="latest"), progress, lambda *_: None)
    consumer._broker.logs[0].append(b"row", START_NS)
    for number, partitions in enumerate(([PARTITION], [], [PARTITION])):
        consumer._client.send = telling(bytes([number + 1] * 16))
        consumer.assign(partitions)
        await member.on_partitions_assigned(partitions)
    assert progress.places == {0: 1}


@pytest.mark.parametrize("is_back", [False, True], ids=["gone", "gone and back"])
async def test_a_partition_that_goes_while_its_place_is_looked_for_keeps_none(*, is_back: bool) -> None:
    """A place of before would keep the next assignment from its checkpoint."""
    member, progress, consumer = a_member()
    for _ in range(100):
        consumer._broker.logs[0].append(b"row", START_NS)

    async def resume(_topic_id: str, _log_ends: Mapping[int, int]) -> dict[int, int]:
        return {0: checkpoint}

    progress.resume = resume
    checkpoint = 90
    await member.on_partitions_assigned([PARTITION])
    consumer._broker.logs[0].begin = 95
    begin, asked = asyncio.Event(), consumer.beginning_offsets

    async def beginning_offsets(partitions: Collection[TopicPartition]) -> Any:
        await begin.wait()
        return await asked(partitions)

    consumer.beginning_offsets = beginning_offsets
    looking = asyncio.create_task(member.find_again(PARTITION))
    await asyncio.sleep(0)
    await member.on_partitions_revoked([PARTITION])
    consumer.assign([])
    await member.on_partitions_assigned([])
    checkpoint = 98
    if is_back:
        consumer.assign([PARTITION])
        await member.on_partitions_assigned([PARTITION])
    begin.set()
    assert await looking is None
    assert progress.places == ({0: 98} if is_back else {})


def telling(topic_id: bytes) -> Callable[..., Any]:
    """Give a coroutine function that answers with the id of the topic."""

    async def send(*_: object) -> SimpleNamespace:
        return SimpleNamespace(topics=[(0, TOPIC, topic_id)])

    return send
