"""Where a line goes on lies behind what is no row: markers, null values, gaps. It may be deleted unread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from engine.app import REPLAY_HASH_KEY, OwnedLine
from engine.settings import KafkaSettings
from engine.source.kafka import KafkaSource
from engine.source.kafka_member import Member
from engine.source.raw_fetch import make_raw_consumer
from engine.source.record_batch import TRANSACTIONAL_BIT
from tests.kafka_double import TOPIC, Written, serving
from tests.line_traffic import START_NS
from tests.record_batches import COMMIT, Record, batch_of, marker
from tests.simulated_world import Broker, Consumer, VirtualClock, now
from tests.simulation import configured

if TYPE_CHECKING:
    from engine.source.contract import RawBatch

PRODUCER, POLLS_MAX = 7, 100
TWO_ROWS = tuple(Record(each, b'{"n":%d}' % each) for each in range(2))
MARKED = Written(
    [
        (0, batch_of(0, TWO_ROWS, attributes=TRANSACTIONAL_BIT, producer_id=PRODUCER)),
        (2, marker(2, PRODUCER, COMMIT)),
    ],
    3,
)
NULL_AT_THE_END = Written(
    [(0, batch_of(0, [*TWO_ROWS, Record(2, None)])), (3, batch_of(3, [Record(0, None)]))], 4
)
COMPACTED = Written([(0, batch_of(0, TWO_ROWS, last_delta=9))], 10)
NO_ROW_AT_ALL = Written([(0, batch_of(0, [Record(each, None) for each in range(5)]))], 5)
LOGS = (MARKED, NULL_AT_THE_END, COMPACTED, NO_ROW_AT_ALL)
PARTITIONS = tuple(range(len(LOGS)))


async def read_to_the_end(*, is_raw: bool) -> list[RawBatch]:
    """Give what a source gives of the logs, up to the first tick behind them."""
    settings = KafkaSettings(topic=TOPIC, poll_ns=100_000_000)
    source = KafkaSource(settings)
    source.supervisor.is_raw = is_raw
    found = []
    with serving(*LOGS) as double:
        options = {
            "bootstrap_servers": double.bootstrap, "auto_offset_reset": "none",
            "isolation_level": "read_committed", "fetch_max_wait_ms": 20,
        }  # fmt: skip
        consumer = make_raw_consumer(settings, **options) if is_raw else AIOKafkaConsumer(**options)
        await consumer.start()
        consumer.assign([TopicPartition(TOPIC, number) for number in PARTITIONS])
        member = Member(consumer, settings, source.progress, source._assign)
        for number in PARTITIONS:
            consumer.seek(TopicPartition(TOPIC, number), source.progress.begin(number, 0))
        member.placed = set(PARTITIONS)
        source._assign(PARTITIONS, PARTITIONS)
        source.supervisor.member = member
        for _ in range(POLLS_MAX):
            raw = await source.read()
            assert raw is not None
            found.append(raw)
            if not raw.rows and raw.caught_up == PARTITIONS:
                break
        await consumer.stop()
    return found


@pytest.mark.parametrize("is_raw", [True, False])
async def test_a_line_goes_on_behind_markers_null_values_and_gaps(*, is_raw: bool) -> None:
    """What retention then deletes was not lost. Rows lie behind no place that was said before they came."""
    line = OwnedLine(configured(is_idle_on=False), REPLAY_HASH_KEY).line.pipeline
    for raw in await read_to_the_end(is_raw=is_raw):
        if raw.rows:
            assert line.next_offsets.get(raw.partition, 0) <= int(raw.offset[0])
        line.step(raw)
    assert line.decoder.rows_read == 6
    assert line.next_offsets == {number: log.end for number, log in enumerate(LOGS)}


def taken(at_ns: int) -> KafkaSource:
    """Give a source that has taken four rows of each of two partitions, two at a time."""
    broker = Broker(TOPIC, 2)
    consumer: Any = Consumer(broker, VirtualClock(at_ns))
    source = KafkaSource(KafkaSettings(topic=TOPIC, start="earliest", batch_rows_max=2))
    member = Member(consumer, source._settings, source.progress, source._assign)
    for log in broker.logs:
        for value in (b"{}", b"{}", b"{}", b""):
            log.append(value, START_NS)
    consumer.assign(broker.places())
    now(member.on_partitions_assigned(broker.places()))
    source._ready.clear()
    now(source._take(member, consumer.fetch(100, [0, 1])))
    return source


def test_only_the_last_batch_of_a_poll_says_how_far_it_goes() -> None:
    """A cut between two of them must not count the rows of the second, nor those of what went elsewhere."""
    source = taken(START_NS)
    assert [one.places for one in source._ready] == [(), (), (), ((0, 4), (1, 4))]

    source._assign((1,), (1,))
    assert [(one.partition, one.places) for one in source._ready] == [(1, ()), (1, ((1, 4),)), (-1, ())]


def test_a_partition_is_read_to_its_end_with_its_last_batch_and_not_before() -> None:
    """Who has caught up tells Alertmanager what fires: not while rows of the past are still to come."""
    source = taken(time.time_ns())
    assert [one.caught_up for one in source._ready] == [(), (0,), (0,), (0, 1)]
