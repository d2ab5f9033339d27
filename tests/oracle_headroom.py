"""Slow, obvious twins of the headroom detector's kernels: matrices, definitions and whole histories.

A filter is (mean [level, growth], 2 x 2 covariance matrix, weight); a bank is a list of filters. Nothing is
updated in place. Ages are dictionaries or plain lists, and every sum is written out.
"""

import itertools
import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL_VAR_MAX = 4.0
GROWTH_VAR_MAX = 4e-3
HAZARD_MAX = 0.95


class Filter(NamedTuple):
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    weight: float


def normal_tail(z: float) -> float:
    """By symmetry, so that small tails keep their digits."""
    return NormalDist().cdf(-z)


def poisson_mode(count: float, exposure: float, dispersion: float, prior: float, prior_var: float) -> float:
    """Bisect the slope of the log posterior, which falls everywhere."""

    def slope(x: float) -> float:
        return (count - exposure * math.exp(x)) / dispersion - (x - prior) / prior_var

    low, high = -100.0, 100.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return 0.5 * (low + high)


def limit_variances(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rescale the axes whose variance is too large, correlation kept."""
    scale = [
        min(1.0, math.sqrt(most / variance)) if variance > 0 else 1.0
        for most, variance in zip((LEVEL_VAR_MAX, GROWTH_VAR_MAX), np.diag(covariance), strict=True)
    ]
    return np.asarray(np.diag(scale) @ covariance @ np.diag(scale))


def advance_row(
    bank: list[Filter], noise: list[tuple[float, float]], damping: float, switch: float
) -> list[Filter]:
    """Predict by matrices, then let a share of the mixture leak into each model."""
    move = np.array([[1.0, 1.0], [0.0, 1.0]])
    damp = np.diag([1.0, damping])
    predicted = [
        Filter(damp @ move @ f.mean, damp @ (move @ f.covariance @ move.T + np.diag(q)) @ damp.T, f.weight)
        for f, q in zip(bank, noise, strict=True)
    ]
    middle = sum((f.weight * f.mean for f in predicted), np.zeros(2))
    mixed = []
    for f in predicted:
        weight = (1 - switch) * f.weight + switch / len(bank)
        moved = switch / len(bank) / weight
        off = middle - f.mean
        spread = moved * (1 - moved) * np.outer(off, off)
        mixed.append(Filter(f.mean + moved * off, limit_variances(f.covariance + spread), weight))
    return mixed


def pass_time(
    bank: list[Filter], noise: list[tuple[float, float]], damping: float, switch: float, steps: int
) -> list[Filter]:
    for _ in range(steps):
        bank = advance_row(bank, noise, damping, switch)
    return bank


def observe_row(bank: list[Filter], count: float, exposure: float, dispersion: float) -> list[Filter]:
    """Condition each Gaussian on the mode of its level and the curvature there."""
    posteriors = []
    logs = []
    for f in bank:
        prior, prior_var = float(f.mean[0]), float(f.covariance[0, 0])
        expected = exposure * math.exp(prior)
        sd = math.sqrt(dispersion * expected + expected**2 * prior_var + 1)
        seen = min(count, expected + 8 * sd)
        mode = poisson_mode(seen, exposure, dispersion, prior, prior_var)
        curvature = exposure * math.exp(mode) / dispersion
        information = np.linalg.inv(f.covariance) + np.diag([curvature, 0.0])
        gain = f.covariance[:, 0] / prior_var
        posteriors.append((f.mean + gain * (mode - prior), np.linalg.inv(information)))
        log = (seen * mode - exposure * math.exp(mode)) / dispersion - (mode - prior) ** 2 / (2 * prior_var)
        logs.append(log - 0.5 * math.log(1 + prior_var * curvature) - 8 * (count - seen) / sd)
    weights = [
        f.weight * math.exp(max(log - max(logs), -30)) + 1e-12 for f, log in zip(bank, logs, strict=True)
    ]
    return [Filter(m, c, w / sum(weights)) for (m, c), w in zip(posteriors, weights, strict=True)]


def first_level(count: float, watched: float, growth_vars: list[float], weights: list[float]) -> list[Filter]:
    """Give a flat prior's posterior of a Poisson rate, in logarithms, a growth of mean nought beside it."""
    seen = count + 0.5
    return [
        Filter(
            np.array([math.log(seen / watched), 0.0]),
            np.diag([min(1 / seen + variance, 4.0), variance]),
            weight,
        )
        for variance, weight in zip(growth_vars, weights, strict=True)
    ]


def mixture(bank: list[Filter]) -> tuple[float, float, float, float, float]:
    """Give mean and covariance by total probability: E[x x'] - E[x] E[x]'."""
    mean = sum((f.weight * f.mean for f in bank), np.zeros(2))
    square = sum((f.weight * (f.covariance + np.outer(f.mean, f.mean)) for f in bank), np.zeros((2, 2)))
    covariance = square - np.outer(mean, mean)
    return float(mean[0]), float(mean[1]), covariance[0, 0], covariance[0, 1], covariance[1, 1]


def observe_dispersion(
    counts: list[float], scale: int, keep: float, prior: float, clip: float
) -> tuple[float, float]:
    """Give the faded sum of squared second differences over their Poisson mean, and how many.

    From all counts.
    """
    longer = [sum(counts[k : k + scale]) for k in range(0, len(counts) - scale + 1, scale)]
    excess = many = 0.0
    for k in range(len(longer)):
        excess, many = excess * keep**scale, many * keep**scale
        if k >= 2:
            poisson = longer[k] + 4 * longer[k - 1] + longer[k - 2]
            if poisson >= 6:
                so_far = (excess + prior) / (many + prior)
                a, b, c = longer[k - 2 : k + 1]
                ratio = (a - 2 * b + c) ** 2 / poisson
                if min(a, b, c) >= 10:
                    ratio = (math.log(a) - 2 * math.log(b) + math.log(c)) ** 2 / (1 / a + 4 / b + 1 / c)
                excess, many = excess + min(ratio, clip * max(so_far, 1.0)), many + 1
    return excess, many


def dispersion_of(counts: list[float], keep: float, prior: float, lowest: float, clip: float) -> float:
    found = [lowest]
    for scale in (1, 4, 16):
        excess, many = observe_dispersion(counts, scale, keep, prior, clip)
        ratio = (excess + prior) / (many + prior)
        found.append(ratio if scale == 1 else ratio - ratio * math.sqrt(3 / (many + prior)))
    return max(found)


def leaned(ends: float, at_risk: float, prior: float, worth: float) -> float:
    """See `worth` more ends among as many calls as the prior share needs for them."""
    return min((ends + worth) / (at_risk + worth / prior), HAZARD_MAX)


def absorb_ends(
    past: list[tuple[list[int], list[int], list[int]]], bin_of: list[int], keep: float
) -> tuple[list[float], list[float]]:
    """Give ends and calls at risk by bin of one instance.

    `past` holds (alive, ended, healed) by age, per slice.
    """
    ends = [0.0] * (max(bin_of) + 1)
    risk = [0.0] * (max(bin_of) + 1)
    for ago, (alive, ended, healed) in enumerate(reversed(past)):
        for age, b in enumerate(bin_of):
            ends[b] += keep**ago * ended[age]
            risk[b] += keep**ago * (alive[age] + ended[age] + 0.5 * healed[age])
    return ends, risk


def estimate_hazards(
    recent: tuple[list[float], list[float]],
    long_run: tuple[list[float], list[float]],
    expected_slices: float,
    worth: float,
    bin_worth: float,
) -> list[float]:
    """Give the hazards of the bins of one instance, from (ends, at risk) each."""
    half = [0.5] + [1.0] * (len(recent[0]) - 1)
    ends = worth + sum(long_run[0])
    risk = worth * expected_slices + sum(x * h for x, h in zip(long_run[1], half, strict=True))
    hazards = []
    for b, h in enumerate(half):
        share = leaned(long_run[0][b], long_run[1][b], 1 - math.exp(-h * ends / risk), bin_worth)
        share = leaned(recent[0][b], recent[1][b], share, bin_worth)
        hazards.append(-math.log(1 - share))
    return hazards


def cumulate(hazard: list[float], bin_of: list[int], length: int) -> list[float]:
    by_age = [hazard[b] for b in bin_of] + [hazard[-1]] * length
    return [math.fsum(by_age[:k]) for k in range(length)]


def mean_holding_slices(total: list[float], speed: float, tail_slices_max: float) -> float:
    """Sum the survival far beyond the table instead of by formula, a slow tail cut by its mean."""
    survival = [math.exp(-t * speed) for t in total[1:]]
    last = math.exp(-(total[-1] - total[-2]) * speed)
    if 1 - last < 1 / tail_slices_max:
        return math.fsum(survival) + survival[-1] * last * tail_slices_max
    tail, term = 0.0, survival[-1] * last
    while term > 1e-13:
        tail, term = tail + term, term * last
    return math.fsum(survival) + tail


def fill_stay(total: list[float], steps: int, step_slices: int, slice_s: float, speed: float) -> list[float]:
    """Give how many seconds of the step `lag` steps before the horizon are still up, by lag."""
    return [
        math.fsum(
            slice_s * math.exp(-speed * total[k + 1])
            for k in range(lag * step_slices, (lag + 1) * step_slices)
        )
        for lag in range(steps)
    ]


def survivors(alive: dict[int, float], total: list[float], ahead: int, speed: float) -> tuple[float, float]:
    """Give mean and variance of independent survivals; `alive` is by age."""
    chances = {age: math.exp(-speed * (total[age + 1 + ahead] - total[age + 1])) for age in alive}
    mean = math.fsum(n * chances[age] for age, n in alive.items())
    return mean, math.fsum(n * chances[age] * (1 - chances[age]) for age, n in alive.items())


def fill_rates(f: Filter, steps: int, step_s: float, damping: float) -> tuple[list[float], list[float]]:
    """Give the rate by step ahead and the reach of growth, by walking the filter's own model."""
    level, growth, reach, share = float(f.mean[0]), float(f.mean[1]), 0.0, 1.0
    rates, reaches = [], []
    for _ in range(steps):
        level, growth = level + growth, growth * damping
        reach, share = reach + share, share * damping
        rates.append(math.exp(level) / step_s)
        reaches.append(reach)
    return rates, reaches


def new_calls(
    bank: list[Filter],
    stay: list[float],
    step_s: float,
    damping: float,
    today_slope: float,
    y: tuple[list[float], float],
) -> tuple[float, float]:
    """Give mean and variance over models.

    `y` = (slope of `stay` by y, variance of y). Gradients by J P J'.
    """
    steps = len(stay)
    means, seconds, weights = [], [], []
    for f in bank:
        if f.weight < 1e-4:
            continue
        rates, reaches = fill_rates(f, steps, step_s, damping)
        by_step = [rate * stay[steps - 1 - r] for r, rate in enumerate(rates)]
        mean = math.fsum(by_step)
        gradient = np.array([mean, math.fsum(n * reach for n, reach in zip(by_step, reaches, strict=True))])
        slope = today_slope + math.fsum(rate * y[0][steps - 1 - r] for r, rate in enumerate(rates))
        variance = max(float(gradient @ f.covariance @ gradient) + slope * slope * y[1], 0.0)
        means.append(mean)
        seconds.append(variance + mean * mean)
        weights.append(f.weight)
    mean = float(np.average(means, weights=weights))
    return mean, max(float(np.average(seconds, weights=weights)) - mean * mean, 0.0)


class Outlook(NamedTuple):
    means: list[float]
    chances: list[float]
    ignorances: list[float]


def forecast_row(
    alive: dict[int, float],
    unknown_age: float,
    total: list[float],
    banks: tuple[list[Filter], list[Filter]],
    grid: tuple[list[int], int, float, float, float, int],
    doubts: tuple[float, float],
) -> Outlook:
    """Give one instance's outlook.

    `grid` = (steps, slices a step, slice, damping, tail), `doubts` = (phi, hazard var).
    """
    horizons, step_slices, slice_s, damping, tail, cells = grid
    y, y_growth, y_var, y_cov, y_growth_var = mixture(banks[1])
    y = min(max(y, -3.0), 1.2)
    holding = mean_holding_slices(total[: cells + 1], math.exp(y), tail) * slice_s
    outlook = Outlook([], [], [])
    for steps in horizons:
        reach = float(np.mean(fill_rates(banks[0][0], steps, 1.0, damping)[1]))
        log_speed = min(max(y + y_growth * reach, -3.0), 1.2)
        var = max(y_var + 2 * reach * y_cov + reach * reach * y_growth_var + doubts[1], 0.0)

        def stay_at(log_speed: float, steps: int = steps) -> list[float]:
            return fill_stay(total, steps, step_slices, slice_s, math.exp(log_speed))

        def today_at(log_speed: float, steps: int = steps) -> tuple[float, float]:
            return survivors(alive, total, steps * step_slices, math.exp(log_speed))

        nudge = 1e-5
        slopes = [
            (b - a) / (2 * nudge)
            for a, b in zip(stay_at(log_speed - nudge), stay_at(log_speed + nudge), strict=True)
        ]
        slope = (today_at(log_speed + nudge)[0] - today_at(log_speed - nudge)[0]) / (2 * nudge)
        stay = stay_at(log_speed)
        arrived, ignorance = new_calls(banks[0], stay, step_slices * slice_s, damping, slope, (slopes, var))
        gone = min(math.fsum(stay) / holding, 1.0)
        mean, chance = today_at(log_speed)
        outlook.means.append(mean + unknown_age * (1 - gone) + arrived)
        outlook.chances.append(chance + unknown_age * gone * (1 - gone) + doubts[0] * arrived)
        outlook.ignorances.append(ignorance)
    return outlook


def crossing(level: float, cap: float, path: list[tuple[float, float]]) -> float:
    """Give when a polygon from (0, level) through `path` = (seconds, level) first touches the cap.

    By small steps.
    """
    if level >= cap:
        return 0.0
    points = [(0.0, level), *path]
    for (a_s, a), (b_s, b) in itertools.pairwise(points):
        if b >= cap:
            for part in range(100_001):
                share = part / 100_000
                if a + share * (b - a) >= cap:
                    return a_s + share * (b_s - a_s)
            return b_s
    return math.inf


def reaching(level: float, cap: float, outlook: Outlook, rates: list[float], ahead_s: list[float]) -> float:
    """Integrate over futures by a fine grid of quantiles.

    `rates` are the arrivals a second at the horizons.
    """
    if level >= cap:
        return 1.0
    reached = []
    for u in [NormalDist().inv_cdf((k + 0.5) / 500) for k in range(500)]:
        climbs = [0.0]
        above = 0.0
        for mean, chance, ignorance, rate in zip(*outlook, rates, strict=True):
            there = NormalDist(mean + u * math.sqrt(ignorance), math.sqrt(max(chance, 1.0)))
            climbs.append(rate * there.pdf(cap - 0.5) * max(1 - there.mean / cap, 0.0))
            above = max(above, 1 - there.cdf(cap - 0.5))
        at = [0.0, *ahead_s]
        clumps = float(np.trapezoid(climbs, at))
        reached.append(1 - (1 - above) * math.exp(-clumps))
    return float(np.mean(reached))


def judge(
    level: float, value: float, outlook: Outlook, offered: float, gate: float, unseen: float = 0.0
) -> float:
    """Give the score at the worst horizon; others use `unseen` of the value."""
    cap = value - unseen
    if math.isnan(cap) or 1.0 - (cap - max(level, offered)) / value < gate:
        return -math.inf
    return max(
        (mean - cap + 0.5) / math.sqrt(max(chance + ignorance, 1.0))
        for mean, chance, ignorance in zip(*outlook, strict=True)
    )


def score_of(mean: float, variance: float, cap: float) -> float:
    """Give the distance to the cap in standard deviations, of at least one call."""
    return (mean + 0.5 - cap) / max(math.sqrt(variance), 1.0)


def fill_usual(offsets: list[float]) -> list[float]:
    """Give what is usual by step ahead."""
    return [math.exp(offset) for offset in offsets]


def fill_steady(log_level: float, usual: list[float], step_s: float) -> list[float]:
    """Give the rate by step ahead of a level that only follows the usual."""
    return [math.exp(log_level) * each / step_s for each in usual]
