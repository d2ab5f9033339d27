"""The offset of a batch is in no checksum: a bit that flips there is found by what is beside the batch."""

import pytest

from engine.source.batch_reader import BELIEVED_TIMES, DOUBTED_MAX, Fetched, Room, read_chunks
from tests.record_batches import Record, batch_of

ROWS_MAX = 1000


def a_batch(base_offset: int) -> bytes:
    """Write a batch of three rows."""
    return batch_of(base_offset, [Record(each, b"row %d" % (base_offset + each)) for each in range(3)])


def read(room: Room, data: bytes, offset: int) -> tuple[list[int], int, bool]:
    """Give the offsets of the rows in an answer, where to go on, and whether a batch of it was damaged."""
    chunks = list(read_chunks(Fetched(data, offset, (), committed_only=True), room, ROWS_MAX))
    offsets = [at for chunk in chunks for at in chunk.rows.offset.tolist()]
    return offsets, chunks[-1].next_offset, chunks[-1].damage is not None


def test_no_flip_of_one_bit_of_an_offset_is_believed() -> None:
    """In the first batch, in one in the middle, and in the last: its rows are not read, and it is damage."""
    good = [a_batch(0), a_batch(3), a_batch(6)]
    for hurt in range(3):
        for bit in range(64):
            batches = list(good)
            flipped = int.from_bytes(good[hurt][:8], "big") ^ 1 << bit
            batches[hurt] = flipped.to_bytes(8, "big") + good[hurt][8:]
            assert read(Room(1), b"".join(batches), 0) == (list(range(3 * hurt)), 3 * hurt, True)


@pytest.mark.parametrize("asked", [3, 4])
def test_what_comes_again_and_again_is_believed(asked: int) -> None:
    """An offset in a gap or in a batch that stands alone: read at the third time, and not before."""
    room = Room(1)
    alone = a_batch(5) if asked == 3 else a_batch(3)
    for _ in range(BELIEVED_TIMES - 1):
        assert read(room, alone, asked) == ([], asked, True)
    expected = [5, 6, 7] if asked == 3 else [4, 5]
    assert read(room, alone, asked) == (expected, expected[-1] + 1, False)
    assert read(room, alone, 2) == ([], 2, True), "at another place it is another doubt"


def test_a_gap_costs_nothing_where_the_next_batch_bears_it_out() -> None:
    """Compaction leaves them."""
    assert read(Room(1), a_batch(2) + a_batch(9) + a_batch(12), 0)[0] == [
        *(2, 3, 4), *range(9, 15),
    ]  # fmt: skip
    assert read(Room(1), a_batch(3) + a_batch(6), 4) == ([4, 5, 6, 7, 8], 9, False)


def test_the_oldest_doubt_is_forgotten_when_there_are_too_many() -> None:
    """It is counted, and begins anew; the others go on."""
    room = Room(1)
    places = range(100, 100 + 3 * (DOUBTED_MAX + 1), 3)
    forgotten = 0
    for place in places:
        fetched = Fetched(a_batch(place), place - 1, (), committed_only=True)
        forgotten += sum(chunk.forgotten for chunk in read_chunks(fetched, room, ROWS_MAX))
    assert forgotten == 1
    for place in (places[1], places[0]):
        assert read(room, a_batch(place), place - 1) == ([], place - 1, True)
    assert not read(room, a_batch(places[1]), places[1] - 1)[2], "its third time"
    assert not read(room, a_batch(places[1]), places[1] - 1)[2], "its third time"
    assert read(room, a_batch(places[0]), places[0] - 1)[2], "its second time since"
