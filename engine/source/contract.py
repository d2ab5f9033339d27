"""What a source gives: batches of bytes with their offsets and the time of receipt.

A batch holds rows of one partition. Its rows lie in one buffer, so that a decoder can work on the buffer
as a whole; `row_start` and `row_end` say where each row is. A batch without rows is a tick: it only says
what time it is, and which partitions have been read to their end, so that idle time-outs replay as well.
The core reads no other clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from engine.source.columns import RowColumns

NO_ROWS: NDArray[np.int64] = np.empty(0, np.int64)
NO_ROWS.setflags(write=False)
Places = tuple[tuple[int, int], ...]  # (partition, offset of what is read next)


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Bytes of consecutive rows of one partition.

    `data` is the buffer; row i is `data[row_start[i]:row_end[i]]` (int64 arrays, shape (rows,)), with its
    offset in the partition in `offset` (int64, increasing; for a log the number of the line). Between two
    rows there may be any bytes, also such as are no text: Kafka's keys and lengths. `received_ns`
    is when the batch was read (for a plain log: the running maximum of event time, which the decoder knows,
    so it is -1 here). `assigned` are the partitions that this process reads now; `caught_up` those whose
    position equalled the end of the partition at `received_ns`. A tick has no rows and partition -1.
    Rows that came as columns are in `columns`; there are no bytes then, and no places in them.
    `tenure` counts how often this process has lost all partitions: what was read in an earlier one is void.
    `places`: with this batch all that lies before them was handed over, was lost, or is no row (a marker, a
    null value, a gap). A partition that is not among them stands behind its last row.
    """

    data: bytes
    row_start: NDArray[np.int64]
    row_end: NDArray[np.int64]
    offset: NDArray[np.int64]
    topic: str
    partition: int
    received_ns: int
    assigned: tuple[int, ...]
    caught_up: tuple[int, ...]
    columns: RowColumns | None = None
    tenure: int = 0
    places: Places = ()

    @property
    def rows(self) -> int:
        """How many rows the batch holds."""
        return len(self.offset)

    def text(self, row: int) -> bytes:
        """Give the text of a row, JSON if all is well."""
        if self.columns is not None:
            return self.columns.text(row)
        return bytes(self.data[self.row_start[row] : self.row_end[row]])

    def texts(self) -> Iterator[bytes]:
        """Give the texts of all rows."""
        if self.columns is not None:
            yield from map(self.columns.text, range(self.rows))
        data = self.data
        for start, end in zip(self.row_start.tolist(), self.row_end.tolist(), strict=True):
            yield data[start:end]


PLAIN_LOG_RECEIVED_NS = -1


def tick(
    topic: str,
    received_ns: int,
    assigned: tuple[int, ...],
    caught_up: tuple[int, ...],
    tenure: int = 0,
    places: Places = (),
) -> RawBatch:
    """Make a batch without rows."""
    return RawBatch(
        b"", NO_ROWS, NO_ROWS, NO_ROWS, topic, -1, received_ns, assigned, caught_up, None, tenure, places
    )


class Source(Protocol):
    """Where batches come from: a log, a recording, a broker, or a generator.

    `read` waits at most about one poll interval (then it gives a tick) and returns None when the input has
    ended. It raises `SourceError` for what cannot be mended by waiting. After `close`, `read` returns None.
    """

    async def start(self) -> None:
        """Open files or connect; errors that the user must mend are raised here."""

    async def read(self) -> RawBatch | None:
        """Give the next batch, a tick, or None at the end of the input."""

    async def close(self) -> None:
        """Let go of everything, within a bounded time."""
