"""Sums by key, sparse: what a slice adds up to before it is sorted into a summary.

An open-addressing table from a packed non-negative key to a row of int64 sums. Kernels only add to it; when it is
half full they stop and their caller makes a larger one, so that no kernel allocates.
Rejected: dense arrays by series, which cost megabytes for every slice in which a few series are busy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

EMPTY = -1
CAPACITY_MIN = 64
FOLD_BITS = 31
FOLD_MASK = (1 << FOLD_BITS) - 1
MULTIPLIER = 0x9E3779B1  # 2^32 over the golden ratio: spreads neighbouring keys
HIGH_SHIFT = 16


class Tally(NamedTuple):
    """Sums by key; the capacity is a power of two. Owned by whoever made it, written by kernels."""

    keys: NDArray[np.int64]  # (capacity,); EMPTY: free
    values: NDArray[np.int64]  # (capacity, columns)
    used: NDArray[np.int64]  # (1,): how many keys there are


def new_tally(columns: int, keys: int = 0) -> Tally:
    """Make an empty tally that takes `keys` keys and as many again before it has to grow."""
    capacity = CAPACITY_MIN
    while capacity < 4 * keys:
        capacity *= 2
    return Tally(
        np.full(capacity, EMPTY, np.int64), np.zeros((capacity, columns), np.int64), np.zeros(1, np.int64)
    )


@kernel
def has_room(tally: Tally, keys: int) -> bool:
    """Say whether `keys` new keys fit without the table being more than half full."""
    return bool((tally.used[0] + keys) * 2 <= len(tally.keys))


@kernel
def row_of(tally: Tally, key: int) -> int:
    """Give the row of `values` of a key, made if it is new. The caller has seen to the room."""
    mask = len(tally.keys) - 1
    row = (((key ^ (key >> FOLD_BITS)) & FOLD_MASK) * MULTIPLIER >> HIGH_SHIFT) & mask
    while tally.keys[row] != key:
        if tally.keys[row] == EMPTY:
            tally.keys[row] = key
            tally.used[0] += 1
            break
        row = (row + 1) & mask
    return row


@kernel
def refill(into: Tally, source: Tally) -> None:
    """Add everything in `source` to `into`."""
    for old in range(len(source.keys)):
        if source.keys[old] != EMPTY:
            row = row_of(into, source.keys[old])
            for column in range(source.values.shape[1]):
                into.values[row, column] += source.values[old, column]


def grown(tally: Tally, keys: int) -> Tally:
    """Give a tally with room for `keys` more keys: the same one if it has it, else a larger copy."""
    if has_room(tally, keys):
        return tally
    larger = new_tally(tally.values.shape[1], int(tally.used[0]) + keys)
    refill(larger, tally)
    return larger


def items(tally: Tally) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the keys (n,) and their sums (n, columns), in no order."""
    rows = np.flatnonzero(tally.keys != EMPTY)
    return tally.keys[rows], tally.values[rows]
