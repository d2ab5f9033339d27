"""What raw_fetch.py takes for granted of aiokafka, by version: where one of these fails, records are read.

A new version of aiokafka: run these; if they pass, add it to `VERSIONS` and its functions to `READ_BEFORE`.
"""

from __future__ import annotations

import hashlib
import inspect
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import KafkaConnectionError

from engine.settings import KafkaSettings
from engine.source.kafka import FAILED_POLLS_MAX, KafkaSource
from engine.source.raw_fetch import VERSIONS, bound_anew, make_raw_consumer, why_not_raw
from engine.source.rows import Chunk
from tests.kafka_double import TOPIC, Written, serving
from tests.record_batches import ABORT, COMMIT, NONE, ZSTD, Record, batch_of, marker

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTITION = TopicPartition(TOPIC, 0)
# The functions that are used or bound anew, as they were read: a digest of their source by version.
READ_BEFORE = {
    "0.14.0": {
        "Fetcher._proc_fetch_request": "59bf948fff47eed5",
        "AIOKafkaConsumer.start": "2f1ba70443327538",
        "FetchResult.getall": "3e717e30de5068d5",
        "FetchResult.check_assignment": "b5340df67e3f330f",
        "Fetcher.fetched_records": "be4348896b9b66af",
        "PartitionRecords.__init__": "8ec1c2ae6ea1af87",
    }
}
OWNERS = {each.__name__: each for each in (Fetcher, AIOKafkaConsumer, FetchResult, PartitionRecords)}


def test_the_version_that_is_installed_is_one_it_was_tried_with() -> None:
    """pyproject.toml pins it: a new one needs a look at these tests first."""
    assert version("aiokafka") in VERSIONS
    assert set(VERSIONS) == set(READ_BEFORE)
    assert why_not_raw() == ""


@pytest.mark.parametrize("name", READ_BEFORE[VERSIONS[-1]])
def test_private_functions_are_the_ones_that_were_read(name: str) -> None:
    """A change may be harmless, but somebody has to look: the name of the function is in the failure."""
    owner, function = name.split(".")
    source = inspect.getsource(getattr(OWNERS[owner], function))
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    assert digest == READ_BEFORE[version("aiokafka")][name], f"aiokafka's {name} is not what it was"


def test_another_version_is_not_trusted() -> None:
    """The reason names it."""
    assert "0.99.0" in why_not_raw("0.99.0")


def test_aiokafka_itself_is_left_as_it_is() -> None:
    """Binding names anew makes a twin; the names of the module, and what others make of it, stay."""
    before = fetcher.MemoryRecords, fetcher.PartitionRecords, Fetcher._proc_fetch_request
    twin = bound_anew(Fetcher._proc_fetch_request, MemoryRecords=bytes)
    assert twin.__globals__["MemoryRecords"] is bytes
    assert before == (fetcher.MemoryRecords, fetcher.PartitionRecords, Fetcher._proc_fetch_request)


def raw_consumer(bootstrap: str, **settings: Any) -> AIOKafkaConsumer:
    """Make a consumer of chunks."""
    return make_raw_consumer(
        KafkaSettings(**settings), bootstrap_servers=bootstrap, auto_offset_reset="none",
        isolation_level="read_committed", fetch_max_wait_ms=50,
    )  # fmt: skip


async def chunks_until(consumer: AIOKafkaConsumer, end: int) -> list[Chunk]:
    """Take chunks until the position is `end`."""
    found: list[Chunk] = []
    for _ in range(50):
        for chunks in (await consumer.getmany(timeout_ms=100, max_records=1)).values():
            found += chunks
        if await consumer.position(PARTITION) == end:
            return found
    raise AssertionError(f"it stands at {await consumer.position(PARTITION)}, not at {end}")


def offsets(chunks: Sequence[Chunk]) -> list[int]:
    """List the offsets of all rows."""
    return [offset for chunk in chunks for offset in chunk.rows.offset.tolist()]


