"""From the bytes of one fetch to rows: whole record batches are checked, expanded and framed, chunk by chunk.

A chunk is as many batches as make up about `rows_max` rows or `CHUNK_BYTES` expanded bytes, those of batches
that are then refused among them, so that one poll never holds up the loop for long and small batches do not
cost a call each. Batches that are not compressed are framed where they lie in the answer of the broker, which
then is the chunk's buffer: nothing is copied. The others are expanded into one room that is used again and
again, and copied out of it once.

What may not be read is left out as aiokafka leaves it out: control batches, aborted transactions, rows before
the offset that was asked for. What cannot be read is counted: a `Loss`. A checksum that does not match may
match when the batch is fetched again, so that is `damage`: reading ends there, and the source decides. The
offset of a batch is in no checksum: where nothing beside it bears it out, it must come three times to be
believed.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch

from engine.source.batch_codecs import TooLargeError, UnreadableError, checksum, expand_into
from engine.source.old_batches import read_old
from engine.source.record_batch import (
    CHECKSUM_FROM,
    CODEC_BITS,
    CONTROL_BIT,
    EMPTY,
    FORMAT,
    FORMAT_AT,
    FRAMED,
    HEADER,
    LENGTH_AT,
    RECORD_BYTES_MIN,
    ROW_BEGIN,
    ROW_END,
    ROW_OFFSET,
    SEGMENT_COLUMNS,
    TRANSACTIONAL_BIT,
    UNREADABLE,
    Header,
    batch_end,
    frame_records,
    header_of,
)
from engine.source.rows import (
    CHUNK_BYTES,
    NOTHING,
    TOO_LARGE,
    UNREADABLE_BATCH,
    Chunk,
    Damage,
    Loss,
    Rows,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

UNCOMPRESSED = 0
EXPANDS_TIMES = 1024  # as gzip at most
BELIEVED_TIMES = 3  # twice alike is what flips among few bits come to, on a wire that is bad enough
DOUBTED_MAX = 256


class Room:
    """Where the batches of a chunk are expanded; nothing in it outlives the chunk.

    Only the pages that were written to take memory, so it is as large as the largest batch may be.
    """

    def __init__(self, batch_bytes_max: int) -> None:
        """Reserve room for a chunk and one batch more."""
        self.batch_bytes_max = batch_bytes_max
        array = np.empty(CHUNK_BYTES + batch_bytes_max, np.uint8)
        self._bytes = array.data
        # The kernel sees it as it sees an answer of the broker: for two kinds of array it is compiled twice.
        self.array = array.view()
        self.array.setflags(write=False)
        self._doubted: dict[tuple[int, int], int] = {}  # (place, fingerprint) -> times

    def believes(self, place: int, fingerprint: int) -> bool:
        """Say whether these bytes have come at this place often enough, and remember that they came."""
        times = min(self._doubted.pop((place, fingerprint), 0) + 1, BELIEVED_TIMES)
        self._doubted[place, fingerprint] = times
        return times == BELIEVED_TIMES

    def forget(self) -> int:
        """Forget the oldest if there are too many; give how many doubts that leaves to begin anew."""
        if len(self._doubted) <= DOUBTED_MAX:
            return 0
        return int(self._doubted.pop(next(iter(self._doubted))) < BELIEVED_TIMES)

    def expand(self, codec: int, packed: memoryview, at: int) -> int:
        """Expand a batch at a place and give its length; TooLargeError or UnreadableError."""
        return expand_into(codec, packed, self._bytes[at : at + self.batch_bytes_max])

    def expanded_in_vain(self, packed_bytes: int) -> int:
        """Give about how much of a batch was expanded before it was refused."""
        return min(packed_bytes * EXPANDS_TIMES, self.batch_bytes_max)

    def copy(self, size: int) -> bytes:
        """Copy the first bytes out."""
        return bytes(self._bytes[:size])


class Fetched(NamedTuple):
    """What the broker answered for one partition."""

    data: bytes
    offset: int  # that was asked for; the first batch may begin before it
    aborted: tuple[tuple[int, int], ...]  # (producer, first offset) of transactions that were taken back
    committed_only: bool


def read_chunks(fetched: Fetched, room: Room, rows_max: int) -> Iterator[Chunk]:
    """Give the rows of an answer; each chunk is made when it is asked for."""
    data, view = fetched.data, memoryview(fetched.data)
    aborted = AbortedTransactions(fetched.aborted if fetched.committed_only else ())
    gathered = Gathered(fetched, room)
    at = 0
    while at < len(data):
        begin, at = at, batch_end(data, at)
        if at > len(data) and begin:
            break  # Cut off by the size limit of the fetch. The first batch always comes whole.
        if begin < at <= len(data) and data[begin + FORMAT_AT] < FORMAT:
            yield from gathered.take()
            for chunk in read_old(data, begin, gathered.next_offset, room):
                yield chunk
                gathered.go_on_at(chunk.next_offset)
                at = begin = begin + chunk.read_bytes
                if chunk.damage is not None:
                    return
            continue
        header = header_of(data, begin, at) if at <= len(data) else None
        if header is None or not _is_sound(header, view[begin + CHECKSUM_FROM : at]):
            yield from gathered.take()
            yield _damaged(header, gathered.next_offset, data[begin:at])
            return
        place = gathered.next_offset
        is_expected = header.base_offset == place or _is_borne_out(
            header, place, begin, _base_offset(data, at)
        )
        if not is_expected and not room.believes(place, zlib.crc32(data[begin : begin + HEADER.size])):
            yield from gathered.take()
            yield _damaged(header, place, data[begin:at])._replace(forgotten=room.forget())
            return
        if aborted.has(header, data, begin) or header.attributes & CONTROL_BIT:
            gathered.next_offset = max(gathered.next_offset, header.next_offset)
            continue
        if not gathered.fits(header, rows_max):
            yield from gathered.take()
        gathered.add(header, begin + HEADER.size, at)
    yield from gathered.take()


def _is_sound(header: Header, summed: memoryview) -> bool:
    return header.format == FORMAT and checksum(summed) == header.checksum


def _base_offset(data: bytes, at: int) -> int:
    """Give the offset of the batch that begins at `at`, or -1 if there is none."""
    return int.from_bytes(data[at : at + LENGTH_AT], "big") if at + LENGTH_AT <= len(data) else -1


def _is_borne_out(header: Header, place: int, begin: int, following: int) -> bool:
    """Say whether what is beside a batch agrees with an offset other than `place`.

    A batch begins where the one before ended, or at the offset that was asked for; the first may begin before
    that. Compaction leaves gaps.
    """
    if header.base_offset > place:
        return following >= header.next_offset
    return begin == 0 and header.next_offset > place and following == header.next_offset


def _damaged(header: Header | None, next_offset: int, batch: bytes) -> Chunk:
    """Say that a batch is not what was sent, and how far it goes, if its header can be believed."""
    # Of a batch that ends nobody knows where, the header alone: more may lie behind it the next time.
    fingerprint = zlib.crc32(batch[: HEADER.size] if header is None else batch)
    damage = Damage(next_offset, 0, fingerprint)
    if header is not None and header.next_offset > next_offset:
        rows = rows_from(header, next_offset)
        damage = Damage(header.next_offset, rows, fingerprint)
    return Chunk(NOTHING, next_offset, damage=damage)


def rows_from(header: Header, offset: int) -> int:
    """Give how many records of a batch lie at or after an offset, at most: a compacted batch has gaps."""
    return max(min(header.records, header.next_offset - max(offset, header.base_offset)), 0)


class AbortedTransactions:
    """Which batches belong to transactions that were taken back; call `has` for each batch in order."""

    def __init__(self, aborted: Iterable[tuple[int, int]]) -> None:
        """Take (producer, first offset) of each."""
        self._to_come = sorted(aborted, key=lambda one: one[1], reverse=True)
        self._producers: set[int] = set()

    def has(self, header: Header, data: bytes, at: int) -> bool:
        """Say whether a batch was taken back; a marker ends its producer's transaction."""
        while self._to_come and self._to_come[-1][1] <= header.base_offset:
            self._producers.add(self._to_come.pop()[0])
        if header.producer_id not in self._producers:
            return False
        if header.attributes & CONTROL_BIT and _is_abort(data[at : batch_end(data, at)]):
            self._producers.discard(header.producer_id)
            return False
        return bool(header.attributes & TRANSACTIONAL_BIT)


