"""How long calls hold their place: a life table by age, learned from ends and from calls that are still up.

Ages count slices: a call is of age d if it started d slices ago. Among the calls at risk at age d (ended, or
still in flight at the slice's end; a call healed away counts half) the share that ended is the table's
hazard. Because calls start anywhere within their slice, the table's survival G(d) is the survival function
averaged over one slice, so sums of G times the slice *are* its integral: forecasts built on it have no
rounding to a grid, however short the calls. Ages are pooled into bins that widen with age. A bin leans on its
long-run self, and that on the hazard of all ages together, and that on the limit's expected holding time,
each with the weight of an end or two. Rejected: a mean (blind to shape and to calls still up) and a fitted
law (a leak or a time-out fits none).
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

SINGLE_BINS = 8  # the youngest ages have a bin each
BINS_PER_DOUBLING = 4
HAZARD_MAX = 0.95  # of one slice
SELF_HALF = 0.5  # a call of age 0 was at risk for half a slice on average, a healed one too


class AgeBins(NamedTuple):
    """Which ages are pooled.

    Ages are cells of LimitUse. The last cell (all older calls) is a bin of its own.
    """

    of_cell: NDArray[np.int64]  # (cells,)
    first: NDArray[np.int64]  # (bins,): the bin's youngest cell
    middle: NDArray[np.int64]  # (bins,): the cell that stands for the bin's calls in flight


class HoldingTimes(NamedTuple):
    """Ends and calls at risk by age bin, float64 (instances, bins): the last hour or so, and the long run."""

    ends: NDArray[np.float64]
    at_risk: NDArray[np.float64]
    ends_long: NDArray[np.float64]
    at_risk_long: NDArray[np.float64]
    hazard: NDArray[np.float64]  # -log(1 - share that ends) per slice, as of the last evaluation; 0: not yet


class HoldingParams(NamedTuple):
    """Constants of the estimate."""

    half_life_s: float = 40.0 * 60.0
    half_life_long_s: float = 24.0 * 3600.0
    expected_s: float = 180.0  # where the register gives no expected holding time
    expected_ends: float = 0.5  # what that guess is worth, in ends seen
    declared_ends: float = 5.0  # what an `expected_holding` is worth
    bin_ends: float = 2.0  # what the long run is worth to a bin, and all ages together to the long run


@functools.lru_cache(maxsize=8)
def age_bins(cells: int) -> AgeBins:
    """Lay out the bins for a number of cells; the arrays are read-only and shared."""
    edges = [0]
    width = 1
    while edges[-1] < cells - 1:
        many = SINGLE_BINS if width == 1 else BINS_PER_DOUBLING
        edges += [edges[-1] + width * k for k in range(1, many + 1)]
        width *= 2
    edges = [edge for edge in edges if edge < cells - 1] + [cells - 1, cells]
    of_cell = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    middle = np.array([(low + high - 1) // 2 for low, high in itertools.pairwise(edges)])
    bins = AgeBins(of_cell, np.array(edges[:-1]), middle)
    for array in bins:
        array.flags.writeable = False
    return bins


def new_holding_times(rows: int, bins: int) -> HoldingTimes:
    """Give empty tables."""
    return HoldingTimes(*(np.zeros((rows, bins)) for _ in HoldingTimes._fields))


@kernel
def absorb_ends(
    times: HoldingTimes,
    of_cell: NDArray[np.int64],
    alive: NDArray[np.int32],
    ended: NDArray[np.int32],
    healed: NDArray[np.int32],
    keep: tuple[float, float],
    seen: NDArray[np.float64],
) -> None:
    """Add one slice to the tables, in place, after fading them by `keep` = (last hour, long run).

    `alive`, `ended`, `healed` are (instances, cells). `seen` (instances, 2) gains the slice's ends of known
    age and how many were expected of the table's hazards (0 as long as there are none).
    """
    rows, cells = alive.shape
    bins = times.ends.shape[1]
    for i in range(rows):
        for b in range(bins):
            times.ends[i, b] *= keep[0]
            times.at_risk[i, b] *= keep[0]
            times.ends_long[i, b] *= keep[1]
            times.at_risk_long[i, b] *= keep[1]
        for d in range(cells):
            ends = float(ended[i, d])
            risk = alive[i, d] + ends + SELF_HALF * healed[i, d]
            if risk == 0.0:
                continue
            b = of_cell[d]
            times.ends[i, b] += ends
            times.at_risk[i, b] += risk
            times.ends_long[i, b] += ends
            times.at_risk_long[i, b] += risk
            seen[i, 0] += ends
            seen[i, 1] += risk * -math.expm1(-times.hazard[i, b])


@kernel
def estimate_hazards(
    times: HoldingTimes, expected_s: NDArray[np.float64], slice_s: float, params: HoldingParams
) -> None:
    """Bring `times.hazard` up to date, in place.

    `expected_s` (instances,) is the register's prior, NaN: none.
    """
    rows, bins = times.ends.shape
    for i in range(rows):
        worth = params.expected_ends
        expected = params.expected_s
        if expected_s[i] > 0.0:
            worth = params.declared_ends
            expected = expected_s[i]
        ends = worth
        risk = worth * expected / slice_s
        for b in range(bins):
            ends += times.ends_long[i, b]
            risk += times.at_risk_long[i, b] * (SELF_HALF if b == 0 else 1.0)
        overall = ends / risk
        for b in range(bins):
            all_ages = -math.expm1(-overall * (SELF_HALF if b == 0 else 1.0))
            long_run = leaned(times.ends_long[i, b], times.at_risk_long[i, b], all_ages, params.bin_ends)
            share = leaned(times.ends[i, b], times.at_risk[i, b], long_run, params.bin_ends)
            times.hazard[i, b] = -math.log1p(-share)


@kernel
def leaned(ends: float, at_risk: float, prior: float, worth: float) -> float:
    """Give the share that ends, by gamma prior: as if `worth` ends had been seen at the prior's share."""
    return min(prior * (ends + worth) / (prior * at_risk + worth), HAZARD_MAX)


@kernel
def cumulate(hazard: NDArray[np.float64], of_cell: NDArray[np.int64], total: NDArray[np.float64]) -> None:
    """Fill total[k], the sum of the hazards of ages below k, for one instance.

    Beyond the cells the last hazard goes on. `hazard` (bins,), `total` (at least cells + 1,) is written.
    """
    cells = len(of_cell)
    total[0] = 0.0
    for k in range(len(total) - 1):
        total[k + 1] = total[k] + hazard[of_cell[min(k, cells - 1)]]


@kernel
def mean_holding_slices(
    hazard: NDArray[np.float64], of_cell: NDArray[np.int64], speed: float, tail_slices_max: float
) -> float:
    """Give the mean holding time in slices: the integral of survival, hazards (bins,) multiplied by `speed`.

    Past the table, calls go on for `tail_slices_max` on average at most: some never end.
    """
    mean = 0.0
    g = 1.0
    factor = 1.0
    last_bin = -1
    for b in of_cell:
        if b != last_bin:
            factor = math.exp(-hazard[b] * speed)
            last_bin = b
        g *= factor
        mean += g
    return mean + g * factor / max(1.0 - factor, 1.0 / tail_slices_max)
