"""How much each size of the benchmark draws."""

from __future__ import annotations

from typing import NamedTuple

from bench.leadtime.contest import Effort


class Size(NamedTuple):
    """One size; sections with nothing to draw are left out."""

    contests: dict[float, Effort]  # by cap, the longest first
    cold_repeats: int
    many: tuple[float, int, int]  # share of 200 limits, days of a week, weeks of each
    real_draws: int  # of holding times


TINY = Effort(weeks=2, days=1, incidents=3, benign=3, weeks_slice_s=15, slice_s=15)
SMALL = Effort(weeks=8, days=7, incidents=40, benign=30, weeks_slice_s=15, slice_s=15)
MAIN = Effort(weeks=16, days=7, incidents=100, benign=100, weeks_slice_s=15, slice_s=5)
SIDE = Effort(weeks=12, days=7, incidents=40, benign=40, weeks_slice_s=15, slice_s=15)
LARGE = Effort(weeks=6, days=7, incidents=30, benign=30, weeks_slice_s=15, slice_s=15)
SIZES = {
    "tiny": Size({100.0: TINY}, 0, (0.02, 1, 1), 0),
    "small": Size({1000.0: SMALL, 100.0: SMALL}, 2, (0.25, 7, 1), 3),
    "full": Size(
        {1000.0: MAIN, 100.0: MAIN, 5000.0: LARGE, 20.0: SIDE, 10.0: SIDE}, 6, (1.0, 7, 1), 9
    ),
}  # fmt: skip
