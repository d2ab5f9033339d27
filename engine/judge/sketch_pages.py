"""Where the counts of many sketches lie: a page for each octave of a sketch that anything was counted in.

Latencies of one row lie in few of a sketch's octaves, so a table of pages takes much less memory than whole
sketches, and a quantile reads as much less. Rows and pages are numbered in order of
appearance and never renumbered: a position in the table of pages stays what it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel
from engine.observe.latency import OCTAVE_BITS, OCTAVE_MASK, OCTAVES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NO_PAGE = -1
PAGES_MIN = 256


class Pages(NamedTuple):
    """The pages as kernels see them."""

    page_of: NDArray[np.int32]  # (rows or more, OCTAVES)
    row_of: NDArray[np.int32]  # (pages or more,)
    first_of: NDArray[np.int16]  # (pages or more,): the first bucket of each
    used: NDArray[np.int64]  # (1,): how many there are


@kernel
def page_at(pages: Pages, row: int, octave: int) -> int:
    """Give the page of an octave of a row, a new one if it has none; the caller has seen to the room."""
    page = pages.page_of[row, octave]
    if page == NO_PAGE:
        page = np.int32(pages.used[0])
        pages.page_of[row, octave] = page
        pages.row_of[page] = row
        pages.first_of[page] = octave << OCTAVE_BITS
        pages.used[0] += 1
    return int(page)


@kernel
def mark_rows(is_marked: NDArray[np.bool_], flat: NDArray[np.int32], row_of: NDArray[np.int32]) -> None:
    """Set `is_marked[row]` for the row of each position; `row_of` (pages or more,) says those of pages."""
    for k in range(len(flat)):
        is_marked[row_of[flat[k] >> OCTAVE_BITS]] = True


@kernel
def tell(
    flat: NDArray[np.int32],
    row_of: NDArray[np.int32],
    first_of: NDArray[np.int16],
    row: NDArray[np.int32],
    bucket: NDArray[np.int16],
) -> None:
    """Write the row and the bucket of each position, all (positions,); see `Pages` for the others."""
    for k in range(len(flat)):
        page = flat[k] >> OCTAVE_BITS
        row[k], bucket[k] = row_of[page], first_of[page] + (flat[k] & OCTAVE_MASK)


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

    def room(self, rows: int, pages: int) -> Pages:
        """Show the pages of `rows` rows to a kernel, with room for so many more.

        What the kernel has `used` then is to be `many`.
        """
        self.grow(rows)
        if self.many + pages > len(self._row_of):
            size = max(PAGES_MIN, 2 * len(self._row_of), self.many + pages)
            row_of, first_of = np.zeros(size, np.int32), np.zeros(size, np.int16)
            row_of[: self.many] = self._row_of[: self.many]
            first_of[: self.many] = self._first_of[: self.many]
            self._row_of, self._first_of = row_of, first_of
        return Pages(self.page_of, self._row_of, self._first_of, np.array([self.many], np.int64))

    def rows_and_buckets(self, flat: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
        """Give the row and the bucket of each position."""
        row, bucket = np.empty(len(flat), np.int32), np.empty(len(flat), np.int16)
        tell(flat, self._row_of, self._first_of, row, bucket)
        return row, bucket

    def mark_rows(self, positions: Sequence[NDArray[np.int32]], is_marked: NDArray[np.bool_]) -> None:
        """Set `is_marked` (rows or more,) for the rows in which any of the positions lies."""
        for flat in positions:
            mark_rows(is_marked, flat, self._row_of)
