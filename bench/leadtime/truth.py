"""What a cap does to calls: the first decline, and how many calls are lost until somebody reacts.

Up to the first declined attempt a capped platform and an endless one are the same path by path, so the moment
of the truth (the first arrival that finds the limit full) is exact without any model. What is lost after it
comes from the same arrivals and holding times with the cap: a call counts as lost if it would have been
taken without it. Callers who try again by themselves are left out: losses are first attempts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.feed import Calls
from engine.kernel import allocating_kernel, kernel

LOSSES_S = 3600.0  # losses are counted for so long after the first decline


def first_decline_s(calls: Calls, cap: float) -> float:
    """Give when the first call found the limit full; inf: none did."""
    gone = np.searchsorted(np.sort(calls.end_s), calls.start_s, side="right")
    full = np.flatnonzero(np.arange(len(calls.start_s)) - gone >= cap)
    return float(calls.start_s[full[0]]) if len(full) else np.inf


def declined_s(calls: Calls, cap: float, until_s: float) -> NDArray[np.float64]:
    """Give the moments up to `until_s` at which attempts are declined; `calls` in order of their start."""
    many = int(np.searchsorted(calls.start_s, until_s))
    return np.asarray(calls.start_s[:many][declined(calls.start_s[:many], calls.end_s[:many], int(cap))])


@allocating_kernel
def declined(start_s: NDArray[np.float64], end_s: NDArray[np.float64], cap: int) -> NDArray[np.bool_]:
    """Tell which attempts a platform with `cap` places turns away; a heap holds the ends of those it took."""
    heap = np.empty(cap + 1)
    many = 0
    turned_away = np.zeros(len(start_s), np.bool_)
    for i in range(len(start_s)):
        while many > 0 and heap[0] <= start_s[i]:
            many -= 1
            heap[0] = heap[many]
            sink(heap, many)
        if many >= cap:
            turned_away[i] = True
            continue
        heap[many] = end_s[i]
        rise(heap, many)
        many += 1
    return turned_away


@kernel
def rise(heap: NDArray[np.float64], at: int) -> None:
    """Move the value at `at` up to its place, in place."""
    while at > 0:
        parent = (at - 1) // 2
        if heap[parent] <= heap[at]:
            break
        heap[parent], heap[at] = heap[at], heap[parent]
        at = parent


@kernel
def sink(heap: NDArray[np.float64], many: int) -> None:
    """Move the first of `many` values down to its place, in place."""
    at = 0
    while 2 * at + 1 < many:
        child = 2 * at + 1
        if child + 1 < many and heap[child + 1] < heap[child]:
            child += 1
        if heap[at] <= heap[child]:
            break
        heap[child], heap[at] = heap[at], heap[child]
        at = child


def lost(losses_s: NDArray[np.float64], paged_s: float, decline_s: float, reaction_s: float) -> int:
    """Give the calls lost if the cap is out of the way `reaction_s` after the page.

    Without a page the first declined call calls somebody.
    """
    return int(np.searchsorted(losses_s, min(paged_s, decline_s) + reaction_s))
