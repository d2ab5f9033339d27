"""The fused kernel: every row of a slice, in order, once.

A row acts on the set of calls in flight and on the facts of its slice in one pass; its latencies go into the
sketch in the same pass. Before a row the kernel looks whether every table has room for all that it may add; if not
it stops, its caller makes room, and it goes on with that row. So it never allocates and never half does a row.
Rejected: one pass per measurement, which reads the rows six times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engine.decode.events import EventType
from engine.errors import LossReason
from engine.kernel import kernel
from engine.observe.calls import ANSWERED, IN_FLIGHT, SERIES, START_SEEN, STATE, USED, find, must_grow
from engine.observe.latency import LATENCY_MAX_S, bucket_number
from engine.observe.life import (
    NO_PLACE,
    REPEATED,
    TABLE_FULL,
    TAKEN,
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
from engine.observe.outcomes import MEASURE_KEYS, ROW_KEYS, Facts, add_count, add_latency
from engine.observe.recent import was_seen
from engine.observe.slices import ABSORBED, AMENDED, HEALED_LATE, LATE, TOO_LATE, Held
from engine.observe.summary import Count, EndKind
from engine.observe.tally import has_room

if TYPE_CHECKING:
    from numpy.typing import NDArray

STARTED, ANSWERED_TYPE = int(EventType.CALL_STARTED), int(EventType.CALL_ANSWERED)
HEARTBEAT, ENDED, DECLINED = (
    int(EventType.CALL_HEARTBEAT), int(EventType.CALL_ENDED), int(EventType.CALL_DECLINED),
)  # fmt: skip
TURN = int(EventType.TURN_COMPLETED)
DUPLICATE, CALLS_FULL = int(LossReason.DUPLICATE), int(LossReason.CALLS_FULL)
C_AMENDED, C_HEALED_LATE, K_HEALED = int(Count.AMENDED), int(Count.HEALED_LATE), int(EndKind.HEALED)
MS_PER_S = 1000.0
US_PER_MS = 1000.0
LATENCY_MAX_MS = LATENCY_MAX_S * MS_PER_S

# The column that an event of each type is counted in; -1: none, or counted by its own rules.
COUNT_OF_TYPE = np.full(len(EventType), -1, np.int64)
COUNT_OF_TYPE[EventType.CALL_QUEUED] = Count.QUEUED
COUNT_OF_TYPE[EventType.AGENT_JOINED] = Count.AGENTS_JOINED
COUNT_OF_TYPE[EventType.TURN_COMPLETED] = Count.TURNS
COUNT_OF_TYPE[EventType.TRANSFER_ENDED] = Count.TRANSFERS_ENDED
COUNT_OF_TYPE[EventType.DEPENDENCY_CALLED] = Count.DEPENDENCY_CALLS


@kernel
def absorb_rows(
    desk: Desk, held: Held, order: NDArray[np.int64], lost: NDArray[np.bool_], span: tuple[int, int]
) -> int:
    """Let the rows `order[span[0]:span[1]]` take effect, in this order; all have one standing.

    Gives the place in `order` where it stopped for want of room, or span[1]. Sets `lost` (bool, (rows,), by row)
    where a row was not taken, and counts every row in `desk.book`.
    """
    for at in range(span[0], span[1]):
        number = order[at]
        measures = held.measure_count[number]
        if not desk_has_room(desk, measures):
            return at
        series, standing = held.series_id[number], held.standing[number]
        row = Row(
            held.call_key[number],
            series,
            held.cause_id[number],
            held.time_ns[number],
            held.duration_ms[number],
        )
        if standing == TOO_LATE:
            take_out(desk, row)
            continue
        verdict = take(desk, row, held.type_id[number], held.event_key[number])
        if verdict != TAKEN:
            lost[number] = True
            desk.book.losses[DUPLICATE if verdict == REPEATED else CALLS_FULL] += 1
            continue
        desk.book.counters[ABSORBED] += 1
        if standing == LATE:
            desk.book.counters[AMENDED] += 1
            add_count(desk.facts, series, C_AMENDED, 1)
        if measures:
            first = held.measure_first[number]
            last = first + measures
            measure(desk.facts, series, held.measure_stage[first:last], held.measure_ms[first:last])
    return span[1]


@kernel
def desk_has_room(desk: Desk, measures: int) -> bool:
    """Say whether every table has room for one row with so many latencies."""
    is_calls_ready = desk.calls.cells[USED] >= desk.entries_max or not must_grow(desk.calls)
    keys = ROW_KEYS + MEASURE_KEYS * measures
    return bool(is_calls_ready and has_room(desk.facts, keys) and has_room(desk.flow, keys))


@kernel
def take(desk: Desk, row: Row, kind: int, event_key: int) -> int:
    """Let one row take effect; give the verdict."""
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
    # No state of a call would recognise the others when they come again.
    if event_key != 0 and was_seen(desk.recent, event_key):
        return REPEATED
    if kind == TURN and row.key != 0 and living_slot(desk, row.key, row.series, row.time_ns) == TABLE_FULL:
        return NO_PLACE
    if COUNT_OF_TYPE[kind] >= 0:
        add_count(desk.facts, row.series, COUNT_OF_TYPE[kind], 1)
    return TAKEN


@kernel
def take_out(desk: Desk, row: Row) -> None:
    """Let an end or decline that came too late to be counted take its call out of flight, censored."""
    if row.key == 0:
        return
    slot = find(desk.calls, row.key)
    if slot < 0 or is_of_earlier_attempt(desk, slot, row.time_ns):
        return
    state = desk.calls.table[slot, STATE]
    if not state & IN_FLIGHT:
        return
    leave(desk, slot, desk.open_ns, K_HEALED)
    add_count(desk.flow, desk.calls.table[slot, SERIES], C_HEALED_LATE, 1)
    desk.book.counters[HEALED_LATE] += 1
    bury(desk, slot, row.time_ns, state & (START_SEEN | ANSWERED))


@kernel
def measure(facts: Facts, series: int, stages: NDArray[np.int16], latencies_ms: NDArray[np.float64]) -> None:
    """Count the latencies of a row in the sketches of its own labels; NaN is not a latency."""
    for at in range(len(stages)):
        ms = latencies_ms[at]
        if ms == ms:  # noqa: PLR0124 - NaN is not equal to itself.
            # A latency beyond the last bucket adds that bucket's bound to the sum, which so cannot overflow.
            micros = int(np.rint(min(ms, LATENCY_MAX_MS) * US_PER_MS))
            add_latency(facts, series, stages[at], bucket_number(ms / MS_PER_S), micros)
