"""The Kafka source against a real broker: nothing lost, nothing doubled, one reader, whatever goes away."""

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from engine.errors import SourceError
from engine.settings import KafkaSettings
from engine.source.contract import RawBatch
from engine.source.kafka import KafkaSource
from tests.integration.kafka_broker import PASSWORD, USER, Kafka, call_id_of
from tests.source_contract import check_batches, read_rows, rows_by_partition, rows_of

S = 1_000_000_000
HOUR_MS = 3_600_000
NAMES = itertools.count()

Open = Callable[..., Awaitable[KafkaSource]]


def rows(count: int, first: int = 0) -> list[bytes]:
    """Make rows of calls, all different."""
    return [b'{"call_id":"call-%d","n":%d}' % (number % 97, number) for number in range(first, first + count)]


@pytest.fixture
def topic(kafka: Kafka) -> str:
    """Make a topic of four partitions."""
    name = f"calls-{next(NAMES)}"
    kafka.create_topic(name)
    return name


@pytest.fixture
async def open_source(kafka: Kafka) -> AsyncIterator[Open]:
    """Give a function that starts a source; its group is named after the topic. All are closed in the end."""
    running: list[KafkaSource] = []

    async def start(topic: str, **settings: Any) -> KafkaSource:
        defaults = KafkaSettings(
            bootstrap_servers=(kafka.bootstrap,), topic=topic, group_id=f"group-{topic}", member_id="a",
            start="earliest", session_timeout_ns=6 * S, heartbeat_ns=S, poll_ns=S // 10,
        )  # fmt: skip
        source = KafkaSource(msgspec.structs.replace(defaults, **settings))
        running.append(source)
        await source.start()
        return source

    yield start
    for source in running:
        await source.close()


async def read_until(
    source: KafkaSource, met: Callable[[RawBatch], bool], timeout_s: float = 40.0
) -> list[RawBatch]:
    """Read until a batch or tick meets a condition."""
    deadline_s = time.monotonic() + timeout_s
    batches: list[RawBatch] = []
    while not batches or not met(batches[-1]):
        assert time.monotonic() < deadline_s, f"it did not come; last: {batches[-1:]}"
        batch = await source.read()
        assert batch is not None
        batches.append(batch)
    return batches


def has_all(batch: RawBatch) -> bool:
    """Say whether all four partitions are read to their end."""
    return batch.caught_up == (0, 1, 2, 3)


def numbers(batches: list[RawBatch]) -> list[int]:
    """Give the numbers of the rows, sorted."""
    found = [row for some in rows_by_partition(batches).values() for row in some]
    return sorted(int(msgspec.json.decode(row)["n"]) for row in found)


@pytest.mark.parametrize("raw_batches", [True, False])
@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_everything_is_read_once_with_every_codec(
    kafka: Kafka, topic: str, open_source: Open, codec: str, raw_batches: bool
) -> None:
    """All rows of all partitions, those of a call in their order, until every end is reached."""
    made = rows(5000)
    kafka.produce(topic, made, compression=codec)
    source = await open_source(topic, batch_rows_max=700, raw_batches=raw_batches)
    batches = await read_rows(source, 5000)
    batches += await read_until(source, has_all)
    check_batches(batches)
    assert max(batch.rows for batch in batches) <= 700
    assert source.stats().raw_batches is raw_batches
    assert numbers(batches) == list(range(5000))
    for found in rows_by_partition(batches).values():
        calls = {call_id_of(row) for row in found}
        assert found == [row for row in made if call_id_of(row) in calls]
    assert source.stats().lag_rows == tuple((topic, partition, 0) for partition in range(4))


