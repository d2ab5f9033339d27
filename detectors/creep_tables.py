"""Tables of latencies, (slots, COLUMNS): how creeping_latency.py counts, fades and adds them up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel
from engine.observe.latency import UPPER_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

BUCKET_FIRST = int(np.searchsorted(UPPER_S, 0.1))  # what is faster than 100 ms shares the first column
BUCKET_END = int(np.searchsorted(UPPER_S, 170.0))
COLUMNS = BUCKET_END - BUCKET_FIRST
LOWER_S = UPPER_S[BUCKET_FIRST - 1 : BUCKET_END - 1]
LOG_S = np.log(UPPER_S[BUCKET_FIRST:BUCKET_END]) - math.log(2.0) / 64.0  # middle of each bucket
LOG_S_SQUARED = LOG_S**2


class Fade(NamedTuple):
    """How a minute that is over changes the tables."""

    recent: NDArray[np.float32]  # (slots,): what is kept of the recent ones
    past: np.float32  # and of the past
    is_learned: NDArray[np.bool_]  # (slots,): the past takes the minute up; else it stays
    is_usual_now: NDArray[np.bool_]  # (slots,): what is recent is the past from now on


class Above(NamedTuple):
    """How many calls lie in a column or above it, (slots, COLUMNS + 1)."""

    past: NDArray[np.float64]
    new: NDArray[np.float64]  # in the minute that is over


class CutLaw(NamedTuple):
    """When a wall is thought to cut calls."""

    lower_s: NDArray[np.float64]  # (COLUMNS,)
    slack: float  # a call so many times as long as the wall is beyond it ...
    near: float  # ... and from so many times on near to it
    seen_min: float  # beyond the wall in the past


@kernel
def add_to_columns(
    slot_of: NDArray[np.int32],
    row: NDArray[np.int32],
    bucket: NDArray[np.int16],
    many: NDArray[np.int64],
    pending: NDArray[np.int32],
) -> None:
    """Add the facts (facts,) of watched rows to their columns in `pending` (slots, COLUMNS)."""
    for k in range(len(row)):
        slot = slot_of[row[k]]
        if slot >= 0:
            pending[slot, min(max(bucket[k] - BUCKET_FIRST, 0), COLUMNS - 1)] += many[k]


def faded(
    recent: NDArray[np.floating], past: NDArray[np.floating], pending: NDArray[np.int32], fade: Fade
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the recent and the past calls with a minute in them."""
    found = np.empty(recent.shape), np.empty(past.shape)
    fade_tables(recent, past, pending, fade, *found)
    return found


@kernel
def fade_tables(
    recent: NDArray[np.floating],
    past: NDArray[np.floating],
    pending: NDArray[np.int32],
    fade: Fade,
    recent_after: NDArray[np.float64],
    past_after: NDArray[np.float64],
) -> None:
    """Fill the tables after a minute; what is past is kept to single precision."""
    for i in range(recent.shape[0]):
        for k in range(recent.shape[1]):
            recent_after[i, k] = recent[i, k] * fade.recent[i] + pending[i, k]
            if fade.is_usual_now[i]:
                past_after[i, k] = recent_after[i, k]
            elif fade.is_learned[i]:
                past_after[i, k] = np.float32(past[i, k] * fade.past + pending[i, k])
            else:
                past_after[i, k] = np.float32(past[i, k])


def sums_above(table: NDArray[np.generic]) -> NDArray[np.float64]:
    """Add the columns of `table` (slots, columns) up from the last one, and 0 behind it."""
    found = np.zeros((len(table), table.shape[1] + 1))
    add_up_from_the_last(table, found)
    return found


@kernel
def add_up_from_the_last(table: NDArray[np.generic], found: NDArray[np.float64]) -> None:
    """Fill `found` (slots, columns + 1), whose last column is 0."""
    for i in range(table.shape[0]):
        total = 0.0
        for k in range(table.shape[1] - 1, -1, -1):
            total += table[i, k]
            found[i, k] = total


@kernel
def columns_beyond(above: NDArray[np.float64], wanted: NDArray[np.float64], found: NDArray[np.int64]) -> None:
    """Fill `found` (slots,): the first column of `above` (slots, columns) that is not above `wanted`.

    Sums from above never rise from column to column.
    """
    for i in range(len(wanted)):
        low = 0
        high = above.shape[1]
        while low < high:
            middle = (low + high) // 2
            if above[i, middle] > wanted[i]:
                low = middle + 1
            else:
                high = middle
        found[i] = low


@kernel
def add_to_cuts(
    walls_s: NDArray[np.float64],
    above: Above,
    law: CutLaw,
    log_cut: NDArray[np.float64],
    missed: NDArray[np.float64],
) -> None:
    """Add a minute to the evidence that nothing passes `walls_s` (slots, walls), and to what is missed.

    Where there is no wall, NaN, there is no evidence.
    """
    for i in range(walls_s.shape[0]):
        for k in range(walls_s.shape[1]):
            at = column_from(law.lower_s, walls_s[i, k] * law.slack)
            if math.isnan(walls_s[i, k]) or above.new[i, at] > 0.0:
                log_cut[i, k] = missed[i, k] = 0.0
                continue
            near, past = column_from(law.lower_s, walls_s[i, k] * law.near), above.past[i, at]
            if past >= law.seen_min:
                share = min(max(past - math.sqrt(past), 0.0) / max(above.past[i, near], 1.0), 0.95)
                log_cut[i, k] -= above.new[i, near] * math.log1p(-share)
                missed[i, k] += above.new[i, near] * share


@kernel
def column_from(lower_s: NDArray[np.float64], value_s: float) -> int:
    """Give the first column that begins at a value or above it."""
    low = 0
    high = len(lower_s)
    while low < high:
        middle = (low + high) // 2
        if lower_s[middle] < value_s:
            low = middle + 1
        else:
            high = middle
    return low
