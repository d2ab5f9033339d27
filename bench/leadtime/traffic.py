"""Synthetic calls of a voice platform: ordinary weeks, incidents with a known onset, and starts from nothing.

Calls arrive as a Poisson process whose rate follows the week, slow drifts and the incident; they hold for a
lognormal time. Up to the first declined call a capped platform and an endless one are the same path by path,
so the truth (the first arrival that finds the limit full) is exact without simulating what happens
afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.feed import Calls

STEP_S = 15.0
DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
WEEK_STEPS = int(WEEK_S / STEP_S)
HOLDING_S = 180.0
HOLDING_SIGMA = 0.8  # of the logarithm
DRIFT_SD = 0.08  # a slow factor on the rate: sd of its logarithm, correlation time, and a factor by day
DRIFT_S = 3 * 3600.0
DAY_SD = 0.06
BEFORE_S = 3 * 3600.0  # ordinary traffic before an onset
LASTS_S = 6 * 3600.0
WEEKDAYS = (1.0, 0.95, 0.93, 0.92, 0.90, 0.35, 0.28)
# Offered load over cap at the busiest time of an ordinary week: what a careful owner would run at.
PEAK_LOAD = ((10, 0.22), (20, 0.32), (50, 0.45), (100, 0.55), (300, 0.64), (1000, 0.72), (5000, 0.80))
FAMILIES = ("ramp5", "ramp15", "ramp60", "step", "hold", "leak")


class Plan(NamedTuple):
    """What a stream should look like, on a grid of `STEP_S`."""

    rate_per_s: NDArray[np.float64]
    holding_s: NDArray[np.float64]  # mean, of calls that start then
    leak_ratio: NDArray[np.float64]  # of calls that never end


class Incident(NamedTuple):
    """A stream that leads to a first decline."""

    calls: Calls
    onset_s: float
    decline_s: float


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


def slow_factor(steps: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Give a factor of mean 1 that drifts over hours and differs by day."""
    keep = np.exp(-STEP_S / DRIFT_S)
    noise = rng.standard_normal(steps) * DRIFT_SD * np.sqrt(1 - keep * keep)
    drift = np.empty(steps)
    drift[0] = rng.standard_normal() * DRIFT_SD
    for k in range(1, steps):
        drift[k] = keep * drift[k - 1] + noise[k]
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


def first_decline_s(calls: Calls, cap: float) -> float:
    """Give when the first call found the limit full; inf: none did."""
    gone = np.searchsorted(np.sort(calls.end_s), calls.start_s, side="right")
    full = np.flatnonzero(np.arange(len(calls.start_s)) - gone >= cap)
    return float(calls.start_s[full[0]]) if len(full) else np.inf


def ordinary_rate(cap: float, holding_s: float = HOLDING_S) -> NDArray[np.float64]:
    """Give an ordinary week's arrival rate."""
    sizes, loads = np.array(PEAK_LOAD).T
    return week_profile() * float(np.interp(np.log(cap), np.log(sizes), loads)) * cap / holding_s


def ordinary_week(cap: float, rng: np.random.Generator, holding_s: float = HOLDING_S) -> Calls:
    """Draw a week without any incident."""
    rate = ordinary_rate(cap, holding_s) * slow_factor(WEEK_STEPS, rng)
    return draw_calls(Plan(rate, np.full(WEEK_STEPS, holding_s), np.zeros(WEEK_STEPS)), rng)


def incident(family: str, cap: float, rng: np.random.Generator) -> Incident:
    """Draw until a stream of the family declines a call after its onset, and not before."""
    while True:
        calls = draw_calls(incident_plan(family, cap, rng), rng)
        decline_s = first_decline_s(calls, cap)
        if BEFORE_S <= decline_s < np.inf:
            return Incident(calls, BEFORE_S, decline_s)


def incident_plan(family: str, cap: float, rng: np.random.Generator) -> Plan:
    """Plan three ordinary hours and six with the family's cause.

    At a random time of the week that is neither idle nor full.
    """
    ordinary = ordinary_rate(cap)
    load = ordinary * HOLDING_S / cap
    low, high = (0.40, 0.72) if family == "hold" else (0.10, 0.65)
    before = int(BEFORE_S / STEP_S)
    steps = before + int(LASTS_S / STEP_S)
    onset = int(rng.choice(np.flatnonzero((load > low) & (load < high))))
    rate = ordinary[(onset - before + np.arange(steps)) % WEEK_STEPS] * slow_factor(steps, rng)
    holding = np.full(steps, HOLDING_S)
    leak = np.zeros(steps)
    since_s = np.maximum(np.arange(steps) - before, 0) * STEP_S
    if family.startswith("ramp"):
        doubling_s = 60.0 * float(family.removeprefix("ramp"))
        highest = max(1.5 * cap / HOLDING_S / rate[before], 1.6)
        rate = rate * np.minimum(2.0 ** (since_s / doubling_s), highest)
    elif family == "step":
        rate = np.where(since_s > 0, np.maximum(rate, 1.2 * cap / HOLDING_S), rate)
    elif family == "hold":
        holding = HOLDING_S * (1 + 1.2 * np.minimum(since_s / 1800, 1))
    elif family == "leak":
        leak = np.where(since_s > 0, 0.1, 0.0)
    else:
        raise ValueError(f"unknown family: {family}")
    return Plan(rate, holding, leak)


def start_flat(load: float, cap: float, holding_s: float, lasts_s: float, rng: np.random.Generator) -> Calls:
    """Draw an empty platform that takes a steady load from its first second on."""
    return start_rising(np.full(int(lasts_s / STEP_S), load), cap, holding_s, rng)


def start_rising(load: NDArray[np.float64], cap: float, holding_s: float, rng: np.random.Generator) -> Calls:
    """Draw an empty platform whose offered load over cap follows `load`, a value per `STEP_S`."""
    steps = len(load)
    return draw_calls(Plan(load * cap / holding_s, np.full(steps, holding_s), np.zeros(steps)), rng)
