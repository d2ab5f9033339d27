"""Sums by key, sparse: what a slice adds up to before it is sorted into a summary.

An open-addressing table from a packed non-negative key to an int64 sum. Kernels only add to it; when it is
half full they stop and their caller makes a larger one, so that no kernel allocates.
Rejected: dense arrays by series, which cost megabytes for every slice in which a few series are busy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEY, SUM = 0, 1
EMPTY = -1
CAPACITY_MIN = 1024
FOLD_BITS = 31
FOLD_MASK = (1 << FOLD_BITS) - 1
MULTIPLIER = 0x9E3779B1  # 2^32 over the golden ratio: spreads neighbouring keys
HIGH_SHIFT = 16


class Tally(NamedTuple):
    """Sums by key; the capacity is a power of two. Owned by whoever made it, written by kernels."""

    entries: NDArray[np.int64]  # (capacity, 2): KEY (EMPTY: free), SUM
    used: NDArray[np.int64]  # (1,): how many keys there are


def new_tally(keys: int = 0) -> Tally:
    """Make an empty tally that takes `keys` keys and as many again before it has to grow."""
    capacity = CAPACITY_MIN
    while capacity < 4 * keys:
        capacity *= 2
    entries = np.zeros((capacity, 2), np.int64)
    entries[:, KEY] = EMPTY
    return Tally(entries, np.zeros(1, np.int64))


@kernel
def has_room(tally: Tally, keys: int) -> bool:
    """Say whether `keys` new keys fit without the table being more than half full."""
    return bool((tally.used[0] + keys) * 2 <= len(tally.entries))


@kernel
def add(tally: Tally, key: int, amount: int) -> None:
    """Add to the sum of a key. The caller has seen to the room."""
    entries = tally.entries
    mask = len(entries) - 1
    row = (((key ^ (key >> FOLD_BITS)) & FOLD_MASK) * MULTIPLIER >> HIGH_SHIFT) & mask
    while entries[row, KEY] != key:
        if entries[row, KEY] == EMPTY:
            entries[row, KEY] = key
            tally.used[0] += 1
            break
        row = (row + 1) & mask
    entries[row, SUM] += amount


@kernel
def refill(into: Tally, source: Tally) -> None:
    """Add everything in `source` to `into`."""
    for row in range(len(source.entries)):
        if source.entries[row, KEY] != EMPTY:
            add(into, source.entries[row, KEY], source.entries[row, SUM])


def grown(tally: Tally, keys: int) -> Tally:
    """Give a tally with room for `keys` more keys: the same one if it has it, else a larger copy."""
    if has_room(tally, keys):
        return tally
    larger = new_tally(int(tally.used[0]) + keys)
    refill(larger, tally)
    return larger


def items(tally: Tally) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the keys (n,) and their sums (n,), in no order."""
    rows = tally.entries[tally.entries[:, KEY] != EMPTY]
    return rows[:, KEY], rows[:, SUM]
