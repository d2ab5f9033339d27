"""What batches that no producer writes may cost: bounded time and memory for a chunk, and no other batch."""

from __future__ import annotations

import gzip
import time

import numpy as np
import pytest
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder

from engine.source.batch_codecs import GZIP_FEED_BYTES, expand_into
from engine.source.batch_reader import Fetched, Room, read_chunks
from engine.source.record_batch import CONTROL_BIT, TRANSACTIONAL_BIT
from engine.source.rows import TOO_LARGE, UNREADABLE_BATCH, Chunk, Loss
from tests.record_batches import (
    ABORT,
    ENCODERS,
    GZIP,
    LZ4,
    NONE,
    SNAPPY,
    ZSTD,
    Record,
    batch_of,
    marker,
    packed_batch,
)

MIB = 1 << 20
ROWS_MAX = 8192
NOISE = np.random.default_rng(1).bytes(8192)


def chunks_of(data: bytes, room: Room) -> list[Chunk]:
    """Read an answer from its first offset on."""
    return list(read_chunks(Fetched(data, 0, (), committed_only=True), room, ROWS_MAX))


def test_empty_members_of_gzip_cost_no_more_than_their_bytes() -> None:
    """Each used to copy all that follow it: four times as many cost sixteen times as much."""
    few, many = (least_seconds(empty_members(size)) for size in (MIB, 4 * MIB))
    assert many < 9 * few


def empty_members(size: int) -> bytes:
    """Make a batch of so many bytes of empty members."""
    empty = gzip.compress(b"", mtime=0)
    return packed_batch(0, empty * (size // len(empty)), attributes=GZIP, last_delta=0, count=1)


def least_seconds(batch: bytes) -> float:
    """Give the processor time that reading it takes, at best."""
    taken = []
    for _ in range(3):
        begin_s = time.process_time()
        assert [(Loss(UNREADABLE_BATCH, 1, 1),)] == [one.losses for one in chunks_of(batch, Room(MIB))]
        taken.append(time.process_time() - begin_s)
    return min(taken)


def test_members_of_gzip_may_begin_and_end_anywhere() -> None:
    """Also where a piece that is fed ends, and with zeros there."""
    plain = bytes(range(256)) * 8
    member = gzip.compress(plain, 0, mtime=0)
    room = memoryview(bytearray(4 * len(plain)))
    for zeros in range(GZIP_FEED_BYTES - len(member) - 12, GZIP_FEED_BYTES + 4):
        packed = memoryview(member + bytes(zeros) + member + bytes(3))
        assert expand_into(GZIP, packed, room) == 2 * len(plain)
        assert room[: 2 * len(plain)] == plain * 2


@pytest.mark.parametrize("codec", [GZIP, LZ4, ZSTD])
@pytest.mark.parametrize(("size", "reason"), [(5 * MIB, TOO_LARGE), (3 * MIB, UNREADABLE_BATCH)])
def test_what_is_expanded_in_vain_fills_a_chunk(codec: int, size: int, reason: str) -> None:
    """Beyond the room, or more records than fit into so many bytes: a chunk for each such batch."""
    payload = bytes(ENCODERS[codec](NOISE + bytes(size)))
    data = b"".join(
        packed_batch(number * MIB, payload, attributes=codec, last_delta=MIB - 1, count=MIB)
        for number in range(6)
    )
    chunks = chunks_of(data, Room(4 * MIB))
    assert [(Loss(reason, (number + 1) * MIB, MIB),) for number in range(6)] == [one.losses for one in chunks]


@pytest.mark.parametrize("codec", [NONE, GZIP, SNAPPY, LZ4, ZSTD, 7])
def test_small_batches_that_are_refused_share_a_chunk(codec: int) -> None:
    """They cost next to nothing each."""
    data = b"".join(
        packed_batch(2 * number, b"nonsense", attributes=codec, last_delta=1, count=2)
        for number in range(100)
    )
    assert [100] == [len(chunk.losses) for chunk in chunks_of(data, Room(4 * MIB))]


def a_wrapper(offset: int, value: bytes, codec: int = GZIP) -> bytes:
    """Write one message in the format before the last, compressed or not."""
    builder = LegacyRecordBatchBuilder(1, codec, 64 * MIB)
    builder.append(0, 1_767_600_000_000, b"key", value)
    return offset.to_bytes(8, "big") + bytes(builder.build())[8:]


@pytest.mark.parametrize(("size", "rows"), [(2 * MIB, 1), (5 * MIB, 0)])
def test_old_wrappers_fill_chunks_too(size: int, rows: int) -> None:
    """Each one that expands far, whether it is then read or refused; what follows is read as well."""
    data = b"".join(a_wrapper(number, NOISE + bytes(size)) for number in range(6))
    chunks = chunks_of(data + batch_of(6, [Record(0, b"row")]), Room(4 * MIB))
    assert [(number + 1, rows) for number in range(6)] + [(7, 1)] == [
        (chunk.next_offset, len(chunk.rows.offset)) for chunk in chunks
    ]
    refused = [(Loss(TOO_LARGE, number + 1, 1),) for number in range(6)]
    assert [chunk.losses for chunk in chunks[:6]] == ([()] * 6 if rows else refused)


@pytest.mark.parametrize("codec", [NONE, GZIP])
def test_small_old_wrappers_share_a_chunk(codec: int) -> None:
    """A few thousand rows at a time."""
    data = b"".join(a_wrapper(number, b"row", codec) for number in range(100))
    assert [100] == [len(chunk.rows.offset) for chunk in chunks_of(data, Room(4 * MIB))]


def test_an_empty_control_batch_ends_no_transaction() -> None:
    """The rows that were taken back stay so, and what follows is read."""
    transactional = {"attributes": TRANSACTIONAL_BIT, "producer_id": 7}
    empty = packed_batch(
        1, b"", attributes=CONTROL_BIT | TRANSACTIONAL_BIT, last_delta=0, count=0, producer_id=7
    )
    data = b"".join(
        [
            batch_of(0, [Record(0, b"taken back")], **transactional),
            empty,
            batch_of(2, [Record(0, b"taken back")], **transactional),
            marker(3, 7, ABORT),
            batch_of(4, [Record(0, b"row")], **transactional),
        ]
    )
    fetched = Fetched(data, 0, ((7, 0),), committed_only=True)
    chunks = list(read_chunks(fetched, Room(MIB), ROWS_MAX))
    assert [(5, [4])] == [(chunk.next_offset, chunk.rows.offset.tolist()) for chunk in chunks]