def transactions() -> Written:
    """Make a log of three transactions, the second taken back, and a batch of a new one behind them."""
    batches, at = [], 0
    for producer, kind in ((7, COMMIT), (8, ABORT), (7, COMMIT)):
        records = [Record(each, b"row %d" % (at + each)) for each in range(10)]
        codec = ZSTD if kind == ABORT else NONE
        batches.append((at, batch_of(at, records, codec=codec, attributes=0x10, producer_id=producer)))
        batches.append((at + 10, marker(at + 10, producer, kind)))
        at += 11
    return Written(batches, at, aborted=[(8, 11)])


async def test_chunks_come_and_the_position_is_aiokafkas_own() -> None:
    """From an offset inside a batch, past what was taken back, to behind the last marker."""
    with serving(transactions()) as double:
        consumer = raw_consumer(double.bootstrap)
        await consumer.start()
        consumer.assign([PARTITION])
        consumer.seek(PARTITION, 4)
        found = await chunks_until(consumer, 33)
        assert offsets(found) == [*range(4, 10), *range(22, 32)]
        assert (consumer.highwater(PARTITION), consumer.last_stable_offset(PARTITION)) == (33, 33)
        assert consumer.last_poll_timestamp(PARTITION) is not None
        consumer.seek(PARTITION, 30)
        assert offsets(await chunks_until(consumer, 33)) == [30, 31]
        await consumer.stop()


async def test_a_chunk_at_a_time_moves_the_position_chunk_by_chunk() -> None:
    """`max_records` counts chunks, and what was not taken yet is not passed."""
    batches = [(10 * each, batch_of(10 * each, [Record(0, b"row"), Record(9, b"row")])) for each in range(4)]
    with serving(Written(batches, 40)) as double:
        consumer = raw_consumer(double.bootstrap, batch_rows_max=2)
        await consumer.start()
        consumer.assign([PARTITION])
        consumer.seek(PARTITION, 0)
        for end in (10, 20, 30, 40):
            (chunks,) = (await consumer.getmany(timeout_ms=2000, max_records=1)).values()
            assert offsets(chunks) == [end - 10, end - 1]
            assert await consumer.position(PARTITION) == end
        await consumer.stop()


async def test_damage_is_fetched_again_at_its_place() -> None:
    """The rows before it come once; then the same batch comes again and again."""
    good, hurt = batch_of(0, [Record(0, b"row")]), bytearray(batch_of(1, [Record(0, b"row")]))
    hurt[-1] ^= 1
    with serving(Written([(0, good), (1, bytes(hurt))], 2)) as double:
        consumer = raw_consumer(double.bootstrap)
        await consumer.start()
        consumer.assign([PARTITION])
        consumer.seek(PARTITION, 0)
        seen: list[Chunk] = []
        while len(seen) < 4:
            seen += (await consumer.getmany(timeout_ms=2000)).get(PARTITION, [])
        assert offsets(seen) == [0]
        damage = [chunk.damage for chunk in seen[1:]]
        assert [(each.next_offset, each.rows) for each in damage if each] == [(2, 1)] * 3
        assert await consumer.position(PARTITION) == 1
        await consumer.stop()


async def test_a_source_says_by_which_path_it_reads(caplog: pytest.LogCaptureFixture) -> None:
    """Whole batches by default; records if they are asked for, with a line in the log."""
    for raw_batches in (True, False):
        source = KafkaSource(
            KafkaSettings(bootstrap_servers=("127.0.0.1:1",), poll_ns=10_000_000, raw_batches=raw_batches)
        )
        await source.start()
        assert source.stats().raw_batches is raw_batches
        assert ("record by record" in caplog.text) is not raw_batches
        await source.close()


@pytest.mark.parametrize(
    ("error", "is_raw"), [(KafkaConnectionError("away"), True), (AttributeError("gone"), False)]
)
async def test_a_raw_path_that_fails_gives_way_to_records(
    error: Exception, is_raw: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no error of Kafka's, three times in a row, is one of ours; Kafka's own change nothing."""
    source = KafkaSource(KafkaSettings(bootstrap_servers=("127.0.0.1:1",), poll_ns=10_000_000))
    await source._choose_path(why_not_raw())
    for _ in range(FAILED_POLLS_MAX):
        assert source.stats().raw_batches
        await source._count_failure(error, 0.0)
    assert source.stats().raw_batches is is_raw
    assert ("reading whole batches failed (AttributeError)" in caplog.text) is not is_raw
    await source.close()
