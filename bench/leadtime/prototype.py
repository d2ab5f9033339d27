"""The experiment that the product grew out of, its faults mended: what the product must not fall behind.

Works on a grid of 15 s: arrivals and ends a step, hazards by age in steps, four linearised Poisson filters of
level and growth. It keeps its own ideas (true lognormal law as prior for the hazards, dispersion fixed, one
prior for all ages). Mended: every step is evaluated, so that two in a row filter; the first level comes from
the first minutes seen, not from the first hour; pages before an onset are not leads (bench.leadtime.report);
it may speak after five minutes. Arrivals are measured against those that earlier weeks lead to expect.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.corpus import Corpus
from bench.leadtime.feed import Calls
from bench.leadtime.traffic import HOLDING_S, HOLDING_SIGMA, STEP_S
from engine.kernel import allocating_kernel

AGES = 120
HORIZONS = (1, 2, 4, 8, 12, 20, 30, 40, 60, 80, 120)
PAGE_HORIZONS = 8
SILENT_STEPS = 20
FIRST_STEPS = 4
DAMPING = math.exp(-STEP_S / 1200.0)
DISPERSION = 1.05
SWITCH = 3e-6
GATE = 0.5
HAZARD_KEEP = 0.5 ** (1.0 / 160.0)


class Bank(NamedTuple):
    """Filters of one log rate; arrays of shape (models,)."""

    level: NDArray[np.float64]
    growth: NDArray[np.float64]
    level_var: NDArray[np.float64]
    covariance: NDArray[np.float64]
    growth_var: NDArray[np.float64]
    weight: NDArray[np.float64]
    level_noise: NDArray[np.float64]
    growth_noise: NDArray[np.float64]


class Ages(NamedTuple):
    """Calls by age in steps; arrays of shape (AGES,)."""

    active: NDArray[np.float64]
    ends: NDArray[np.float64]
    exposed: NDArray[np.float64]
    hazard: NDArray[np.float64]
    prior: NDArray[np.float64]


def new_bank(
    level_noise: tuple[float, ...], growth_noise: tuple[float, ...], weight: tuple[float, ...],
    variances: tuple[float, float],
) -> Bank:  # fmt: skip
    """Give a bank at level 0."""
    models = len(weight)
    return Bank(
        np.zeros(models), np.zeros(models), np.full(models, variances[0]), np.zeros(models),
        np.full(models, variances[1]), np.array(weight), np.array(level_noise), np.array(growth_noise),
    )  # fmt: skip


def lognormal_hazard() -> NDArray[np.float64]:
    """Give the true law's share of calls that end in each step of age."""
    mu = math.log(HOLDING_S) - 0.5 * HOLDING_SIGMA**2
    survival = np.array(
        [1.0]
        + [
            0.5 * math.erfc((math.log(k * STEP_S) - mu) / (HOLDING_SIGMA * math.sqrt(2)))
            for k in range(1, AGES + 1)
        ]
    )
    return np.asarray(np.clip(1 - survival[1:] / survival[:-1], 1e-4, 0.9))


@allocating_kernel
def filter_step(bank: Bank, count: float, exposure: float, dispersion: float) -> None:
    """Pass one step and its count ~ Poisson(exposure e^level), in place: predict, mix, linearised update."""
    models = len(bank.weight)
    bank.level[:] += bank.growth
    bank.level_var[:] += 2 * bank.covariance + bank.growth_var + bank.level_noise
    bank.covariance[:] += bank.growth_var
    bank.growth_var[:] += bank.growth_noise
    bank.growth[:] *= DAMPING
    bank.growth_var[:] *= DAMPING * DAMPING
    bank.covariance[:] *= DAMPING
    level = np.sum(bank.weight * bank.level)
    growth = np.sum(bank.weight * bank.growth)
    for m in range(models):
        weight = (1 - SWITCH) * bank.weight[m] + SWITCH / models
        moved = SWITCH / models / weight
        to_level = level - bank.level[m]
        to_growth = growth - bank.growth[m]
        bank.level[m] += moved * to_level
        bank.growth[m] += moved * to_growth
        bank.level_var[m] += moved * (1 - moved) * to_level**2
        bank.growth_var[m] += moved * (1 - moved) * to_growth**2
        bank.covariance[m] += moved * (1 - moved) * to_level * to_growth
        expected = exposure * math.exp(min(max(bank.level[m], -6.0), 6.0)) + 1e-6
        variance = expected * dispersion + expected**2 * bank.level_var[m]
        error = count - expected
        log_weight = -0.5 * error**2 / variance - 0.5 * math.log(variance) + 0.5 * math.log(expected + 1)
        bank.weight[m] = weight * math.exp(max(log_weight, -30.0)) + 1e-12
        information = bank.level_var[m] * expected + dispersion
        gain_level = bank.level_var[m] / information
        gain_growth = bank.covariance[m] / information
        error = min(error, 8 * math.sqrt(variance))
        bank.level[m] += gain_level * error
        bank.growth[m] += gain_growth * error
        before = bank.covariance[m]
        bank.covariance[m] -= gain_level * expected * before
        bank.growth_var[m] = max(bank.growth_var[m] - gain_growth * expected * before, 1e-14)
        bank.level_var[m] -= gain_level * expected * bank.level_var[m]
    bank.weight[:] /= np.sum(bank.weight)


