"""What is known of earlier weeks: counts by 5 minutes, and the plain seasonal mean that rules of others use.

Six weeks of their own, in none of which anything is scored. The product learns from the counts in its own
way; the deseasonalised rules and the prototype get their smoothed mean.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.stream import HISTORY_WEEKS, Stream
from bench.leadtime.traffic import (
    HOLDING_S,
    HOLDING_SIGMA,
    STEP_S,
    WEEK_S,
    WEEK_STEPS,
    ordinary_rate,
    slow_factor,
)

SLOT_S = 300
SLOTS = int(WEEK_S) // SLOT_S
SLOT_STEPS = int(SLOT_S / STEP_S)
LEVEL_MIN = 0.02  # of the cap: an expected level is never taken as less, ratios would explode


def week_counts(cap: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the attempts of ordinary weeks by slot; (HISTORY_WEEKS, SLOTS)."""
    rates = [ordinary_rate(cap) * slow_factor(WEEK_STEPS, rng) for _ in range(HISTORY_WEEKS)]
    by_slot = np.stack(rates).reshape(HISTORY_WEEKS, SLOTS, SLOT_STEPS).sum(axis=2) * STEP_S
    return np.asarray(rng.poisson(by_slot))


def counts_of(stream: Stream, ordinary: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the weeks before a stream; those of `growth` were smaller the longer ago."""
    return np.asarray(ordinary * np.array(stream.history)[:, None])


def seasonal_rate(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the expected arrivals per evaluation, from Monday on: the smoothed mean of the weeks."""
    mean = counts.mean(axis=0)
    smooth = 0.25 * np.roll(mean, 1) + 0.5 * mean + 0.25 * np.roll(mean, -1)
    middle = np.arange(SLOTS) * SLOT_STEPS + 0.5 * (SLOT_STEPS - 1)
    return np.asarray(np.interp(np.arange(WEEK_STEPS), middle, smooth / SLOT_STEPS, period=WEEK_STEPS))


def expected_level(rate: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """Give the calls in flight that a week of such arrivals brings, by evaluation."""
    age_s = (np.arange(WEEK_STEPS) + 0.5) * STEP_S
    z = (np.log(age_s / HOLDING_S) + 0.5 * HOLDING_SIGMA**2) / HOLDING_SIGMA
    stays = np.array([0.5 * math.erfc(each / math.sqrt(2.0)) if each < 8 else 0.0 for each in z])
    level = np.fft.irfft(np.fft.rfft(rate) * np.fft.rfft(stays), n=WEEK_STEPS)
    return np.asarray(np.maximum(level, LEVEL_MIN * cap))


def rolled(week: NDArray[np.float64], first_step: int, steps: int) -> NDArray[np.float64]:
    """Give `steps` evaluations of a week from `first_step` on."""
    return week[(first_step + np.arange(steps)) % WEEK_STEPS]
