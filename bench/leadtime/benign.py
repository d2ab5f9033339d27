"""What looks like an incident and is none, and ordinary weeks: every page here is a false one.

Nothing here declines a call (what would is drawn again). Plateaus stop at 40 to 80 % of the cap after a ramp
of any speed; `maintenance` is an outage and those who call again after it; `bump` longer calls for a while;
`dst` a Monday after the clocks were changed, an hour off what the weeks before were; `holiday` a working day
with a Sunday's traffic, and the day after. Weeks come in batches for the dispersions 2 and 4.
"""

from __future__ import annotations

import numpy as np

from bench.leadtime.families import BEFORE_S, Setting, setting
from bench.leadtime.stream import Stream
from bench.leadtime.traffic import (
    DAY_S,
    HOLDING_S,
    STEP_S,
    WEEK_S,
    WEEK_STEPS,
    WEEKDAYS,
    Plan,
    draw_calls,
    ordinary_rate,
    peak_load,
    slow_factor,
)
from bench.leadtime.truth import first_decline_s

BANDS = {
    "plateau at 40 to 55 %": (0.40, 0.55), "plateau at 55 to 70 %": (0.55, 0.70),
    "plateau at 70 to 80 %": (0.70, 0.80),
}  # fmt: skip
BENIGN = (*BANDS, "maintenance", "bump", "dst", "holiday")
DISPERSIONS = (2.0, 4.0)
LASTS_S = 3 * 3600.0
PLATEAU_S = 5400.0
DOUBLING_MIN = (5.0, 15.0, 60.0)
TRIES_MAX = 2000
SAFE = 0.8  # of the cap: no benign cause takes the load above it


def week(cap: float, rng: np.random.Generator, days: float = 7, dispersion: float = 1.0) -> Stream:
    """Draw an ordinary week without a decline; batches of geometric size give the dispersion."""
    steps = int(days * DAY_S / STEP_S)
    quieter = busiest(cap, dispersion) / busiest(cap, 1.0)
    for _ in range(TRIES_MAX):
        rate = quieter * ordinary_rate(cap)[:steps] * slow_factor(steps, rng)
        plan = Plan(rate, np.full(steps, HOLDING_S), np.zeros(steps))
        calls = draw_calls(plan, rng, batch_mean=0.5 * (dispersion + 1.0))
        if np.isinf(first_decline_s(calls, cap)):
            break
    return Stream(calls, cap, 0, min(days * DAY_S, WEEK_S), 0.0)


def busiest(cap: float, dispersion: float) -> float:
    """Give the load that leaves room for 4.5 standard deviations: a careful owner knows that calls clump."""
    clumps = 0.5 * (dispersion + 1.0)  # of the level's variance over its mean, about
    root = 0.5 * (np.sqrt(4.5**2 * clumps + 4.0 * cap) - 4.5 * np.sqrt(clumps))
    return float(root * root)


def benign(family: str, cap: float, rng: np.random.Generator) -> Stream:
    """Draw a stream of the family until it declines nothing."""
    for _ in range(TRIES_MAX):
        found = another_day(family, cap, rng) if family in ("dst", "holiday") else cause(family, cap, rng)
        if np.isinf(found.decline_s):
            return found
    raise RuntimeError(f"{family} at cap {cap:.0f} always declines a call")


def stream_of(at: Setting, plan: Plan, rng: np.random.Generator) -> Stream:
    """Draw the calls of a plan and see whether any is declined."""
    calls = draw_calls(plan, rng)
    stop_s = len(plan.rate_per_s) * STEP_S
    return Stream(calls, at.cap, at.first_step, stop_s, BEFORE_S, first_decline_s(calls, at.cap))


def cause(family: str, cap: float, rng: np.random.Generator) -> Stream:
    """Draw something that begins and stops by itself."""
    peak = peak_load(cap)
    if family in BANDS:
        low, high = BANDS[family]
        to = rng.uniform(low, high)
        at = setting(cap, (0.10 / max(peak, 0.33), min(0.5, to - 0.05) / peak), LASTS_S, rng)
        return stream_of(at, plateau(at, to, float(rng.choice(DOUBLING_MIN))), rng)
    if family == "maintenance":
        at = setting(cap, (0.4, min(1.01, SAFE / 1.6 / peak)), LASTS_S, rng)
        out_s = rng.uniform(1800, 3600)
        factor = np.where(at.since_s < out_s, 0.03, 1.0 + 0.6 * np.exp(-(at.since_s - out_s) / 900.0))
        return stream_of(at, with_rate(at, np.where(at.is_on, factor, 1.0)), rng)
    at = setting(cap, (0.4, min(1.01, SAFE / 1.4 / peak)), LASTS_S, rng)
    longer = np.where(at.is_on & (at.since_s < 1200), 1.4, 1.0)
    return stream_of(at, at.usual._replace(holding_s=HOLDING_S * longer), rng)


def with_rate(at: Setting, factor: np.ndarray) -> Plan:
    """Give the usual plan with more or fewer calls."""
    return at.usual._replace(rate_per_s=at.usual.rate_per_s * factor)


def plateau(at: Setting, to: float, doubling_min: float) -> Plan:
    """Give a ramp that stops at the share `to` of the cap, and is over after an hour and a half."""
    rate = at.usual.rate_per_s
    grown = rate * 2.0 ** np.minimum(at.since_s / (60.0 * doubling_min), 20.0)
    held = np.minimum(grown, np.maximum(to * at.full_rate, rate))
    return at.usual._replace(rate_per_s=np.where(at.is_on & (at.since_s < PLATEAU_S), held, rate))


def another_day(family: str, cap: float, rng: np.random.Generator) -> Stream:
    """Draw a Monday an hour early or late, or a working day as quiet as a Sunday and the day after."""
    day = 0 if family == "dst" else int(rng.integers(0, 4))
    first = int(day * DAY_S / STEP_S)
    steps = int((1 if family == "dst" else 2) * DAY_S / STEP_S)
    ordinary = ordinary_rate(cap)
    if family == "dst":
        hour = int(3600 / STEP_S) * int(rng.choice((-1, 1)))
        rate = ordinary[(first + hour + np.arange(steps)) % WEEK_STEPS]
    else:
        rate = ordinary[first : first + steps].copy()
        rate[: int(DAY_S / STEP_S)] *= WEEKDAYS[6] / WEEKDAYS[day]
    plan = Plan(rate * slow_factor(steps, rng), np.full(steps, HOLDING_S), np.zeros(steps))
    at = Setting(cap, first, plan, np.zeros(steps))
    return stream_of(at, plan, rng)._replace(onset_s=0.0)
