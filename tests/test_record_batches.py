"""Whole record batches, read against plain aiokafka and against the slow twin, on anything that may come."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.source.batch_reader import BELIEVED_TIMES, Fetched, Room, read_chunks
from engine.source.record_batch import (
    EMPTY,
    FRAMED,
    HEADER,
    SEGMENT_COLUMNS,
    TRANSACTIONAL_BIT,
    UNREADABLE,
    frame_records,
    read_record,
    read_varint,
)
from engine.source.rows import CHUNK_BYTES, TOO_LARGE, UNREADABLE_BATCH, Chunk, Damage, Loss
from tests import oracle_batches as oracle
from tests.record_batches import (
    ABORT,
    APPEND_TIME_BIT,
    CHECKSUM_AT,
    COMMIT,
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
    read_plain,
    record_bytes,
    signed,
    varint,
)

CODECS = (NONE, GZIP, SNAPPY, LZ4, ZSTD)
MIB = 1 << 20
ROOM = Room(4 * MIB)
ROWS_MAX = 8192

VALUES = st.one_of(st.none(), st.binary(max_size=40), st.binary(min_size=200, max_size=300))
RECORDS = st.builds(
    Record,
    delta=st.integers(1, 3),  # how far behind the one before; made into deltas below
    value=VALUES,
    key=st.one_of(st.none(), st.binary(max_size=20)),
    headers=st.lists(
        st.tuples(st.text(max_size=5).map(str.encode), st.none() | st.binary(max_size=5)), max_size=3
    ).map(tuple),
    time_delta_ms=st.integers(-(2**40), 2**40),
)  # fmt: skip


class Log(NamedTuple):
    """An answer of a broker, with what it says of transactions."""

    data: bytes
    offset: int  # that is asked for: in the first batch, or in the gap before it
    aborted: list[tuple[int, int]]


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Make up consecutive batches: codecs, gaps, headers, control batches, transactions of two producers."""
    data, at = b"", draw(st.integers(0, 1 << 40))
    offset = -1
    aborted: list[tuple[int, int]] = []
    open_since: dict[int, int] = {}
    for _ in range(draw(st.integers(0, 6))):
        at += draw(st.integers(0, 3))
        producer = draw(st.sampled_from([-1, 7, 8]))
        if producer in open_since and draw(st.booleans()):
            kind = draw(st.sampled_from([ABORT, COMMIT]))
            first = open_since.pop(producer)
            aborted += [(producer, first)] * (kind == ABORT)
            data += marker(at, producer, kind)
            at += 1
            continue
        deltas = [-1]
        records = []
        for record in draw(st.lists(RECORDS, max_size=6)):
            deltas.append(deltas[-1] + record.delta)
            records.append(record._replace(delta=deltas[-1]))
        last_delta = max(deltas[-1], 0) + draw(st.integers(0, 2))
        codec = draw(st.sampled_from(CODECS)) if records else NONE
        attributes = draw(st.sampled_from([0, APPEND_TIME_BIT]))
        if producer >= 0:
            open_since.setdefault(producer, at)
            attributes |= TRANSACTIONAL_BIT
        data += batch_of(
            at, records, codec=codec, attributes=attributes, producer_id=producer, last_delta=last_delta
        )
        at += last_delta + 1
        if offset < 0:
            offset = at - 1 - draw(st.integers(0, min(last_delta + 2, at - 1)))
    for producer, first in open_since.items():  # The marker of an abort comes in a later answer.
        aborted += [(producer, first)] * draw(st.booleans())
    return Log(data, max(offset, 0), aborted)


class Read(NamedTuple):
    """What our own reader gives, chunks taken together."""

    rows: list[tuple[int, bytes]]
    empty_rows: int
    next_offset: int
    losses: tuple[Loss, ...] = ()
    damage: Damage | None = None


def together(chunks: list[Chunk], offset: int) -> Read:
    """Join chunks, and check what holds for each."""
    rows: list[tuple[int, bytes]] = []
    for chunk in chunks:
        data, start, end, offsets = chunk.rows
        assert not any(array.flags.writeable for array in (start, end, offsets))
        bounds = zip(start.tolist(), end.tolist(), offsets.tolist(), strict=True)
        rows += [(at, data[begin:stop]) for begin, stop, at in bounds]
        assert chunk.next_offset >= offset
        assert all(at < chunk.next_offset for at, _ in rows)
    losses = tuple(loss for chunk in chunks for loss in chunk.losses)
    next_offset = chunks[-1].next_offset if chunks else offset
    empty_rows = sum(chunk.empty_rows for chunk in chunks)
    return Read(rows, empty_rows, next_offset, losses, chunks[-1].damage if chunks else None)


