"""Calls that must have ended are taken out of flight: by silence, by age, or by the platform's list.

All of it happens at the start of a slice, in event time, so that it does not depend on batches. A healed
call is censored in the holding-time estimate and counted by cause; its tombstone says HEALED, so that its
end still counts as one when it comes, and a sign of life, or a list, puts it back in flight. Rejected: timers
per call; a sweep of the whole table every 60 s of event time costs less and is the same everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engine.kernel import kernel
from engine.observe.absorb import desk_has_room
from engine.observe.calls import (
    AGE_UNKNOWN,
    ANSWERED,
    DUE_NS,
    HEALED,
    IN_FLIGHT,
    KEY,
    NEVER_NS,
    SERIES,
    SINCE_NS,
    START_SEEN,
    STATE,
    TOTALS,
    USED,
    Terms,
    expires_ns,
    find,
    insert,
    remove,
    silent_ns,
)  # fmt: skip
from engine.observe.life import Desk, bury, enter, leave, revive
from engine.observe.outcomes import ROW_KEYS, add_count
from engine.observe.slices import HEALED_HEARTBEAT, HEALED_LISTED, HEALED_TTL
from engine.observe.summary import Count, EndKind
from engine.observe.tally import has_room

if TYPE_CHECKING:
    from numpy.typing import NDArray

SWEEP_NS = 60_000_000_000
K_HEALED = int(EndKind.HEALED)
C_HEARTBEAT, C_TTL, C_LISTED = (
    int(Count.HEALED_HEARTBEAT), int(Count.HEALED_TTL), int(Count.HEALED_LISTED),
)  # fmt: skip


def next_sweep_ns(due_ns: int) -> int:
    """Give the start of the slice whose sweep finds what is due: the next multiple of SWEEP_NS."""
    return (due_ns // SWEEP_NS + 1) * SWEEP_NS


@kernel
def heal(desk: Desk, slot: int, column: int) -> None:
    """Take a call out of flight without its end, at the start of the open slice."""
    calls = desk.calls
    leave(desk, slot, desk.open_ns, K_HEALED)
    add_count(desk.flow, calls[slot, SERIES], column, 1)
    bury(desk, slot, desk.open_ns, (calls[slot, STATE] & (START_SEEN | ANSWERED)) | HEALED)


@kernel
def sweep(desk: Desk, terms: Terms, counters: NDArray[np.int64], first: int) -> int:
    """Heal calls whose time is over, drop tombstones, from slot `first` on; find out when the next is due.

    Gives the slot where it stopped for want of room, or the capacity.
    """
    calls = desk.calls
    if first == 0:
        calls[TOTALS, DUE_NS] = NEVER_NS
    slot = first
    while slot < len(calls) - 1:
        if calls[slot, KEY] == 0:
            slot += 1
            continue
        if not has_room(desk.flow, ROW_KEYS):
            return slot
        if expires_ns(calls, slot, terms) < desk.open_ns:
            if not calls[slot, STATE] & IN_FLIGHT:
                remove(calls, slot)  # What moves up into this slot is looked at next.
                continue
            if silent_ns(calls, slot, terms) < desk.open_ns:
                heal(desk, slot, C_HEARTBEAT)
                counters[HEALED_HEARTBEAT] += 1
            else:
                heal(desk, slot, C_TTL)
                counters[HEALED_TTL] += 1
        calls[TOTALS, DUE_NS] = min(calls[TOTALS, DUE_NS], expires_ns(calls, slot, terms))
        slot += 1
    return slot


@kernel
def is_in(keys: NDArray[np.int64], key: int) -> bool:
    """Say whether a key is in a sorted array (int64, (n,))."""
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return bool(low < len(keys) and keys[low] == key)


@kernel
def heal_unlisted(
    desk: Desk,
    listed: NDArray[np.int64],
    is_meant: NDArray[np.bool_],
    counters: NDArray[np.int64],
    before_ns: int,
    first: int,
) -> int:
    """Heal the calls in flight of series with `is_meant` (bool, (series,)) that are not in the sorted list.

    Those that it lists and that had been healed are in flight again. Only calls that entered flight, or were
    healed, before `before_ns`; from slot `first` on. Gives the slot where it stopped for want of room, or the
    capacity.
    """
    calls = desk.calls
    calls[TOTALS, DUE_NS] = 0
    for slot in range(first, len(calls) - 1):
        state = calls[slot, STATE]
        if calls[slot, KEY] == 0 or not state & (IN_FLIGHT | HEALED) or calls[slot, SINCE_NS] >= before_ns:
            continue
        if not has_room(desk.flow, ROW_KEYS):
            return slot
        is_listed = is_in(listed, calls[slot, KEY])
        if state & IN_FLIGHT and is_meant[calls[slot, SERIES]] and not is_listed:
            heal(desk, slot, C_LISTED)
            counters[HEALED_LISTED] += 1
        elif not state & IN_FLIGHT and is_listed:
            revive(desk, slot, desk.open_ns)
    return len(calls) - 1


@kernel
def open_listed(desk: Desk, keys: NDArray[np.int64], series: int, first: int) -> int:
    """Put calls that a list names and nobody knows in flight with unknown age, from `keys[first]` on.

    Gives the place where it stopped for want of room, or len(keys). A full table takes no more; that is
    no loss of a row.
    """
    desk.calls[TOTALS, DUE_NS] = 0
    for at in range(first, len(keys)):
        if not desk_has_room(desk, 0):
            return at
        if find(desk.calls, keys[at]) < 0 and desk.calls[TOTALS, USED] < desk.entries_max:
            slot = insert(desk.calls, keys[at])
            enter(desk, slot, series, desk.open_ns, AGE_UNKNOWN)
    return len(keys)
