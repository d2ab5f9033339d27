"""Bits that flip between a real broker and us: found, fetched again, and nothing is lost or doubled."""

import asyncio
import itertools
import time
from pathlib import Path

import pytest

from engine.settings import KafkaSettings
from engine.source.contract import RawBatch
from engine.source.kafka import KafkaSource
from engine.source.rows import LOSSES
from tests.integration.flipping_wire import (
    FlippingWire,
    Where,
    correlation_in,
    length_in,
    lengths_of_records_in,
    offsets_in,
    records_in,
)
from tests.integration.kafka_broker import Kafka
from tests.integration.kill_loop import Killed
from tests.integration.servers import wait_until
from tests.integration.test_kafka_source import numbers, rows
from tests.integration.test_kill_nine import a_story
from tests.source_contract import check_batches

S = 1_000_000_000
NAMES = itertools.count()
SEED = 20261126
PATIENCE_S = 400.0
CHANCE = 0.5
NOTHING_LOST = dict.fromkeys(LOSSES, 0)


async def read_over(wire: FlippingWire, topic: str, flips: dict[Where, int]) -> KafkaSource:
    """Read rows that are produced meanwhile, until all have come and every bit is flipped, kind by kind."""
    settings = KafkaSettings(
        bootstrap_servers=(wire.bootstrap,), topic=topic, group_id=f"group-{topic}", member_id="a",
        start="earliest", session_timeout_ns=6 * S, heartbeat_ns=S, poll_ns=S // 10,
    )  # fmt: skip
    source = KafkaSource(settings)
    await source.start()
    try:
        batches, produced = await read_all(source, wire, topic, list(flips.items()))
    finally:
        await source.close()
    assert numbers(batches) == list(range(produced))
    check_batches(batches)
    return source


async def read_all(
    source: KafkaSource, wire: FlippingWire, topic: str, to_come: list[tuple[Where, int]]
) -> tuple[list[RawBatch], int]:
    """Give what is read, and how many rows were produced."""
    batches: list[RawBatch] = []
    deadline_s = time.monotonic() + PATIENCE_S
    produced = read = 0
    while read < produced or to_come or wire.is_flipping:
        assert time.monotonic() < deadline_s, f"{read} of {produced} rows came, {wire.flipped} bits were hurt"
        if to_come and not wire.is_flipping:
            wire.flip(*to_come.pop(0), CHANCE)
        if read == produced:  # Flips meet rows as long as there are flips to come.
            await asyncio.to_thread(wire.produce, topic, rows(200, first=produced))
            produced += 200
        batches.append(await one_of(source))
        read += batches[-1].rows
    batches += [await one_of(source) for _ in range(5)]  # Nothing comes twice behind all this.
    return batches, produced


async def one_of(source: KafkaSource) -> RawBatch:
    batch = await source.read()
    assert batch is not None
    return batch


async def check(kafka: Kafka, flips: dict[Where, int]) -> None:
    """Every row must come once, and none may be lost."""
    topic = f"hurt-{next(NAMES)}"
    kafka.create_topic(topic)
    with FlippingWire(kafka, SEED) as wire:
        source = await read_over(wire, topic, flips)
        assert wire.flipped == sum(flips.values())
    assert dict(source.stats().lost_rows) == NOTHING_LOST


async def test_every_row_comes_once_whatever_is_hurt_on_the_way(kafka: Kafka) -> None:
    """In records, in offsets of batches, in the frame round them: a re-fetch or a connection, and no row."""
    await check(kafka, {records_in: 5, offsets_in: 5, correlation_in: 1})


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("where", "bits"),
    [(records_in, 200), (offsets_in, 200), (correlation_in, 8), (length_in, 4), (lengths_of_records_in, 8)],
)
async def test_every_row_comes_once_however_much_is_hurt(kafka: Kafka, where: Where, bits: int) -> None:
    """For minutes, a kind of damage at a time."""
    await check(kafka, {where: bits})


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_whole_service_over_a_wire_that_flips_bits_knows_what_it_should(
    kafka: Kafka, tmp_path: Path
) -> None:
    """Calls, windows and alerts are those of a line that reads the topic once, over a good wire."""
    with FlippingWire(kafka, SEED) as wire:
        hurt = Killed(tmp_path, wire, f"hurt-{next(NAMES)}")  # type: ignore[arg-type]
        wire.flip(records_in, 100, chance=0.7)
        hurt.during(a_story(3), 60, lambda: wait_until(lambda: wire.flipped > 40, what="bits were flipped"))
        hurt.finish()
        assert wire.flipped > 40
        hurt.kafka = kafka  # Who is compared with reads it as it is.
        expected, changes = hurt.expected()
    assert hurt.found() == expected
    assert hurt.told() == changes
