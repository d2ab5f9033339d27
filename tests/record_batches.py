"""Record batches written by hand, also such as no producer writes, and what plain aiokafka makes of them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import TopicPartition
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, PartitionRecords
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c, encode_varint

from engine.source.record_batch import CHECKSUM_FROM, CONTROL_BIT, HEADER, TRANSACTIONAL_BIT

if TYPE_CHECKING:
    from collections.abc import Sequence

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
ENCODERS = {GZIP: gzip_encode, SNAPPY: snappy_encode, LZ4: lz4_encode, ZSTD: zstd_encode}
APPEND_TIME_BIT = 0x08
ABORT, COMMIT = b"\0\0\0\0", b"\0\0\0\1"
CHECKSUM = struct.Struct(">I")
CHECKSUM_AT = CHECKSUM_FROM - CHECKSUM.size


class Record(NamedTuple):
    """One record of a batch."""

    delta: int
    value: bytes | None
    key: bytes | None = b"call"
    headers: tuple[tuple[bytes, bytes | None], ...] = ()
    time_delta_ms: int = 0


def varint(number: int) -> bytes:
    """Write a number as Kafka does."""
    written = bytearray()
    encode_varint(number, written.append)
    return bytes(written)


def sized(content: bytes | None) -> bytes:
    """Write bytes behind their length."""
    return varint(-1) if content is None else varint(len(content)) + content


def record_bytes(record: Record) -> bytes:
    """Write one record."""
    headers = [sized(name) + sized(content) for name, content in record.headers]
    deltas = varint(record.time_delta_ms) + varint(record.delta)
    body = b"\0" + deltas + sized(record.key) + sized(record.value) + varint(len(headers)) + b"".join(headers)
    return varint(len(body)) + body


def batch_of(
    base_offset: int,
    records: Sequence[Record],
    *,
    codec: int = NONE,
    attributes: int = 0,
    producer_id: int = -1,
    last_delta: int | None = None,
    count: int | None = None,
) -> bytes:
    """Write a batch; `last_delta` and `count` are those of the records, unless they are given."""
    payload = b"".join(map(record_bytes, records))
    return packed_batch(
        base_offset,
        payload if codec == NONE else bytes(ENCODERS[codec](payload)),
        attributes=attributes | codec,
        producer_id=producer_id,
        last_delta=max((each.delta for each in records), default=0) if last_delta is None else last_delta,
        count=len(records) if count is None else count,
    )


def packed_batch(
    base_offset: int, payload: bytes, *, attributes: int, last_delta: int, count: int, producer_id: int = -1
) -> bytes:
    """Write a batch around a payload, with a checksum that is right."""
    length = HEADER.size - 12 + len(payload)
    fields = (base_offset, length, 3, 2, 0, attributes, last_delta, 1_767_600_000_000, 1_767_600_000_500)
    return signed(HEADER.pack(*fields, producer_id, 0, -1, count) + payload)


def signed(batch: bytes) -> bytes:
    """Put the right checksum into a batch."""
    checksum = CHECKSUM.pack(calc_crc32c(batch[CHECKSUM_FROM:]))
    return batch[:CHECKSUM_AT] + checksum + batch[CHECKSUM_FROM:]


def marker(offset: int, producer_id: int, kind: bytes) -> bytes:
    """Write the control batch that ends a transaction."""
    record = Record(0, b"\0\0\0\0\0\0", key=kind)
    attributes = CONTROL_BIT | TRANSACTIONAL_BIT
    return batch_of(offset, [record], attributes=attributes, producer_id=producer_id)


class Plain(NamedTuple):
    """What aiokafka gives record by record."""

    rows: list[tuple[int, bytes]]
    empty_rows: int
    next_offset: int


def read_plain(
    data: bytes, offset: int, aborted: Sequence[tuple[int, int]] = (), *, committed_only: bool = True
) -> Plain:
    """Read an answer with plain aiokafka; it raises where something is corrupt."""
    level = READ_COMMITTED if committed_only else READ_UNCOMMITTED
    arguments = (MemoryRecords(data), list(aborted), offset, None, None, True, level)
    records = PartitionRecords(TopicPartition("calls", 0), *arguments)
    found = [(each.offset, each.value) for each in records]
    rows = [(at, value) for at, value in found if value]
    return Plain(rows, len(found) - len(rows), records.next_fetch_offset)