def read(
    data: bytes, offset: int = 0, aborted: list[tuple[int, int]] | None = None, *,
    committed_only: bool = True, rows_max: int = ROWS_MAX, room: Room = ROOM,
) -> Read:  # fmt: skip
    """Read an answer in whole batches, again and again until nothing more is believed."""
    fetched = Fetched(data, offset, tuple(aborted or ()), committed_only)
    before, times = None, 0
    while times < BELIEVED_TIMES:
        found = together(list(read_chunks(fetched, room, rows_max)), offset)
        before, times = found, times + 1 if found == before else 1
    damage = found.damage and found.damage._replace(fingerprint=0)
    return found._replace(damage=damage)


@given(logs(), st.data())
@settings(max_examples=300, deadline=None)
def test_whole_batches_hold_what_plain_aiokafka_gives(log: Log, data: st.DataObject) -> None:
    """Also from an offset inside a batch, in small chunks, with the last batch cut off, and uncommitted."""
    cut = data.draw(st.one_of(st.just(0), st.integers(0, 80)))
    answer = log.data[: len(log.data) - cut]
    if read(answer, log.offset).damage is not None:
        answer = log.data  # The first batch always comes whole.
    committed_only = data.draw(st.booleans())
    rows_max = data.draw(st.integers(1, 10))
    found = read(answer, log.offset, log.aborted, committed_only=committed_only, rows_max=rows_max)
    assert found == Read(*read_plain(answer, log.offset, log.aborted, committed_only=committed_only))


@given(logs(), st.data())
@settings(max_examples=300, deadline=None)
def test_bytes_that_were_hurt_cost_rows_and_nothing_else(log: Log, data: st.DataObject) -> None:
    """Whatever bytes are changed: nothing raises, and no row is read that was not sent."""
    hurt = bytearray(log.data)
    for _ in range(data.draw(st.integers(1, 4)) if hurt else 0):
        hurt[data.draw(st.integers(0, len(hurt) - 1))] = data.draw(st.integers(0, 255))
    sent = {value for _, value in read(log.data, 0, committed_only=False).rows}
    found = read(bytes(hurt), 0, committed_only=False)
    assert {value for _, value in found.rows} <= sent
    assert found.losses == ()


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_can_be_read(data: bytes) -> None:
    """An answer that is noise gives no row, or damage at its place."""
    found = read(data, 5)
    assert found.rows == []
    assert (found.damage is not None) == (len(data) > 0)


PAYLOADS = st.one_of(
    st.binary(max_size=60),
    st.lists(RECORDS, max_size=4).map(lambda many: b"".join(map(record_bytes, many))),
    st.tuples(st.lists(RECORDS, min_size=1, max_size=4), st.integers(0, 10**6), st.integers(0, 255)).map(
        lambda hurt: _hurt(b"".join(map(record_bytes, hurt[0])), hurt[1], hurt[2])
    ),
)


def _hurt(payload: bytes, at: int, byte: int) -> bytes:
    at %= len(payload)
    return payload[:at] + bytes([byte]) + payload[at + 1 :]


@given(
    st.lists(st.tuples(PAYLOADS, st.integers(0, 5), st.integers(0, 12)), max_size=4),
    st.integers(95, 110), st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16),
)  # fmt: skip
@settings(max_examples=500, deadline=None)
def test_framing_is_the_slow_twin_and_reads_nothing_beside(
    batches: list[tuple[bytes, int, int]], first_offset: int, guard: bytes, other_guard: bytes
) -> None:
    """Over well-formed, hurt and arbitrary records; bytes beside a batch make no difference to it."""
    expected = []
    for number, (payload, records, last_delta) in enumerate(batches):
        expected.append(oracle.frame_records(payload, 100 + 5 * number, records, last_delta, first_offset))
    for beside in (guard, other_guard):
        data, segments = beside, []
        for number, (payload, records, last_delta) in enumerate(batches):
            begin, end = len(data), len(data) + len(payload)
            segments.append((begin, end, 100 + 5 * number, records, last_delta, 0, 0))
            data += payload + beside
        places = np.full((3, sum(each[3] for each in segments) + 1), -7, np.int64)
        table = np.array(segments, np.int64).reshape(-1, SEGMENT_COLUMNS)
        rows = frame_records(np.frombuffer(data, np.uint8), table, first_offset, places)
        cut = [(at, data[begin:end]) for begin, end, at in places[:, :rows].T.tolist()]
        assert cut == [row for framed in expected if framed for row in framed.rows]
        assert table[:, FRAMED].tolist() == [UNREADABLE if one is None else len(one.rows) for one in expected]
        assert table[:, EMPTY].tolist() == [0 if one is None else one.empty_rows for one in expected]
        assert (places[:, -1] == -7).all(), "it wrote beyond the rows"


