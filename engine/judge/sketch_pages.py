"""Where the counts of many sketches lie: a page for each octave of a sketch that anything was counted in.

Latencies of one row lie in few of a sketch's octaves, so a table of pages takes much less memory than whole
sketches, and a quantile reads as much less. Rows and pages are numbered in order of
appearance and never renumbered: a position in the table of pages stays what it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engine.observe.latency import OCTAVE_BITS, OCTAVE_MASK, OCTAVES

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
        self._row_of = np.zeros(0, np.int32)  # (pages or more,)
        self._first_of = np.zeros(0, np.int16)  # the first bucket of each page

    def grow(self, rows: int) -> None:
        """Make room for `rows` rows in all."""
        if rows > len(self.page_of):
            larger = np.full((max(rows, 2 * len(self.page_of)), OCTAVES), NO_PAGE, np.int32)
            larger[: len(self.page_of)] = self.page_of
            self.page_of = larger

    def positions(self, rows: NDArray[Any], buckets: NDArray[Any]) -> NDArray[np.int64]:
        """Give the positions of buckets of rows, with pages for those that had none."""
        if not len(rows):
            return np.zeros(0, np.int64)
        self.grow(int(rows.max()) + 1)
        places = rows.astype(np.int64) * OCTAVES + (buckets >> OCTAVE_BITS)
        pages = self.page_of.reshape(-1)
        page = pages[places]
        is_new = page == NO_PAGE
        if is_new.any():
            self._add(pages, np.unique(places[is_new]))
            page = pages[places]
        flat: NDArray[np.int64] = (page.astype(np.int64) << OCTAVE_BITS) + (buckets & OCTAVE_MASK)
        return flat

    def _add(self, pages: NDArray[np.int32], fresh: NDArray[np.int64]) -> None:
        """Give a page to each of these rows and octaves, in their order."""
        first, self.many = self.many, self.many + len(fresh)
        pages[fresh] = np.arange(first, self.many)
        if self.many > len(self._row_of):
            more = max(self.many, 2 * len(self._row_of)) - first
            self._row_of = np.concatenate([self._row_of[:first], np.zeros(more, np.int32)])
            self._first_of = np.concatenate([self._first_of[:first], np.zeros(more, np.int16)])
        self._row_of[first : self.many] = fresh // OCTAVES
        self._first_of[first : self.many] = fresh % OCTAVES << OCTAVE_BITS

    def rows_and_buckets(self, flat: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
        """Give the row and the bucket of each position."""
        page = flat >> OCTAVE_BITS
        return self._row_of[page], self._first_of[page] + (flat & OCTAVE_MASK).astype(np.int16)

    def rows_of(self, pages: NDArray[np.int32]) -> NDArray[np.int32]:
        """Give the rows of some pages, sorted, each once."""
        is_marked = np.zeros(len(self.page_of), np.bool_)
        is_marked[self._row_of[pages]] = True
        return np.flatnonzero(is_marked).astype(np.int32)