async def test_a_rewind_reads_back_over_its_time_and_no_further(
    kafka: Kafka, topic: str, open_source: Open
) -> None:
    """Rows older than the rewind are not read; a partition without younger ones begins at its end."""
    now_ms = int(time.time() * 1000)
    kafka.produce(topic, rows(100), timestamp_ms=now_ms - 5 * HOUR_MS)
    kafka.produce(topic, rows(50, first=100), timestamp_ms=now_ms - HOUR_MS, partition=2)
    source = await open_source(topic, start="rewind", rewind_ns=2 * 3600 * S)
    batches = await read_until(source, has_all)
    assert numbers(batches) == list(range(100, 150))
    kafka.produce(topic, rows(40, first=150))
    assert numbers(await read_rows(source, 40)) == list(range(150, 190))


async def test_latest_reads_only_what_comes(kafka: Kafka, topic: str, open_source: Open) -> None:
    """What is there already is not read."""
    kafka.produce(topic, rows(100))
    source = await open_source(topic, start="latest")
    await read_until(source, has_all)
    kafka.produce(topic, rows(30, first=100))
    assert numbers(await read_rows(source, 30)) == list(range(100, 130))


@pytest.mark.parametrize("raw_batches", [True, False])
async def test_rows_without_a_value_are_counted(
    kafka: Kafka, topic: str, open_source: Open, raw_batches: bool
) -> None:
    """Tombstones and empty values are no rows, and lag does not stay behind for them."""
    kafka.produce(topic, [*rows(5), None, None], partition=1)
    source = await open_source(topic, raw_batches=raw_batches)
    batches = await read_until(source, has_all)
    assert numbers(batches) == list(range(5))
    assert source.stats().tombstones == 2


