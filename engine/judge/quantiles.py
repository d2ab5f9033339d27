"""Quantiles of latency in the windows, computed when somebody asks: a page that names one, or a snapshot.

Windows are kept as sketches that are added to and taken off; most slices of a replay are never asked about.
What is remembered is which rows have changed since they were computed last.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.judge.windows import WINDOWS
from engine.kernel import kernel
from engine.observe.latency import OCTAVES, PER_OCTAVE, value_of_rank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engine.judge.sketch_pages import SketchPages
    from engine.judge.windows import RollingSums

RANKS: NDArray[np.float64] = np.array([0.50, 0.99])
RANKS.setflags(write=False)


class LatencyQuantiles(NamedTuple):
    """Quantiles of the latency rows of a `WindowView`: arrays of shape (latency rows, windows).

    `values` says of how many; `p50_s` and `p99_s` are NaN where there are none.
    """

    values: NDArray[np.int64]
    p50_s: NDArray[np.float64]
    p99_s: NDArray[np.float64]


@kernel
def quantiles_of_rows(
    table: NDArray[np.int32],
    page_of: NDArray[np.int32],
    rows: NDArray[np.int32],
    ranks: NDArray[np.float64],
    into: NDArray[np.float64],
    counted: NDArray[np.int64],
    octaves: NDArray[np.int64],
) -> None:
    """Write quantiles and counts of some sketches, each read once while it is in the processor's cache.

    `table` (pages, PER_OCTAVE); `page_of` (sketches, OCTAVES), see `SketchPages`; `rows` which sketches;
    `ranks` (quantiles,) from 0 to 1; `into` (quantiles, sketches); `counted` (sketches,). Other rows of both
    are left as they are. `octaves` (OCTAVES,) is working memory: a quantile is looked for octave by octave
    and then inside one.
    """
    for k in range(len(rows)):
        pages = page_of[rows[k]]
        total = 0
        for octave in range(len(octaves)):
            inside = 0
            if pages[octave] >= 0:
                page = table[pages[octave]]
                for i in range(PER_OCTAVE):  # Of a length that the compiler knows: it adds several at a time.
                    inside += page[i]
            octaves[octave] = inside
            total += inside
        counted[rows[k]] = total
        for place in range(len(ranks)):
            into[place, rows[k]] = np.nan
            if total == 0:
                continue
            rank = max(math.ceil(ranks[place] * total), 1)
            octave = 0
            while rank > octaves[octave]:
                rank -= octaves[octave]
                octave += 1
            into[place, rows[k]] = value_of_rank(table[pages[octave]], rank, octave * PER_OCTAVE)


class Quantiles:
    """The quantiles at RANKS of every row of sketches in every window, as they were computed last."""

    def __init__(self, sketches: RollingSums, pages: SketchPages) -> None:
        """Read the sums of `sketches`, whose rows are `pages`."""
        self._sketches = sketches
        self._pages = pages
        self._values = np.full((len(WINDOWS), len(RANKS), 0), np.nan)
        self._counted = np.zeros((len(WINDOWS), 0), np.int64)
        self._is_stale = np.zeros((len(WINDOWS), 0), np.bool_)

    def mark(self, changed: Sequence[Sequence[NDArray[np.int32]]]) -> None:
        """Remember at which positions sums have changed, by window."""
        self._grow(len(self._pages.page_of))
        for window, positions in enumerate(changed):
            self._pages.mark_rows(positions, self._is_stale[window])

    def of_all(self, rows: int) -> LatencyQuantiles:
        """Compute what has changed; give copies of those of the first `rows` rows."""
        self._grow(rows)
        octaves = np.empty(OCTAVES, np.int64)
        for window in range(len(WINDOWS)):
            stale = self._is_stale[window, : len(self._pages.page_of)].nonzero()[0].astype(np.int32)
            quantiles_of_rows(
                self._sketches.table(window), self._pages.page_of, stale, RANKS, self._values[window],
                self._counted[window], octaves,
            )  # fmt: skip
        self._is_stale[:] = False
        p50_s, p99_s = (self._values[:, place, :rows].T.copy() for place in range(len(RANKS)))
        return LatencyQuantiles(self._counted[:, :rows].T.copy(), p50_s, p99_s)

    def of_row(self, row: int, window: int, rank: float) -> float:
        """Compute a quantile of one row in one window, rank from 0 to 1; NaN for a row that is empty."""
        if not 0 <= row < len(self._pages.page_of):
            return math.nan
        into, counted, ranks = np.full((1, 1), np.nan), np.zeros(1, np.int64), np.array([rank])
        ranks.setflags(write=False)  # Like RANKS: for arguments of other types the kernel is compiled anew.
        quantiles_of_rows(
            self._sketches.table(window), self._pages.page_of[row : row + 1], np.zeros(1, np.int32), ranks,
            into, counted, np.empty(OCTAVES, np.int64),
        )  # fmt: skip
        return float(into[0, 0])

    def _grow(self, rows: int) -> None:
        """Make room for `rows` rows; new ones have not been computed yet, as after a restore."""
        missing = rows - self._values.shape[2]
        if missing > 0:
            more = np.full((len(WINDOWS), len(RANKS), missing), np.nan)
            self._values = np.concatenate([self._values, more], axis=2)
            nothing = np.zeros((len(WINDOWS), missing), np.int64)
            self._counted = np.concatenate([self._counted, nothing], axis=1)
            self._is_stale = np.concatenate([self._is_stale, nothing == 0], axis=1)