def _is_abort(batch: bytes) -> bool:
    """Read a control batch, which the broker itself has written; an empty one says nothing."""
    record = next(DefaultRecordBatch(batch), None)
    return record is not None and bool(ControlRecord.parse(record.key) == ABORT_MARKER)


class Gathered:
    """The batches of the next chunk, all in one buffer: the answer of the broker, or the room."""

    def __init__(self, fetched: Fetched, room: Room) -> None:
        """Begin at the offset that was asked for."""
        self.next_offset = fetched.offset
        self._data = fetched.data
        self._room = room
        self._array = np.frombuffer(fetched.data, np.uint8)
        self._first_offset = self._taken_offset = fetched.offset
        self._start_anew()

    def _start_anew(self) -> None:
        self._headers: list[Header] = []
        self._segments: list[tuple[int, ...]] = []
        self._losses: list[Loss] = []
        self._is_expanded = False
        self._filled = self._records = self._in_vain = 0

    def go_on_at(self, offset: int) -> None:
        """Leave out what was read otherwise; call it when nothing is gathered."""
        self.next_offset = self._taken_offset = offset

    def fits(self, header: Header, rows_max: int) -> bool:
        """Say whether a batch belongs into this chunk; one for which nothing was done yet takes any."""
        if self._filled + self._in_vain >= CHUNK_BYTES:
            return False
        if not self._segments:
            return True
        is_packed = header.attributes & CODEC_BITS != UNCOMPRESSED
        return self._records + header.records <= rows_max and is_packed == self._is_expanded

    def add(self, header: Header, begin: int, end: int) -> None:
        """Take a batch whose records lie at these bytes of the answer."""
        codec = header.attributes & CODEC_BITS
        self.next_offset = max(self.next_offset, header.next_offset)
        if codec != UNCOMPRESSED:
            packed = memoryview(self._data)[begin:end]
            begin = self._filled
            try:
                end = begin + self._room.expand(codec, packed, begin)
            except (TooLargeError, UnreadableError) as error:
                self._in_vain += self._room.expanded_in_vain(len(packed))
                self._lose(header, TOO_LARGE if isinstance(error, TooLargeError) else UNREADABLE_BATCH)
                return
        if header.records * RECORD_BYTES_MIN > end - begin:
            self._in_vain += end - begin
            self._lose(header, UNREADABLE_BATCH)
            return
        self._is_expanded = codec != UNCOMPRESSED
        self._filled += end - begin
        self._records += header.records
        self._headers.append(header)
        self._segments.append((begin, end, header.base_offset, header.records, header.last_delta, 0, 0))

    def take(self) -> Iterator[Chunk]:
        """Give what was gathered, if anything was read or passed over since the last time."""
        if self.next_offset == self._taken_offset:
            return
        rows, empty_rows = self._framed() if self._segments else (NOTHING, 0)
        losses = tuple(self._losses)
        self._taken_offset = self.next_offset
        self._start_anew()
        yield Chunk(rows, self.next_offset, empty_rows, losses)

    def _framed(self) -> tuple[Rows, int]:
        """Find the rows of the segments; a batch that turns out to be unreadable is lost."""
        segments = np.array(self._segments, np.int64).reshape(-1, SEGMENT_COLUMNS)
        places = np.empty((3, self._records), np.int64)
        array = self._room.array if self._is_expanded else self._array
        rows = frame_records(array, segments, self._first_offset, places)
        for index in np.flatnonzero(segments[:, FRAMED] == UNREADABLE):
            self._lose(self._headers[index], UNREADABLE_BATCH)
        places.setflags(write=False)
        begin, end, offset = (places[one, :rows] for one in (ROW_BEGIN, ROW_END, ROW_OFFSET))
        data = self._room.copy(self._filled) if self._is_expanded else self._data
        return (Rows(data, begin, end, offset) if rows else NOTHING), int(segments[:, EMPTY].sum())

    def _lose(self, header: Header, reason: str) -> None:
        self._losses.append(Loss(reason, header.next_offset, rows_from(header, self._first_offset)))
