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
from engine.observe.calls import ANSWERED, IN_FLIGHT, START_SEEN, USED, find, must_grow
from engine.observe.latency import LATENCY_MAX_S, bucket_number
from engine.observe.life import (
    NO_PLACE,
    REPEATED,
    TABLE_FULL,
    TAKEN,
    Desk,
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
from engine.observe.outcomes import add_count, add_latency, facts_have_room
from engine.observe.recent import was_seen
from engine.observe.slices import ABSORBED, AMENDED, HEALED_LATE, LATE, TOO_LATE, Held
from engine.observe.summary import Count, EndKind

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
        row = order[at]
        measures = held.measure_count[row]
        if not has_room(desk, measures):
            return at
        if held.standing[row] == TOO_LATE:
            take_out(desk, held, row)
            continue
        verdict = take(desk, held, row)
        if verdict != TAKEN:
            lost[row] = True
            desk.book.losses[DUPLICATE if verdict == REPEATED else CALLS_FULL] += 1
            continue
        desk.book.counters[ABSORBED] += 1
        if held.standing[row] == LATE:
            desk.book.counters[AMENDED] += 1
            add_count(desk.facts, held.series_id[row], C_AMENDED, 1)
        if measures:
            measure(desk, held, row)
    return span[1]


@kernel
def has_room(desk: Desk, measures: int) -> bool:
    """Say whether every table has room for one row with so many latencies."""
    is_calls_ready = desk.calls.cells[USED] >= desk.entries_max or not must_grow(desk.calls)
    return bool(is_calls_ready and facts_have_room(desk.facts, measures) and facts_have_room(desk.flow, 0))


@kernel
def take(desk: Desk, held: Held, row: int) -> int:
    """Let one row take effect; give the verdict."""
    kind, key = held.type_id[row], held.call_key[row]
    series, time_ns = held.series_id[row], held.time_ns[row]
    if key != 0:
        if kind == STARTED:
            return on_started(desk, key, series, time_ns)
        if kind == ANSWERED_TYPE:
            return on_answered(desk, key, series, time_ns)
        if kind == HEARTBEAT:
            return on_heartbeat(desk, key, series, time_ns)
        if kind == ENDED:
            return on_ended(desk, held, row)
        if kind == DECLINED:
            return on_declined(desk, held, row)
    # No state of a call would recognise the others when they come again.
    if held.event_key[row] != 0 and was_seen(desk.recent, held.event_key[row]):
        return REPEATED
    if kind == TURN and key != 0 and living_slot(desk, key, series, time_ns) == TABLE_FULL:
        return NO_PLACE
    if COUNT_OF_TYPE[kind] >= 0:
        add_count(desk.facts, series, COUNT_OF_TYPE[kind], 1)
    return TAKEN


@kernel
def take_out(desk: Desk, held: Held, row: int) -> None:
    """Let an end or decline that came too late to be counted take its call out of flight, censored."""
    key, time_ns = held.call_key[row], held.time_ns[row]
    if key == 0:
        return
    slot = find(desk.calls, key)
    if slot < 0 or not desk.calls.state[slot] & IN_FLIGHT or is_of_earlier_attempt(desk, slot, time_ns):
        return
    leave(desk, slot, desk.open_ns, K_HEALED)
    add_count(desk.flow, desk.calls.series[slot], C_HEALED_LATE, 1)
    desk.book.counters[HEALED_LATE] += 1
    bury(desk, slot, time_ns, desk.calls.state[slot] & (START_SEEN | ANSWERED))


@kernel
def measure(desk: Desk, held: Held, row: int) -> None:
    """Count the latencies of a row in the sketches of its own labels; NaN is not a latency."""
    first = held.measure_first[row]
    for at in range(first, first + held.measure_count[row]):
        ms = held.measure_ms[at]
        if ms == ms:  # noqa: PLR0124 - NaN is not equal to itself.
            # A latency beyond the last bucket adds that bucket's bound to the sum, which so cannot overflow.
            micros = int(np.rint(min(ms, LATENCY_MAX_MS) * US_PER_MS))
            add_latency(
                desk.facts, held.series_id[row], held.measure_stage[at], bucket_number(ms / MS_PER_S), micros
            )