@pytest.mark.parametrize("raw_batches", [True, False])
async def test_aborted_transactions_are_not_read(
    kafka: Kafka, topic: str, open_source: Open, raw_batches: bool
) -> None:
    """Rows that their producer took back do not count, and markers hold neither the end nor the lag away."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topic, "linger.ms": 5})
    producer.init_transactions(30)
    for turn in range(6):
        producer.begin_transaction()
        for row in rows(50, first=50 * turn):
            producer.produce(topic, row, b"key", turn % 2)
        producer.flush(30)
        (producer.abort_transaction if turn in {1, 2, 5} else producer.commit_transaction)(30)
    source = await open_source(topic, raw_batches=raw_batches, batch_rows_max=30)
    batches = await read_until(source, has_all)
    check_batches(batches)
    assert numbers(batches) == [*range(50), *range(150, 250)]
    assert source.stats().lag_rows == tuple((topic, partition, 0) for partition in range(4))
    assert sum(rows for _, rows in source.stats().lost_rows) == 0


@pytest.mark.parametrize("raw_batches", [True, False])
async def test_a_batch_that_is_damaged_on_the_disk_costs_its_rows_alone(
    kafka: Kafka, topic: str, open_source: Open, raw_batches: bool
) -> None:
    """It is fetched again over another connection, left out in the end, and counted; the rest is read."""
    for first in range(0, 300, 100):
        kafka.produce(topic, rows(100, first=first), partition=2)
    await asyncio.to_thread(kafka.stop)  # In good order: the broker does not look at what it wrote before.
    damaged = kafka.damage(topic, 2, b'"n":150}')
    kafka.start()
    source = await open_source(topic, raw_batches=raw_batches)
    batches = await read_until(source, has_all, 60.0)
    check_batches(batches)
    assert dict(source.stats().lost_rows)["damaged"] == damaged
    assert len(numbers(batches)) == 300 - damaged
    assert {*range(100), *range(200, 300)} <= set(numbers(batches))
    assert source.stats().rebuilds == 1


async def test_one_member_reads_and_the_next_takes_over(kafka: Kafka, topic: str, open_source: Open) -> None:
    """The standby has nothing while the owner lives; then everything, from the start policy on."""
    kafka.produce(topic, rows(400))
    active = await open_source(topic, member_id="m1")
    assert numbers(await read_rows(active, 400)) == list(range(400))
    standby = await open_source(topic, member_id="a-lesser-id")
    reading = asyncio.create_task(read_until(active, lambda _: standby.stats().state == "standby"))
    waiting = await read_until(standby, lambda _: standby.stats().state == "standby")
    assert [(each.rows, each.assigned) for each in waiting] == [(0, ())] * len(waiting)
    held = await reading
    assert {each.assigned for each in held} == {(0, 1, 2, 3)}, "the owner lost its state to a newcomer"
    assert sum(each.rows for each in held) == 0
    await active.close()  # A static member does not leave: the group finds out as if it was killed.
    taken = await read_rows(standby, 400)
    assert numbers(taken) == list(range(400))
    kafka.produce(topic, rows(50, first=400))
    assert numbers(await read_rows(standby, 50)) == list(range(400, 450))


async def test_a_broker_that_restarts_loses_nothing(kafka: Kafka, topic: str, open_source: Open) -> None:
    """Reading goes on where it was; nobody is caught up while the broker is away."""
    kafka.produce(topic, rows(300))
    source = await open_source(topic)
    batches = await read_rows(source, 300)
    batches += await read_until(source, has_all)
    await asyncio.to_thread(kafka.kill)
    batches += await read_until(source, lambda batch: batch.caught_up == ())
    await asyncio.sleep(1.0)
    kafka.start()
    kafka.produce(topic, rows(300, first=300))
    batches += await read_rows(source, 300)
    batches += await read_until(source, has_all)
    check_batches(batches)
    assert numbers(batches) == list(range(600))
    assert {each.assigned for each in batches if each.rows} == {(0, 1, 2, 3)}


async def test_a_consumer_that_gets_no_answer_is_made_anew(
    kafka: Kafka, topic: str, open_source: Open
) -> None:
    """A broker that hangs costs the consumer, not a row: another one goes on at the same place."""
    kafka.produce(topic, rows(200))
    source = await open_source(topic, session_timeout_ns=S, heartbeat_ns=S // 4)
    batches = await read_rows(source, 200)
    kafka.process.pause()
    try:
        batches += await read_until(source, lambda _: source.stats().rebuilds > 0)
    finally:
        kafka.process.resume()
    kafka.produce(topic, rows(200, first=200))
    batches += await read_rows(source, 200)
    check_batches(batches)
    assert numbers(batches) == list(range(400))
    assert source.stats().rebuilds >= 1


async def test_rows_deleted_before_they_were_read_are_counted(
    kafka: Kafka, topic: str, open_source: Open
) -> None:
    """Reading goes on at the first row that is left."""
    kafka.produce(topic, rows(100), partition=0)
    source = await open_source(topic, start="latest")
    await read_until(source, has_all)
    kafka.delete_rows(topic, 0, 60)
    member = source.supervisor.member
    assert member is not None
    source.progress.places[0] = 5  # As if it had been away for longer than the topic keeps its rows.
    member.consumer.seek(member.tp(0), 5)
    batches = await read_rows(source, 40)
    assert numbers(batches) == list(range(60, 100))
    assert dict(source.stats().lost_rows)["deleted"] == 55


async def test_a_topic_that_is_made_later_is_waited_for(
    kafka: Kafka, open_source: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """A line in the log names it, and reading begins when it is there."""
    name = f"later-{next(NAMES)}"
    source = await open_source(name)
    with caplog.at_level(logging.WARNING):
        await read_until(source, lambda _: "does not exist yet" in caplog.text)
    assert source.stats().state == "waiting"
    kafka.create_topic(name)
    kafka.produce(name, rows(20))
    assert numbers(await read_rows(source, 20)) == list(range(20))


async def test_two_processes_with_one_member_id_are_told_apart(
    kafka: Kafka, topic: str, open_source: Open
) -> None:
    """The newer one reads, the older one ends with an error that says what to change."""
    older = await open_source(topic, member_id="same")
    await read_until(older, has_all)
    newer = await open_source(topic, member_id="same")
    await read_until(newer, has_all)
    with pytest.raises(SourceError, match="another process") as raised:
        await read_until(older, lambda _: False)
    assert "member_id" in raised.value.hint


async def test_a_login_is_used_and_a_wrong_one_is_an_error(
    kafka: Kafka, topic: str, open_source: Open, tmp_path: Path
) -> None:
    """The right password reads; a wrong one is no broker that is away, but an error with a hint."""
    kafka.produce(topic, rows(10))
    for name, password in (("right", PASSWORD), ("wrong", "another-password")):
        (tmp_path / name).write_text(password, "utf-8")
    login = {
        "bootstrap_servers": (kafka.login_bootstrap,), "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN", "sasl_username": USER,
    }  # fmt: skip
    right = await open_source(topic, sasl_password_file=str(tmp_path / "right"), **login)
    assert numbers(await read_rows(right, 10)) == list(range(10))
    wrong = await open_source(topic, member_id="b", sasl_password_file=str(tmp_path / "wrong"), **login)
    with pytest.raises(SourceError, match="refuses the login") as raised:
        await read_until(wrong, lambda _: False)
    assert "sasl_password_file" in raised.value.hint
    assert "another-password" not in str(raised.value)


@pytest.mark.full
async def test_a_topic_that_is_made_anew_begins_anew(kafka: Kafka, topic: str, open_source: Open) -> None:
    """What was held of the old topic is let go before a row of the new one comes."""
    kafka.produce(topic, rows(100), partition=0)
    source = await open_source(topic)
    await read_rows(source, 100)
    await asyncio.to_thread(kafka.delete_topic, topic)
    await asyncio.to_thread(kafka.create_topic, topic)
    await asyncio.to_thread(kafka.produce, topic, rows(30, first=500), partition=0)
    batches = await read_until(source, lambda batch: batch.rows > 0)
    assert any(0 not in each.assigned for each in batches), "the old topic's state was kept"
    batches += await read_rows(source, 30 - batches[-1].rows)
    assert numbers(batches) == list(range(500, 530))
    assert rows_of(batches[-1])


async def test_a_topic_made_anew_is_seen_though_it_is_longer_than_before(
    kafka: Kafka, topic: str, open_source: Open
) -> None:
    """Its offsets would fit: only its id tells it from the one that was read."""
    kafka.produce(topic, rows(40), partition=0)
    source = await open_source(topic)
    await read_rows(source, 40)
    old_id = source.progress.topic_id
    await asyncio.to_thread(kafka.delete_topic, topic)
    await asyncio.to_thread(kafka.create_topic, topic)
    await asyncio.to_thread(kafka.produce, topic, rows(200, first=500), partition=0)
    batches = await read_until(source, lambda batch: batch.rows > 0 and int(batch.offset[0]) == 0)
    let_go = [each for each in batches if not each.assigned]
    assert let_go, "the old topic's state was kept"
    batches = [batches[-1], *await read_rows(source, 200 - batches[-1].rows)]
    assert numbers(batches) == list(range(500, 700))
    assert len(old_id) == len(source.progress.topic_id) == 32
    assert old_id != source.progress.topic_id


async def test_a_rewind_never_begins_above_what_the_group_has_committed(
    kafka: Kafka, topic: str, open_source: Open
) -> None:
    """A group that was away for longer than the rewind has not counted what came meanwhile."""
    old_ms = int(time.time() * 1000) - 5 * HOUR_MS
    kafka.produce(topic, rows(100), partition=0, timestamp_ms=old_ms)
    kafka.produce(topic, rows(100, first=100), partition=1, timestamp_ms=old_ms)
    places = [TopicPartition(topic, 0, 60)]
    group = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": f"group-{topic}"})
    group.commit(offsets=places, asynchronous=False)
    group.close()
    source = await open_source(topic, start="rewind", rewind_ns=4 * 3600 * S)
    batches = await read_until(source, has_all)
    assert numbers(batches) == list(range(60, 100))


async def test_after_close_there_is_nothing(kafka: Kafka, topic: str, open_source: Open) -> None:
    """Like every source, it gives None then, and may be closed again."""
    kafka.produce(topic, rows(10))
    source = await open_source(topic)
    await read_rows(source, 1)
    await source.close()
    await source.close()
    assert await source.read() is None
