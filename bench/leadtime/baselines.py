"""The rules people use today on the gauge of calls in flight, in every window and horizon they might pick.

Each gives a score of shape (streams, evaluations); which threshold makes it a page is decided by a budget, or
is as shipped. predict_linear is that of Prometheus, gated as its mixins do; deseasonalised, it runs over the
ratio to what earlier weeks lead to expect. Holt and the Kalman filter follow level and trend.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.corpus import Corpus
from bench.leadtime.traffic import STEP_S
from engine.kernel import allocating_kernel

GATE = 0.5  # of the cap in use; predict_linear alone pages at every dawn
WINDOWS_MIN = (5, 30, 60, 240)
HORIZONS_MIN = (10, 30, 60)
HOLT = ((0.1, 0.02), (0.2, 0.05), (0.4, 0.1))
HOLT_DAMPING = 0.998  # of the trend, per evaluation
KALMAN = (1e-7, 1e-6, 1e-5)  # growth noise per evaluation, of the level
KALMAN_HORIZONS_MIN = (5, 10, 30)
LEVEL_NOISE = 0.02
SHIPPED_STATIC = 0.8


class Variant(NamedTuple):
    """One rule: the group it competes in, its name, its score, and its threshold as shipped, if any."""

    group: str
    name: str
    score: Callable[[Corpus], NDArray[np.float64]]
    shipped: float = math.nan


def per_minute(minutes: int) -> int:
    """Give minutes in evaluations."""
    return round(minutes * 60 / STEP_S)


def predict_linear(level: NDArray[np.float64], window: int, ahead: int) -> NDArray[np.float64]:
    """Give the least-squares line over the last `window` evaluations, `ahead` evaluations on.

    -inf before that.
    """
    predicted = np.full(level.shape, -np.inf)
    steps = level.shape[1]
    if steps < window:
        return predicted
    zero = np.zeros((len(level), 1))
    total = np.concatenate([zero, np.cumsum(level, axis=1)], axis=1)
    moment = np.concatenate([zero, np.cumsum(level * np.arange(steps), axis=1)], axis=1)
    last = np.arange(window - 1, steps)
    of_window = total[:, last + 1] - total[:, last + 1 - window]
    middle = last - 0.5 * (window - 1)
    slope = (moment[:, last + 1] - moment[:, last + 1 - window] - middle * of_window) * 12.0
    slope /= window * (window * window - 1.0)
    predicted[:, window - 1 :] = of_window / window + slope * (0.5 * (window - 1) + ahead)
    return predicted


@allocating_kernel
def holt(
    level: NDArray[np.float64], weights: tuple[float, float], damping: float, ahead: int
) -> NDArray[np.float64]:
    """Give Holt's damped trend `ahead` evaluations on; `weights` = (of the level, of the trend)."""
    alpha, beta = weights
    reach = damping * (1.0 - damping**ahead) / (1.0 - damping)
    predicted = np.empty_like(level)
    for i in range(level.shape[0]):
        base = level[i, 0]
        trend = 0.0
        for k in range(level.shape[1]):
            before = base
            base = alpha * level[i, k] + (1.0 - alpha) * (base + damping * trend)
            trend = beta * (base - before) + (1.0 - beta) * damping * trend
            predicted[i, k] = base + reach * trend
    return predicted


@allocating_kernel
def kalman(
    level: NDArray[np.float64], growth_noise: float, level_noise: float, ahead: int, caps: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give how many standard deviations a local linear trend stands above the cap `ahead` evaluations on."""
    score = np.empty_like(level)
    for i in range(level.shape[0]):
        base, trend = level[i, 0], 0.0
        base_var, both, trend_var = 100.0, 0.0, 1.0
        for k in range(level.shape[1]):
            seen = level[i, k] + 1.0
            base += trend
            base_var += 2.0 * both + trend_var + level_noise * seen
            both += trend_var
            trend_var += growth_noise * seen
            total = base_var + seen
            error = level[i, k] - base
            base += base_var / total * error
            trend += both / total * error
            trend_var -= both * both / total
            both -= base_var * both / total
            base_var -= base_var * base_var / total
            mean = base + ahead * trend
            variance = base_var + 2.0 * ahead * both + ahead * ahead * trend_var + max(mean, 1.0)
            score[i, k] = (mean - caps[i]) / math.sqrt(variance)
    return score


def static_score(corpus: Corpus) -> NDArray[np.float64]:
    """Give the share of the cap in use."""
    return corpus.level / corpus.caps[:, None]


def gated(corpus: Corpus, predicted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give a predicted level as a share of the cap, and nothing below the gate."""
    caps = corpus.caps[:, None]
    return np.where(corpus.level >= GATE * caps, predicted / caps, -np.inf)


def samples(minutes: int) -> int:
    """Give how many samples a range of Prometheus has: both its ends count, up to version 2 at least."""
    return per_minute(minutes) + 1


def linear_score(window: int, ahead: int) -> Callable[[Corpus], NDArray[np.float64]]:
    """Give predict_linear on the gauge."""
    return lambda corpus: gated(corpus, predict_linear(corpus.level, window, ahead))


def seasonal_score(window: int, ahead: int) -> Callable[[Corpus], NDArray[np.float64]]:
    """Give predict_linear on the ratio to the expected level, times the level expected then."""

    def score(corpus: Corpus) -> NDArray[np.float64]:
        now, then = corpus.usual_level[:, : corpus.steps], corpus.usual_level[:, ahead : ahead + corpus.steps]
        return gated(corpus, predict_linear(corpus.level / now, window, ahead) * then)

    return score


def holt_score(weights: tuple[float, float], ahead: int) -> Callable[[Corpus], NDArray[np.float64]]:
    """Give Holt's forecast."""
    return lambda corpus: gated(corpus, holt(corpus.level, weights, HOLT_DAMPING, ahead))


def kalman_score(growth_noise: float, ahead: int) -> Callable[[Corpus], NDArray[np.float64]]:
    """Give the Kalman filter's forecast."""

    def score(corpus: Corpus) -> NDArray[np.float64]:
        found = kalman(corpus.level, growth_noise, LEVEL_NOISE, ahead, corpus.caps)
        return np.where(corpus.level >= GATE * corpus.caps[:, None], found, -np.inf)

    return score


def every_baseline() -> list[Variant]:
    """List every rule in every window and horizon."""
    variants = [
        Variant("static, as shipped", "80 %", static_score, SHIPPED_STATIC),
        Variant("static", "tuned", static_score),
        Variant("predict_linear, as shipped", "30m, 30m", linear_score(samples(30), per_minute(30)), 1.0),
    ]
    for window in WINDOWS_MIN:
        for ahead in HORIZONS_MIN:
            at = samples(window), per_minute(ahead)
            name = f"{window}m, {ahead}m"
            variants.append(Variant("predict_linear", name, linear_score(*at)))
            variants.append(Variant("predict_linear, deseasonalised", name, seasonal_score(*at)))
    for weights in HOLT:
        for ahead in HORIZONS_MIN:
            name = f"{weights[0]:g}/{weights[1]:g}, {ahead}m"
            variants.append(Variant("Holt", name, holt_score(weights, per_minute(ahead))))
    variants += [
        Variant("Kalman", f"{noise:g}, {ahead}m", kalman_score(noise, per_minute(ahead)))
        for noise in KALMAN
        for ahead in KALMAN_HORIZONS_MIN
    ]
    return variants
