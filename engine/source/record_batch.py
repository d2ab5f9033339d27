"""Record batches of Kafka as they come over the wire (format 2): their headers, and where their rows lie.

    message set = batches one after another, the last one possibly cut off by the size limit of the fetch
    batch       = header (61 bytes, big-endian) | records, all of them compressed together or not at all
    record      = length | attributes | time delta | offset delta | key | value | headers, lengths as varints

A batch of format 0 or 1 has its length and format number at the same places; nothing else is read of it here.
`frame_records` finds the values of many batches in one call and makes no Python object for any of them. It
takes a batch whole or not at all: what aiokafka would call corrupt has no rows here either.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER = struct.Struct(">qiibIhiqqqhii")
LENGTH = struct.Struct(">i")
LENGTH_AT = 8
COUNTED_AFTER = 12  # the length counts what follows it
FORMAT_AT = 16
CHECKSUM_FROM = 21  # the checksum is of everything from the attributes on
FORMAT = 2
VARINT_BITS, VARINT_MORE, VARINT_BITS_MAX = 7, 0x80, 64
OFFSET_MAX = 1 << 62
RECORD_BYTES_MIN = 7  # a record without key, value and headers
CODEC_BITS, TRANSACTIONAL_BIT, CONTROL_BIT = 0x07, 0x10, 0x20

# Columns of a segment, which is the records of one batch in a buffer; the last two are written by the kernel.
BEGIN, END, BASE_OFFSET, RECORDS, LAST_DELTA, FRAMED, EMPTY = range(7)
SEGMENT_COLUMNS = 7
UNREADABLE = -1  # in FRAMED: the records of this batch are not what its header says
# Rows of what `frame_records` fills.
ROW_BEGIN, ROW_END, ROW_OFFSET = range(3)


class Header(NamedTuple):
    """The header of a batch, in the order of its fields."""

    base_offset: int
    length: int
    leader_epoch: int
    format: int
    checksum: int
    attributes: int
    last_delta: int  # of offsets; a compacted batch may end in records that are gone
    first_time_ms: int
    newest_time_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records: int

    @property
    def next_offset(self) -> int:
        """The offset after the last one that the batch stands for."""
        return self.base_offset + self.last_delta + 1


def batch_end(data: bytes, at: int) -> int:
    """Give the byte after the batch that begins at `at`: beyond the data if the batch is cut off.

    It is `at` if that cannot be a batch: it says that it ends before its format number.
    """
    if len(data) - at < FORMAT_AT + 1:
        return len(data) + 1
    (length,) = LENGTH.unpack_from(data, at + LENGTH_AT)
    return at + COUNTED_AFTER + length if length > FORMAT_AT - COUNTED_AFTER else at


def header_of(data: bytes, at: int, end: int) -> Header | None:
    """Read the header of a batch of format 2; None if it cannot be one."""
    if end - at < HEADER.size:
        return None
    header = Header._make(HEADER.unpack_from(data, at))
    counts = 0 <= header.records <= header.last_delta + 1
    return header if counts and 0 <= header.base_offset < OFFSET_MAX else None


@kernel
def frame_records(
    data: NDArray[np.uint8], segments: NDArray[np.int64], first_offset: int, rows: NDArray[np.int64]
) -> int:
    """Find the values of all records at or after `first_offset`, and give their number.

    `data`: uint8, read-only; `segments`: int64, (segments, SEGMENT_COLUMNS), of which FRAMED and EMPTY are
    written: rows of the segment or UNREADABLE, and records without a value. `rows`: int64, (3, at least the
    sum of RECORDS), owned by the caller: ROW_BEGIN, ROW_END in `data` and ROW_OFFSET. An unreadable segment
    leaves no rows. Nothing outside a segment is read.
    """
    filled = 0
    for one in range(len(segments)):
        before = filled
        empty = 0
        at, end = int(segments[one, BEGIN]), int(segments[one, END])
        last_delta = -1
        for _ in range(segments[one, RECORDS]):
            at, delta, value, value_bytes = read_record(data, at, end)
            if at < 0 or delta <= last_delta or delta > segments[one, LAST_DELTA]:
                at = -1
                break
            last_delta = delta
            offset = int(segments[one, BASE_OFFSET]) + delta
            if offset >= first_offset and value_bytes > 0:
                rows[ROW_BEGIN, filled] = value
                rows[ROW_END, filled] = value + value_bytes
                rows[ROW_OFFSET, filled] = offset
                filled += 1
            elif offset >= first_offset:
                empty += 1
        if at == end:
            segments[one, FRAMED] = filled - before
            segments[one, EMPTY] = empty
        else:
            segments[one, FRAMED] = UNREADABLE
            segments[one, EMPTY] = 0
            filled = before
    return filled


@kernel
def read_record(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int, int, int]:
    """Read the record at `at`: (where the next one begins, offset delta, begin of the value, its length).

    `data`: uint8, read only from `at` up to `end`. The length is -1 for a null value; the first number is -1
    if the record is not well formed, or goes beyond `end`.
    """
    length, at = read_varint(data, at, end)
    if at < 0 or length < 1 or length > end - at:
        return -1, 0, 0, 0
    end = at + length
    _, at = read_varint(data, at + 1, end)
    if at < 0:
        return -1, 0, 0, 0
    delta, at = read_varint(data, at, end)
    if at < 0:
        return -1, 0, 0, 0
    key_bytes, at = read_varint(data, at, end)
    if at < 0 or key_bytes > end - at:
        return -1, 0, 0, 0
    value_bytes, at = read_varint(data, at + max(key_bytes, 0), end)
    if at < 0 or value_bytes > end - at:
        return -1, 0, 0, 0
    value = at
    headers, at = read_varint(data, at + max(value_bytes, 0), end)
    if at < 0 or headers < 0:
        return -1, 0, 0, 0
    for _ in range(headers):
        name_bytes, at = read_varint(data, at, end)
        if at < 0 or name_bytes < 0 or name_bytes > end - at:
            return -1, 0, 0, 0
        content_bytes, at = read_varint(data, at + name_bytes, end)
        if at < 0 or content_bytes > end - at:
            return -1, 0, 0, 0
        at += max(content_bytes, 0)
    if at != end:
        return -1, 0, 0, 0
    return end, delta, value, value_bytes


@kernel
def read_varint(data: NDArray[np.uint8], at: int, end: int) -> tuple[int, int]:
    """Read a zigzag varint of at most 64 bits: (number, byte after it), or (0, -1) where there is none.

    `data`: uint8, read only from `at`, which is not negative, up to `end`.
    """
    # One byte holds most lengths and deltas, and is read without a loop.
    if at < end and data[at] < VARINT_MORE:
        small = np.int64(data[at])
        return (small >> 1) ^ -(small & 1), at + 1  # type: ignore[return-value]
    number = np.uint64(0)
    shift = 0
    while at < end and shift < VARINT_BITS_MAX:
        byte = np.uint64(data[at])
        at += 1
        number |= (byte & np.uint64(VARINT_MORE - 1)) << np.uint64(shift)
        if byte < np.uint64(VARINT_MORE):
            half, sign = np.int64(number >> np.uint64(1)), np.int64(number & np.uint64(1))
            return half ^ -sign, at  # type: ignore[return-value]
        shift += VARINT_BITS
    return 0, -1
