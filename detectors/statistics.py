"""Maths shared by the detectors: tails, and a Poisson filter bank.

The filter follows the logarithm of a rate that is seen only through counts: level x, growth g a step, damped.
Several such filters with different ideas of change run side by side, weighted by how well they foretell the
counts; changes of mind are rare by prior, which is what keeps a forecast quiet on ordinary days. Each count
is absorbed at the posterior mode (Newton from the side where it converges monotonically), so an hour of
silence followed by a burst stays finite. Rejected: one linearised (extended Kalman) update, which overshoots
when the rate is low and its variance large, and a particle filter, which needs randomness.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import allocating_kernel, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL_VAR_MAX = 4.0  # a level known only to a factor of e^2 either way: as good as unknown
GROWTH_VAR_MAX = 4e-3
COUNT_SD_MAX = 8.0  # a count further above its forecast than this is taken as this far
LOG_WEIGHT_MIN = -30.0
WEIGHT_MIN = 1e-12
MOVE_MIN = 1e-10


class FilterBank(NamedTuple):
    """Filters of (level, growth) of a log rate.

    Float64 arrays of shape (rows, models), owned by the detector's state.
    """

    level: NDArray[np.float64]
    growth: NDArray[np.float64]
    level_var: NDArray[np.float64]
    covariance: NDArray[np.float64]
    growth_var: NDArray[np.float64]
    weight: NDArray[np.float64]  # rows sum to 1


class FilterNoise(NamedTuple):
    """How much each model lets the rate change in one step.

    `switch` is the chance a step that another model takes over.
    """

    level: NDArray[np.float64]  # (models,)
    growth: NDArray[np.float64]  # (models,)
    damping: float


def new_bank(
    rows: int, weight: NDArray[np.float64], growth_var: NDArray[np.float64], level_var: float
) -> FilterBank:
    """Give a bank that knows nothing.

    Level 0 with variance `level_var`, growth 0 with a variance by model.
    """
    shape = (rows, len(weight))
    return FilterBank(
        level=np.zeros(shape),
        growth=np.zeros(shape),
        level_var=np.full(shape, level_var),
        covariance=np.zeros(shape),
        growth_var=np.tile(growth_var, (rows, 1)),
        weight=np.tile(weight, (rows, 1)),
    )


@kernel
def normal_tail(z: float) -> float:
    """Give P(Z >= z) of a standard normal."""
    return 0.5 * math.erfc(z / math.sqrt(2.0))


@kernel
def poisson_mode(count: float, exposure: float, dispersion: float, prior: float, prior_var: float) -> float:
    """Give the x that maximises (count x - exposure e^x) / dispersion - (x - prior)^2 / (2 prior_var).

    `exposure` and `prior_var` are positive. The slope is concave and falling, so Newton's steps from the
    right of the root never leave that side and never diverge.
    """
    expected = exposure * math.exp(prior)
    x = prior
    if count > expected:
        x = min(prior + prior_var * (count - expected) / dispersion, math.log(count / exposure))
    for _ in range(12):
        rate = exposure * math.exp(x)
        slope = (count - rate) / dispersion - (x - prior) / prior_var
        move = slope / (rate / dispersion + 1.0 / prior_var)
        x += move
        if abs(move) < MOVE_MIN:
            break
    return x


@kernel
def advance_row(bank: FilterBank, row: int, noise: FilterNoise, switch: float) -> None:
    """Let one step of time pass in one row, in place.

    Drift, noise, and the leak between models, moments matched.
    """
    models = bank.level.shape[1]
    mean_level = 0.0
    mean_growth = 0.0
    for m in range(models):
        level = bank.level[row, m] + bank.growth[row, m]
        growth_var = bank.growth_var[row, m]
        level_var = bank.level_var[row, m] + 2.0 * bank.covariance[row, m] + growth_var + noise.level[m]
        bank.covariance[row, m] = (bank.covariance[row, m] + growth_var) * noise.damping
        bank.level[row, m] = level
        bank.level_var[row, m] = level_var
        bank.growth_var[row, m] = (growth_var + noise.growth[m]) * noise.damping**2
        bank.growth[row, m] *= noise.damping
        mean_level += bank.weight[row, m] * level
        mean_growth += bank.weight[row, m] * bank.growth[row, m]
    for m in range(models):
        share = switch / models
        weight = (1.0 - switch) * bank.weight[row, m] + share
        moved = share / weight
        to_level = mean_level - bank.level[row, m]
        to_growth = mean_growth - bank.growth[row, m]
        spread = moved * (1.0 - moved)
        bank.weight[row, m] = weight
        bank.level[row, m] += moved * to_level
        bank.growth[row, m] += moved * to_growth
        bank.level_var[row, m] += spread * to_level * to_level
        bank.growth_var[row, m] += spread * to_growth * to_growth
        bank.covariance[row, m] += spread * to_level * to_growth
        limit_variances(bank, row, m)


@kernel
def limit_variances(bank: FilterBank, row: int, m: int) -> None:
    """Keep one filter's variances within their bounds and its covariance possible, in place."""
    if bank.level_var[row, m] > LEVEL_VAR_MAX:
        # Scaled as a whole: cutting the variance alone could leave a correlation above one.
        factor = LEVEL_VAR_MAX / bank.level_var[row, m]
        bank.level_var[row, m] = LEVEL_VAR_MAX
        bank.covariance[row, m] *= math.sqrt(factor)
    if bank.growth_var[row, m] > GROWTH_VAR_MAX:
        factor = GROWTH_VAR_MAX / bank.growth_var[row, m]
        bank.growth_var[row, m] = GROWTH_VAR_MAX
        bank.covariance[row, m] *= math.sqrt(factor)


@allocating_kernel
def observe_row(bank: FilterBank, row: int, count: float, exposure: float, dispersion: float) -> None:
    """Absorb one count ~ Poisson(exposure e^x), overdispersed, into one row, in place.

    Weights by Laplace evidence.
    """
    models = bank.level.shape[1]
    evidence = np.empty(models)
    best = -np.inf
    for m in range(models):
        prior = bank.level[row, m]
        prior_var = bank.level_var[row, m]
        expected = exposure * math.exp(prior)
        sd = math.sqrt(dispersion * expected + expected * expected * prior_var + 1.0)
        seen = min(count, expected + COUNT_SD_MAX * sd)
        x = poisson_mode(seen, exposure, dispersion, prior, prior_var)
        rate = exposure * math.exp(x) / dispersion
        shrink = 1.0 + prior_var * rate
        gain = (x - prior) / prior_var
        covariance = bank.covariance[row, m]
        bank.level[row, m] = x
        bank.growth[row, m] += covariance * gain
        bank.level_var[row, m] = prior_var / shrink
        bank.covariance[row, m] = covariance / shrink
        bank.growth_var[row, m] = max(
            bank.growth_var[row, m] - covariance * covariance * rate / shrink, 1e-14
        )
        log_likelihood = (seen * x - exposure * math.exp(x)) / dispersion - 0.5 * gain * gain * prior_var
        evidence[m] = log_likelihood - 0.5 * math.log(shrink)
        # Each model clips the count by its own forecast; the part it cannot explain still speaks against it.
        if count > seen:
            evidence[m] -= COUNT_SD_MAX * (count - seen) / sd
        best = max(best, evidence[m])
    total = 0.0
    for m in range(models):
        bank.weight[row, m] = (
            bank.weight[row, m] * math.exp(max(evidence[m] - best, LOG_WEIGHT_MIN)) + WEIGHT_MIN
        )
        total += bank.weight[row, m]
    for m in range(models):
        bank.weight[row, m] /= total
