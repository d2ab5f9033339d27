"""What happens in a call between its start and its end, and what its end tells of that.

Turns, agents and failed dependencies leave a mark on the call's entry; its end counts them. So nothing of a
single call is kept for longer than the call, and what became of those whom a dependency failed is counted
once. Rejected: joining events by call afterwards, which needs every call's events in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.kernel import inlined_kernel
from engine.observe.calls import (
    AGE_UNKNOWN,
    ANSWER_NS,
    ANSWERED,
    HAD_AGENT,
    HAD_TURN,
    IN_FLIGHT,
    REVIVED,
    SERIES,
    SINCE_NS,
    STATE,
    TROUBLE,
    find,
)  # fmt: skip
from engine.observe.outcomes import add_caller, add_count, add_failure, add_side
from engine.observe.summary import DURATION_BIN_NS, DURATION_BINS, Count

if TYPE_CHECKING:
    from engine.observe.life import Desk, Row

C_ENDED_ANSWERED = int(Count.ENDED_ANSWERED)
C_WITHOUT_TURN, C_WITHOUT_AGENT = int(Count.ENDED_WITHOUT_TURN), int(Count.ENDED_WITHOUT_AGENT)
NS_PER_MS = 1_000_000
DURATION_MS_MAX = 1e12
BIN, BINS = DURATION_BIN_NS, DURATION_BINS


@inlined_kernel
def slot_in_flight(desk: Desk, row: Row) -> int:
    """Give the slot of the call that an event happened in, or -1: it is not in flight, or starts later."""
    if row.key == 0:
        return -1
    calls = desk.calls
    slot = find(calls, row.key)
    if slot < 0 or not calls[slot, STATE] & IN_FLIGHT:
        return -1
    if not calls[slot, STATE] & AGE_UNKNOWN and row.time_ns < calls[slot, SINCE_NS]:
        return -1
    return int(slot)


@inlined_kernel
def mark(desk: Desk, row: Row, bit: int) -> None:
    """Remember that a call had a turn, or an agent."""
    slot = slot_in_flight(desk, row)
    if slot >= 0:
        desk.calls[slot, STATE] |= bit


@inlined_kernel
def on_side(desk: Desk, row: Row) -> None:
    """Take the end of a transfer, or of a call of a dependency."""
    add_side(desk.facts, row.series, row.cause)
    if not row.fails:
        return
    duration_ns = said_ns(row)
    if duration_ns >= 0:
        add_failure(desk.facts, row.series, row.cause, 0, duration_bin(duration_ns))
    slot = slot_in_flight(desk, row)
    if slot >= 0:
        desk.calls[slot, TROUBLE] = row.cause + 1


@inlined_kernel
def said_ns(row: Row) -> int:
    """Give the duration that an event states, -1: none."""
    if not 0 <= row.duration_ms <= DURATION_MS_MAX:
        return -1
    return int(row.duration_ms * NS_PER_MS)


@inlined_kernel
def duration_bin(duration_ns: int) -> int:
    """Give the bin of a duration that is not negative."""
    return min(duration_ns // BIN, BINS - 1)


@inlined_kernel
def tell_course(desk: Desk, slot: int, row: Row) -> None:
    """Count what a call in flight had been through, as it ends."""
    calls, facts = desk.calls, desk.facts
    series, state = calls[slot, SERIES], calls[slot, STATE]
    if state & ANSWERED and not state & AGE_UNKNOWN:
        add_count(facts, series, C_ENDED_ANSWERED, 1)
        if not state & HAD_TURN:
            add_count(facts, series, C_WITHOUT_TURN, 1)
        if not state & HAD_AGENT:
            add_count(facts, series, C_WITHOUT_AGENT, 1)
    if calls[slot, TROUBLE] > 0:
        add_caller(facts, series, calls[slot, TROUBLE] - 1, row.cause)


@inlined_kernel
def tell_duration(desk: Desk, slot: int, row: Row) -> None:
    """Count how long a call lasted that does not end well: as it says, else as was seen."""
    if not row.fails:
        return
    calls = desk.calls
    state = calls[slot, STATE]
    answered = 1 if state & ANSWERED else 0
    duration_ns = said_ns(row)
    if duration_ns < 0 and state & IN_FLIGHT:
        if answered == 1 and not state & REVIVED:
            duration_ns = row.time_ns - calls[slot, ANSWER_NS]
        elif not state & AGE_UNKNOWN:
            duration_ns = row.time_ns - calls[slot, SINCE_NS]
    if duration_ns >= 0:
        add_failure(desk.facts, calls[slot, SERIES], row.cause, answered, duration_bin(duration_ns))
