"""Records of aiokafka: whatever one partition raises, rows of the others come once each, without a gap."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaError

from engine.settings import KafkaSettings
from engine.source.intake import TRIES_MAX, Intake
from engine.source.kafka import FAILED_POLLS_MAX, KafkaSource
from engine.source.kafka_member import Member
from engine.source.kafka_places import Progress
from engine.source.plain_fetch import PlainFetch
from engine.source.rows import DAMAGED
from tests.kafka_double import TOPIC, Written, serving
from tests.line_traffic import START_NS
from tests.record_batches import GZIP, NONE, Record, batch_of, packed_batch
from tests.simulated_world import Broker, Consumer, VirtualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PARTITIONS = [TopicPartition(TOPIC, number) for number in range(3)]
BATCH, BATCHES = 40, 5
END = BATCH * BATCHES


def a_log() -> list[tuple[int, bytes]]:
    """Write rows in batches, without gaps."""
    batches = []
    for first in range(0, END, BATCH):
        records = [Record(each, b"%d" % (first + each)) for each in range(BATCH)]
        batches.append((first, batch_of(first, records, codec=NONE, last_delta=BATCH - 1)))
    return batches


def hurt(batch: bytes) -> bytes:
    """Flip a bit in the last row."""
    return batch[:-2] + bytes([batch[-2] ^ 1]) + batch[-1:]


class Reading(NamedTuple):
    """A member that was assigned by hand, and what reads through it."""

    member: Member
    plain: PlainFetch
    intake: Intake
    places: dict[int, int]

    async def poll(self) -> dict[int, list[int]]:
        """Fetch once, as a source does; give offsets by partition."""
        found: dict[int, list[int]] = {}
        try:
            fetched = await self.plain.fetch(self.member, 0.2, 1000)
        except Exception:
            self.member.seek_back()
            raise
        for partition, rows in self.intake.take(fetched, self.member):
            found.setdefault(partition, []).extend(rows.offset.tolist())
        await self.member.pass_markers()
        return found


@asynccontextmanager
async def reading(*logs: list[tuple[int, bytes]]) -> AsyncIterator[Reading]:
    """Read these partitions, each as long as `END`, from their first row."""
    progress = Progress()
    with serving(*[Written(batches, END) for batches in logs]) as double:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=double.bootstrap, auto_offset_reset="none", fetch_max_wait_ms=20
        )
        await consumer.start()
        consumer.assign(PARTITIONS[: len(logs)])
        member = Member(consumer, KafkaSettings(topic=TOPIC), progress, lambda *_: None)
        for tp in PARTITIONS[: len(logs)]:
            consumer.seek(tp, progress.begin(tp.partition, 0))
            member.placed.add(tp.partition)
        yield Reading(member, PlainFetch(), Intake(progress.places), progress.places)
        await consumer.stop()


async def read_all(run: Reading, ends: dict[int, int], polls_max: int = 200) -> dict[int, list[int]]:
    """Poll until each place is where it should be."""
    found: dict[int, list[int]] = {partition: [] for partition in ends}
    for _ in range(polls_max):
        for partition, offsets in (await run.poll()).items():
            found[partition] += offsets
        if run.places == ends:
            return found
    raise AssertionError(f"it stands at {run.places}")


@pytest.mark.parametrize("number", [0, 1, 4])
async def test_a_damaged_batch_costs_its_own_rows_and_no_others(number: int) -> None:
    """Those before and behind it and those of other partitions come; what is lost is counted."""
    batches = a_log()
    first, batch = batches[number]
    batches[number] = (first, hurt(batch))
    async with reading(a_log(), batches, a_log()) as run:
        found = await read_all(run, dict.fromkeys(range(3), END))
    whole = list(range(END))
    assert found[0] == found[2] == whole
    assert found[1] == [each for each in whole if not first <= each < first + BATCH]
    assert run.intake.lost_rows[DAMAGED] == BATCH
    assert run.intake.refetches == TRIES_MAX - 1


async def test_damaged_batches_side_by_side_are_passed_together() -> None:
    """Where one ends nobody says."""
    batches = a_log()
    batches[1:3] = [(first, hurt(batch)) for first, batch in batches[1:3]]
    async with reading(batches) as run:
        found = await read_all(run, {0: END})
    assert found[0] == [*range(BATCH), *range(3 * BATCH, END)]
    assert run.intake.lost_rows[DAMAGED] == 2 * BATCH


@pytest.mark.parametrize("codec", [GZIP, 7])
async def test_a_partition_that_cannot_be_read_is_named_and_holds_up_no_other(
    caplog: pytest.LogCaptureFixture, codec: int
) -> None:
    """Its checksum is right, and what is in it cannot be expanded: that is no damage that may be passed."""
    batches = a_log()
    batches[1] = (BATCH, packed_batch(BATCH, b"no gzip", attributes=codec, last_delta=BATCH - 1, count=BATCH))
    raised: list[Exception] = []
    found: dict[int, list[int]] = {0: [], 1: []}
    async with reading(a_log(), batches) as run:
        with caplog.at_level(logging.WARNING):
            for _ in range(40):
                try:
                    for partition, offsets in (await run.poll()).items():
                        found[partition] += offsets
                except Exception as error:  # noqa: BLE001  # Whatever its codec raises.
                    raised.append(error)
    assert (found, run.places) == ({0: list(range(END)), 1: list(range(BATCH))}, {0: END, 1: BATCH})
    assert raised, "nothing else comes, and nobody is told"
    assert not any(type(error) is KafkaError for error in raised)
    assert "partition 1 is held up" in caplog.text
    assert sum(run.intake.lost_rows.values()) == 0


@pytest.mark.parametrize("is_raw", [True, False])
@pytest.mark.parametrize("error", [KafkaError(), CorruptRecordException(), ValueError(), TimeoutError()])
async def test_whatever_a_poll_raises_reading_goes_on_at_its_places(error: Exception, is_raw: bool) -> None:
    """The consumer is behind rows that it gave to nobody."""
    source = KafkaSource(KafkaSettings(topic=TOPIC, start="earliest", poll_ns=10_000_000))
    consumer: Any = Consumer(Broker(TOPIC, 2), VirtualClock(START_NS))

    async def getmany(*_partitions: TopicPartition, **_options: int) -> None:
        for tp in PARTITIONS[:2]:
            consumer.seek(tp, 7)
        raise error

    consumer.getmany = getmany
    consumer.assign(PARTITIONS[:2])
    member = Member(consumer, KafkaSettings(topic=TOPIC, start="earliest"), source.progress, source._assign)
    await member.on_partitions_assigned(PARTITIONS[:2])
    source.supervisor.member, source.supervisor.is_raw = member, is_raw
    await source._poll()
    assert [await consumer.position(tp) for tp in PARTITIONS[:2]] == [0, 0]
    assert source.progress.places == {0: 0, 1: 0}


@pytest.mark.parametrize(("error", "is_raw"), [(ValueError(), False), (KafkaError(), True)])
async def test_reading_goes_on_record_by_record_where_whole_batches_fail_in_an_unforeseen_way(
    error: Exception, is_raw: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Not for what a broker answers: that is as slow, and would stay so."""
    source = KafkaSource(KafkaSettings(topic=TOPIC, start="earliest", poll_ns=1_000_000))
    consumer: Any = Consumer(Broker(TOPIC, 1), VirtualClock(START_NS))

    async def getmany(**_: object) -> None:
        raise error

    consumer.getmany = getmany
    consumer.assign(PARTITIONS[:1])
    source.supervisor.member = Member(consumer, source._settings, source.progress, source._assign)
    source.supervisor.is_raw = True
    for polls in range(FAILED_POLLS_MAX):
        assert (source.supervisor.is_raw, source.stats().rebuilds) == (True, 0), polls
        await source._poll()
    assert (source.supervisor.is_raw, source.stats().rebuilds) == (is_raw, 1)
    assert ("reading record by record" in caplog.text) != is_raw
    await source.close()
