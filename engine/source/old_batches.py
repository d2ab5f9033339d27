"""Message sets of the formats before Kafka 0.11, as a log that was never rewritten may still hold them.

aiokafka reads them record by record. It expands whatever it is given, so a compressed one is expanded here
first, into bounded room, to see that it may be.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Protocol

from aiokafka.record.memory_records import MemoryRecords

from engine.source.batch_codecs import TooLargeError, UnreadableError
from engine.source.record_batch import CODEC_BITS, FORMAT, FORMAT_AT, LENGTH, batch_end
from engine.source.rows import (
    CHUNK_BYTES,
    NOTHING,
    TOO_LARGE,
    UNREADABLE_BATCH,
    Chunk,
    Damage,
    Loss,
    side_by_side,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKSUM = struct.Struct(">I")
CHECKSUM_AT = FORMAT_AT - CHECKSUM.size  # of everything from the format number on
ATTRIBUTES_AT = FORMAT_AT + 1
KEY_AT = (18, 26)  # by format: the second one has a time before it
OFFSET_BYTES = 8


class _Room(Protocol):
    def expand(self, codec: int, packed: memoryview, at: int) -> int:
        """Expand a batch at a place and give its length."""

    def expanded_in_vain(self, packed_bytes: int) -> int:
        """Give about how much of a batch was expanded before it was refused."""


def read_old(data: bytes, begin: int, first_offset: int, room: _Room) -> Iterator[Chunk]:
    """Give the old batches that follow one another from `begin` on, chunk by chunk, and one for damage."""
    rows: list[tuple[int, bytes]] = []
    losses: list[Loss] = []
    at, next_offset, empty_rows, filled = begin, first_offset, 0, 0
    damage: Damage | None = None
    while (end := batch_end(data, at)) <= len(data) and end > at and data[at + FORMAT_AT] < FORMAT:
        # A wrapper has the offset of the last message in it.
        beyond = int.from_bytes(data[at : at + OFFSET_BYTES], "big", signed=True) + 1
        lost = Loss(UNREADABLE_BATCH, beyond, max(beyond - next_offset, 0))
        if zlib.crc32(data[at + FORMAT_AT : end]) != CHECKSUM.unpack_from(data, at + CHECKSUM_AT)[0]:
            damage = Damage(lost.next_offset, lost.rows)
            break
        try:
            filled += _expand_first(data, at, end, room)
            batch = MemoryRecords(data[at:end]).next_batch()
            found = [(one.offset, one.value) for one in batch if one.offset >= next_offset]
        except Exception as error:  # noqa: BLE001  # Each codec and each broken length raises its own.
            filled += room.expanded_in_vain(end - at)
            losses.append(lost._replace(reason=TOO_LARGE) if isinstance(error, TooLargeError) else lost)
        else:
            beyond = max(beyond, *(offset + 1 for offset, _ in found), 0)
            rows += [(offset, value) for offset, value in found if value]
            empty_rows += sum(1 for _, value in found if not value)
        next_offset = max(next_offset, beyond)
        at = end
        if filled >= CHUNK_BYTES:
            yield Chunk(side_by_side(rows), next_offset, empty_rows, tuple(losses), read_bytes=at - begin)
            rows, losses, begin, empty_rows, filled = [], [], at, 0, 0
    if at > begin:
        yield Chunk(side_by_side(rows), next_offset, empty_rows, tuple(losses), read_bytes=at - begin)
    if damage is not None:
        yield Chunk(NOTHING, next_offset, damage=damage)


def _expand_first(data: bytes, begin: int, end: int, room: _Room) -> int:
    """Give the bytes in a wrapper, or raise what expanding it raises; a plain message has its own."""
    codec = data[begin + ATTRIBUTES_AT] & CODEC_BITS
    if not codec:
        return end - begin
    expanded = 0
    at = begin + KEY_AT[data[begin + FORMAT_AT]]
    for field in ("key", "value"):
        (size,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size
        if size > end - at:
            raise UnreadableError
        if field == "value":
            expanded = room.expand(codec, memoryview(data)[at : at + max(size, 0)], 0)
        at += max(size, 0)
    return expanded
