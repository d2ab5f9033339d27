"""A retry storm: calls that fail after a while, each tried again a few seconds later, up to a dozen times.

What fails holds a place for a third of an ordinary call; so the storm fills the cap although nobody new
calls.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.feed import Calls
from bench.leadtime.traffic import HOLDING_S, HOLDING_SIGMA, STEP_S, Plan
from engine.kernel import allocating_kernel

RETRIES = 12
FAILS_AFTER_S = HOLDING_S / 3.0  # mean, exponential
AGAIN_AFTER_S = 5.0  # mean, exponential


def draw_retries(usual: Plan, fails: NDArray[np.float64], rng: np.random.Generator) -> Calls:
    """Draw calls whose attempts fail with the chance `fails` by step of their start."""
    steps = len(fails)
    at = np.repeat(np.arange(steps), rng.poisson(usual.rate_per_s * STEP_S))
    start = (at + rng.random(len(at))) * STEP_S
    begun, ended = [], []
    for attempt in range(RETRIES + 1):
        failed = rng.random(len(start)) < fails[(start / STEP_S).astype(np.int64)]
        stretch = np.exp(rng.standard_normal(len(start)) * HOLDING_SIGMA - 0.5 * HOLDING_SIGMA**2)
        end = start + np.where(failed, rng.exponential(FAILS_AFTER_S, len(start)), stretch * HOLDING_S)
        begun.append(start)
        ended.append(end)
        again = end[failed] + rng.exponential(AGAIN_AFTER_S, int(failed.sum()))
        start = again[again < steps * STEP_S]
        if attempt == RETRIES or not len(start):
            break
    start_s, end_s = np.concatenate(begun), np.concatenate(ended)
    order = np.argsort(start_s, kind="stable")
    return Calls(start_s[order], end_s[order], np.zeros(len(order), np.bool_))


def retry_rate(usual: Plan, fails: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the expected rate of attempts, first ones and retries."""
    total = usual.rate_per_s.copy()
    now = usual.rate_per_s
    for _ in range(RETRIES):
        now = delayed(delayed(now * fails, STEP_S / FAILS_AFTER_S), STEP_S / AGAIN_AFTER_S)
        total += now
    return total


@allocating_kernel
def delayed(rate: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Give a rate after an exponential delay whose mean is 1 / `step` steps."""
    keep = math.exp(-step)
    late = np.empty(len(rate))
    level = rate[0]
    for k in range(len(rate)):
        level = keep * level + (1.0 - keep) * rate[k]
        late[k] = level
    return late
