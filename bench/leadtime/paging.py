"""How a score becomes pages, and what threshold a budget of false pages allows.

The same policy for every detector: two evaluations in a row, over after ten minutes below, no second page
within an hour.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.kernel import allocating_kernel, kernel

IN_A_ROW = 2
KEEP = 40  # evaluations below the threshold until a page is over: 10 minutes
REPEAT = 240  # evaluations between pages: 60 minutes
STANDING_MAX = 0.05  # an alert that stands longer than this share of the time is no page
RESOLUTION = 100.0  # thresholds are tried in steps of a hundredth


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


@allocating_kernel
def pages_by_stream(score: NDArray[np.float64], threshold: float, repeat: int) -> NDArray[np.int64]:
    """Give how often each stream pages; `score` (streams, evaluations)."""
    into = np.empty(score.shape[1], np.int64)
    many = np.empty(score.shape[0], np.int64)
    for i in range(score.shape[0]):
        many[i] = page_steps(score[i], threshold, repeat, into)
    return many


@allocating_kernel
def useful_pages(
    score: NDArray[np.float64], threshold: float, first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Give the first page of each stream within [first, last] evaluations; -1: none.

    A page that still stands at `first` keeps a later one from being sent.
    """
    into = np.empty(score.shape[1], np.int64)
    found = np.full(score.shape[0], -1)
    for i in range(score.shape[0]):
        many = page_steps(score[i, : last[i] + 1], threshold, 0, into)
        for k in range(many):
            if into[k] >= first[i]:
                found[i] = into[k]
                break
    return found


def pages(score: NDArray[np.float64], threshold: float) -> list[NDArray[np.int64]]:
    """Give the evaluations at which each stream pages, the first one counted from 0."""
    into = np.empty(score.shape[1], np.int64)
    return [into[: page_steps(row, threshold, REPEAT, into)].copy() for row in score]


def count_pages(score: NDArray[np.float64], threshold: float) -> int:
    """Give how often all streams together page."""
    return int(pages_by_stream(score, threshold, REPEAT).sum())


def tuned_threshold(score: NDArray[np.float64], pages_max: float) -> float:
    """Give the lowest threshold, in hundredths, that with all above it pages at most `pages_max` times."""
    return tuned_thresholds(score, (pages_max,))[0]


def tuned_thresholds(score: NDArray[np.float64], budgets: tuple[float, ...]) -> list[float]:
    """Give the threshold for each budget of pages; budgets ascend.

    Walked from the top, and no lower than where it would stand too long: one page that never ends would keep
    any budget. inf: no threshold will do.
    """
    finite = score[np.isfinite(score)]
    cells = np.floor(finite * RESOLUTION).astype(np.int64)
    tried, many = np.unique(cells, return_counts=True)
    stands = np.cumsum(many[::-1]) / score.size
    lowest, found = np.inf, [np.inf] * len(budgets)
    at = 0
    for cell, share in zip(tried[::-1], stands, strict=True):
        threshold = float(cell) / RESOLUTION
        paged = count_pages(score, threshold) if share <= STANDING_MAX else np.inf
        while at < len(budgets) and paged > budgets[at]:
            found[at] = lowest
            at += 1
        if at == len(budgets):
            return found
        lowest = threshold
    return [one if k < at else lowest for k, one in enumerate(found)]
