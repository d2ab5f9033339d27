"""Both lines of Kafka that are in use, 4.1 and 3.9: logins, rights, codecs, restarts, and takeovers."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.settings import KafkaSettings
from engine.source.kafka import KafkaSource
from engine.source.kafka_insides import generation_of
from tests.integration.secure_kafka import GROUP_KIND, TOPIC_KIND, USER, SecureKafka
from tests.integration.servers import KAFKA_VERSION, ServerMissing, without
from tests.integration.test_kafka_source import has_all, numbers, read_until, rows
from tests.source_contract import check_batches, read_rows

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]
VERSIONS = (KAFKA_VERSION, "3.9.1")
S = 1_000_000_000
SESSION_S = 6
REASSIGNED_S = SESSION_S + 5.0
TOPICS = CODECS, RESTART, TAKEOVER = ("codecs", "restart", "takeover")

Open = Callable[..., Awaitable[KafkaSource]]


@pytest.fixture(scope="module", params=VERSIONS)
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """Give a broker of each version that asks for TLS and a login, with a topic for each test."""
    try:
        running = SecureKafka(tmp_path_factory.mktemp("kafka"), request.param)
    except ServerMissing as missing:
        without(missing)
    running.kafka.start()
    for name in TOPICS:
        running.kafka.create_topic(name)
        running.allow(f"User:{USER}", TOPIC_KIND, name)
        running.allow(f"User:{USER}", GROUP_KIND, name)
    yield running
    running.kafka.stop()


@pytest.fixture
async def open_source(broker: SecureKafka, tmp_path: Path) -> AsyncIterator[Open]:
    """Give a function that starts a source, which logs in over TLS."""
    running: list[KafkaSource] = []

    async def start(topic: str, **changes: Any) -> KafkaSource:
        settings = broker.reader(tmp_path, topic, topic, SESSION_S * S)
        source = KafkaSource(KafkaSettings(**{**settings, **changes}))
        running.append(source)
        await source.start()
        return source

    yield start
    for source in running:
        await source.close()


def generation(source: KafkaSource) -> int:
    """Give the generation of the group that a source belongs to."""
    member = source.supervisor.member
    assert member is not None
    return generation_of(member.consumer)


async def test_every_codec_comes_over_tls_login_and_rights(broker: SecureKafka, open_source: Open) -> None:
    """All rows once, and the broker may be killed in between."""
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")
    for number, codec in enumerate(codecs):
        broker.kafka.produce(CODECS, rows(500, first=500 * number), compression=codec)
    source = await open_source(CODECS)
    batches = await read_until(source, has_all)
    await asyncio.to_thread(broker.kafka.kill)
    batches += await read_until(source, lambda batch: batch.caught_up == ())
    broker.kafka.start()  # In this thread: the broker ends with the one that started it.
    await asyncio.to_thread(broker.kafka.produce, CODECS, rows(500, first=2500))
    batches += await read_rows(source, 500)
    check_batches(batches)
    assert numbers(batches) == list(range(3000))


async def test_a_member_that_restarts_within_the_session_causes_no_rebalance(
    broker: SecureKafka, open_source: Open
) -> None:
    """Its place is kept: the same generation before and after, and the standby is asked nothing."""
    broker.kafka.produce(RESTART, rows(200))
    owner = await open_source(RESTART)
    batches = await read_until(owner, has_all)
    standby = await open_source(RESTART, member_id="b")
    reading = asyncio.create_task(read_until(owner, lambda _: standby.stats().state == "standby"))
    await read_until(standby, lambda _: standby.stats().state == "standby")
    await reading
    await read_until(owner, has_all)
    before, rebalances = generation(owner), standby.stats().rebalances
    await owner.close()
    again = await open_source(RESTART)
    waiting = asyncio.create_task(read_until(standby, lambda _: again.stats().state == "reading"))
    batches = await read_until(again, has_all)
    await waiting
    assert numbers(batches) == list(range(200))
    assert generation(again) == before
    assert standby.stats().rebalances == rebalances
    assert standby.stats().state == "standby"


async def test_a_member_that_is_gone_is_replaced_within_session_and_five_seconds(
    broker: SecureKafka, open_source: Open
) -> None:
    """From its last heartbeat to the other's first row."""
    broker.kafka.produce(TAKEOVER, rows(200))
    owner = await open_source(TAKEOVER)
    await read_until(owner, has_all)
    standby = await open_source(TAKEOVER, member_id="b")
    reading = asyncio.create_task(read_until(owner, lambda _: standby.stats().state == "standby"))
    await read_until(standby, lambda _: standby.stats().state == "standby")
    await reading
    gone_s = time.monotonic()
    await owner.close()
    left_s = REASSIGNED_S - (time.monotonic() - gone_s)
    batches = await read_until(standby, lambda batch: batch.rows > 0, left_s)
    batches += await read_until(standby, has_all)
    assert numbers(batches) == list(range(200))
