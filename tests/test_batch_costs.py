"""What batches that no producer writes may cost: a bounded time and a bounded memory for each chunk."""

from __future__ import annotations

import gzip
import time

from engine.source.batch_codecs import GZIP_FEED_BYTES, expand_into
from engine.source.batch_reader import Fetched, Room, read_chunks
from engine.source.rows import UNREADABLE_BATCH, Chunk, Loss
from tests.record_batches import GZIP, packed_batch

MIB = 1 << 20
ROWS_MAX = 8192


def chunks_of(data: bytes, room: Room) -> list[Chunk]:
    """Read an answer from its first offset on."""
    return list(read_chunks(Fetched(data, 0, (), committed_only=True), room, ROWS_MAX))


def test_empty_members_of_gzip_cost_no_more_than_their_bytes() -> None:
    """157,000 in one batch: each used to copy all that follow it."""
    empty = gzip.compress(b"", mtime=0)
    payload = empty * (3 * MIB // len(empty))
    batch = packed_batch(0, payload, attributes=GZIP, last_delta=0, count=1)
    begin_s = time.process_time()
    assert [(Loss(UNREADABLE_BATCH, 1, 1),)] == [chunk.losses for chunk in chunks_of(batch, Room(MIB))]
    assert time.process_time() - begin_s < 2.0


def test_members_of_gzip_may_begin_and_end_anywhere() -> None:
    """Also where a piece that is fed ends, and with zeros there."""
    plain = bytes(range(256)) * 8
    member = gzip.compress(plain, 0, mtime=0)
    room = memoryview(bytearray(4 * len(plain)))
    for zeros in range(GZIP_FEED_BYTES - len(member) - 12, GZIP_FEED_BYTES + 4):
        packed = memoryview(member + bytes(zeros) + member + bytes(3))
        assert expand_into(GZIP, packed, room) == 2 * len(plain)
        assert room[: 2 * len(plain)] == plain * 2
