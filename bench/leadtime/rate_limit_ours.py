"""The product's detector of calls per second over many diallers side by side, slice by slice."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bench.detection.limit_slices import limit_slice, rate_limits
from bench.leadtime.traffic import STEP_S
from detectors.rate_limit import RateLimit
from detectors.rate_limit_state import RateLimitParams

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP_BINS = int(STEP_S * 10)  # of 100 ms
SEEN_SCORE = 50.0  # calls over the limit were seen
LEAST = 1e-12
SHIPPED = math.log(RateLimitParams().excess_max)


def our_scores(starts_s: list[NDArray[np.float64]], limit: int, steps: int) -> NDArray[np.float64]:
    """Give the logarithm of the calls expected over the limit within the horizon; (streams, evaluations)."""
    rows = len(starts_s)
    cap = np.full(rows, float(limit))
    detector, limits = RateLimit(), rate_limits(cap)
    state = detector.new_state()
    row = np.repeat(np.arange(rows), [len(one) for one in starts_s])
    at = (np.concatenate(starts_s) * 10.0).astype(np.int64)
    order = np.argsort(at // STEP_BINS, kind="stable")
    row, at = row[order], at[order]
    bounds = np.searchsorted(at // STEP_BINS, np.arange(steps + 1))
    scores = np.full((rows, steps), -np.inf)
    for step in range(steps):
        here = slice(bounds[step], bounds[step + 1])
        bins = np.zeros((rows, STEP_BINS), np.int32)
        np.add.at(bins, (row[here], at[here] % STEP_BINS), 1)
        state = detector.detect(state, limit_slice(step, cap, bins, int(STEP_S)), limits).state
        within = detector.outlook(state, cap[state.row]).within[:, -1]
        is_seen = state.overs.sum(axis=1) >= detector.params.seen_min
        scores[state.row, step] = np.where(is_seen, SEEN_SCORE, np.log(np.maximum(within, LEAST)))
    return scores
