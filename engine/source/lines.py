r"""Rows of a log: where the lines lie in a piece of it.

A row is a line without its `\n` or `\r\n`. The last line needs no `\n`; empty lines are no rows and take
no number. A line longer than `row_bytes_max` is cut to `row_bytes_max + 1` bytes: still too long, so the
decoder counts it as `row_too_long`, but whatever is behind it is dropped here and never costs memory.
When a log turns out to be damaged, every row before the damage is given first, the unfinished last one
too, and then the error is raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.errors import SourceError
from engine.source.compression import LogReader

if TYPE_CHECKING:
    from numpy.typing import NDArray

LINE_FEED = 10
CARRIAGE_RETURN = 13


class Rows(NamedTuple):
    """Row i is `data[start[i]:end[i]]`; int64 arrays, shape (rows,), read-only."""

    data: bytes
    start: NDArray[np.int64]
    end: NDArray[np.int64]


def _rows(data: bytes, breaks: NDArray[np.int64]) -> Rows:
    """Make rows of the lines of `data` that end at `breaks`."""
    start = np.concatenate((np.zeros(1, np.int64), breaks[:-1] + 1))
    end = breaks.copy()
    codes = np.frombuffer(data, np.uint8)
    end -= (end > start) & (codes[np.maximum(end - 1, 0)] == CARRIAGE_RETURN)
    keep = end > start
    start, end = start[keep], end[keep]
    start.setflags(write=False)
    end.setflags(write=False)
    return Rows(data, start, end)


def rows_of(rows: Rows) -> list[bytes]:
    """Cut rows out of their buffer."""
    return [rows.data[start:end] for start, end in zip(rows.start.tolist(), rows.end.tolist(), strict=True)]


class LineCutter:
    """Cuts the pieces of one log into rows, carrying an unfinished line from piece to piece."""

    def __init__(self, row_bytes_max: int) -> None:
        """Remember the bound; a fresh cutter carries nothing."""
        self._row_bytes_max = row_bytes_max
        self._carried: list[bytes] = []
        self._carried_bytes = 0

    def cut(self, piece: bytes) -> Rows | None:
        """Give the rows that end in this piece; None if no line does."""
        breaks = np.flatnonzero(np.frombuffer(piece, np.uint8) == LINE_FEED).astype(np.int64)
        if not len(breaks):
            self._carry(piece)
            return None
        done = int(breaks[-1]) + 1
        first = int(breaks[0])
        # Only the first line can have been carried over: it is joined and cut to the bound.
        self._carry(piece[:first])
        head = b"".join(self._carried)
        self._carried, self._carried_bytes = [], 0
        data = b"".join((head, memoryview(piece)[first:done]))
        self._carry(piece[done:])
        return self._bounded(_rows(data, breaks + (len(head) - first)))

    def last(self) -> Rows | None:
        """Give the last line if no line feed ended it."""
        data = b"".join(self._carried)
        self._carried, self._carried_bytes = [], 0
        return self._bounded(_rows(data, np.array([len(data)], np.int64))) if data else None

    def _carry(self, part: bytes) -> None:
        """Keep a part of a line, up to two bytes beyond the bound.

        One shows that the row is too long; the other, that a carriage return before it does not end the line.
        """
        kept = part[: self._row_bytes_max + 2 - self._carried_bytes]
        if kept:
            self._carried.append(kept)
            self._carried_bytes += len(kept)

    def _bounded(self, rows: Rows) -> Rows:
        """Cut rows that are too long; a piece may be longer than the bound."""
        end = np.minimum(rows.end, rows.start + self._row_bytes_max + 1)
        end.setflags(write=False)
        return rows._replace(end=end)


NOTHING_YET = Rows(b"", np.empty(0, np.int64), np.empty(0, np.int64))


class LogRows:
    """The rows of one log, in the order of the file."""

    def __init__(self, path: str, row_bytes_max: int) -> None:
        """Open the log; a SourceError says why it cannot be."""
        self.reader = LogReader(path)
        self._cutter = LineCutter(row_bytes_max)
        self._failed: SourceError | None = None
        self._ended = False

    @property
    def bytes_done(self) -> int:
        """How many bytes of the file have been read."""
        return self.reader.bytes_done

    @property
    def bytes_total(self) -> int:
        """How many bytes the file has; 0: not known."""
        return self.reader.bytes_total

    def read(self) -> Rows | None:
        """Give the next rows, no rows when a pipe has none yet, None at the end; SourceError at damage."""
        while not self._ended:
            try:
                piece = self.reader.read()
            except SourceError as error:
                self._failed = error
                piece = None
            if piece == b"":
                return NOTHING_YET
            self._ended = piece is None
            rows = self._cutter.last() if piece is None else self._cutter.cut(piece)
            if rows is not None and len(rows.start):
                return rows
        if self._failed is not None:
            raise self._failed
        return None

    def close(self) -> None:
        """Close the log; closing twice is fine."""
        self._ended, self._failed = True, None
        self.reader.close()
