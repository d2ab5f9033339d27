"""Several logs as one, by event time.

Each file must be roughly in order itself, as logs are; then the merged rows are too. Files are merged
block by block: all rows up to the time that every open file has reached. A file is opened only when the
merge comes to its first event, so a thousand rotated logs that follow each other cost no more than one. A
pipe stays open from the start.

The time is read lightly (`order_times.py`). A row without one stays behind the row before it, and up to eight
wrong clocks in a row, as many as one log alone may have, do not hold their file up, because the key is the
running maximum of the median of 17 rows.
A log that turns out to be damaged, or is gone when it is its turn, ends there, and the others go on: the
error comes when every row is given.
Decoding for real is not done here: what is malformed is counted there. Rows stay in the buffers that they
were read into, so that no row is a Python object; a heap of rows was rejected for that. Files of columns stay
columns (`pieces.py`).
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import SourceError
from engine.kernel import kernel
from engine.source.columns import RowColumns
from engine.source.lines import NOTHING_YET, LogRows, Rows
from engine.source.log import open_log, rows_in
from engine.source.order_times import NO_TIME, column_times, event_times
from engine.source.pieces import part_of, side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engine.source.log import Piece

NEIGHBOURS = 8  # rows on each side in the median: so many wrong clocks are outvoted
CHUNK_ROWS_MAX = 1 << 16  # of columns are read at a time, of each open file
FIRST_ROWS = 1 << 10  # of columns, to see when a file begins
LONG_AGO_NS = 0
FAR_AHEAD_NS = 1 << 62
DAMAGES_TOLD_MAX = 20
NO_KEYS: NDArray[np.int64] = np.empty(0, np.int64)


def times_of(piece: Piece) -> NDArray[np.int64]:
    """Give the time of every row, NO_TIME if there is none; shape (rows,)."""
    return column_times(piece) if isinstance(piece, RowColumns) else event_times(piece)


def order_keys(times: NDArray[np.int64], before: int) -> NDArray[np.int64]:
    """Give the rows after the first `before` a key: the median of 17 times, int64, shape (rows - before,).

    Beyond both ends times are taken to go on as they came. `before` is 0 at the start of a file; there the
    first rows are not later than the median of what follows: no file begins with a wrong clock.
    """
    keys = times
    if len(times) > NEIGHBOURS:
        padded = np.pad(times, NEIGHBOURS, mode="reflect", reflect_type="odd")
        beside = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURS + 1)
        # Rows in order are their own median, and mostly they are.
        falls = np.lib.stride_tricks.sliding_window_view(padded[1:] < padded[:-1], 2 * NEIGHBOURS)
        mixed = np.flatnonzero(falls.any(axis=1))
        keys = times.copy()
        keys[mixed] = np.partition(beside[mixed], NEIGHBOURS, axis=1)[:, NEIGHBOURS]
    if not before:
        first = np.sort(times[: 2 * NEIGHBOURS + 1])
        half = len(first) // 2
        keys = np.concatenate((np.minimum(keys[:half], first[half : half + 1]), keys[half:]))
    return keys[before:]


class _Lane:
    """One file of the merge: the rows read from it that are not given yet, with their keys.

    The last rows that were read are held back until it is known what follows them.
    """

    def __init__(self, path: str, index: int, row_bytes_max: int, chunk_rows_max: int) -> None:
        """Open the file."""
        self.index = index
        self.log = open_log(path, row_bytes_max, chunk_rows_max)
        self.rows: Piece = NOTHING_YET
        self.keys = NO_KEYS
        self.damage: SourceError | None = None
        self._held: Piece = NOTHING_YET
        self._held_times = NO_KEYS  # of the last rows that were given, then of the rows held back
        self._last_key = LONG_AGO_NS

    def fill(self) -> bool:
        """Read until there is a row or the end; False if the input has to be waited for."""
        while not len(self.keys):
            cut = self._read()
            if cut is None and not rows_in(self._held):
                return True
            if cut is not None and not rows_in(cut):
                return False
            self._take(NOTHING_YET if cut is None else cut, is_end=cut is None)
        return True

    def _read(self) -> Piece | None:
        """Read on; where the log is damaged, it ends."""
        if self.damage is not None:
            return None
        try:
            return self.log.read()
        except SourceError as error:
            self.damage = error
            return None

    def _take(self, fresh: Piece, *, is_end: bool) -> None:
        """Give keys to the rows whose neighbours are known."""
        before = len(self._held_times) - rows_in(self._held)
        times = np.concatenate((self._held_times, times_of(fresh)))
        # A row without a time stays behind the row before it.
        place = np.maximum.accumulate(np.where(times == NO_TIME, -1, np.arange(len(times))))
        times = np.where(place < 0, LONG_AGO_NS, times[place])
        held = side_by_side((self._held, fresh))
        ready = rows_in(held) - (0 if is_end else NEIGHBOURS)
        self._held, self._held_times = held, times
        if not before and len(times) <= 2 * NEIGHBOURS and not is_end:
            ready = 0  # Whether the file begins with a wrong clock is not known yet.
        if ready <= 0:
            return
        keys = order_keys(times, before)[:ready]
        self.keys = np.maximum.accumulate(np.maximum(keys, self._last_key))
        self._last_key = int(self.keys[-1])
        self.rows, self._held = part_of(held, 0, ready), part_of(held, ready, rows_in(held))
        self._held_times = times[max(before + ready - NEIGHBOURS, 0) :]

    def give(self, up_to: int) -> tuple[Piece, NDArray[np.int64]]:
        """Hand over the rows with keys at most `up_to`."""
        count = int(np.searchsorted(self.keys, up_to, side="right"))
        given = part_of(self.rows, 0, count), self.keys[:count]
        self.rows, self.keys = part_of(self.rows, count, rows_in(self.rows)), self.keys[count:]
        return given


class LogMerge:
    """All files in one order of event time; at the same nanosecond, in the order they were named."""

    def __init__(
        self, paths: Sequence[str], row_bytes_max: int, chunk_rows_max: int = CHUNK_ROWS_MAX
    ) -> None:
        """Look at the first event of each file, so that a file is opened only when it is its turn."""
        self._row_bytes_max = row_bytes_max
        self._chunk_rows_max = chunk_rows_max
        self._open: list[_Lane] = []
        waiting: list[tuple[int, int, str]] = []
        self._damages: list[SourceError] = []  # in the order in which their files ended, as many as are told
        self._damaged_count = 0
        self._bytes_closed = 0
        self.bytes_total = 0
        for index, path in enumerate(paths):
            lane = _Lane(path, index, row_bytes_max, min(chunk_rows_max, FIRST_ROWS))
            self.bytes_total += lane.log.bytes_total
            if isinstance(lane.log, LogRows) and lane.log.reader.is_read_once:
                self._open.append(lane)
                continue
            try:
                lane.fill()
                waiting.append((int(lane.keys[0]) if len(lane.keys) else FAR_AHEAD_NS, index, path))
            finally:
                lane.log.close()
        # Last first, so that the next to open is popped from the end.
        self._waiting = sorted(waiting, reverse=True)

    @property
    def bytes_done(self) -> int:
        """How many bytes of the files have been read."""
        return self._bytes_closed + sum(lane.log.bytes_done for lane in self._open)

    def read(self) -> Piece | None:
        """Give the next rows in order, no rows if a pipe has to be waited for, None at the end.

        Where files were damaged, a SourceError that tells of each is raised instead of the end.
        """
        piece = self._next()
        if piece is None and self._damages:
            raise _all_told(self._damages, self._damaged_count)
        return piece

    def _next(self) -> Piece | None:
        while True:
            filled = [lane.fill() for lane in self._open]
            if not all(filled):
                return NOTHING_YET
            for lane in [lane for lane in self._open if not len(lane.keys)]:
                self._shut(lane)
            up_to = min((int(lane.keys[-1]) for lane in self._open), default=FAR_AHEAD_NS)
            if self._waiting and self._waiting[-1][0] <= up_to:
                self._open_next()
            elif self._open:
                return self._merged(up_to)
            else:
                return None

    def close(self) -> None:
        """Close every file."""
        for lane in list(self._open):
            self._shut(lane)
        self._waiting = []
        self._damages, self._damaged_count = [], 0

    def _open_next(self) -> None:
        """Open the file whose first event is next; it may be gone by now."""
        _, index, path = self._waiting.pop()
        try:
            self._open.append(_Lane(path, index, self._row_bytes_max, self._chunk_rows_max))
        except SourceError as error:
            self._take_damage(error)
        self._open.sort(key=lambda lane: lane.index)

    def _shut(self, lane: _Lane) -> None:
        """Close a file that has ended."""
        if lane.damage is not None:
            self._take_damage(lane.damage)
        self._bytes_closed += lane.log.bytes_done
        lane.log.close()
        self._open.remove(lane)

    def _take_damage(self, damage: SourceError) -> None:
        self._damaged_count += 1
        if len(self._damages) < DAMAGES_TOLD_MAX:
            self._damages.append(damage)

    def _merged(self, up_to: int) -> Piece:
        """Put the rows of all open files up to a time in order; rows of one file keep theirs.

        A file that ends at that time may go on with it, and its rows come before those of later files.
        """
        given: list[tuple[Piece, NDArray[np.int64]]] = []
        limit = up_to
        for lane in self._open:
            ends_there = int(lane.keys[-1]) == up_to
            given.append(lane.give(limit))
            if ends_there:
                limit = up_to - 1
        rows = side_by_side([part for part, _ in given])
        order = np.argsort(np.concatenate([keys for _, keys in given]), kind="stable")
        return rows.taken(order) if isinstance(rows, RowColumns) else _laid_out(rows, order)


def _all_told(damages: list[SourceError], count: int) -> SourceError:
    """Give one error for so many damaged files, of which these are told."""
    if count == 1:
        return damages[0]
    told = "".join(f"\n  - {textwrap.indent(str(error), '  ').lstrip()}" for error in damages)
    more = f"\n  - and {count - len(damages)} more" if count > len(damages) else ""
    return SourceError(f"{count} logs cannot be read to their end", cause=told + more)


def _laid_out(rows: Rows, order: NDArray[np.int64]) -> Rows:
    """Copy rows into a buffer in which they lie in another order."""
    start, end = rows.start[order], rows.end[order]
    stop = np.cumsum(end - start, dtype=np.int64)
    data = np.empty(int(stop[-1]) if len(stop) else 0, np.uint8)
    copy_rows(np.frombuffer(rows.data, np.uint8), start, end, data)
    begin = stop - (end - start)
    begin.setflags(write=False)
    stop.setflags(write=False)
    return Rows(data.tobytes(), begin, stop)


@kernel
def copy_rows(
    data: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64], target: NDArray[np.uint8]
) -> None:
    """Copy data[start[i]:end[i]], uint8, one behind the other to `target`, which has just that room."""
    place = 0
    for row in range(len(start)):
        for at in range(start[row], end[row]):
            target[place] = data[at]
            place += 1
