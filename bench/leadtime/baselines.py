"""The rules people use today, on the gauge of calls in flight, and how a score becomes pages.

All take `level` (streams, evaluations) at the end of each evaluation and give a score of the same shape, in
units of the cap for static and predict_linear.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.feed import Calls
from bench.leadtime.traffic import STEP_S
from engine.kernel import kernel

IN_A_ROW = 2
KEEP = 40  # evaluations below the threshold until a page is over: 10 minutes
REPEAT = 240  # evaluations between pages: 60 minutes
STANDING_MAX = 0.05  # an alert that stands longer than this share of the time is no page
GATE = 0.5  # of the cap in use, for predict_linear too


def level_of(calls: Calls, steps: int) -> NDArray[np.float64]:
    """Give the calls in flight at the end of each evaluation."""
    at_s = (np.arange(steps) + 1) * STEP_S
    started = np.searchsorted(calls.start_s, at_s, side="right")
    ended = np.searchsorted(np.sort(calls.end_s), at_s, side="right")
    return np.asarray(started - ended, dtype=np.float64)


def predict_linear(level: NDArray[np.float64], window: int, ahead: int) -> NDArray[np.float64]:
    """Give the least-squares line over the last `window` evaluations, `ahead` evaluations on.

    -inf before that.
    """
    at = np.arange(window) - (window - 1)
    centred = at - at.mean()
    weights = 1.0 / window + centred / np.square(centred).sum() * (ahead - at.mean())
    predicted = np.full_like(level, -np.inf)
    if level.shape[1] >= window:
        for row, line in zip(level, predicted, strict=True):
            line[window - 1 :] = np.correlate(row, weights, "valid")
    return predicted


def static_score(level: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """Give the share of the cap in use."""
    return level / cap


def linear_score(level: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """Give predict_linear over 30 minutes, 30 minutes on, as a share of the cap."""
    return np.where(level >= GATE * cap, predict_linear(level, 120, 120) / cap, -np.inf)


@kernel
def page_steps(score: NDArray[np.float64], threshold: float, repeat: int, into: NDArray[np.int64]) -> int:
    """Write the evaluations at which one stream pages into `into`, and give how many there are."""
    many = 0
    in_a_row = 0
    below = 0
    is_firing = False
    last = -repeat
    for k in range(len(score)):
        if score[k] >= threshold:
            in_a_row += 1
            below = 0
            if not is_firing and in_a_row >= IN_A_ROW and k - last >= repeat:
                into[many] = k
                many += 1
                is_firing = True
                last = k
        else:
            in_a_row = 0
            below += 1
            if below >= KEEP:
                is_firing = False
    return many


def pages(score: NDArray[np.float64], threshold: float) -> list[NDArray[np.int64]]:
    """Give the evaluations at which each stream pages, the first one counted from 0."""
    into = np.empty(score.shape[1], np.int64)
    return [into[: page_steps(row, threshold, REPEAT, into)].copy() for row in score]


def tuned_threshold(score: NDArray[np.float64], pages_max: int) -> float:
    """Give the lowest threshold, in hundredths, that with all above it pages at most `pages_max` times.

    Walked from the top, and no lower than where it would stand too long: one page that never ends would keep
    any budget. inf: no threshold will do.
    """
    finite = np.unique(np.floor(score[np.isfinite(score)] * 100.0)) / 100.0
    lowest = np.inf
    for threshold in finite[::-1]:
        stands = float(np.mean(score >= threshold))
        if stands > STANDING_MAX or count_pages(score, float(threshold)) > pages_max:
            break
        lowest = float(threshold)
    return lowest


def count_pages(score: NDArray[np.float64], threshold: float) -> int:
    """Give how often all streams together page."""
    return sum(len(found) for found in pages(score, threshold))
