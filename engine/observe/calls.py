"""Calls in flight, and for a while those that have ended: a set by key, never a counter.

Open addressing with linear probing over 64-bit keyed hashes; a removed entry closes its gap (backward
shift), so that probes stay short for ever. An entry that has ended (a tombstone) stays until nothing of
its call can come. How many there may be is its owner's bound. A sweep finds out when the next entry has to
go; until rows come, sweeps before that would find nothing.

When the table is two thirds full, as many free slots are added behind it, and each entry that is made splits
a few slots: the search for their keys begins by one more bit from then on, so half of their entries move to
the new half. No step pays for all, and how far it has come follows from the entries made, never from batches.
Rejected: a dict; a larger table to which all entries move at once, which stops the line for longer the more
calls there are; two tables while entries move, which every look-up would have to search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernel import inlined_kernel, kernel
from engine.memory import longer, new_rows
from engine.observe.prefetch import prefetch

if TYPE_CHECKING:
    from engine.memory import Memory

# Columns of the table. SINCE_NS: in flight: when it started, or entered with unknown age; else when it ended.
# ANSWER_NS: -1: not answered. HEARTBEAT_NS: newest one, -1: none; else negative: minus the newest one, of a
# call that was healed and lives on, so that none is missed before the next. INTERVAL_NS: longest between two,
# 0: not known.
# TROUBLE: 1 + the cause of the newest dependency that failed this call, 0: none did.
KEY, SINCE_NS, ANSWER_NS, HEARTBEAT_NS, INTERVAL_NS, SERIES, STATE, TROUBLE = range(8)
COLUMNS = 8
# Bits of STATE.
IN_FLIGHT = 1  # takes capacity; else the entry is a tombstone
START_SEEN = 2  # its `call.started` was counted as an arrival
ANSWERED = 4
AGE_UNKNOWN = 8  # entered flight by something else than its start
HEALED = 16  # a tombstone without an end: taken out of flight by us
HAD_TURN = 32
HAD_AGENT = 64
REVIVED = 128  # entered flight again after it was healed; if answered, then not known when
# The last row, and its columns: entries, calls in flight, when a sweep may find something (0: at once), which
# slots of the lower half are split (0: all, -n: all but the last n).
TOTALS = -1
USED, FLYING, DUE_NS, SPLIT = range(4)
NEVER_NS = 1 << 62
CAPACITY_MIN = 256
# The longest interval of heartbeats that is believed, as a multiple of that of `Terms`: where the platform
# sent none for a while, its calls are still missed within a bound.
INTERVALS_MAX = 10
# Slots that are split when an entry is made. With two that would be done in time for the table to grow again,
# but what is not split yet would be full long before.
SPLIT_AT_ONCE = 8


# One partition's table, int64 (capacity + 1, COLUMNS), the capacity a power of two. KEY is the bits of
# the hash, 0: free. One array, with the totals in its last row: every array that a kernel hands on costs
# time at each call.
Calls = NDArray[np.int64]


class Terms(NamedTuple):
    """How long things last."""

    ttl_ns: NDArray[np.int64]  # (series,): a call without an end is given up after this
    heartbeats_missed: int
    heartbeat_ns: int  # interval, unless a longer one was observed
    tombstone_ns: int


def new_calls(capacity: int = CAPACITY_MIN) -> Calls:
    """Make an empty table."""
    calls = new_rows(capacity + 1, COLUMNS)
    calls[TOTALS, DUE_NS] = NEVER_NS
    return calls


@inlined_kernel
def home_of(key: int, mask: int, split: int) -> int:
    """Give the slot where the search for a key begins: of mask + 1 slots, or of the lower half if unsplit."""
    home = key & mask
    from_middle = key | ~(mask >> 1)  # The slot in the lower half, less half the slots.
    return home if from_middle < split else home & (mask >> 1)


@kernel
def find(calls: Calls, key: int) -> int:
    """Give the slot of a non-zero key, or -1."""
    mask = len(calls) - 2
    slot = home_of(key, mask, calls[TOTALS, SPLIT])
    while calls[slot, KEY] != 0:
        if calls[slot, KEY] == key:
            return int(slot)
        slot = (slot + 1) & mask
    return -1


@kernel
def ask_for(calls: Calls, key: int) -> None:
    """Tell the processor that a key will be looked up: it is often found one slot behind its home.

    Where slots have not been split, this is a guess.
    """
    home = key & (len(calls) - 2)
    prefetch(calls, home)
    prefetch(calls, home + 1)


@kernel
def must_grow(calls: Calls) -> bool:
    """Say whether one more entry would make the table more than two thirds full."""
    return bool((calls[TOTALS, USED] + 1) * 3 > (len(calls) - 1) * 2)


@kernel
def free_slot(calls: Calls, key: int) -> int:
    """Give the slot that a key which is not in the table would take."""
    mask = len(calls) - 2
    slot = home_of(key, mask, calls[TOTALS, SPLIT])
    while calls[slot, KEY] != 0:
        slot = (slot + 1) & mask
    return int(slot)


@kernel
def insert(calls: Calls, key: int) -> int:
    """Make an entry for a key that is not in the table; the caller has seen to the room and fills it.

    Other entries may move.
    """
    if calls[TOTALS, SPLIT] < 0:
        split_some(calls)
    slot = free_slot(calls, key)
    calls[slot, KEY] = key
    calls[slot, STATE] = 0
    calls[slot, TROUBLE] = 0
    calls[TOTALS, USED] += 1
    return slot


@kernel
def copy_entry(into: Calls, to: int, source: Calls, at: int) -> None:
    """Copy all columns of one entry."""
    for column in range(COLUMNS):
        into[to, column] = source[at, column]


@kernel
def remove(calls: Calls, slot: int) -> None:
    """Take an entry out. Entries behind it may move up; what moves into `slot` was behind it."""
    mask, split = len(calls) - 2, calls[TOTALS, SPLIT]
    gap = slot
    slot = (gap + 1) & mask
    while calls[slot, KEY] != 0:
        home = home_of(calls[slot, KEY], mask, split)
        if ((slot - home) & mask) >= ((slot - gap) & mask):
            copy_entry(calls, gap, calls, slot)
            gap = slot
        slot = (slot + 1) & mask
    calls[gap, KEY] = 0
    calls[TOTALS, USED] -= 1


@kernel
def put_right(calls: Calls, slot: int) -> None:
    """Put entries from `slot` up to the next free one where they are looked for.

    Those that are not lie half the table or more behind their home: it was moved to the other half.
    """
    mask, split = len(calls) - 2, calls[TOTALS, SPLIT]
    while calls[slot, KEY] != 0:
        key = calls[slot, KEY]
        if (slot - home_of(key, mask, split)) & mask > mask >> 1:
            copy_entry(calls, free_slot(calls, key), calls, slot)
            calls[TOTALS, USED] += 1
            remove(calls, slot)  # What moves up into this slot is looked at next.
        else:
            slot = (slot + 1) & mask


@kernel
def split_some(calls: Calls) -> None:
    """Let the search for the keys of the next slots begin in either half."""
    for _ in range(min(SPLIT_AT_ONCE, -calls[TOTALS, SPLIT])):
        slot = ((len(calls) - 1) >> 1) + calls[TOTALS, SPLIT]
        calls[TOTALS, SPLIT] += 1
        put_right(calls, slot)


@kernel
def open_upper_half(calls: Calls) -> None:
    """Begin to split a table whose upper half is new: what had gone round its end stands behind it now."""
    half = (len(calls) - 1) >> 1
    copy_entry(calls, len(calls) - 1, calls, half)
    for column in range(COLUMNS):
        calls[half, column] = 0
    calls[TOTALS, SPLIT] = -half
    put_right(calls, 0)


def grown_calls(memory: Memory, rows: int) -> Calls:
    """Make the table of so many rows in a memory twice as large; its owner has let go of it (`memory_of`)."""
    calls = longer(memory, 2 * rows - 1, COLUMNS)
    assert calls[rows - 1, SPLIT] == 0, "a table grows faster than it is split"
    open_upper_half(calls)
    return calls


@kernel
def expires_ns(calls: Calls, slot: int, terms: Terms) -> int:
    """Give the time after which an entry goes: tombstones are dropped, calls in flight are healed."""
    if not calls[slot, STATE] & IN_FLIGHT:
        return int(calls[slot, SINCE_NS] + terms.tombstone_ns)
    expires = calls[slot, SINCE_NS] + terms.ttl_ns[calls[slot, SERIES]]
    return int(min(expires, silent_ns(calls, slot, terms)))


@kernel
def silent_ns(calls: Calls, slot: int, terms: Terms) -> int:
    """Give the time after which too many heartbeats were missed; NEVER_NS if the call never sent one.

    A gap between two is no interval if it is shorter than usual: the first one often comes with the start.
    """
    if calls[slot, HEARTBEAT_NS] < 0:
        return NEVER_NS
    usual = terms.heartbeat_ns
    interval = min(max(calls[slot, INTERVAL_NS], usual), INTERVALS_MAX * usual)
    return int(calls[slot, HEARTBEAT_NS] + terms.heartbeats_missed * interval)


@kernel
def mark_known(calls: Calls, keys: NDArray[np.int64], known: NDArray[np.bool_]) -> None:
    """Set `known[i]` where `keys[i]` is in the table, in flight or not; leave the others as they are."""
    for i in range(len(keys)):
        if find(calls, keys[i]) >= 0:
            known[i] = True
