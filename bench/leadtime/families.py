"""Incidents: a cause with a known onset that leads to a first declined call.

Each stream begins three ordinary hours before the onset, at a random hour of the week that is neither idle
nor full (a full hour, so that many can share a clock), and is drawn again until a call is declined after the
onset and none before. Families with numbers in their names are ramps that double in so many minutes.
`tenant`: the limit is one tenant's share of a larger one, and the tenant starts a campaign. `failover`:
another region's callers come over, those cut off redial.
`retries`: calls fail slowly and are tried again. `growth`: every week is a bit busier than the one before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.feed import Calls
from bench.leadtime.oracle import oracle_s
from bench.leadtime.retries import draw_retries, retry_rate
from bench.leadtime.stream import HISTORY_WEEKS, Stream, cut
from bench.leadtime.traffic import (
    DAY_S,
    HOLDING_S,
    STEP_S,
    WEEK_STEPS,
    Plan,
    draw_calls,
    ordinary_rate,
    peak_load,
    slow_factor,
)
from bench.leadtime.truth import LOSSES_S, declined_s, first_decline_s

FAMILIES = (
    "ramp5", "ramp15", "ramp60", "step", "flash", "tenant", "failover", "retries", "hold", "leak", "growth",
)  # fmt: skip
BEFORE_S = 3 * 3600.0  # ordinary traffic before an onset
LASTS_S = 6 * 3600.0
GROWTH_BEGINS_S = 5 * 3600.0  # of the day: the onset of a day that is too busy
GROWTH_LASTS_S = 16 * 3600.0
TRIES_MAX = 2000


class Setting(NamedTuple):
    """Where and when something happens: a limit, a time of the week, what is usual then."""

    cap: float
    first_step: int  # of the week
    usual: Plan
    since_s: NDArray[np.float64]  # the onset, by step; 0 before it

    @property
    def onset(self) -> int:
        """The first step of the cause."""
        return int(BEFORE_S / STEP_S)

    @property
    def is_on(self) -> NDArray[np.bool_]:
        """Whether the cause has begun, by step."""
        return np.arange(len(self.since_s)) >= self.onset

    @property
    def full_rate(self) -> float:
        """Arrivals a second that fill the cap exactly."""
        return self.cap / HOLDING_S


class Happening(NamedTuple):
    """What then comes, and the plan that an oracle would know."""

    calls: Calls
    plan: Plan


def setting(cap: float, loads: tuple[float, float], lasts_s: float, rng: np.random.Generator) -> Setting:
    """Pick a time of the week at which the load over the busiest one's is within `loads`."""
    ordinary = ordinary_rate(cap)
    share = ordinary / ordinary.max()
    before = int(BEFORE_S / STEP_S)
    steps = before + int(lasts_s / STEP_S)
    full_hour = np.arange(WEEK_STEPS) % int(3600 / STEP_S) == 0
    onset = int(rng.choice(np.flatnonzero((share > loads[0]) & (share < loads[1]) & full_hour)))
    rate = ordinary[(onset - before + np.arange(steps)) % WEEK_STEPS] * slow_factor(steps, rng)
    usual = Plan(rate, np.full(steps, HOLDING_S), np.zeros(steps))
    since_s = np.maximum(np.arange(steps) - before, 0) * STEP_S
    return Setting((cap), (onset - before) % WEEK_STEPS, usual, since_s)


def loads_of(family: str, cap: float) -> tuple[float, float]:
    """Give the range of ordinary load at the onset, as shares of the busiest time's."""
    if family in ("hold", "retries", "failover"):
        return 0.55, 1.01
    return 0.10 / max(peak_load(cap), 0.33), min(0.65 / peak_load(cap), 1.01)


