"""Rows of one partition on their way from the broker to a `RawBatch`, by whichever path they were read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.source.contract import NO_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Why rows that were in the log are not handed over.
DELETED = "deleted"  # by the broker, before they were read
DAMAGED = "damaged"  # the checksum of their batch does not match
TOO_LARGE = "too_large"  # their batch expands beyond `kafka.batch_bytes_max`
UNREADABLE_BATCH = "unreadable"  # the checksum matches, and the batch is not what its header says
LOSSES = (DELETED, DAMAGED, TOO_LARGE, UNREADABLE_BATCH)

CHUNK_BYTES = 1 << 20  # about so much is expanded for a chunk


class Rows(NamedTuple):
    """Row i is `data[start[i]:end[i]]`, at `offset[i]`; int64 arrays, shape (rows,), read-only.

    What lies between two rows in `data` is nobody's business and may be any bytes.
    """

    data: bytes
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    offset: NDArray[np.int64]

    def part(self, begin: int, end: int) -> Rows:
        """Give some of the rows; they share the buffer."""
        return Rows(self.data, self.start[begin:end], self.end[begin:end], self.offset[begin:end])


NOTHING = Rows(b"", NO_ROWS, NO_ROWS, NO_ROWS)


class Loss(NamedTuple):
    """Rows that cannot be handed over."""

    reason: str  # one of LOSSES
    next_offset: int  # where reading goes on without them
    rows: int


class Damage(NamedTuple):
    """A batch that is not believed as it came, and may be whole when it is fetched again."""

    next_offset: int  # where reading goes on without it
    rows: int = 0  # 0: nobody knows where it ends
    fingerprint: int = 0  # of its bytes: they stand if they come again as they were


class Chunk(NamedTuple):
    """What became of consecutive batches of one partition.

    `next_offset` does not pass what is damaged.
    """

    rows: Rows
    next_offset: int
    empty_rows: int = 0  # records without a value
    losses: tuple[Loss, ...] = ()
    damage: Damage | None = None
    read_bytes: int = 0  # of the answer, for batches of an old format
    forgotten: int = 0  # doubts about offsets that there was no room to remember


def side_by_side(rows: Sequence[tuple[int, bytes]]) -> Rows:
    """Lay (offset, value) side by side in one buffer."""
    if not rows:
        return NOTHING
    offset = np.fromiter((each for each, _ in rows), np.int64, len(rows))
    length = np.fromiter((len(value) for _, value in rows), np.int64, len(rows))
    end = np.cumsum(length, dtype=np.int64)
    start = end - length
    for array in (start, end, offset):
        array.setflags(write=False)
    return Rows(b"".join([value for _, value in rows]), start, end, offset)
