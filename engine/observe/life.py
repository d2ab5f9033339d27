"""A call's life: what each event does to the set of calls in flight, and which facts follow.

Every function takes a `Desk` and gives a verdict. Facts of the event go to its own slice (`desk.facts`);
changes of level, and calls that leave, go to the slice that is open (`desk.flow`). For a row that is on
time these are the same; for a late one the past keeps its level and the change takes effect where the
open slice begins. Facts of a known call are put down to the labels of its first event, so that a level
comes back to zero and an end without labels still counts where its call does. Rejected: a counter of
starts less ends, which drifts with every duplicate and every lost end.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.kernel import inlined_kernel
from engine.observe.calls import (
    AGE_UNKNOWN,
    ANSWER_NS,
    ANSWERED,
    FLYING,
    HEALED,
    HEARTBEAT_NS,
    IN_FLIGHT,
    INTERVAL_NS,
    REVIVED,
    SERIES,
    SINCE_NS,
    START_SEEN,
    STATE,
    TOTALS,
    TROUBLE,
    USED,
    Calls,
    find,
    insert,
)
from engine.observe.course import said_ns, tell_course, tell_duration
from engine.observe.outcomes import (
    ANSWERED_LEVEL,
    ANSWERS,
    ARRIVALS,
    DECLINES,
    LEVEL,
    Facts,
    add_cause,
    add_count,
    add_end,
    add_to_bin,
)  # fmt: skip
from engine.observe.summary import BIN_NS, Count, EndKind

# Verdicts on a row (UNMATCHED: taken, an end without a start), and what there may be instead of a slot.
TAKEN, UNMATCHED, REPEATED, NO_PLACE = range(4)
UNKNOWN, ENDED_BEFORE, TABLE_FULL = -1, -2, -3

C_STARTED, C_ANSWERED, C_ENDED, C_DECLINED = (
    int(Count.STARTED), int(Count.ANSWERED), int(Count.ENDED), int(Count.DECLINED),
)  # fmt: skip
C_OPENED_UNKNOWN, C_ENDED_UNKNOWN = int(Count.OPENED_UNKNOWN), int(Count.ENDED_UNKNOWN)
C_ADMITTED = int(Count.ADMITTED)
K_ENDED, K_DECLINED, K_UNSEEN = int(EndKind.ENDED), int(EndKind.DECLINED), int(EndKind.UNSEEN)
BIN = BIN_NS


class Row(NamedTuple):
    """What one event says of its call."""

    key: int
    series: int
    cause: int
    time_ns: int
    duration_ms: float
    fails: bool  # its cause is not a good outcome


class Desk(NamedTuple):
    """All that rows of one run act on. A run has one slice of its own, and one open slice that it changes."""

    calls: Calls
    facts: Facts  # of the slice that starts at own_ns
    flow: Facts  # of the slice that starts at open_ns; the same object for rows on time
    own_ns: int
    open_ns: int
    slice_ns: int
    entries_max: int  # bound of the table of calls


@inlined_kernel
def own_bin(desk: Desk, time_ns: int) -> int:
    """Give the bin of a time in the slice of the run."""
    return (time_ns - desk.own_ns) // BIN


@inlined_kernel
def open_bin(desk: Desk, time_ns: int) -> int:
    """Give the bin of the open slice in which something of that time takes effect."""
    return (max(time_ns, desk.open_ns) - desk.open_ns) // BIN


@inlined_kernel
def arrive(desk: Desk, series: int, time_ns: int) -> None:
    """Count an attempt that asked for capacity."""
    add_count(desk.facts, series, C_STARTED, 1)
    add_to_bin(desk.facts, series, own_bin(desk, time_ns), ARRIVALS, 1)


@inlined_kernel
def enter(desk: Desk, slot: int, series: int, time_ns: int, state: int) -> None:
    """Put an entry in flight with the given state bits."""
    calls = desk.calls
    calls[slot, SINCE_NS] = time_ns
    calls[slot, ANSWER_NS] = -1
    calls[slot, HEARTBEAT_NS] = -1
    calls[slot, INTERVAL_NS] = 0
    calls[slot, TROUBLE] = 0
    calls[slot, SERIES] = series
    calls[slot, STATE] = state | IN_FLIGHT
    calls[TOTALS, FLYING] += 1
    add_to_bin(desk.flow, series, open_bin(desk, time_ns), LEVEL, 1)
    if state & AGE_UNKNOWN:
        add_count(desk.flow, series, C_OPENED_UNKNOWN, 1)
    else:
        add_count(desk.facts, series, C_ADMITTED, 1)


@inlined_kernel
def count_answered(desk: Desk, slot: int, time_ns: int) -> None:
    """Let a call in flight count for limits that count from the answer, from a time on."""
    calls = desk.calls
    calls[slot, STATE] |= ANSWERED
    calls[slot, ANSWER_NS] = time_ns
    add_to_bin(desk.facts, calls[slot, SERIES], own_bin(desk, time_ns), ANSWERS, 1)
    add_to_bin(desk.flow, calls[slot, SERIES], open_bin(desk, time_ns), ANSWERED_LEVEL, 1)


@inlined_kernel
def revive(desk: Desk, slot: int, time_ns: int) -> None:
    """Put a call that was healed in flight again, with unknown age: answered if it was.

    Its heartbeats stay known, so that the next one tells their interval; until then none is missed.
    """
    calls = desk.calls
    state, heartbeat_ns, interval_ns = calls[slot, STATE], calls[slot, HEARTBEAT_NS], calls[slot, INTERVAL_NS]
    enter(desk, slot, calls[slot, SERIES], time_ns, (state & START_SEEN) | AGE_UNKNOWN | REVIVED)
    calls[slot, HEARTBEAT_NS] = -abs(heartbeat_ns)
    calls[slot, INTERVAL_NS] = interval_ns
    if state & ANSWERED:
        count_answered(desk, slot, time_ns)


@inlined_kernel
def leave(desk: Desk, slot: int, time_ns: int, kind: int) -> None:
    """Take a call out of flight, by its start and answer slices; the caller makes it a tombstone."""
    calls, slice_ns = desk.calls, desk.slice_ns
    series, state = calls[slot, SERIES], calls[slot, STATE]
    bin_index = open_bin(desk, time_ns)
    add_to_bin(desk.flow, series, bin_index, LEVEL, -1)
    start_age, answer_age = -1, -1
    if not state & AGE_UNKNOWN:
        start_age = (desk.open_ns - calls[slot, SINCE_NS] // slice_ns * slice_ns) // slice_ns
    if state & ANSWERED:
        add_to_bin(desk.flow, series, bin_index, ANSWERED_LEVEL, -1)
        answer_age = (desk.open_ns - calls[slot, ANSWER_NS] // slice_ns * slice_ns) // slice_ns
    add_end(desk.flow, series, kind, start_age, answer_age)
    calls[TOTALS, FLYING] -= 1


@inlined_kernel
def bury(desk: Desk, slot: int, time_ns: int, state: int) -> None:
    """Make an entry a tombstone with the given state bits."""
    desk.calls[slot, SINCE_NS] = time_ns
    desk.calls[slot, STATE] = state


@inlined_kernel
def bury_unknown(desk: Desk, key: int, series: int, time_ns: int, state: int) -> None:
    """Leave a tombstone for a call that is not in the table, if there is a place."""
    if desk.calls[TOTALS, USED] < desk.entries_max:
        slot = insert(desk.calls, key)
        desk.calls[slot, SERIES] = series
        bury(desk, slot, time_ns, state)


@inlined_kernel
def is_of_earlier_attempt(desk: Desk, slot: int, time_ns: int) -> bool:
    """Say whether an event lies before the start of the attempt in flight that has its id."""
    state = desk.calls[slot, STATE]
    return bool(state & IN_FLIGHT and not state & AGE_UNKNOWN and time_ns < desk.calls[slot, SINCE_NS])


@inlined_kernel
def on_started(desk: Desk, row: Row) -> int:
    """Take an attempt that asks for capacity: an arrival, and in flight from now on."""
    calls, key, series, time_ns = desk.calls, row.key, row.series, row.time_ns
    slot = find(calls, key)
    if slot >= 0:
        state = calls[slot, STATE]
        if state & IN_FLIGHT or time_ns <= calls[slot, SINCE_NS]:
            if state & START_SEEN:
                return REPEATED
            # Its start comes after something else of it did: an arrival; the age stays unknown.
            calls[slot, STATE] = state | START_SEEN
            arrive(desk, calls[slot, SERIES], time_ns)
            return TAKEN
    else:
        if calls[TOTALS, USED] >= desk.entries_max:
            return NO_PLACE
        slot = insert(calls, key)
    arrive(desk, series, time_ns)
    enter(desk, slot, series, time_ns, START_SEEN)
    return TAKEN


@inlined_kernel
def living_slot(desk: Desk, key: int, series: int, time_ns: int) -> int:
    """Give the slot of a call that shows a sign of life, put in flight with unknown age if it was not.

    A call that was healed but lives on enters again. ENDED_BEFORE: it has a tombstone. TABLE_FULL: no place.
    """
    calls = desk.calls
    slot = find(calls, key)
    if slot >= 0:
        state = calls[slot, STATE]
        if state & IN_FLIGHT:
            return slot
        if not state & HEALED or time_ns <= calls[slot, SINCE_NS]:
            return ENDED_BEFORE
        revive(desk, slot, time_ns)
        return slot
    if calls[TOTALS, USED] >= desk.entries_max:
        return TABLE_FULL
    slot = insert(calls, key)
    enter(desk, slot, series, time_ns, AGE_UNKNOWN)
    return slot


@inlined_kernel
def on_answered(desk: Desk, row: Row) -> int:
    """Take the answer of a call; it has one."""
    calls, key, time_ns = desk.calls, row.key, row.time_ns
    slot = living_slot(desk, key, row.series, time_ns)
    if slot == TABLE_FULL:
        return NO_PLACE
    if slot == ENDED_BEFORE:
        slot = find(calls, key)
        if calls[slot, STATE] & ANSWERED:
            return REPEATED
        # It left flight unanswered, so it may not enter the answered level now.
        calls[slot, STATE] |= ANSWERED
        add_count(desk.facts, calls[slot, SERIES], C_ANSWERED, 1)
        return TAKEN
    if calls[slot, STATE] & ANSWERED or is_of_earlier_attempt(desk, slot, time_ns):
        return REPEATED
    add_count(desk.facts, calls[slot, SERIES], C_ANSWERED, 1)
    count_answered(desk, slot, time_ns)
    return TAKEN


@inlined_kernel
def on_heartbeat(desk: Desk, row: Row) -> int:
    """Take a sign of life; who sends them will be missed when they stop."""
    calls, key, time_ns = desk.calls, row.key, row.time_ns
    slot = living_slot(desk, key, row.series, time_ns)
    if slot == TABLE_FULL:
        return NO_PLACE
    if slot < 0 or is_of_earlier_attempt(desk, slot, time_ns) or time_ns <= abs(calls[slot, HEARTBEAT_NS]):
        return TAKEN
    if calls[slot, HEARTBEAT_NS] != -1:
        interval_ns = time_ns - abs(calls[slot, HEARTBEAT_NS])
        calls[slot, INTERVAL_NS] = max(calls[slot, INTERVAL_NS], interval_ns)
    calls[slot, HEARTBEAT_NS] = time_ns
    return TAKEN


@inlined_kernel
def count_end(desk: Desk, series: int, cause: int) -> None:
    """Count the end of an attempt and how it ended."""
    add_count(desk.facts, series, C_ENDED, 1)
    add_cause(desk.facts, series, cause)


@inlined_kernel
def on_ended(desk: Desk, row: Row) -> int:
    """Take the end of a call: it leaves flight, or only its duration says when it began."""
    calls, key, time_ns = desk.calls, row.key, row.time_ns
    series, cause = row.series, row.cause
    slot = find(calls, key)
    if slot < 0:
        count_end(desk, series, cause)
        add_count(desk.facts, series, C_ENDED_UNKNOWN, 1)
        add_end(desk.facts, series, K_UNSEEN, age_by_duration(desk, row), -1)
        bury_unknown(desk, key, series, time_ns, 0)
        return UNMATCHED
    state = calls[slot, STATE]
    if is_of_earlier_attempt(desk, slot, time_ns) or not state & (IN_FLIGHT | HEALED):
        return REPEATED
    tell_duration(desk, slot, row)
    if state & IN_FLIGHT:
        tell_course(desk, slot, row)
        leave(desk, slot, time_ns, K_ENDED)
    count_end(desk, calls[slot, SERIES], cause)
    bury(desk, slot, time_ns, state & (START_SEEN | ANSWERED))
    return TAKEN


@inlined_kernel
def age_by_duration(desk: Desk, row: Row) -> int:
    """Give how many slices before this one a call began, by its duration; -1: not known."""
    duration_ns = said_ns(row)
    if duration_ns < 0:
        return -1
    start_ns = row.time_ns - duration_ns
    return (desk.own_ns - start_ns // desk.slice_ns * desk.slice_ns) // desk.slice_ns


@inlined_kernel
def on_declined(desk: Desk, row: Row) -> int:
    """Take a decline: the attempt was an arrival and nothing else, whatever it seemed to be."""
    calls, key, time_ns = desk.calls, row.key, row.time_ns
    series = row.series
    slot = find(calls, key)
    state = 0
    if slot >= 0:
        state = calls[slot, STATE]
        if is_of_earlier_attempt(desk, slot, time_ns) or not state & (IN_FLIGHT | HEALED):
            return REPEATED
        series = calls[slot, SERIES]
    add_count(desk.facts, series, C_DECLINED, 1)
    add_cause(desk.facts, series, row.cause)
    # What the platform decided by was the level at the start, if that is of this slice.
    began_now = state & IN_FLIGHT and not state & AGE_UNKNOWN and calls[slot, SINCE_NS] >= desk.open_ns
    asked_ns = calls[slot, SINCE_NS] if began_now else time_ns
    add_to_bin(desk.facts, series, own_bin(desk, asked_ns), DECLINES, 1)
    if not state & START_SEEN:
        arrive(desk, series, time_ns)
    if slot < 0:
        bury_unknown(desk, key, series, time_ns, START_SEEN)
        return UNMATCHED
    if began_now:
        was_never_in(desk, slot)
    elif state & IN_FLIGHT:
        leave(desk, slot, time_ns, K_DECLINED)
    bury(desk, slot, time_ns, START_SEEN | (state & ANSWERED))
    return TAKEN


@inlined_kernel
def was_never_in(desk: Desk, slot: int) -> None:
    """Take back that a call entered flight in this slice: its arrival is all that remains."""
    calls = desk.calls
    series = calls[slot, SERIES]
    add_to_bin(desk.flow, series, open_bin(desk, calls[slot, SINCE_NS]), LEVEL, -1)
    add_count(desk.flow, series, C_ADMITTED, -1)
    if calls[slot, STATE] & ANSWERED:
        answer_bin = open_bin(desk, calls[slot, ANSWER_NS])
        add_to_bin(desk.flow, series, answer_bin, ANSWERS, -1)
        add_to_bin(desk.flow, series, answer_bin, ANSWERED_LEVEL, -1)
    calls[TOTALS, FLYING] -= 1
