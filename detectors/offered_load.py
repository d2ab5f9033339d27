"""From arrivals and ages to the level to come: dispersion of the counts, and the conditional forecast.

The calls in flight at t + h are those of today that survive, by age, and the calls that will have arrived and
stayed:

    mean(h) = sum over calls of G(age + h) / G(age) + integral of rate(t + s) x survival(h - s) ds

The rate comes from a bank of filters (detectors.statistics), survival from a life table
(detectors.holding_time) that a fast multiplier e^y speeds up or slows down. Variances add: chance (who
survives, who arrives, overdispersed) and ignorance (level, growth, which model, y), kept apart because
ignorance is common to all moments of one future. Rejected: forecasting concurrency itself, which lags by a
holding time and hides growth in correlated noise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.holding_time import cumulate, mean_holding_slices
from engine.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from detectors.statistics import FilterBank

SCALES = (1, 4, 16)  # evaluations added up: bursts may show only in longer counts
COUNTS_MIN = 6.0  # calls in a second difference, below which it says nothing about dispersion
LOG_COUNT_MIN = 10.0  # from here on the logarithm of a Poisson count is nearly normal
SCALE_SD = 1.0  # a longer scale must exceed by this many of its standard errors
USUAL_STEPS = 40
STAY_MIN = 1e-9  # of the calls; fewer than this stay on
RATIO_VAR = 3.0  # variance of one squared second difference over its mean, neighbours overlapping
WEIGHT_SEEN = 1e-4  # models below this weight are left out of a forecast
LOG_RATE_MAX = 16.0
LOG_SPEED = (-3.0, 1.2)


class Dispersion(NamedTuple):
    """Variance over mean of the counts, by scale.

    Float64 (instances, scales) but `last` (instances, scales, 3).
    """

    last: NDArray[np.float64]  # the count being added up, and the two before it; -1: none yet
    parts: NDArray[np.float64]  # evaluations in the count being added up
    excess: NDArray[np.float64]  # sum of squared second differences over their Poisson mean, fading
    many: NDArray[np.float64]  # how many of them, fading


class DispersionParams(NamedTuple):
    """Constants of the estimate."""

    half_life_s: float = 4.0 * 3600.0
    prior_counts: float = 12.0  # worth of the guess that counts are Poisson
    lowest: float = 0.5  # machine-paced arrivals are smoother than Poisson, until they are not
    clip: float = 5.0  # one second difference counts for at most this many times the estimate so far


class Today(NamedTuple):
    """What a forecast starts from, by instance."""

    is_ready: NDArray[np.bool_]  # (instances,)
    alive: NDArray[np.float64]  # (instances, bins): calls in flight by age
    unknown_age: NDArray[np.float64]  # (instances,): calls in flight besides
    hazard: NDArray[np.float64]  # (instances, bins)
    rate: FilterBank  # log of calls an evaluation
    speed: FilterBank  # log of e^y
    hazard_var: NDArray[np.float64]  # (instances,): of the log of the table's hazards
    dispersion: NDArray[np.float64]  # (instances,)
    steady: FilterBank  # as `rate`, of models without growth
    offset: NDArray[
        np.float64
    ]  # (instances,): log of the usual calls an evaluation that levels are relative to
    offset_ahead: NDArray[np.float64]  # (instances, steps): the same for each evaluation to come
    offset_var: NDArray[np.float64]  # (instances, horizons): how well that is known
    horizons: NDArray[np.int64]  # (instances,): how many of the grid's are looked at


class Grid(NamedTuple):
    """Ages and horizons."""

    of_cell: NDArray[np.int64]
    middle: NDArray[np.int64]
    steps: NDArray[np.int64]  # (horizons,): evaluations ahead, ascending
    step_slices: int
    slice_s: float
    damping: float
    tail_slices_max: float


class Outlook(NamedTuple):
    """The level to come, float64 (instances, horizons), and where it comes from (instances,).

    NaN: not ready.
    """

    mean: NDArray[np.float64]
    chance_var: NDArray[np.float64]
    model_var: NDArray[np.float64]
    rate_per_s: NDArray[np.float64]
    growth_per_step: NDArray[np.float64]
    holding_s: NDArray[np.float64]
    steady_mean: NDArray[np.float64]  # (instances, horizons): as the first three, without growth
    steady_chance_var: NDArray[np.float64]
    steady_model_var: NDArray[np.float64]


class Scratch(NamedTuple):
    """Working memory of `forecast_row`; nothing survives in it."""

    total: NDArray[np.float64]  # (cells + warn horizon in slices + 2,)
    stay: NDArray[np.float64]  # (steps,): seconds a call spends at the horizon per arrival a second, by lag
    stay_slope: NDArray[np.float64]  # (steps,): its derivative by y
    usual: NDArray[np.float64]  # (steps,): e^offset
    rate: NDArray[np.float64]  # (models, steps)
    steady: NDArray[np.float64]  # (models without growth, steps)
    reach: NDArray[np.float64]  # (steps,): damped steps of growth from the last step to step r


def new_dispersion(rows: int) -> Dispersion:
    """Give an estimate that has seen nothing."""
    shape = (rows, len(SCALES))
    return Dispersion(np.full((*shape, 3), -1.0), np.zeros(shape), np.zeros(shape), np.zeros(shape))


@kernel
def observe_dispersion(
    state: Dispersion, row: int, count: float, keep: float, params: DispersionParams
) -> None:
    """Add one evaluation's count to every scale of one row, in place."""
    scale = 1
    for s in range(state.parts.shape[1]):
        last = state.last[row, s]
        last[0] = count if state.parts[row, s] == 0.0 else last[0] + count
        state.parts[row, s] += 1.0
        if state.parts[row, s] == scale:
            poisson = last[0] + 4.0 * last[1] + last[2]
            state.excess[row, s] *= keep**scale
            state.many[row, s] *= keep**scale
            if last[1] >= 0.0 and last[2] >= 0.0 and poisson >= COUNTS_MIN:
                so_far = (state.excess[row, s] + params.prior_counts) / (
                    state.many[row, s] + params.prior_counts
                )
                ratio = (last[0] - 2.0 * last[1] + last[2]) ** 2 / poisson
                if min(last[0], last[1], last[2]) >= LOG_COUNT_MIN:
                    # In logarithms a steady doubling is a straight line, and no dispersion.
                    bend = math.log(last[0] * last[2] / (last[1] * last[1]))
                    ratio = bend * bend / (1.0 / last[0] + 4.0 / last[1] + 1.0 / last[2])
                state.excess[row, s] += min(ratio, params.clip * max(so_far, 1.0))
                state.many[row, s] += 1.0
            last[2] = last[1]
            last[1] = last[0]
            state.parts[row, s] = 0.0
        scale *= 4