@allocating_kernel
def age_step(ages: Ages, arrivals: float, ended: NDArray[np.float64]) -> float:
    """Age the calls by a step, take out the ended ones, learn, and give how many ends were expected."""
    ages.active[AGES - 1] += ages.active[AGES - 2]
    for j in range(AGES - 2, 0, -1):
        ages.active[j] = ages.active[j - 1]
    ages.active[0] = arrivals
    expected = 0.0
    for j in range(AGES):
        share = 0.5 if j == 0 else 1.0
        expected += share * ages.active[j] * ages.hazard[j]
        ages.exposed[j] = ages.exposed[j] * HAZARD_KEEP + share * ages.active[j]
        ages.ends[j] = ages.ends[j] * HAZARD_KEEP + ended[j]
        ages.active[j] -= ended[j]
    return expected


@allocating_kernel
def learn_hazards(ages: Ages) -> None:
    """Pool ages and lean on the prior with the worth of one end, in place."""
    j = 0
    while j < AGES:
        width = 1 if j < 2 else (2 if j < 8 else (4 if j < 24 else 8))
        end = min(AGES, j + width)
        expected = np.sum(ages.prior[j:end] * ages.exposed[j:end])
        ratio = (np.sum(ages.ends[j:end]) + 1.0) / (expected + 1.0)
        for q in range(j, end):
            ages.hazard[q] = min(ages.prior[q] * ratio, 0.9)
        j = end


@allocating_kernel
def moment(bank: Bank, of: NDArray[np.float64], variances: NDArray[np.float64]) -> tuple[float, float]:
    """Give mean and variance of a quantity over the models."""
    mean = np.sum(bank.weight * of)
    return mean, np.sum(bank.weight * (variances + (of - mean) ** 2))


@allocating_kernel
def arrivals_ahead(
    bank: Bank,
    total: NDArray[np.float64],
    usual: NDArray[np.float64],
    speed: float,
    slope_and_var: tuple[float, float],
) -> tuple[float, float, float]:
    """Give mean, ignorance (variance) and mean again of the calls that arrive from now on and stay up.

    `usual` are the arrivals expected in each step until then.
    """
    steps = len(usual)
    first = 0.0
    second = 0.0
    for m in range(len(bank.weight)):
        mean = 0.0
        by_growth = 0.0
        slope = slope_and_var[0]
        reach = 0.0
        power = 1.0
        for s in range(1, steps + 1):
            power *= DAMPING
            reach += power
            hazard = 0.5 * (total[steps - s] + total[steps - s + 1]) * speed
            calls = usual[s - 1] * math.exp(min(bank.level[m] + bank.growth[m] * reach, 8.0) - hazard)
            mean += calls
            by_growth += calls * reach
            slope -= calls * hazard
        variance = mean**2 * bank.level_var[m] + 2 * mean * by_growth * bank.covariance[m]
        variance += by_growth**2 * bank.growth_var[m] + slope**2 * slope_and_var[1]
        first += bank.weight[m] * mean
        second += bank.weight[m] * (variance + mean**2)
    return first, second - first**2, first


