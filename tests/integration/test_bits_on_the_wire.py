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
PATIENCE_S = 120.0
NOTHING_LOST = dict.fromkeys(LOSSES, 0)


async def read_over(wire: FlippingWire, topic: str, count: int) -> KafkaSource:
    """Read rows that are produced meanwhile, until all have come and the wire flips no more."""
    settings = KafkaSettings(
        bootstrap_servers=(wire.bootstrap,), topic=topic, group_id=f"group-{topic}", member_id="a",
        start="earliest", session_timeout_ns=6 * S, heartbeat_ns=S, poll_ns=S // 10,
    )  # fmt: skip
    source = KafkaSource(settings)
    await source.start()
    batches: list[RawBatch] = []
    deadline_s = time.monotonic() + PATIENCE_S
    produced = read = 0
    while read < produced or produced < count or wire.is_flipping:
        assert time.monotonic() < deadline_s, f"{read} of {produced} rows came"
        if read == produced:  # Flips meet rows as long as there are flips to come.
            await asyncio.to_thread(wire.produce, topic, rows(200, first=produced))
            produced += 200
        batch = await source.read()
        assert batch is not None
        batches.append(batch)
        read += batch.rows
    for _ in range(5):  # Nothing comes twice behind all this.
        batch = await source.read()
        assert batch is not None
        batches.append(batch)
    await source.close()
    assert numbers(batches) == list(range(produced))
    check_batches(batches)
    return source


@pytest.mark.parametrize(
    ("where", "bits"),
    [
        (records_in, 12),
        (offsets_in, 12),
        (correlation_in, 1),
        pytest.param(records_in, 1000, marks=pytest.mark.full),
        pytest.param(offsets_in, 1000, marks=pytest.mark.full),
        pytest.param(correlation_in, 8, marks=pytest.mark.full),
        pytest.param(length_in, 4, marks=pytest.mark.full),
        pytest.param(lengths_of_records_in, 8, marks=pytest.mark.full),
    ],
)
async def test_every_row_comes_once_whatever_is_hurt_on_the_way(
    kafka: Kafka, where: Where, bits: int
) -> None:
    """In records, in offsets of batches, in the frame round them: a re-fetch or a connection, and no row."""
    topic = f"hurt-{next(NAMES)}"
    kafka.create_topic(topic)
    with FlippingWire(kafka, SEED) as wire:
        wire.flip(where, bits, chance=0.5)
        source = await read_over(wire, topic, 1000)
        assert wire.flipped == bits
    assert dict(source.stats().lost_rows) == NOTHING_LOST


@pytest.mark.full
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
        expected, changes = hurt.expected()
    assert hurt.found() == expected
    assert hurt.told() == changes
