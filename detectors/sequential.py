"""Sequential evidence shared by detectors: e-values, and the level that a budget of false pages asks for.

An e-value is at most 1 on average while nothing has changed. M <- (M + 1) x e restarts at every look, and
crossing A happens at most once in A looks on average, whatever the order and dependence of what is seen. A
budget over a whole deployment is shared: with K series looked at n times a week each, F false pages a week
need A = K n / F, whose price in delay is only its logarithm. Logarithms of M are kept: M itself overflows.
Reference: Shin, Ramdas and Rinaldo, E-detectors (NEJSDS 2024), ARL >= A without further assumptions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from engine.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEEK_S = 7 * 86_400.0
LOG_NOTHING = -1e9
LOG_RESTART_MIN = -700.0  # below this, log(M + 1) is 0 to the last bit


def log_alarm_level(series: float, look_s: float, pages_per_week: float) -> float:
    """Give ln A for `series` series looked at every `look_s`, at so many false pages a week over all."""
    return math.log(max(series * WEEK_S / look_s / pages_per_week, 1.0))


def restarted(log_m: NDArray[np.float64], log_e: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give ln((M + 1) e), by element: one look of the Shiryaev-Roberts form of an e-detector."""
    return np.asarray(np.logaddexp(np.maximum(log_m, LOG_RESTART_MIN), 0.0) + log_e)


def log_mixture(log_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give ln of the average of M over the last axis (alternatives): again an e-detector.

    Before the first look ln M is -inf; it counts as LOG_NOTHING, so that no difference of two is undefined.
    """
    log_m = np.maximum(log_m, LOG_NOTHING)
    best = log_m.max(axis=-1)
    return np.asarray(best + np.log(np.mean(np.exp(log_m - best[..., None]), axis=-1)))


def log_mixture_from(log_m: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """Give `log_mixture` where it may be `least` or more; -inf where no alternative is: no mean is more."""
    found = np.full(log_m.shape[:-1], -np.inf)
    if log_m.max(initial=-np.inf) < least:
        return found
    at = ~(log_m.max(axis=-1) < least)
    found[at] = log_mixture(log_m[at])
    return found


def log_e_bernoulli(
    hits: NDArray[np.float64],
    trials: NDArray[np.float64],
    null: NDArray[np.float64],
    odds: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Give ln of the e-value of `hits` in `trials` against probability `null`, for each multiple of its odds.

    Arrays (n,) and `odds` (alternatives,) give (n, alternatives). The likelihood ratio of the alternative
    whose odds are `odds` times those of the null.
    """
    p0 = np.minimum(np.maximum(null, 1e-9), 1.0 - 1e-9)[..., None]
    p1 = odds * p0 / (1.0 - p0 + odds * p0)
    misses = (trials - hits)[..., None]
    return np.asarray(hits[..., None] * np.log(p1 / p0) + misses * np.log((1.0 - p1) / (1.0 - p0)))


@kernel
def restarted_once(log_m: float, log_e: float) -> float:
    """Do as `restarted` does with one element."""
    before = max(log_m, LOG_RESTART_MIN)
    return max(before, 0.0) + math.log1p(math.exp(-abs(before))) + log_e


@kernel
def log_mixture_once(log_m: NDArray[np.float64]) -> float:
    """Do as `log_mixture` does with the alternatives (alternatives,) of one row."""
    best = LOG_NOTHING
    for one in log_m:
        best = max(best, one)
    total = 0.0
    for one in log_m:
        total += math.exp(max(one, LOG_NOTHING) - best)
    return best + math.log(total / len(log_m))


@kernel
def log_e_bernoulli_once(hits: float, trials: float, null: float, odds: float) -> float:
    """Do as `log_e_bernoulli` does with one row and one alternative."""
    p0 = min(max(null, 1e-9), 1.0 - 1e-9)
    p1 = odds * p0 / (1.0 - p0 + odds * p0)
    return hits * math.log(p1 / p0) + (trials - hits) * math.log((1.0 - p1) / (1.0 - p0))
