"""Calls in flight, and for a while those that have ended: a set by key, never a counter.

Open addressing with linear probing over 64-bit keyed hashes; a removed entry closes its gap (backward
shift), so that probes stay short for ever. An entry that has ended (a tombstone) stays until nothing of
its call can come. The table doubles when it is two thirds full; how many entries there may be is its
owner's bound. A sweep finds out when the next entry has to go; until rows come, sweeps before that would
find nothing. Rejected: a dict (ten times the memory and the time), and separate tables for calls and
tombstones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernel import kernel

# Columns of the table. SINCE_NS: in flight: when it started, or entered with unknown age; else when it ended.
# ANSWER_NS: -1: not answered. HEARTBEAT_NS: newest one, -1: none. INTERVAL_NS: longest between two, 0:
# not known.
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
# The last row, and its columns: entries, calls in flight, when a sweep may find something (0: at once).
TOTALS = -1
USED, FLYING, DUE_NS = range(3)
NEVER_NS = 1 << 62
CAPACITY_MIN = 256


# One partition's table, int64 (capacity + 1, COLUMNS), the capacity a power of two. KEY is the bits of
# the hash, 0: free. One array, with the totals in its last row: every array that a kernel hands on costs
# time at each call.
Calls = NDArray[np.int64]


class Terms(NamedTuple):
    """How long things last."""

    ttl_ns: NDArray[np.int64]  # (series,): a call without an end is given up after this
    heartbeats_missed: int
    heartbeat_ns: int  # interval until one was observed
    tombstone_ns: int


def new_calls(capacity: int = CAPACITY_MIN) -> Calls:
    """Make an empty table."""
    calls = np.zeros((capacity + 1, COLUMNS), np.int64)
    calls[TOTALS, DUE_NS] = NEVER_NS
    return calls


@kernel
def find(calls: Calls, key: int) -> int:
    """Give the slot of a non-zero key, or -1."""
    mask = len(calls) - 2
    slot = key & mask
    while calls[slot, KEY] != 0:
        if calls[slot, KEY] == key:
            return int(slot)
        slot = (slot + 1) & mask
    return -1


@kernel
def must_grow(calls: Calls) -> bool:
    """Say whether one more entry would make the table more than two thirds full."""
    return bool((calls[TOTALS, USED] + 1) * 3 > (len(calls) - 1) * 2)


@kernel
def insert(calls: Calls, key: int) -> int:
    """Make an entry for a key that is not in the table; the caller has seen to the room and fills it."""
    mask = len(calls) - 2
    slot = key & mask
    while calls[slot, KEY] != 0:
        slot = (slot + 1) & mask
    calls[slot, KEY] = key
    calls[slot, STATE] = 0
    calls[slot, TROUBLE] = 0
    calls[TOTALS, USED] += 1
    return int(slot)


@kernel
def copy_entry(into: Calls, to: int, source: Calls, at: int) -> None:
    """Copy all columns of one entry."""
    for column in range(COLUMNS):
        into[to, column] = source[at, column]


@kernel
def remove(calls: Calls, slot: int) -> None:
    """Take an entry out. Entries behind it may move up; what moves into `slot` was behind it."""
    mask = len(calls) - 2
    gap = slot
    slot = (gap + 1) & mask
    while calls[slot, KEY] != 0:
        home = calls[slot, KEY] & mask
        if ((slot - home) & mask) >= ((slot - gap) & mask):
            copy_entry(calls, gap, calls, slot)
            gap = slot
        slot = (slot + 1) & mask
    calls[gap, KEY] = 0
    calls[TOTALS, USED] -= 1


@kernel
def refill_calls(into: Calls, source: Calls) -> None:
    """Put all entries of `source` into the empty, larger table `into`."""
    for old in range(len(source) - 1):
        if source[old, KEY] != 0:
            copy_entry(into, insert(into, source[old, KEY]), source, old)
    into[TOTALS, FLYING] = source[TOTALS, FLYING]
    into[TOTALS, DUE_NS] = source[TOTALS, DUE_NS]


def grown_calls(calls: Calls) -> Calls:
    """Give a table with room for one more entry: the same one if it has it, else one twice as large."""
    if not must_grow(calls):
        return calls
    larger = new_calls(2 * (len(calls) - 1))
    refill_calls(larger, calls)
    return larger


@kernel
def expires_ns(calls: Calls, slot: int, terms: Terms) -> int:
    """Give the time after which an entry goes: tombstones are dropped, calls in flight are healed."""
    if not calls[slot, STATE] & IN_FLIGHT:
        return int(calls[slot, SINCE_NS] + terms.tombstone_ns)
    expires = calls[slot, SINCE_NS] + terms.ttl_ns[calls[slot, SERIES]]
    return int(min(expires, silent_ns(calls, slot, terms)))


@kernel
def silent_ns(calls: Calls, slot: int, terms: Terms) -> int:
    """Give the time after which too many heartbeats were missed; NEVER_NS if the call never sent one."""
    if calls[slot, HEARTBEAT_NS] < 0:
        return NEVER_NS
    interval = calls[slot, INTERVAL_NS] if calls[slot, INTERVAL_NS] > 0 else terms.heartbeat_ns
    return int(calls[slot, HEARTBEAT_NS] + terms.heartbeats_missed * interval)


@kernel
def mark_known(calls: Calls, keys: NDArray[np.int64], known: NDArray[np.bool_]) -> None:
    """Set `known[i]` where `keys[i]` is in the table, in flight or not; leave the others as they are."""
    for i in range(len(keys)):
        if find(calls, keys[i]) >= 0:
            known[i] = True
