"""From a forecast level to a verdict on one cap: score, probability, time left.

The score is how many standard deviations the forecast mean stands above the cap, at the worst horizon. The
probability that the level reaches the cap within a horizon treats the two kinds of doubt apart. Under each of
several futures (quadrature over our ignorance, which is common to all moments of one future) it is that of
standing above at the worst moment, or of climbing there by chance meanwhile: arrivals that find the last
place taken, rate x density at the cap, counted once per clump (each falls back for good with 1 - mean / cap).
Rejected: the expected number of declined arrivals; they come in clumps, so it overstates the chance of a
first one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.statistics import normal_tail
from engine.kernel import kernel
from engine.learned import SPEAKERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from detectors.offered_load import Outlook
    from engine.settings import HeadroomSettings

VARIANCE_MIN = 1.0
CONTINUITY = 0.5  # a level is a whole number
BAND_SD = 1.2816  # nine futures in ten lie on this side
LOG_GROWTH_MAX = 3.0
NS = 1_000_000_000
PAGE_SHARES = (1 / 40, 1 / 20, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)  # horizons, as shares of the page horizon ...
WARN_SHARES = (0.25, 0.5, 1.0)  # ... from there to the warning's ...
LONG_SHARES = (1 / 3, 2 / 3, 1.0)  # ... and from there to the one with a baseline
QUADRATURE_NODES = 9


class Room(NamedTuple):
    """What each instance has, arrays of shape (instances,)."""

    cap: NDArray[np.float64]  # less unseen use; NaN: unknown
    level: NDArray[np.float64]
    is_ready: NDArray[np.bool_]
    horizons: NDArray[np.int64]  # how many of them are looked at
    unseen: NDArray[np.float64]  # what others use of it, in use like the level


class Horizons(NamedTuple):
    """When the outlook looks."""

    ahead_s: NDArray[np.float64]  # (horizons,), ascending
    reach: NDArray[np.float64]  # (horizons,): damped steps of growth until then
    page: int  # how many of them count for a page
    warn: int  # and for a warning without a baseline; with one, all of them
    nodes: NDArray[np.float64]  # quadrature over a standard normal
    node_weight: NDArray[np.float64]
    margin: NDArray[np.float64]  # (horizons,): by how much more a forecast must say there


class Verdict(NamedTuple):
    """Float64, (instances,).

    -inf and NaN where there is no forecast or no cap, inf: not within the horizons.
    """

    page_score: NDArray[np.float64]  # the best of the speakers, on the scale of the forecast with growth
    warn_score: NDArray[np.float64]
    probability: NDArray[np.float64]
    time_s: NDArray[np.float64]
    time_s_low: NDArray[np.float64]
    time_s_high: NDArray[np.float64]
    page_by_speaker: NDArray[np.float64]  # (instances, SPEAKERS), each on its own scale
    warn_by_speaker: NDArray[np.float64]
    page_thresholds: NDArray[np.float64]  # (instances, SPEAKERS), before what bursts and cold starts add
    warn_thresholds: NDArray[np.float64]


def new_verdict(rows: int) -> Verdict:
    """Give a verdict that says nothing."""
    scores, times = np.full((2, rows), -np.inf), np.full((4, rows), np.nan)
    return Verdict(*scores, *times, *np.full((4, rows, len(SPEAKERS)), -np.inf))


@kernel
def judge(room: Room, outlook: Outlook, horizons: Horizons, gate: float, verdict: Verdict) -> None:
    """Fill the verdict on every instance that is ready and has a cap, but for the scores over all speakers.

    `gate` is the least share of the whole of it in use or offered, with what others use.
    """
    for i in range(len(room.cap)):
        cap = room.cap[i]
        if not room.is_ready[i] or math.isnan(cap):
            continue
        mean = outlook.mean[i]
        chance = outlook.chance_var[i]
        ignorance = outlook.model_var[i]
        verdict.probability[i] = reaching(room.level[i], cap, outlook, i, horizons)
        verdict.time_s[i] = crossing(room.level[i], mean, chance, ignorance, (cap, 0.0), horizons.ahead_s)
        verdict.time_s_low[i] = crossing(
            room.level[i], mean, chance, ignorance, (cap, BAND_SD), horizons.ahead_s
        )
        verdict.time_s_high[i] = crossing(
            room.level[i], mean, chance, ignorance, (cap, -BAND_SD), horizons.ahead_s
        )
        asked = max(room.level[i], outlook.rate_per_s[i] * outlook.holding_s[i]) + room.unseen[i]
        if asked < gate * (cap + room.unseen[i]):
            continue
        for k in range(room.horizons[i]):
            score = score_of(mean[k], chance[k] + ignorance[k], cap)
            steady_var = outlook.steady_chance_var[i, k] + outlook.steady_model_var[i, k]
            steady = score_of(outlook.steady_mean[i, k], steady_var, cap)
            margin = horizons.margin[k]
            verdict.warn_by_speaker[i, 0] = max(verdict.warn_by_speaker[i, 0], score - margin)
            verdict.warn_by_speaker[i, 1] = max(verdict.warn_by_speaker[i, 1], steady - margin)
            if k < horizons.page:
                verdict.page_by_speaker[i, 0] = max(verdict.page_by_speaker[i, 0], score)
                verdict.page_by_speaker[i, 1] = max(verdict.page_by_speaker[i, 1], steady)


@kernel
def score_of(mean: float, variance: float, cap: float) -> float:
    """Give how many standard deviations a forecast stands above the cap."""
    return float((mean - cap + CONTINUITY) / math.sqrt(max(variance, VARIANCE_MIN)))


@kernel
def reaching(level: float, cap: float, outlook: Outlook, i: int, horizons: Horizons) -> float:
    """Give the probability that the level reaches the cap within the page horizon."""
    if level >= cap:
        return 1.0
    probability = 0.0
    for q in range(len(horizons.nodes)):
        clumps = 0.0
        before_s = 0.0
        before = 0.0
        above = 0.0
        for k in range(horizons.page):
            mean = outlook.mean[i, k] + horizons.nodes[q] * math.sqrt(outlook.model_var[i, k])
            sd = math.sqrt(max(outlook.chance_var[i, k], VARIANCE_MIN))
            z = (cap - CONTINUITY - mean) / sd
            grown = math.exp(min(outlook.growth_per_step[i] * horizons.reach[k], LOG_GROWTH_MAX))
            density = math.exp(-0.5 * z * z) / (sd * math.sqrt(2.0 * math.pi))
            now = grown * outlook.rate_per_s[i] * density * max(1.0 - mean / cap, 0.0)
            clumps += 0.5 * (before + now) * (horizons.ahead_s[k] - before_s)
            above = max(above, normal_tail(z))
            before = now
            before_s = horizons.ahead_s[k]
        probability += horizons.node_weight[q] * (1.0 - (1.0 - above) * math.exp(-clumps))
    return min(probability, 1.0)


@kernel
def crossing(
    level: float,
    mean: NDArray[np.float64],
    chance: NDArray[np.float64],
    ignorance: NDArray[np.float64],
    cap_and_sd: tuple[float, float],
    ahead_s: NDArray[np.float64],
) -> float:
    """Give when mean + sd x standard deviation first reaches the cap, linear between horizons; inf: never."""
    cap, sd = cap_and_sd
    if level >= cap:
        return 0.0
    before = level
    before_s = 0.0
    for k in range(len(mean)):
        now = mean[k] + sd * math.sqrt(max(chance[k] + ignorance[k], 0.0))
        if now >= cap:
            return float(before_s + (ahead_s[k] - before_s) * (cap - before) / (now - before))
        before = now
        before_s = ahead_s[k]
    return math.inf


def horizons_of(settings: HeadroomSettings, damping_s: float, long_margin: float) -> Horizons:
    """Lay the horizons out over the two tiers, in whole evaluations."""
    step_s = settings.evaluate_ns / NS
    page, warn = settings.page_horizon_ns / NS, settings.warn_horizon_ns / NS
    wanted = [page * share for share in PAGE_SHARES]
    wanted += [page + (warn - page) * share for share in WARN_SHARES if warn > page]
    longest = settings.warn_horizon_baseline_ns / NS
    wanted += [warn + (longest - warn) * share for share in LONG_SHARES if longest > warn]
    steps = sorted({max(round(ahead / step_s), 1) for ahead in wanted})
    damping = math.exp(-step_s / damping_s)
    nodes, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE_NODES)
    ahead = np.array(steps, dtype=np.float64)
    beyond = np.clip((ahead * step_s - warn) / max(longest - warn, 1.0), 0.0, 1.0)
    return Horizons(
        ahead_s=ahead * step_s,
        reach=(1.0 - damping**ahead) / (1.0 - damping),
        page=steps.index(max(round(page / step_s), 1)) + 1,
        warn=steps.index(max(round(warn / step_s), 1)) + 1,
        nodes=nodes,
        node_weight=weights / weights.sum(),
        margin=long_margin * np.sqrt(beyond),
    )