@given(st.integers(-(2**63), 2**63 - 1), st.binary(max_size=4))
def test_every_number_is_read_back(number: int, behind: bytes) -> None:
    """From the smallest to the largest, with anything behind it; a number that is cut off is none."""
    written = varint(number)
    data = np.frombuffer(written + behind, np.uint8)
    assert read_varint(data, 0, len(data)) == (number, len(written))
    assert read_varint(data, 0, len(written) - 1) == (0, -1)
    assert oracle.Cursor(written).read_varint() == number


@given(RECORDS)
def test_a_record_is_read_as_its_twin_reads_it(record: Record) -> None:
    """Delta and value, and where the next one begins."""
    written = record_bytes(record)
    data = np.frombuffer(written, np.uint8)
    after, delta, begin, size = read_record(data, 0, len(data))
    value = None if size < 0 else written[begin : begin + size]
    assert (delta, value) == oracle.read_record(oracle.Cursor(written))
    assert after == len(written)


def a_batch(base_offset: int = 0, *, codec: int = NONE, count: int = 3) -> bytes:
    """Write a plain batch of some rows."""
    return batch_of(
        base_offset, [Record(each, b"row %d" % (base_offset + each)) for each in range(count)], codec=codec
    )


def rows_at(*offsets: int) -> list[tuple[int, bytes]]:
    """Expect the rows of `a_batch`."""
    return [(offset, b"row %d" % offset) for offset in offsets]


@pytest.mark.parametrize("codec", CODECS)
def test_a_wrong_checksum_is_damage_and_never_a_row(codec: int) -> None:
    """The batches before it are handed over; its own place is kept, and it says how far it goes."""
    hurt = bytearray(a_batch(3, codec=codec))
    hurt[-1] ^= 1
    found = read(a_batch(0) + bytes(hurt) + a_batch(6))
    assert found == Read(rows_at(0, 1, 2), 0, 3, (), Damage(6, 3))


def test_a_header_that_cannot_be_is_damage_of_unknown_length() -> None:
    """A length that is no length, counts that contradict each other, a batch without an end."""
    length, form, records = a_batch(3), a_batch(3), a_batch(3)
    assert read(form[:16] + b"\x03" + form[17:]).damage == Damage(6, 3)
    cases = (
        length[:8] + b"\xff\xff\xff\xff" + length[12:],
        signed(records[: HEADER.size - 4] + b"\0\0\0\x09" + records[HEADER.size :]),
    )
    for case in cases:
        assert read(a_batch(0) + case) == Read(rows_at(0, 1, 2), 0, 3, (), Damage(3, 0))
    assert read(a_batch(3)[:-1], 3) == Read([], 0, 3, (), Damage(3, 0))


@pytest.mark.parametrize("codec", sorted(ENCODERS))
def test_a_batch_that_expands_too_far_is_refused_and_counted(codec: int) -> None:
    """300 MB in some kilobytes: no more than the room is ever touched, and the next batch is read."""
    room = Room(MIB)
    bomb = packed_batch(3, _bomb(codec), attributes=codec, last_delta=99, count=100)
    assert len(bomb) < 20 * MIB
    found = read(a_batch(0) + bomb + a_batch(103, codec=codec), room=room)
    assert found == Read(rows_at(0, 1, 2, 103, 104, 105), 0, 106, (Loss(TOO_LARGE, 103, 100),))


def _bomb(codec: int) -> bytes:
    plain = bytes(300_000_000)
    return bytes(ENCODERS[codec](plain))


def test_what_is_lost_is_counted_from_the_offset_that_was_asked_for() -> None:
    """Of a batch that is entered in the middle, the rows before that were never due."""
    bomb = packed_batch(0, bytes(ENCODERS[ZSTD](bytes(2 * MIB))), attributes=ZSTD, last_delta=99, count=100)
    assert read(bomb, 90, room=Room(MIB)).losses == (Loss(TOO_LARGE, 100, 10),)


@pytest.mark.parametrize("codec", [*sorted(ENCODERS), 5, 7])
def test_a_payload_that_is_not_what_the_codec_writes_is_lost_and_counted(codec: int) -> None:
    """The checksum is right, so it was made so: fetching it again would not help."""
    cases = [b"", b"nonsense" * 5]
    if codec in ENCODERS:
        cases.append(bytes(ENCODERS[codec](record_bytes(Record(0, b"row")) * 40))[:-9])
    for payload in cases:
        bad = packed_batch(3, payload, attributes=codec, last_delta=1, count=2)
        found = read(a_batch(0) + bad + a_batch(5))
        assert found == Read(rows_at(0, 1, 2, 5, 6, 7), 0, 8, (Loss(UNREADABLE_BATCH, 5, 2),))


