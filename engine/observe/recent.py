"""Ids of recent events: a redelivered event that no state would recognise is dropped.

A bounded set with the order of arrival: when it is full, the oldest id is forgotten first.
Rejected: a Bloom filter, which would drop events that are no duplicates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Recent(NamedTuple):
    """A set of at most `len(ring)` non-zero keys; the table has a power of two of places, twice as many."""

    table: NDArray[np.int64]  # (capacity,), linear probing; 0: free
    ring: NDArray[np.int64]  # (event_ids_max,), in order of arrival; 0: free
    next: NDArray[np.int64]  # (1,): place in the ring that is written next
    forgotten: NDArray[np.int64]  # (1,): ids that had to make room


def new_recent(ids_max: int) -> Recent:
    """Make an empty set."""
    capacity = 4
    while capacity < 2 * ids_max:
        capacity *= 2
    return Recent(
        np.zeros(capacity, np.int64), np.zeros(ids_max, np.int64), *(np.zeros(1, np.int64) for _ in range(2))
    )


@kernel
def was_seen(recent: Recent, key: int) -> bool:
    """Say whether a non-zero key was seen recently, and remember it."""
    mask = len(recent.table) - 1
    slot = key & mask
    while recent.table[slot] != 0:
        if recent.table[slot] == key:
            return True
        slot = (slot + 1) & mask
    recent.table[slot] = key
    place = recent.next[0]
    if recent.ring[place] != 0:
        forget(recent, recent.ring[place])
        recent.forgotten[0] += 1
    recent.ring[place] = key
    recent.next[0] = (place + 1) % len(recent.ring)
    return False


@kernel
def forget(recent: Recent, key: int) -> None:
    """Take a key that is in the set out of the table, closing the gap that it leaves."""
    mask = len(recent.table) - 1
    gap = key & mask
    while recent.table[gap] != key:
        gap = (gap + 1) & mask
    slot = (gap + 1) & mask
    while recent.table[slot] != 0:
        home = recent.table[slot] & mask
        if ((slot - home) & mask) >= ((slot - gap) & mask):
            recent.table[gap] = recent.table[slot]
            gap = slot
        slot = (slot + 1) & mask
    recent.table[gap] = 0
