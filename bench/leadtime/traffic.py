"""Synthetic calls of a voice platform: the week, its slow drifts, ordinary weeks, and starts from nothing.

Calls arrive as a Poisson process (in batches, if asked) whose rate follows a plan; they hold for a lognormal
time. What is drawn knows no cap: what a cap makes of it is bench.leadtime.truth.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.feed import Calls
from engine.kernel import allocating_kernel

STEP_S = 15.0
DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
WEEK_STEPS = int(WEEK_S / STEP_S)
HOLDING_S = 180.0
HOLDING_SIGMA = 0.8  # of the logarithm
DRIFT_SD = 0.08  # a slow factor on the rate: sd of its logarithm, correlation time, and a factor by day
DRIFT_S = 3 * 3600.0
DAY_SD = 0.06
WEEKDAYS = (1.0, 0.95, 0.93, 0.92, 0.90, 0.35, 0.28)
# Offered load over cap at the busiest time of an ordinary week: what a careful owner would run at.
PEAK_LOAD = ((10, 0.22), (20, 0.32), (50, 0.45), (100, 0.55), (300, 0.64), (1000, 0.72), (5000, 0.80))


class Plan(NamedTuple):
    """What a stream should look like, on a grid of `STEP_S`."""

    rate_per_s: NDArray[np.float64]
    holding_s: NDArray[np.float64]  # mean, of calls that start then
    leak_ratio: NDArray[np.float64]  # of calls that never end


def week_profile() -> NDArray[np.float64]:
    """Give the arrival rate over a week, busiest moment 1.

    Two humps on working days, a third of it at weekends.
    """
    at_s = np.arange(WEEK_STEPS) * STEP_S
    hour = (at_s % DAY_S) / 3600
    morning = np.exp(-0.5 * ((hour - 10.5) / 1.8) ** 2)
    afternoon = 0.85 * np.exp(-0.5 * ((hour - 14.8) / 2.3) ** 2)
    shape = 0.06 + 0.94 * (morning + afternoon)
    return np.asarray(shape / shape.max() * np.array(WEEKDAYS)[(at_s // DAY_S).astype(int)])


@allocating_kernel
def autoregression(noise: NDArray[np.float64], first: float, keep: float) -> NDArray[np.float64]:
    """Give x[k] = keep x[k - 1] + noise[k], from `first` on."""
    drift = np.empty(len(noise))
    drift[0] = first
    for k in range(1, len(noise)):
        drift[k] = keep * drift[k - 1] + noise[k]
    return drift


def slow_factor(steps: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Give a factor of mean 1 that drifts over hours and differs by day."""
    keep = float(np.exp(-STEP_S / DRIFT_S))
    noise = rng.standard_normal(steps) * DRIFT_SD * np.sqrt(1 - keep * keep)
    drift = autoregression(noise, rng.standard_normal() * DRIFT_SD, keep)
    days = int(np.ceil(steps * STEP_S / DAY_S)) + 1
    by_day = np.repeat(rng.standard_normal(days) * DAY_SD, int(DAY_S / STEP_S))[:steps]
    return np.exp(drift + by_day - 0.5 * (DRIFT_SD**2 + DAY_SD**2))


def draw_calls(plan: Plan, rng: np.random.Generator, batch_mean: float = 1.0) -> Calls:
    """Draw calls after a plan; `batch_mean` above 1 makes them come in batches of geometric size."""
    steps = len(plan.rate_per_s)
    many = rng.poisson(plan.rate_per_s * STEP_S / batch_mean)
    at = np.repeat(np.arange(steps), many)
    start = (at + rng.random(len(at))) * STEP_S
    if batch_mean > 1.0:
        start = np.repeat(start, rng.geometric(1.0 / batch_mean, len(start)))
    start.sort()
    at = (start / STEP_S).astype(np.int64)
    stretch = np.exp(rng.standard_normal(len(at)) * HOLDING_SIGMA - 0.5 * HOLDING_SIGMA**2)
    end = start + stretch * plan.holding_s[at]
    end[rng.random(len(at)) < plan.leak_ratio[at]] = np.inf
    return Calls(start, end, np.zeros(len(start), np.bool_))


def peak_load(cap: float) -> float:
    """Give the offered load over the cap at the busiest time of an ordinary week."""
    sizes, loads = np.array(PEAK_LOAD).T
    return float(np.interp(np.log(cap), np.log(sizes), loads))


def ordinary_rate(cap: float, holding_s: float = HOLDING_S) -> NDArray[np.float64]:
    """Give an ordinary week's arrival rate."""
    return week_profile() * peak_load(cap) * cap / holding_s


def ordinary_week(cap: float, rng: np.random.Generator, holding_s: float = HOLDING_S) -> Calls:
    """Draw a week without any incident."""
    rate = ordinary_rate(cap, holding_s) * slow_factor(WEEK_STEPS, rng)
    return draw_calls(Plan(rate, np.full(WEEK_STEPS, holding_s), np.zeros(WEEK_STEPS)), rng)


def start_flat(load: float, cap: float, holding_s: float, lasts_s: float, rng: np.random.Generator) -> Calls:
    """Draw an empty platform that takes a steady load from its first second on."""
    return start_rising(np.full(int(lasts_s / STEP_S), load), cap, holding_s, rng)


def start_rising(load: NDArray[np.float64], cap: float, holding_s: float, rng: np.random.Generator) -> Calls:
    """Draw an empty platform whose offered load over cap follows `load`, a value per `STEP_S`."""
    steps = len(load)
    return draw_calls(Plan(load * cap / holding_s, np.full(steps, holding_s), np.zeros(steps)), rng)
