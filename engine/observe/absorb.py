"""The fused kernel: every row of a slice, in order, once.

A row acts on the set of calls in flight and on the facts of its slice in one pass; its latencies go into the
sketch in the same pass. Before a row the kernel looks whether every table has room for all that it may
add; if not it stops, its caller makes room, and it goes on with that row. So it never allocates and never
half does a row. Rejected: one pass per measurement, which reads the rows six times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.decode.events import EventType
from engine.errors import LossReason
from engine.kernel import inlined_kernel, kernel
from engine.observe.calls import (
    ANSWERED,
    DUE_NS,
    HAD_AGENT,
    HAD_TURN,
    IN_FLIGHT,
    SERIES,
    START_SEEN,
    STATE,
    TOTALS,
    USED,
    ask_for,
    find,
    must_grow,
)  # fmt: skip
from engine.observe.course import mark, on_side
from engine.observe.latency import LATENCY_MAX_S, bucket_number
from engine.observe.life import (
    NO_PLACE,
    REPEATED,
    TABLE_FULL,
    TAKEN,
    UNMATCHED,
    Desk,
    Row,
    bury,
    is_of_earlier_attempt,
    leave,
    living_slot,
    on_answered,
    on_declined,
    on_ended,
    on_heartbeat,
    on_started,
)  # fmt: skip
from engine.observe.outcomes import ROW_KEYS, Facts, add_count, add_score
from engine.observe.prefetch import prefetch
from engine.observe.recent import Recent, was_seen
from engine.observe.sketches import Sketches, add_latency, has_pages
from engine.observe.slices import ABSORBED, AMENDED, HEALED_LATE, LATE, TOO_LATE, Book, Held
from engine.observe.summary import SCORE_BINS, Count, EndKind
from engine.observe.tally import has_room
from engine.observe.unkeyed import Unmatched, remember_end

if TYPE_CHECKING:
    from numpy.typing import NDArray

STARTED, ANSWERED_TYPE = int(EventType.CALL_STARTED), int(EventType.CALL_ANSWERED)
HEARTBEAT, ENDED, DECLINED = (
    int(EventType.CALL_HEARTBEAT), int(EventType.CALL_ENDED), int(EventType.CALL_DECLINED),
)  # fmt: skip
TURN, AGENT, SCORED = (
    int(EventType.TURN_COMPLETED), int(EventType.AGENT_JOINED), int(EventType.QUALITY_SCORED),
)  # fmt: skip
TRANSFER, DEPENDENCY = int(EventType.TRANSFER_ENDED), int(EventType.DEPENDENCY_CALLED)
DUPLICATE, CALLS_FULL = int(LossReason.DUPLICATE), int(LossReason.CALLS_FULL)
C_AMENDED, C_HEALED_LATE, K_HEALED = int(Count.AMENDED), int(Count.HEALED_LATE), int(EndKind.HEALED)
MS_PER_S = 1000.0
US_PER_MS = 1000.0
AHEAD = 12  # rows between asking for what a row needs and needing it
SCORE_STEPS = SCORE_BINS - 1
LATENCY_MAX_MS = LATENCY_MAX_S * MS_PER_S

# Whether the state of its call tells a second event of a type from a first one.
TOLD_BY_STATE = np.zeros(len(EventType), np.bool_)
TOLD_BY_STATE[[STARTED, ANSWERED_TYPE, HEARTBEAT, ENDED, DECLINED]] = True
# The column that an event of each type is counted in; -1: none, or counted by its own rules.
COUNT_OF_TYPE = np.full(len(EventType), -1, np.int64)
COUNT_OF_TYPE[EventType.CALL_QUEUED] = Count.QUEUED
COUNT_OF_TYPE[EventType.AGENT_JOINED] = Count.AGENTS_JOINED
COUNT_OF_TYPE[EventType.TURN_COMPLETED] = Count.TURNS
COUNT_OF_TYPE[EventType.TRANSFER_ENDED] = Count.TRANSFERS_ENDED
COUNT_OF_TYPE[EventType.DEPENDENCY_CALLED] = Count.DEPENDENCY_CALLS


class Ledgers(NamedTuple):
    """What rows are counted and remembered in, apart from calls and facts."""

    sketches: Sketches  # of the slice of the rows
    lost: NDArray[np.bool_]  # (held rows,): set where a row was not taken
    book: Book
    recent: Recent
    unmatched: Unmatched
    partition: int
    fails: NDArray[np.bool_]  # (causes + 1,): not a good outcome; the last one is that of id -1


@kernel
def absorb_rows(
    desk: Desk, held: Held, order: NDArray[np.int64], ledgers: Ledgers, first: int, last: int
) -> int:
    """Let the rows `order[first:last]` (row numbers, int64) take effect in this order; all have one standing.

    Gives the place in `order` where it stopped for want of room, or `last`. Counts every row in
    `ledgers.book`.
    """
    desk.calls[TOTALS, DUE_NS] = 0
    book = ledgers.book
    for at in range(first, last):
        number = order[at]
        measures = held.measure_count[number]
        if not (desk_has_room(desk, measures) and has_pages(ledgers.sketches, measures)):
            return at
        if at + AHEAD < last:
            ahead = order[at + AHEAD]
            ask_for(desk.calls, held.call_key[ahead])
            prefetch(ledgers.recent.table, held.event_key[ahead] & (len(ledgers.recent.table) - 1))
        kind, standing, series = held.type_id[number], held.standing[number], held.series_id[number]
        cause, time_ns = held.cause_id[number], held.time_ns[number]
        row = Row(
            held.call_key[number], series, cause, time_ns, held.duration_ms[number], ledgers.fails[cause]
        )
        if standing == TOO_LATE:
            book.counters[HEALED_LATE] += take_out(desk, row)
            continue
        # No state of a call would recognise a second event of these types.
        is_told_by_id = not TOLD_BY_STATE[kind] and held.event_key[number] != 0
        if is_told_by_id and was_seen(ledgers.recent, held.event_key[number]):
            verdict = REPEATED
        else:
            verdict = take(desk, row, kind)
        if verdict > UNMATCHED:
            ledgers.lost[number] = True
            book.losses[DUPLICATE if verdict == REPEATED else CALLS_FULL] += 1
            continue
        if verdict == UNMATCHED:
            remember_end(ledgers.unmatched, row.key, time_ns, ledgers.partition)
        book.counters[ABSORBED] += 1
        if standing == LATE:
            book.counters[AMENDED] += 1
            add_count(desk.facts, series, C_AMENDED, 1)
        start = held.measure_first[number]
        for place in range(start, start + measures):
            if kind == SCORED:
                score(desk.facts, series, int(held.measure_stage[place]), held.measure_ms[place])
            else:
                measure(ledgers.sketches, series, held.measure_stage[place], held.measure_ms[place])
    return last


@inlined_kernel
def desk_has_room(desk: Desk, measures: int) -> bool:
    """Say whether every table has room for one row with so many latencies."""
    is_calls_ready = desk.calls[TOTALS, USED] >= desk.entries_max or not must_grow(desk.calls)
    keys = ROW_KEYS + measures
    return bool(is_calls_ready and has_room(desk.facts, keys) and has_room(desk.flow, keys))


@inlined_kernel
def take(desk: Desk, row: Row, kind: int) -> int:
    """Let one row take effect; give the verdict. Only rows of calls have a key."""
    if row.key != 0:
        if kind == STARTED:
            return on_started(desk, row)
        if kind == ANSWERED_TYPE:
            return on_answered(desk, row)
        if kind == HEARTBEAT:
            return on_heartbeat(desk, row)
        if kind == ENDED:
            return on_ended(desk, row)
        if kind == DECLINED:
            return on_declined(desk, row)
        if kind == TURN:
            slot = living_slot(desk, row.key, row.series, row.time_ns)
            if slot == TABLE_FULL:
                return NO_PLACE
            if slot >= 0 and not is_of_earlier_attempt(desk, slot, row.time_ns):
                desk.calls[slot, STATE] |= HAD_TURN
        if kind == AGENT:
            mark(desk, row, HAD_AGENT)
    if kind in (TRANSFER, DEPENDENCY):
        on_side(desk, row)
    if COUNT_OF_TYPE[kind] >= 0:
        add_count(desk.facts, row.series, COUNT_OF_TYPE[kind], 1)
    return TAKEN


@inlined_kernel
def take_out(desk: Desk, row: Row) -> int:
    """Let an end that is too late to be counted take its call out of flight; give how many it took."""
    if row.key == 0:
        return 0
    slot = find(desk.calls, row.key)
    if slot < 0 or is_of_earlier_attempt(desk, slot, row.time_ns):
        return 0
    state = desk.calls[slot, STATE]
    if not state & IN_FLIGHT:
        return 0
    leave(desk, slot, desk.open_ns, K_HEALED)
    add_count(desk.flow, desk.calls[slot, SERIES], C_HEALED_LATE, 1)
    bury(desk, slot, row.time_ns, state & (START_SEEN | ANSWERED))
    return 1


@inlined_kernel
def score(facts: Facts, series: int, metric: int, value: float) -> None:
    """Count a quality score from 0 to 1; what is none is not counted."""
    if 0.0 <= value <= 1.0:
        add_score(facts, series, metric, int(np.rint(value * SCORE_STEPS)))


@inlined_kernel
def measure(sketches: Sketches, series: int, stage: int, latency_ms: float) -> None:
    """Count a latency in the sketch of its row's labels; NaN is not a latency."""
    if latency_ms == latency_ms:  # noqa: PLR0124 - NaN is not equal to itself.
        # A latency beyond the last bucket adds that bucket's bound to the sum, which so cannot overflow.
        micros = int(np.rint(min(latency_ms, LATENCY_MAX_MS) * US_PER_MS))
        add_latency(sketches, series, stage, bucket_number(latency_ms / MS_PER_S), micros)
