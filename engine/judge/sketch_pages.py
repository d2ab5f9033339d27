"""Where the counts of many sketches lie: a page for each octave of a sketch that anything was counted in.

Latencies of one row lie in four or five of a sketch's 27 octaves, so a table of pages takes a fifth of the
memory of whole sketches, and a quantile reads a fifth as much. Rows and pages are numbered in order of
appearance and never renumbered: a position in the table of pages stays what it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engine.observe.latency import OCTAVES, PER_OCTAVE

if TYPE_CHECKING:
    from numpy.typing import NDArray

NO_PAGE = -1


class SketchPages:
    """Numbers the pages. A position is page x PER_OCTAVE + the bucket's place in its octave.

    `page_of` (rows or more, OCTAVES) int32, NO_PAGE where nothing was counted; `many` pages there are.
    """

    def __init__(self) -> None:
        """Start without rows."""
        self.page_of = np.full((0, OCTAVES), NO_PAGE, np.int32)
        self.many = 0
        self._place_of = np.zeros(0, np.int32)  # (pages or more,): row x OCTAVES + octave

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        if rows > len(self.page_of):
            larger = np.full((max(rows, 2 * len(self.page_of)), OCTAVES), NO_PAGE, np.int32)
            larger[: len(self.page_of)] = self.page_of
            self.page_of = larger

    def add(self, rows: NDArray[Any], buckets: NDArray[Any]) -> None:
        """Give a page to each row and bucket that has none, in order of row and octave."""
        if not len(rows):
            return
        self.grow(int(rows.max()) + 1)
        places = rows.astype(np.int64) * OCTAVES + buckets // PER_OCTAVE
        pages = self.page_of.reshape(-1)
        fresh = np.unique(places[pages[places] == NO_PAGE])
        first, self.many = self.many, self.many + len(fresh)
        pages[fresh] = np.arange(first, self.many)
        if self.many > len(self._place_of):
            larger = np.zeros(max(self.many, 2 * len(self._place_of)), np.int32)
            larger[:first] = self._place_of[:first]
            self._place_of = larger
        self._place_of[first : self.many] = fresh

    def positions(self, rows: NDArray[Any], buckets: NDArray[Any]) -> NDArray[np.int64]:
        """Give the positions of buckets of rows, with pages for those that had none."""
        self.add(rows, buckets)
        page: NDArray[np.int64] = self.page_of[rows, buckets // PER_OCTAVE].astype(np.int64)
        flat: NDArray[np.int64] = page * PER_OCTAVE + buckets % PER_OCTAVE
        return flat

    def rows_and_buckets(self, flat: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
        """Give the row and the bucket of each position."""
        row, octave = np.divmod(self._place_of[flat // PER_OCTAVE], np.int32(OCTAVES))
        return row, (octave * PER_OCTAVE + flat % PER_OCTAVE).astype(np.int16)

    def rows_of(self, pages: NDArray[np.int32]) -> NDArray[np.int32]:
        """Give the rows of some pages, sorted, each once."""
        is_marked = np.zeros(len(self.page_of), np.bool_)
        is_marked[self._place_of[pages] // OCTAVES] = True
        return np.flatnonzero(is_marked).astype(np.int32)