def rate_then(family: str, at: Setting, rng: np.random.Generator) -> NDArray[np.float64]:
    """Give the arrival rate of the families whose cause is more calls."""
    rate, since_s, full = at.usual.rate_per_s, at.since_s, at.full_rate
    begin = rate[at.onset]
    if family.startswith("ramp"):
        doubling_s = 60.0 * float(family.removeprefix("ramp"))
        return np.asarray(rate * np.minimum(2.0 ** (since_s / doubling_s), max(1.5 * full / begin, 1.6)))
    if family == "step":
        return np.where(at.is_on, np.maximum(rate, 1.2 * full), rate)
    if family == "flash":
        shape = np.where(since_s <= 300, since_s / 300, np.exp(-(since_s - 300) / 1200))
        return np.asarray(rate + np.maximum(1.4 * full - begin, 0.0) * shape)
    if family == "tenant":
        to, over_s = rng.uniform(1.1, 1.5) * full, 60.0 * rng.uniform(10, 40)
        return np.asarray(rate + np.maximum(to - begin, 0.0) * np.minimum(since_s / over_s, 1.0))
    if family == "failover":
        other = np.maximum(rng.uniform(1.15, 1.6) * full - begin, 0.2 * full)
        came_over = np.where(at.is_on, 1.0 - np.exp(-since_s / 90.0), 0.0)
        redialled = 0.6 * other * HOLDING_S / 60.0 * np.exp(-since_s / 60.0) * at.is_on
        return np.asarray(rate + other * came_over + redialled)
    raise ValueError(f"unknown family: {family}")


def happening(family: str, at: Setting, rng: np.random.Generator) -> Happening:
    """Draw what the cause brings."""
    usual = at.usual
    if family == "hold":
        load = usual.rate_per_s[at.onset] / at.full_rate
        longest = max(2.2, rng.uniform(1.2, 1.4) / load)
        plan = usual._replace(holding_s=HOLDING_S * (1 + (longest - 1) * np.minimum(at.since_s / 1800, 1)))
    elif family == "leak":
        plan = usual._replace(leak_ratio=np.where(at.is_on, 0.1, 0.0))
    elif family == "retries":
        fails = np.where(at.is_on, rng.uniform(0.85, 0.95) * np.minimum(at.since_s / 180.0, 1.0), 0.0)
        calls = draw_retries(usual, fails, rng)
        return Happening(calls, usual._replace(rate_per_s=retry_rate(usual, fails)))
    else:
        plan = usual._replace(rate_per_s=rate_then(family, at, rng))
    return Happening(draw_calls(plan, rng), plan)


def incident(family: str, cap: float, rng: np.random.Generator) -> Stream:
    """Draw until a stream of the family declines a call after its onset, and not before."""
    for _ in range(TRIES_MAX):
        if family == "growth":
            found = growth(cap, rng)
        else:
            at = setting(cap, loads_of(family, cap), LASTS_S, rng)
            found = told(at, happening(family, at, rng))
        if BEFORE_S <= found.decline_s < np.inf:
            return found
    raise RuntimeError(f"{family} at cap {cap:.0f} never declines a call")


def told(at: Setting, then: Happening) -> Stream:
    """Give the stream with its truth; what comes after the first decline is cut off."""
    decline_s = first_decline_s(then.calls, at.cap)
    if not BEFORE_S <= decline_s < np.inf:
        return Stream(then.calls, at.cap, at.first_step, 0.0, BEFORE_S, decline_s)
    stop_s = decline_s + 2 * STEP_S
    return Stream(
        calls=cut(then.calls, stop_s), cap=at.cap, first_step=at.first_step, stop_s=stop_s, onset_s=BEFORE_S,
        decline_s=decline_s, losses_s=declined_s(then.calls, at.cap, decline_s + LOSSES_S),
        oracle_s=oracle_s(then.calls, at.usual, then.plan, BEFORE_S, decline_s),
    )  # fmt: skip


def growth(cap: float, rng: np.random.Generator) -> Stream:
    """Let the weeks grow until a working day's peak is too much; that day, from before dawn on."""
    by_week = 1.0 + rng.uniform(0.03, 0.10)
    ordinary = ordinary_rate(cap)
    steps = int((BEFORE_S + GROWTH_LASTS_S) / STEP_S)
    level = rng.uniform(0.8, 0.95) / peak_load(cap)  # a peak that nearly never declines a call, at large caps
    history = tuple(by_week ** -float(back) for back in range(HISTORY_WEEKS, 0, -1))
    while True:
        for day in range(5):
            first = int((day * DAY_S + GROWTH_BEGINS_S - BEFORE_S) / STEP_S)
            usual = Plan(
                ordinary[first : first + steps] * level / by_week, np.full(steps, HOLDING_S), np.zeros(steps)
            )
            plan = usual._replace(rate_per_s=usual.rate_per_s * by_week * slow_factor(steps, rng))
            at = Setting(cap, first, usual, np.zeros(steps))
            found = told(at, Happening(draw_calls(plan, rng), plan))
            if found.decline_s < np.inf:
                return found._replace(history=tuple(level * past for past in history))
        level *= by_week
