"""Calls in flight, and for a while those that have ended: a set by key, never a counter.

Open addressing with linear probing over 64-bit keyed hashes; a removed entry closes its gap (backward shift), so
that probes stay short for ever. An entry that has ended (a tombstone) stays until nothing of its call can come.
The table doubles when it is two thirds full; how many entries there may be is its owner's bound.
`due_ns` is the earliest time at which an entry may have to go: until then a sweep would find nothing.
Rejected: a dict (ten times the memory and the time), and separate tables for calls and tombstones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Bits of `state`.
IN_FLIGHT = 1  # takes capacity; else the entry is a tombstone
START_SEEN = 2  # its `call.started` was counted as an arrival
ANSWERED = 4
AGE_UNKNOWN = 8  # entered flight by something else than its start
HEALED = 16  # a tombstone without an end: taken out of flight by us
# Places in `cells`.
USED, FLYING, DUE_NS = range(3)
NEVER_NS = 1 << 62
CAPACITY_MIN = 256


class Calls(NamedTuple):
    """One partition's table; arrays of shape (capacity,), a power of two, but for `cells`."""

    key: NDArray[np.uint64]  # 0: free
    since_ns: NDArray[np.int64]  # in flight: when it started, or entered with unknown age; else when it ended
    answer_ns: NDArray[np.int64]  # -1: not answered
    heartbeat_ns: NDArray[np.int64]  # newest heartbeat; -1: none
    interval_ns: NDArray[np.int64]  # longest time between two heartbeats; 0: not known yet
    series: NDArray[np.int32]
    state: NDArray[np.uint8]
    cells: NDArray[np.int64]  # (3,): entries, calls in flight, due_ns


class Terms(NamedTuple):
    """How long things last."""

    ttl_ns: NDArray[np.int64]  # (series,): a call without an end is given up after this
    heartbeats_missed: int
    heartbeat_ns: int  # interval until one was observed
    tombstone_ns: int


def new_calls(capacity: int = CAPACITY_MIN) -> Calls:
    """Make an empty table."""
    return Calls(
        key=np.zeros(capacity, np.uint64),
        since_ns=np.zeros(capacity, np.int64),
        answer_ns=np.zeros(capacity, np.int64),
        heartbeat_ns=np.zeros(capacity, np.int64),
        interval_ns=np.zeros(capacity, np.int64),
        series=np.zeros(capacity, np.int32),
        state=np.zeros(capacity, np.uint8),
        cells=np.array([0, 0, NEVER_NS], np.int64),
    )


@kernel
def find(calls: Calls, key: np.uint64) -> int:
    """Give the slot of a non-zero key, or -1."""
    mask = len(calls.key) - 1
    slot = np.int64(key & np.uint64(mask))
    while calls.key[slot] != 0:
        if calls.key[slot] == key:
            return int(slot)
        slot = (slot + 1) & mask
    return -1


@kernel
def must_grow(calls: Calls) -> bool:
    """Say whether one more entry would make the table more than two thirds full."""
    return bool((calls.cells[USED] + 1) * 3 > len(calls.key) * 2)


@kernel
def insert(calls: Calls, key: np.uint64) -> int:
    """Make an entry for a key that is not in the table; the caller has seen to the room and fills it."""
    mask = len(calls.key) - 1
    slot = np.int64(key & np.uint64(mask))
    while calls.key[slot] != 0:
        slot = (slot + 1) & mask
    calls.key[slot] = key
    calls.state[slot] = 0
    calls.cells[USED] += 1
    return int(slot)


@kernel
def copy_entry(into: Calls, to: int, source: Calls, at: int) -> None:
    """Copy all columns of one entry."""
    into.key[to] = source.key[at]
    into.since_ns[to] = source.since_ns[at]
    into.answer_ns[to] = source.answer_ns[at]
    into.heartbeat_ns[to] = source.heartbeat_ns[at]
    into.interval_ns[to] = source.interval_ns[at]
    into.series[to] = source.series[at]
    into.state[to] = source.state[at]


@kernel
def remove(calls: Calls, slot: int) -> None:
    """Take an entry out. Entries behind it may move up; what moves into `slot` was behind it."""
    mask = len(calls.key) - 1
    gap = slot
    slot = (gap + 1) & mask
    while calls.key[slot] != 0:
        home = np.int64(calls.key[slot] & np.uint64(mask))
        if ((slot - home) & mask) >= ((slot - gap) & mask):
            copy_entry(calls, gap, calls, slot)
            gap = slot
        slot = (slot + 1) & mask
    calls.key[gap] = 0
    calls.cells[USED] -= 1


@kernel
def refill_calls(into: Calls, source: Calls) -> None:
    """Put all entries of `source` into the empty, larger table `into`."""
    for old in range(len(source.key)):
        if source.key[old] != 0:
            copy_entry(into, insert(into, source.key[old]), source, old)
    into.cells[FLYING] = source.cells[FLYING]
    into.cells[DUE_NS] = source.cells[DUE_NS]


def grown_calls(calls: Calls) -> Calls:
    """Give a table with room for one more entry: the same one if it has it, else one twice as large."""
    if not must_grow(calls):
        return calls
    larger = new_calls(2 * len(calls.key))
    refill_calls(larger, calls)
    return larger


@kernel
def expires_ns(calls: Calls, slot: int, terms: Terms) -> int:
    """Give the time after which an entry goes: tombstones are dropped, calls in flight are healed."""
    if not calls.state[slot] & IN_FLIGHT:
        return int(calls.since_ns[slot] + terms.tombstone_ns)
    expires = calls.since_ns[slot] + terms.ttl_ns[calls.series[slot]]
    return int(min(expires, silent_ns(calls, slot, terms)))


@kernel
def silent_ns(calls: Calls, slot: int, terms: Terms) -> int:
    """Give the time after which too many heartbeats were missed; NEVER_NS if the call never sent one."""
    if calls.heartbeat_ns[slot] < 0:
        return NEVER_NS
    interval = calls.interval_ns[slot] if calls.interval_ns[slot] > 0 else terms.heartbeat_ns
    return int(calls.heartbeat_ns[slot] + terms.heartbeats_missed * interval)


@kernel
def note_expiry(calls: Calls, slot: int, terms: Terms) -> None:
    """See to it that a sweep comes when this entry has to go."""
    calls.cells[DUE_NS] = min(calls.cells[DUE_NS], expires_ns(calls, slot, terms))


@kernel
def mark_known(calls: Calls, keys: NDArray[np.uint64], known: NDArray[np.bool_]) -> None:
    """Set `known[i]` where `keys[i]` is in the table, in flight or not; leave the others as they are."""
    for i in range(len(keys)):
        if find(calls, keys[i]) >= 0:
            known[i] = True