@pytest.mark.parametrize("codec", CODECS)
def test_records_that_are_not_well_formed_cost_their_batch(codec: int) -> None:
    """Rows of the batches around it are not touched, nor are offsets."""
    payload = record_bytes(Record(0, b"row")) + b"\x06abc"
    payload = payload if codec == NONE else bytes(ENCODERS[codec](payload))
    bad = packed_batch(3, payload, attributes=codec, last_delta=4, count=2)
    found = read(a_batch(0, codec=codec) + bad + a_batch(8, codec=codec))
    assert found == Read(rows_at(0, 1, 2, 8, 9, 10), 0, 11, (Loss(UNREADABLE_BATCH, 8, 2),))
    with pytest.raises(CorruptRecordException):
        read_plain(bad, 0)


def test_members_and_blocks_may_follow_one_another() -> None:
    """Gzip in two members, snappy without Java's blocks: as aiokafka expands them."""
    parts = [record_bytes(Record(each, b"row %d" % each)) for each in range(2)]
    two = b"".join(bytes(ENCODERS[GZIP](part)) for part in parts)
    raw = bytes(ENCODERS[SNAPPY](b"".join(parts), xerial_compatible=False))
    for codec, payload in ((GZIP, two), (SNAPPY, raw)):
        batch = packed_batch(0, payload, attributes=codec, last_delta=1, count=2)
        assert read(batch) == Read(*read_plain(batch, 0)) == Read(rows_at(0, 1), 0, 2)


def test_large_batches_come_in_chunks() -> None:
    """So that one poll never holds up the loop for long; each chunk says where the next one begins."""
    value = b"x" * 1000
    batches = [
        batch_of(1000 * each, [Record(one, value) for one in range(1000)], codec=ZSTD) for each in range(6)
    ]
    chunks = list(read_chunks(Fetched(b"".join(batches), 0, (), committed_only=True), ROOM, ROWS_MAX))
    assert [2000, 4000, 6000] == [chunk.next_offset for chunk in chunks]
    assert all(len(chunk.rows.data) < CHUNK_BYTES + 1.2e6 for chunk in chunks)
    few = list(read_chunks(Fetched(a_batch(0) + a_batch(3), 0, (), committed_only=True), ROOM, 3))
    assert [3, 6] == [chunk.next_offset for chunk in few]


@pytest.mark.parametrize(
    ("form", "codec"), [(0, NONE), (0, GZIP), (0, SNAPPY), (1, NONE), (1, GZIP), (1, SNAPPY), (1, LZ4)]
)
def test_old_formats_are_read_record_by_record(form: int, codec: int) -> None:
    """From an offset inside, and before a new batch, where aiokafka takes the new one for an old one."""
    builder = LegacyRecordBatchBuilder(form, codec, 1 << 20)
    for each in range(4):
        builder.append(each, 1_767_600_000_000, b"key", None if each == 2 else b"row %d" % each)
    old = bytes(builder.build())
    if codec:
        old = (3).to_bytes(8, "big") + old[8:]  # The broker gives a wrapper the offset of its last message.
    for offset in (0, 3) if codec else (0,):
        assert read(old, offset) == Read(*read_plain(old, offset))
    assert read(old + a_batch(4)) == Read(rows_at(0, 1, 3, 4, 5, 6), 1, 7)
    hurt = a_batch(0) + (3).to_bytes(8, "big") + old[8:20] + b"\x55" + old[21:]
    assert read(hurt) == Read(rows_at(0, 1, 2), 0, 3, (), Damage(4, 1))


def test_an_old_wrapper_that_expands_too_far_is_refused() -> None:
    """Reading record by record would expand whatever it is."""
    builder = LegacyRecordBatchBuilder(1, GZIP, 64 * MIB)
    builder.append(0, 1_767_600_000_000, b"key", bytes(8 * MIB))
    found = read(bytes(builder.build()) + a_batch(1))
    assert found == Read(rows_at(1, 2, 3), 0, 4, (Loss(TOO_LARGE, 1, 1),))


def test_the_checksum_is_the_one_of_aiokafka() -> None:
    """Whichever library computes it here, over slices of any alignment."""
    from aiokafka.record.util import calc_crc32c

    from engine.source.batch_codecs import checksum

    data = bytes(range(256)) * 5
    for begin, end in ((0, 0), (0, 1), (3, 17), (1, 1280), (64, 900)):
        assert checksum(memoryview(data)[begin:end]) == calc_crc32c(data[begin:end])
    assert 0xE3069283 == checksum(b"123456789")


def test_the_checksum_of_a_batch_is_where_it_is_said_to_be() -> None:
    """Any byte of a batch behind it is covered."""
    batch = a_batch(0)
    for at in range(CHECKSUM_AT, len(batch)):
        hurt = bytearray(batch)
        hurt[at] ^= 0x10
        assert read(bytes(hurt)).damage is not None
