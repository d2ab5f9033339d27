"""How much each size of the benchmark draws."""

from __future__ import annotations

from typing import NamedTuple

from bench.leadtime.benign import BANDS
from bench.leadtime.contest import Effort
from bench.leadtime.many import Draw


class Size(NamedTuple):
    """One size; sections with nothing to draw are left out."""

    contests: dict[float, Effort]  # by cap, the longest first
    cold_repeats: int
    many: Draw
    real_draws: int  # of holding times
    rate: tuple[int, float, int]  # weeks to calibrate on and to validate on, days of each, incidents


QUICK = ("ramp5", "step", "flash", "tenant", "failover", "retries")  # declined within the hour
TINY = Effort(
    weeks=2, days=0.5, incidents=3, benign=3, weeks_slice_s=15, slice_s=15,
    at_once=True, families=QUICK, harmless=tuple(BANDS),
)  # fmt: skip
SMALL = Effort(weeks=8, days=7, incidents=40, benign=30, weeks_slice_s=15, slice_s=15)
MAIN = Effort(weeks=16, days=7, incidents=100, benign=100, weeks_slice_s=15, slice_s=5)
SIDE = Effort(weeks=12, days=7, incidents=40, benign=40, weeks_slice_s=15, slice_s=15)
LARGE = Effort(weeks=6, days=7, incidents=30, benign=30, weeks_slice_s=15, slice_s=15)
SIZES = {
    "tiny": Size({100.0: TINY}, 0, Draw(0.02, 0.25, 1, QUICK), 0, (1, 0.5, 2)),
    "small": Size({1000.0: SMALL, 100.0: SMALL}, 2, Draw(0.25, 7, 1), 3, (4, 7, 30)),
    "full": Size(  # under an hour on two cores
        {1000.0: MAIN, 100.0: MAIN, 5000.0: LARGE, 20.0: SIDE, 10.0: SIDE},
        6, Draw(1.0, 7, 1), 9, (16, 7, 100),
    ),
}  # fmt: skip