@kernel
def dispersion_of(state: Dispersion, row: int, params: DispersionParams) -> float:
    """Give the dispersion to assume: the shortest scale's, or a longer one's if it is clearly higher."""
    highest = params.lowest
    for s in range(state.parts.shape[1]):
        worth = state.many[row, s] + params.prior_counts
        ratio = (state.excess[row, s] + params.prior_counts) / worth
        if s > 0:
            ratio *= 1.0 - SCALE_SD * math.sqrt(RATIO_VAR / worth)
        highest = max(highest, ratio)
    return highest


@kernel
def fill_stay(
    scratch: Scratch,
    hazard: NDArray[np.float64],
    of_cell: NDArray[np.int64],
    ahead: tuple[int, int],
    slice_s: float,
    speed: float,
) -> None:
    """Fill `stay` and its slope by y, hazards multiplied by `speed`; `ahead` = (steps, slices a step).

    Within a bin survival falls by one factor a slice, so there is one exponential a bin.
    """
    steps, step_slices = ahead
    last_cell = len(of_cell) - 1
    last_bin = -1
    factor = 1.0
    g = 1.0
    k = 0
    for lag in range(steps):
        sum_g = 0.0
        sum_slope = 0.0
        if g < STAY_MIN:
            scratch.stay[lag] = 0.0
            scratch.stay_slope[lag] = 0.0
            continue
        for _ in range(step_slices):
            b = of_cell[min(k, last_cell)]
            if b != last_bin:
                factor = math.exp(-hazard[b] * speed)
                last_bin = b
            g *= factor
            k += 1
            sum_g += g
            sum_slope -= g * scratch.total[k] * speed
        scratch.stay[lag] = sum_g * slice_s
        scratch.stay_slope[lag] = sum_slope * slice_s


