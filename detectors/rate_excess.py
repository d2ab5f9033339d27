"""How many attempts over a cap a clumped count is expected to have, and the filters that follow its mean.

A count of mean m and variance phi m is taken as negative binomial (Poisson at phi 1): clumps of calls that
come together. Its excess over a cap is added up term by term from the cap outward, so that tails of one in a
million keep their digits. Rejected: a normal tail, which at caps below fifty misses the excess by factors.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from detectors.headroom_state import first_level
from detectors.statistics import FilterBank, FilterNoise, advance_row, observe_row
from engine.kernel import allocating_kernel, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

POISSON_DISPERSION = 1.0001  # below this the two tails are the same, and the other formula is safe
TERMS_MAX = 100_000
TERM_MIN = 1e-12  # of the sum: the rest of the tail is not worth a step


@kernel
def log_chance(count: float, mean: float, dispersion: float) -> float:
    """Give ln P(N = count) for a count of this mean and of variance dispersion x mean."""
    if dispersion <= POISSON_DISPERSION:
        return count * math.log(mean) - mean - math.lgamma(count + 1.0)
    size = mean / (dispersion - 1.0)
    log_ways = math.lgamma(count + size) - math.lgamma(size) - math.lgamma(count + 1.0)
    return log_ways - size * math.log(dispersion) + count * math.log(1.0 - 1.0 / dispersion)


@allocating_kernel
def excess_above(
    mean: NDArray[np.float64], dispersion: NDArray[np.float64], cap: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give E[(N - cap)+] and P(N > cap), by element; NaN caps and means give 0."""
    excess = np.zeros(len(mean))
    chance = np.zeros(len(mean))
    for i in range(len(mean)):
        if not (mean[i] > 0.0 and cap[i] >= 0.0):
            continue
        is_poisson = dispersion[i] <= POISSON_DISPERSION
        size = 0.0 if is_poisson else mean[i] / (dispersion[i] - 1.0)
        ratio = 0.0 if is_poisson else 1.0 - 1.0 / dispersion[i]
        is_above = cap[i] >= mean[i]
        # The shorter side of the cap is added up; the other follows from the mean.
        count = cap[i] + 1.0 if is_above else cap[i]
        term = math.exp(log_chance(count, mean[i], dispersion[i]))
        total = 0.0
        for _ in range(TERMS_MAX):
            total += term
            excess[i] += abs(count - cap[i]) * term
            if is_above:
                count += 1.0
                term *= mean[i] / count if is_poisson else (count - 1.0 + size) / count * ratio
            else:
                term *= count / mean[i] if is_poisson else count / ((count - 1.0 + size) * ratio)
                count -= 1.0
                if count < 0.0:
                    break
            if term * (abs(count - cap[i]) + 1.0) <= TERM_MIN * (excess[i] + total):
                break
        chance[i] = total if is_above else max(1.0 - total, 0.0)
        if not is_above:
            excess[i] += mean[i] - cap[i]
    return excess, chance


@kernel
def follow_rates(
    bank: FilterBank,
    is_known: NDArray[np.bool_],
    count: NDArray[np.float64],
    watched: NDArray[np.float64],
    dispersion: NDArray[np.float64],
    noise: FilterNoise,
    switch: float,
    steps: int,
) -> None:
    """Let `steps` evaluations pass in every known row, then absorb its count, in place.

    `watched` is how much of an evaluation was seen, 0: nothing. A row not known yet starts from its count.
    """
    for i in range(len(count)):
        if is_known[i]:
            for _ in range(steps):
                advance_row(bank, i, noise, switch)
        if watched[i] > 0.0:
            if is_known[i]:
                observe_row(bank, i, count[i], watched[i], dispersion[i])
            else:
                first_level(bank, i, count[i], watched[i])
                is_known[i] = True
