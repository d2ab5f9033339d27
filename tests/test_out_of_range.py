"""A broker says that an offset is out of range: reading goes on, whatever else it says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import TopicPartition, errors

from engine.settings import KafkaSettings
from engine.source.kafka import FAILED_POLLS_MAX, KafkaSource
from engine.source.kafka_member import Member
from tests.line_traffic import START_NS, TOPIC
from tests.simulated_world import Broker, Consumer, VirtualClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PARTITION = TopicPartition(TOPIC, 0)
ROWS, PLACE = 100, 50


async def a_source() -> tuple[KafkaSource, Any]:
    """Give a source that is placed in the midst of a log, and whose consumer is told that this is nowhere."""
    broker = Broker(TOPIC, 1)
    consumer: Any = Consumer(broker, VirtualClock(START_NS))
    for _ in range(ROWS):
        broker.logs[0].append(b"row", START_NS)
    source = KafkaSource(KafkaSettings(topic=TOPIC, poll_ns=1_000_000))
    source.supervisor.is_raw = True

    async def getmany(**_: object) -> None:
        raise errors.OffsetOutOfRangeError({PARTITION: PLACE})

    consumer.getmany = getmany
    source.progress.begin(0, PLACE)
    member = Member(consumer, source._settings, source.progress, source._assign)
    consumer.assign([PARTITION])
    await member.on_partitions_assigned([PARTITION])
    source.supervisor.member = member
    source._alive_s = source._polled_s = time.monotonic()
    return source, consumer


def failing(error: Exception) -> Callable[..., Awaitable[Any]]:
    """Give a coroutine function that raises."""

    async def ask(*_: object) -> None:
        raise error

    return ask


@pytest.mark.parametrize("error", [TimeoutError(), errors.KafkaError()])
async def test_a_broker_that_does_not_say_where_the_log_begins_is_a_poll_that_failed(
    error: Exception,
) -> None:
    """It may have just restarted. Nothing of it ends the process."""
    source, consumer = await a_source()
    consumer.beginning_offsets = failing(error)
    assert await source.read() is not None
    assert source._failed_polls == 1
    assert source.progress.places == {0: PLACE}


async def test_an_offset_that_the_log_has_is_a_poll_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    """A broker that goes on to say so (it cannot find a segment) gets pauses, then a new consumer."""
    source, _ = await a_source()
    caplog.clear()
    for polls in range(1, FAILED_POLLS_MAX):
        assert await source.read() is not None
        assert source._failed_polls == polls
    assert not caplog.records
    await source.read()
    assert source.stats().rebuilds == 1
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    assert "OffsetOutOfRangeError" in caplog.text
    assert source.progress.places == {0: PLACE}
    assert dict(source.stats().lost_rows)["deleted"] == 0
    await source.close()


async def test_rows_that_were_deleted_are_lost_and_counted_and_reading_goes_on() -> None:
    """It is no poll that failed."""
    source, consumer = await a_source()
    consumer._broker.logs[0].begin = PLACE + 7
    assert await source.read() is not None
    assert dict(source.stats().lost_rows)["deleted"] == 7
    assert source.progress.places == {0: PLACE + 7}
    assert source._failed_polls == 0


async def test_a_consumer_that_is_behind_the_end_of_a_log_is_made_anew_at_once() -> None:
    """What was known counts rows that are gone; it is not waited for three of these."""
    source, consumer = await a_source()
    del consumer._broker.logs[0].records[PLACE - 1 :]
    tick = await source.read()
    assert tick is not None
    assert (tick.assigned, tick.tenure) == ((), 1)
    assert source.stats().rebuilds == 1
    assert source.progress.is_tail_lost
    await source.close()


async def test_a_partition_that_went_elsewhere_meanwhile_is_no_poll_that_failed() -> None:
    """The group was arranged anew while the broker was asked where the log begins."""
    source, consumer = await a_source()
    member = source.supervisor.member
    assert member is not None
    asked = consumer.beginning_offsets

    async def beginning_offsets(partitions: Any) -> Any:
        consumer.assign([])
        await member.on_partitions_assigned([])
        return await asked(partitions)

    consumer.beginning_offsets = beginning_offsets
    tick = await source.read()
    assert tick is not None
    assert tick.assigned == ()
    assert source._failed_polls == 0