@kernel
def survivors(
    alive: NDArray[np.float64],
    middle: NDArray[np.int64],
    total: NDArray[np.float64],
    ahead: int,
    speed: float,
) -> tuple[float, float, float]:
    """Give mean, variance and slope by y of how many of `alive` (bins,) are up `ahead` slices later."""
    mean = 0.0
    variance = 0.0
    slope = 0.0
    for b in range(len(middle)):
        if alive[b] == 0.0:
            continue
        d = middle[b]
        exponent = (total[d + 1 + ahead] - total[d + 1]) * speed
        p = math.exp(-exponent)
        mean += alive[b] * p
        variance += alive[b] * p * (1.0 - p)
        slope -= alive[b] * p * exponent
    return mean, variance, slope


@kernel
def fill_usual(scratch: Scratch, offset_ahead: NDArray[np.float64], steps: int) -> None:
    """Fill what is usual by step ahead, from the offsets of one row."""
    for r in range(steps):
        scratch.usual[r] = math.exp(offset_ahead[r]) if offset_ahead[r] != 0.0 else 1.0


@kernel
def fill_rates(
    scratch: Scratch, bank: FilterBank, row: int, ahead: tuple[int, float], damping: float
) -> None:
    """Fill the rate (calls a second) of each model by step ahead, and how far growth reaches.

    The filter's level is that of the middle of the step just past: the middle of the next one is a whole step
    away. `ahead` = (steps, seconds a step).
    """
    steps, step_s = ahead
    reach = 0.0
    power = 1.0
    for r in range(steps):
        reach += power
        power *= damping
        scratch.reach[r] = reach
        for m in range(scratch.rate.shape[0]):
            log_rate = bank.level[row, m] + bank.growth[row, m] * reach
            scratch.rate[m, r] = math.exp(min(log_rate, LOG_RATE_MAX)) * scratch.usual[r] / step_s


@kernel
def fill_steady(scratch: Scratch, bank: FilterBank, row: int, ahead: tuple[int, float]) -> None:
    """Fill the rate of each model without growth by step ahead: its level, and what is usual."""
    steps, step_s = ahead
    for m in range(scratch.steady.shape[0]):
        rate = math.exp(min(bank.level[row, m], LOG_RATE_MAX)) / step_s
        for r in range(steps):
            scratch.steady[m, r] = rate * scratch.usual[r]


@kernel
def new_calls(
    scratch: Scratch,
    rates: NDArray[np.float64],
    bank: FilterBank,
    row: int,
    steps: int,
    doubt: tuple[float, float, float],
) -> tuple[float, float]:
    """Give mean and ignorance (variance) of the level `steps` ahead that later arrivals and e^y bring.

    `rates` (models, steps) are those of `bank`; `doubt` = (slope of today's calls by y, variance of y,
    variance of the log of what is usual). Mixture of the bank's models, moments matched.
    """
    first = 0.0
    second = 0.0
    weights = 0.0
    for m in range(rates.shape[0]):
        weight = bank.weight[row, m]
        if weight < WEIGHT_SEEN:
            continue
        level = 0.0
        growth = 0.0
        slope = doubt[0]
        for r in range(steps):
            rate = rates[m, r]
            there = rate * scratch.stay[steps - 1 - r]
            level += there
            growth += there * scratch.reach[r]
            slope += rate * scratch.stay_slope[steps - 1 - r]
        variance = level * level * (bank.level_var[row, m] + doubt[2])
        variance += 2.0 * level * growth * bank.covariance[row, m]
        variance += growth * growth * bank.growth_var[row, m]
        variance += slope * slope * doubt[1]
        weights += weight
        first += weight * level
        second += weight * (max(variance, 0.0) + level * level)
    mean = first / weights
    return mean, max(second / weights - mean * mean, 0.0)


