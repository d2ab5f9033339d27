"""Slow, obvious twins of the kernels in engine/source/record_batch.py, over `bytes` and lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

INT64_MASK = (1 << 64) - 1


class NotWellFormedError(Exception):
    """The bytes are not what the format says."""


class Cursor:
    """Reads one field after another and never beyond the end."""

    def __init__(self, data: bytes) -> None:
        """Begin at the first byte."""
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        """Take so many bytes."""
        if size < 0 or size > len(self.data) - self.at:
            raise NotWellFormedError
        self.at += size
        return self.data[self.at - size : self.at]

    def read_varint(self) -> int:
        """Take a zigzag varint of at most ten bytes."""
        number = 0
        for place in range(10):
            byte = self.take(1)[0]
            number |= (byte & 127) << (7 * place)
            if byte < 128:
                number &= INT64_MASK
                return (number >> 1) ^ -(number & 1)
        raise NotWellFormedError

    def nullable(self) -> bytes | None:
        """Take bytes behind their length; a negative length is null."""
        size = self.read_varint()
        return None if size < 0 else self.take(size)


def read_record(cursor: Cursor) -> tuple[int, bytes | None]:
    """Take one record: its offset delta and its value."""
    body = Cursor(cursor.take(cursor.read_varint()))
    body.take(1)  # attributes
    body.read_varint()  # time delta
    delta = body.read_varint()
    body.nullable()  # key
    value = body.nullable()
    headers = body.read_varint()
    if headers < 0:
        raise NotWellFormedError
    for _ in range(headers):
        body.take(body.read_varint())
        body.nullable()
    if body.at != len(body.data):
        raise NotWellFormedError
    return delta, value


class Framed(NamedTuple):
    """What the records of a batch hold."""

    rows: list[tuple[int, bytes]]  # offset, value
    empty_rows: int


def frame_records(
    payload: bytes, base_offset: int, records: int, last_delta: int, first_offset: int
) -> Framed | None:
    """Read the records of one batch; None if they are not what its header says."""
    cursor = Cursor(payload)
    try:
        found = [read_record(cursor) for _ in range(records)]
    except NotWellFormedError:
        return None
    deltas = [-1, *(delta for delta, _ in found), last_delta + 1]
    if not _increase(deltas) or cursor.at != len(payload):
        return None
    wanted = [(base_offset + delta, value) for delta, value in found if base_offset + delta >= first_offset]
    rows = [(offset, value) for offset, value in wanted if value]
    return Framed(rows, len(wanted) - len(rows))


def _increase(numbers: Iterable[int]) -> bool:
    listed = list(numbers)
    return sorted(set(listed)) == listed