@allocating_kernel
def look_ahead(
    arrivals: Bank,
    speeds: Bank,
    ages: Ages,
    cap: float,
    usual: NDArray[np.float64],
    horizons: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Give the score at each horizon; -inf below the gate. `usual` has this step's arrivals first."""
    total = np.zeros(AGES + horizons[-1] + 2)
    for k in range(len(total) - 1):
        total[k + 1] = total[k] - math.log(1 - ages.hazard[min(k, AGES - 1)])
    y, y_var = moment(speeds, speeds.level, speeds.level_var)
    y_growth, y_growth_var = moment(speeds, speeds.growth, speeds.growth_var)
    scores = np.full(len(horizons), -np.inf)
    offered = usual[0] * np.sum(arrivals.weight * np.exp(arrivals.level)) * np.sum(np.exp(-total[:AGES]))
    if max(offered, np.sum(ages.active)) < GATE * cap:
        return scores
    for h in range(len(horizons)):
        steps = horizons[h]
        reach = 0.0
        power = 1.0
        for s in range(1, steps + 1):
            power *= DAMPING
            reach += power * (steps - s + 1) / steps
        speed = math.exp(min(max(y + y_growth * reach, -3.0), 1.2))
        stay = 0.0
        chance = 0.0
        slope = 0.0
        for j in range(AGES):
            if ages.active[j] > 0:
                hazard = (total[min(j + steps, len(total) - 1)] - total[j]) * speed
                p = math.exp(-hazard)
                stay += ages.active[j] * p
                chance += ages.active[j] * p * (1 - p)
                slope -= ages.active[j] * p * hazard
        var = y_var + reach**2 * y_growth_var
        mean, ignorance, new = arrivals_ahead(arrivals, total, usual[1 : steps + 1], speed, (slope, var))
        sd = math.sqrt(max(chance + DISPERSION * new + ignorance, 1.0))
        scores[h] = (stay + mean - cap + 0.5) / sd
    return scores


def prototype_scores(corpus: Corpus, *, with_growth: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the scores of both tiers, within 10 and within 30 minutes; (streams, evaluations) each."""
    page = np.full(corpus.level.shape, -np.inf)
    warn = page.copy()
    for row, stream in enumerate(corpus.streams):
        steps = int(corpus.ends[row])
        usual = corpus.usual_rate[row].astype(np.float64)
        found = stream_scores(stream.calls, stream.cap, usual, steps, with_growth=with_growth)
        page[row, :steps], warn[row, :steps] = found
    return page, warn


def stream_scores(
    calls: Calls, cap: float, usual: NDArray[np.float64], steps: int, *, with_growth: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the scores of one stream."""
    began = (calls.start_s // STEP_S).astype(np.int64)
    ended = np.minimum(calls.end_s / STEP_S, 2.0**40).astype(np.int64)
    seen = ended < steps
    order = np.argsort(ended[seen], kind="stable")
    ends_at = ended[seen][order]
    age = np.minimum(ends_at - began[seen][order], AGES - 1)
    counts = np.bincount(began, minlength=steps)[:steps].astype(np.float64)
    first = np.searchsorted(ends_at, np.arange(steps + 1))
    prior = lognormal_hazard()
    ages = Ages(np.zeros(AGES), np.zeros(AGES), np.zeros(AGES), prior.copy(), prior)
    growth_noise = (1e-12, 3e-8, 1e-6, 1e-9) if with_growth else (0.0,) * 4
    growth_var = 1e-6 if with_growth else 0.0
    rate = new_bank((3e-5, 3e-5, 3e-5, 0.02), growth_noise, (0.25,) * 4, (0.05, growth_var))
    speed = new_bank((1e-6, 1e-5, 3e-3), (1e-14, 3e-7, 1e-10), (0.9998, 1e-4, 1e-4), (0.01, 1e-8))
    usual = np.maximum(usual, 1e-3)
    return run_stream(rate, speed, ages, cap, (counts, usual, age, first), np.array(HORIZONS))


@allocating_kernel
def run_stream(
    rate: Bank,
    speed: Bank,
    ages: Ages,
    cap: float,
    table: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]],
    horizons: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Run one stream.

    `table` = (arrivals by step, usual ones, ages of the ends in order, where each begins).
    """
    counts, usual, age, first = table
    steps = len(counts)
    page = np.full(steps, -np.inf)
    warn = np.full(steps, -np.inf)
    ended = np.zeros(AGES)
    for k in range(steps):
        ended[:] = 0.0
        for e in range(first[k], first[k + 1]):
            ended[age[e]] += 1.0
        expected = age_step(ages, counts[k], ended)
        filter_step(speed, np.sum(ended), expected + 1e-9, 1.0)
        speed.level[:] = np.minimum(np.maximum(speed.level, -3.0), 1.0)
        if k % 4 == 0:
            learn_hazards(ages)
        if k == FIRST_STEPS - 1:
            ratio = np.mean(counts[:FIRST_STEPS]) / np.mean(usual[:FIRST_STEPS])
            rate.level[:] = math.log(max(float(ratio), 0.1))
        if k >= FIRST_STEPS:
            filter_step(rate, counts[k], usual[k], DISPERSION)
        if k >= SILENT_STEPS:
            scores = look_ahead(rate, speed, ages, cap, usual[k:], horizons)
            page[k] = np.max(scores[:PAGE_HORIZONS])
            warn[k] = np.max(scores)
    return page, warn