@kernel
def mixture(bank: FilterBank, row: int) -> tuple[float, float, float, float, float]:
    """Give level, growth and their variances and covariance over all models of one row."""
    level = 0.0
    growth = 0.0
    for m in range(bank.level.shape[1]):
        level += bank.weight[row, m] * bank.level[row, m]
        growth += bank.weight[row, m] * bank.growth[row, m]
    level_var = 0.0
    covariance = 0.0
    growth_var = 0.0
    for m in range(bank.level.shape[1]):
        weight = bank.weight[row, m]
        off_level = bank.level[row, m] - level
        off_growth = bank.growth[row, m] - growth
        level_var += weight * (bank.level_var[row, m] + off_level * off_level)
        covariance += weight * (bank.covariance[row, m] + off_level * off_growth)
        growth_var += weight * (bank.growth_var[row, m] + off_growth * off_growth)
    return level, growth, level_var, covariance, growth_var


@kernel
def forecast(today: Today, grid: Grid, scratch: Scratch, outlook: Outlook) -> None:
    """Fill the outlook of every instance that is ready; the others are left as they are."""
    for i in range(len(today.is_ready)):
        if today.is_ready[i]:
            forecast_row(i, today, grid, scratch, outlook)


@kernel
def forecast_row(i: int, today: Today, grid: Grid, scratch: Scratch, outlook: Outlook) -> None:
    """Fill one instance's outlook."""
    step_s = grid.step_slices * grid.slice_s
    horizons = today.horizons[i]
    ahead = (grid.steps[horizons - 1], step_s)
    cumulate(today.hazard[i], grid.of_cell, scratch.total)
    fill_usual(scratch, today.offset_ahead[i], ahead[0])
    fill_rates(scratch, today.rate, i, ahead, grid.damping)
    fill_steady(scratch, today.steady, i, ahead)
    y, y_growth, y_var, y_cov, y_growth_var = mixture(today.speed, i)
    y = min(max(y, LOG_SPEED[0]), LOG_SPEED[1])
    holding = mean_holding_slices(today.hazard[i], grid.of_cell, math.exp(y), grid.tail_slices_max)
    reach_sum = 0.0
    summed = 0
    for k in range(horizons):
        steps = grid.steps[k]
        while summed < steps:
            reach_sum += scratch.reach[summed]
            summed += 1
        reach = reach_sum / steps
        speed = math.exp(min(max(y + y_growth * reach, LOG_SPEED[0]), LOG_SPEED[1]))
        var = y_var + 2.0 * reach * y_cov + reach * reach * y_growth_var + today.hazard_var[i]
        fill_stay(scratch, today.hazard[i], grid.of_cell, (steps, grid.step_slices), grid.slice_s, speed)
        mean, chance, slope = survivors(
            today.alive[i], grid.middle, scratch.total, steps * grid.step_slices, speed
        )
        if today.unknown_age[i] > 0.0:
            # Of an unknown age is of the age that calls in flight usually have.
            gone = min(np.sum(scratch.stay[:steps]) / (holding * grid.slice_s), 1.0)
            mean += today.unknown_age[i] * (1.0 - gone)
            chance += today.unknown_age[i] * gone * (1.0 - gone)
        doubt = (slope, max(var, 0.0), today.offset_var[i, k])
        arrived, ignorance = new_calls(scratch, scratch.rate, today.rate, i, steps, doubt)
        outlook.mean[i, k] = mean + arrived
        outlook.chance_var[i, k] = chance + today.dispersion[i] * arrived
        outlook.model_var[i, k] = ignorance
        arrived, ignorance = new_calls(scratch, scratch.steady, today.steady, i, steps, doubt)
        outlook.steady_mean[i, k] = mean + arrived
        outlook.steady_chance_var[i, k] = chance + today.dispersion[i] * arrived
        outlook.steady_model_var[i, k] = ignorance
    level, growth, _, _, _ = mixture(today.rate, i)
    outlook.rate_per_s[i] = math.exp(min(level + today.offset[i], LOG_RATE_MAX)) / step_s
    # What is usual grows as well; said as growth of the next ten minutes.
    last = min(ahead[0], USUAL_STEPS) - 1
    outlook.growth_per_step[i] = (
        growth + (today.offset_ahead[i, last] - today.offset[i]) / scratch.reach[last]
    )
    outlook.holding_s[i] = holding * grid.slice_s
