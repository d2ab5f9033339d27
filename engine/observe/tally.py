"""Sums by key, sparse: what a slice adds up to before it is sorted into a summary.

An open-addressing table from a packed non-negative key to an int64 sum. Kernels only add to it; when it is
half full they stop and their caller makes a larger one, so that no kernel allocates.
Rejected: dense arrays by series, which cost megabytes for every slice in which a few series are busy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.kernel import kernel

KEY, SUM = 0, 1
TOTALS = -1
EMPTY = -1
CAPACITY_MIN = 1024
ROOMY = 8  # a tally with more than so many times the room that it needs is given up
FOLD_BITS = 31
FOLD_MASK = (1 << FOLD_BITS) - 1
# Odd numbers below 2^32, so that no product leaves int64. Its upper half depends on all bits of the key, but
# there keys that follow one another differ by less than one: one fact of all series would stand in one crowd,
# the larger the more series there are. In the lower half they are spread evenly; so both are used.
LOW_MULTIPLIER, HIGH_MULTIPLIER = 0x9E3779B1, 0x85EBCA77
UPPER_SHIFT, LOWER_SHIFT = 32, 16


# int64 (capacity + 1, 2): KEY (EMPTY: free) and SUM, the capacity a power of two; the last row counts the
# keys. One array, since every array that a kernel hands on costs time at each call.
Tally = NDArray[np.int64]


def new_tally(keys: int = 0) -> Tally:
    """Make an empty tally that takes `keys` keys and as many again before it has to grow."""
    tally = np.zeros((_capacity(keys) + 1, 2), np.int64)
    tally[:TOTALS, KEY] = EMPTY
    return tally


def cleared(tally: Tally, keys: int) -> Tally:
    """Empty a tally that is of no use any more, or make a new one if that has not the room of a new one."""
    if not 1 <= (len(tally) - 1) / _capacity(keys) <= ROOMY:
        return new_tally(keys)
    tally[:, SUM] = 0
    tally[:TOTALS, KEY] = EMPTY
    return tally


def _capacity(keys: int) -> int:
    capacity = CAPACITY_MIN
    while capacity < 4 * keys:
        capacity *= 2
    return capacity


@kernel
def has_room(tally: Tally, keys: int) -> bool:
    """Say whether `keys` new keys fit without the table being more than half full."""
    return bool((tally[TOTALS, SUM] + keys) * 2 < len(tally))


@kernel
def home_of(tally: Tally, key: int) -> int:
    """Give the row at which the search for a key begins."""
    mixed = ((key & FOLD_MASK) * LOW_MULTIPLIER) ^ ((key >> FOLD_BITS) * HIGH_MULTIPLIER)
    return ((mixed >> UPPER_SHIFT) ^ (mixed >> LOWER_SHIFT)) & (len(tally) - 2)


@kernel
def add(tally: Tally, key: int, amount: int) -> None:
    """Add to the sum of a key. The caller has seen to the room."""
    mask = len(tally) - 2
    row = home_of(tally, key)
    while tally[row, KEY] != key:
        if tally[row, KEY] == EMPTY:
            tally[row, KEY] = key
            tally[TOTALS, SUM] += 1
            break
        row = (row + 1) & mask
    tally[row, SUM] += amount


@kernel
def refill(into: Tally, source: Tally) -> None:
    """Add everything in `source` to `into`."""
    for row in range(len(source) - 1):
        if source[row, KEY] != EMPTY:
            add(into, source[row, KEY], source[row, SUM])


def keys_in(tally: Tally) -> int:
    """Give how many keys there are."""
    return int(tally[TOTALS, SUM])


def grown(tally: Tally, keys: int) -> Tally:
    """Give a tally with room for `keys` more keys: the same one if it has it, else a larger copy."""
    if has_room(tally, keys):
        return tally
    larger = new_tally(keys_in(tally) + keys)
    refill(larger, tally)
    return larger
