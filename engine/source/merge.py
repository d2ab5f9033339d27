"""Several logs as one, by event time.

Each file must be roughly in order itself, as logs are; then the merged rows are too. Files are merged
block by block: all rows up to the time that every open file has reached. A file is opened only when the
merge comes to its first event, so a thousand rotated logs that follow each other cost no more than one.

The time is read lightly: the first `"time":` of a row. A row without one stays behind the row before it,
and a single wrong clock does not hold its file up, because the key is the running maximum of the median
of five rows. Decoding for real is not done here: what is malformed is counted there. A heap of rows was
rejected: a Python step for each row.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

import numpy as np

from engine.source.compression import STDIN
from engine.source.log import open_log, rows_in, texts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

EVENT_TIME = re.compile(rb'"time"\s*:\s*(?:"([^"]{1,40})"|(-?[0-9][0-9.eE+-]{0,39}))')
NEIGHBOURS = 2  # rows on each side in the median
NS = 1_000_000_000
DAY_S = 86_400
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
LONG_AGO_NS = 0
YEAR_2100_NS = 4.2e18  # twice as much still fits
FAR_AHEAD_NS = 1 << 62
NO_KEYS: NDArray[np.int64] = np.empty(0, np.int64)


def event_time_ns(row: bytes) -> int | None:
    """Find the event's time, good enough to order by; None if there is none."""
    found = EVENT_TIME.search(row)
    if found is None:
        return None
    text = (found[1] or found[2]).decode("ascii", "replace")
    try:
        number = float(text)
    except ValueError:
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            return None
        if moment.tzinfo is None:
            return None
        # What an int64 cannot hold, the years 1 and 9999 among it, orders nothing.
        since = moment - EPOCH
        time_ns = (since.days * DAY_S + since.seconds) * NS + since.microseconds * 1000
        return time_ns if 0 <= time_ns < YEAR_2100_NS else None
    for below, unit_ns in ((1e11, NS), (1e14, 1_000_000), (1e17, 1_000), (YEAR_2100_NS, 1)):
        if 0 <= number < below:
            return int(number) * unit_ns + int(number % 1 * unit_ns)
    return None


def order_keys(times: NDArray[np.int64], before: int) -> NDArray[np.int64]:
    """Give the rows after the first `before` a key: the median of five times, int64, shape (rows - before,).

    Beyond both ends times are taken to go on as they came. `before` is 0 at the start of a file; there the
    first rows are not later than the median of what follows: no file begins with a wrong clock.
    """
    keys = times
    if len(times) > NEIGHBOURS:
        padded = np.pad(times, NEIGHBOURS, mode="reflect", reflect_type="odd")
        beside = np.lib.stride_tricks.sliding_window_view(padded, 2 * NEIGHBOURS + 1)
        keys = np.sort(beside, axis=1)[:, NEIGHBOURS].astype(np.int64)
    if not before:
        first = np.sort(times[: 2 * NEIGHBOURS + 1])
        keys = np.concatenate((np.minimum(keys[:NEIGHBOURS], first[len(first) // 2]), keys[NEIGHBOURS:]))
    return keys[before:]


class _Lane:
    """One file of the merge: the rows read from it that are not given yet, with their keys.

    The last rows that were read are held back until it is known what follows them.
    """

    def __init__(self, path: str, index: int, row_bytes_max: int) -> None:
        """Open the file."""
        self.index = index
        self.log = open_log(path, row_bytes_max)
        self.rows: list[bytes] = []
        self.keys = NO_KEYS
        self._held: list[bytes] = []
        self._held_times: list[int] = []  # of the last rows that were given, then of the rows held back
        self._last_key = LONG_AGO_NS

    def fill(self) -> bool:
        """Read until there is a row or the end; False if the input has to be waited for."""
        while not self.rows:
            cut = self.log.read()
            if cut is None and not self._held:
                return True
            if cut is not None and not rows_in(cut):
                return False
            self._take([] if cut is None else texts_of(cut), is_end=cut is None)
        return True

    def _take(self, fresh: list[bytes], *, is_end: bool) -> None:
        """Give keys to the rows whose neighbours are known."""
        before = len(self._held_times) - len(self._held)
        previous = self._held_times[-1] if self._held_times else LONG_AGO_NS
        for row in fresh:
            found = event_time_ns(row)
            previous = previous if found is None else found
            self._held_times.append(previous)
        self._held += fresh
        ready = len(self._held) - (0 if is_end else NEIGHBOURS)
        if ready <= 0:
            return
        keys = order_keys(np.array(self._held_times, np.int64), before)[:ready]
        self.keys = np.maximum.accumulate(np.maximum(keys, self._last_key))
        self._last_key = int(self.keys[-1])
        self.rows, self._held = self._held[:ready], self._held[ready:]
        self._held_times = self._held_times[max(before + ready - NEIGHBOURS, 0) :]

    def give(self, up_to: int) -> tuple[list[bytes], NDArray[np.int64]]:
        """Hand over the rows with keys at most `up_to`."""
        count = int(np.searchsorted(self.keys, up_to, side="right"))
        given = self.rows[:count], self.keys[:count]
        self.rows, self.keys = self.rows[count:], self.keys[count:]
        return given


class LogMerge:
    """All files in one order of event time; at the same nanosecond, in the order they were named."""

    def __init__(self, paths: Sequence[str], row_bytes_max: int) -> None:
        """Look at the first event of each file, so that a file is opened only when it is its turn."""
        self._row_bytes_max = row_bytes_max
        self._open: list[_Lane] = []
        waiting: list[tuple[int, int, str]] = []
        self._bytes_closed = 0
        self.bytes_total = 0
        for index, path in enumerate(paths):
            lane = _Lane(path, index, row_bytes_max)
            self.bytes_total += lane.log.bytes_total
            if path == STDIN:
                self._open.append(lane)
                continue
            try:
                lane.fill()
                waiting.append((int(lane.keys[0]) if lane.rows else FAR_AHEAD_NS, index, path))
            finally:
                lane.log.close()
        # Last first, so that the next to open is popped from the end.
        self._waiting = sorted(waiting, reverse=True)

    @property
    def bytes_done(self) -> int:
        """How many bytes of the files have been read."""
        return self._bytes_closed + sum(lane.log.bytes_done for lane in self._open)

    def read(self) -> list[bytes] | None:
        """Give the next rows in order, [] if standard input has to be waited for, None at the end."""
        if not self._open and not self._open_next():
            return None
        while True:
            filled = [lane.fill() for lane in self._open]
            if not all(filled):
                return []
            for lane in [lane for lane in self._open if not lane.rows]:
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

    def _open_next(self) -> bool:
        """Open the file whose first event is next."""
        if not self._waiting:
            return False
        _, index, path = self._waiting.pop()
        self._open.append(_Lane(path, index, self._row_bytes_max))
        self._open.sort(key=lambda lane: lane.index)
        return True

    def _shut(self, lane: _Lane) -> None:
        """Close a file that has ended."""
        self._bytes_closed += lane.log.bytes_done
        lane.log.close()
        self._open.remove(lane)

    def _merged(self, up_to: int) -> list[bytes]:
        """Put the rows of all open files up to a time in order; rows of one file keep theirs."""
        rows: list[bytes] = []
        keys: list[NDArray[np.int64]] = []
        for lane in self._open:
            given, given_keys = lane.give(up_to)
            rows += given
            keys.append(given_keys)
        return [rows[index] for index in np.argsort(np.concatenate(keys), kind="stable").tolist()]
