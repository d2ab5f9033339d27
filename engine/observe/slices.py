"""Rows of slices that are still open, as columns in order of arrival: routed, bounded, ordered, let go.

A row belongs to the slice of its time; if that is behind the watermark it is late, and is held in the
oldest open slice, where it takes effect first. Nothing is looked at before the slice closes: then its
rows are sorted, so the facts do not depend on the order of arrival, on batches or on partitions. The
order is total: time, kind, call, then everything else that a row says, by content and never by local ids.
Rejected: absorbing at once, which needs rules for every order in which the events of a call can arrive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine.decode.events import EventType
from engine.errors import LossReason
from engine.kernel import kernel
from engine.observe.watermark import NEXT_OFFSET, move, watermark_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Standing of a held row, in the order in which they take effect.
TOO_LATE, LATE, ON_TIME = range(3)
# Fate of a row of a batch.
LOST, HELD_LATE, HELD = range(3)
NO_NOTE = -1
# Places in `Held.cells`.
ROWS, MEASURES, TOO_LATE_ROWS = range(3)
# Places in `Book.counters`.
ABSORBED, AMENDED, CLOCK_AHEAD, UNKEYED = range(4)
HEALED_HEARTBEAT, HEALED_TTL, HEALED_LISTED, HEALED_LATE = range(4, 8)
COUNTERS = 8
DUPLICATE, TOO_LATE_LOSS = int(LossReason.DUPLICATE), int(LossReason.LATE)
TIME_AHEAD, HELD_ROWS_FULL = int(LossReason.TIME_AHEAD), int(LossReason.HELD_ROWS_FULL)
ENDED, DECLINED = int(EventType.CALL_ENDED), int(EventType.CALL_DECLINED)
WORD32_BITS, FOLD_SHIFT = 32, 20
WORD32_MASK = (1 << WORD32_BITS) - 1
# Odd numbers below 2^31: no product leaves int64, and the sum of a row that fits its bytes does not either.
LOW_MULTIPLIER, HIGH_MULTIPLIER = 0x5E3779B1, 0x45EBCA77
NO_TIME = 1 << 62
ROWS_MIN = 1024
ROOMY = 8  # a buffer with more than so many times the room that it needs is given up


class Book(NamedTuple):
    """What is counted over all partitions."""

    losses: NDArray[np.int64]  # (len(LossReason),)
    counters: NDArray[np.int64]  # (COUNTERS,)


class Columns(NamedTuple):
    """The arrays of an `EventBatch` that are held; shapes as there, keys as the same bits in int64."""

    time_ns: NDArray[np.int64]
    received_ns: NDArray[np.int64]
    offset: NDArray[np.int64]
    type_id: NDArray[np.uint8]
    call_key: NDArray[np.int64]
    event_key: NDArray[np.int64]
    series_id: NDArray[np.int32]
    cause_id: NDArray[np.int32]
    duration_ms: NDArray[np.float64]
    measure_row: NDArray[np.int32]
    measure_stage: NDArray[np.int16]
    measure_ms: NDArray[np.float64]
    note_id: NDArray[np.int32]  # (rows,): NO_NOTE or a number of the partition's notes


class Bounds(NamedTuple):
    """Settings that `hold` needs."""

    slice_ns: int
    out_of_order_ns: int
    clock_ahead_ns: int
    jump_ns: int  # how far a row may move the newest time by itself
    rows_max: int  # in this partition, now
    measures_max: int  # the same
    late_ns: NDArray[np.int64]  # (series,)
    stage_digest: NDArray[np.int64]  # (stages,)


class Held(NamedTuple):
    """Rows of one partition's open slices; (capacity,) arrays, of which the first cells[ROWS] are in use."""

    slice_ns: NDArray[np.int64]  # start of the slice in which the row takes effect
    time_ns: NDArray[np.int64]
    call_key: NDArray[np.int64]
    event_key: NDArray[np.int64]
    duration_ms: NDArray[np.float64]
    digest: NDArray[np.int64]  # of the row's latencies, whatever their order
    series_id: NDArray[np.int64]
    cause_id: NDArray[np.int64]
    note_id: NDArray[np.int32]
    type_id: NDArray[np.uint8]
    standing: NDArray[np.uint8]
    measure_first: NDArray[np.int64]
    measure_count: NDArray[np.int64]
    measure_stage: NDArray[np.int16]  # (measures capacity,)
    measure_ms: NDArray[np.float64]  # (measures capacity,)
    cells: NDArray[np.int64]  # (3,): rows, measures, rows that were too late


def new_held(rows: int = ROWS_MIN, measures: int = ROWS_MIN) -> Held:
    """Make an empty buffer."""
    return Held(
        slice_ns=np.zeros(rows, np.int64),
        time_ns=np.zeros(rows, np.int64),
        call_key=np.zeros(rows, np.int64),
        event_key=np.zeros(rows, np.int64),
        duration_ms=np.zeros(rows, np.float64),
        digest=np.zeros(rows, np.int64),
        series_id=np.zeros(rows, np.int64),
        cause_id=np.zeros(rows, np.int64),
        note_id=np.zeros(rows, np.int32),
        type_id=np.zeros(rows, np.uint8),
        standing=np.zeros(rows, np.uint8),
        measure_first=np.zeros(rows, np.int64),
        measure_count=np.zeros(rows, np.int64),
        measure_stage=np.zeros(measures, np.int16),
        measure_ms=np.zeros(measures, np.float64),
        cells=np.zeros(3, np.int64),
    )


def grown_held(held: Held, rows: int, measures: int) -> Held:
    """Give a buffer with room for `rows` and `measures` more: the same if it has it, else a larger copy."""
    sizes = []
    for capacity, used, more in (
        (len(held.time_ns), int(held.cells[ROWS]), rows),
        (len(held.measure_ms), int(held.cells[MEASURES]), measures),
    ):
        sizes.append(capacity if used + more <= capacity else max(used + more, 2 * capacity))
    if sizes == [len(held.time_ns), len(held.measure_ms)]:
        return held
    larger = new_held(sizes[0], sizes[1])
    for new, old in zip(columns_of(larger), columns_of(held), strict=True):
        new[: len(old)] = old
    return larger


def shrunk_held(held: Held) -> Held:
    """Give a smaller copy of a buffer that a backlog has left mostly empty, else the same."""
    rows, measures = int(held.cells[ROWS]), int(held.cells[MEASURES])
    if len(held.time_ns) + len(held.measure_ms) <= ROOMY * (rows + measures + ROWS_MIN):
        return held
    smaller = new_held(max(2 * rows, ROWS_MIN), max(2 * measures, ROWS_MIN))
    for new, old in zip(columns_of(smaller), columns_of(held), strict=True):
        new[:] = old[: len(new)]
    return smaller


def columns_of(held: Held) -> tuple[NDArray[Any], ...]:
    """Give all arrays, so that they can be copied alike."""
    return tuple(held)


@kernel
def hold(
    batch: Columns, held: Held, clock: NDArray[np.int64], book: Book, bounds: Bounds, fate: NDArray[np.uint8]
) -> None:
    """Route every row of a batch: hold it in its slice, or count why not. The caller has made the room.

    Moves `clock` on, writes `fate` (uint8, (rows,)). A row that is too late but ends a call is a loss and
    is held all the same, to take the call out of flight.
    """
    measure = 0
    own_ns = NO_TIME  # start of the slice of the row before
    for row in range(len(batch.time_ns)):
        first = measure
        while measure < len(batch.measure_row) and batch.measure_row[measure] == row:
            measure += 1
        fate[row] = LOST
        if batch.offset[row] < clock[NEXT_OFFSET]:
            book.losses[DUPLICATE] += 1
            continue
        clock[NEXT_OFFSET] = batch.offset[row] + 1
        time_ns = batch.time_ns[row]
        ahead_ns = time_ns - batch.received_ns[row]
        if ahead_ns > 0:
            book.counters[CLOCK_AHEAD] += 1
            if ahead_ns > bounds.clock_ahead_ns:
                book.losses[TIME_AHEAD] += 1
                continue
        watermark_ns = watermark_of(clock, bounds.out_of_order_ns)
        if not own_ns <= time_ns < own_ns + bounds.slice_ns:
            own_ns = time_ns // bounds.slice_ns * bounds.slice_ns
        slice_ns = own_ns
        standing = ON_TIME
        if slice_ns + bounds.slice_ns <= watermark_ns:
            slice_ns = watermark_ns // bounds.slice_ns * bounds.slice_ns
            standing = LATE
            if watermark_ns - time_ns > bounds.late_ns[batch.series_id[row]]:
                book.losses[TOO_LATE_LOSS] += 1
                if batch.type_id[row] != ENDED and batch.type_id[row] != DECLINED:
                    continue
                standing = TOO_LATE
        # A row that finds no room moves the watermark all the same, or nothing would ever close and make
        # room; so does one that lies ahead, up to its receipt, or nothing would close while a clock is fast.
        reached_ns = min(time_ns, batch.received_ns[row])
        book.counters[CLOCK_AHEAD] += move(clock, reached_ns, bounds.jump_ns)
        measures = held.cells[MEASURES] + measure - first
        if held.cells[ROWS] >= bounds.rows_max or measures > bounds.measures_max:
            if standing != TOO_LATE:
                book.losses[HELD_ROWS_FULL] += 1
            continue
        keep(batch, held, bounds, row, (first, measure, slice_ns, standing))
        fate[row] = HELD if standing == ON_TIME else HELD_LATE if standing == LATE else LOST


@kernel
def folded(word: int) -> int:
    """Give 43 bits that depend on all of an int64; a sum of them tells multisets apart, as `^` does not."""
    low, high = word & WORD32_MASK, (word >> WORD32_BITS) & WORD32_MASK
    return ((low * LOW_MULTIPLIER) ^ (high * HIGH_MULTIPLIER)) >> FOLD_SHIFT


@kernel
def keep(batch: Columns, held: Held, bounds: Bounds, row: int, place: tuple[int, int, int, int]) -> None:
    """Append a row of a batch to what is held; `place`: its measures from and to, its slice, its standing."""
    first, end, slice_ns, standing = place
    at = held.cells[ROWS]
    held.slice_ns[at] = slice_ns
    held.standing[at] = standing
    held.time_ns[at] = batch.time_ns[row]
    held.call_key[at] = batch.call_key[row]
    held.event_key[at] = batch.event_key[row]
    held.duration_ms[at] = batch.duration_ms[row]
    held.series_id[at] = batch.series_id[row]
    held.cause_id[at] = batch.cause_id[row]
    held.note_id[at] = batch.note_id[row]
    held.type_id[at] = batch.type_id[row]
    to = held.cells[MEASURES]
    held.measure_first[at] = to
    held.measure_count[at] = end - first
    digest = np.int64(0)
    for measure in range(first, end):
        stage = batch.measure_stage[measure]
        held.measure_stage[to] = stage
        held.measure_ms[to] = batch.measure_ms[measure]
        digest += folded(np.float64(batch.measure_ms[measure]).view(np.int64) ^ bounds.stage_digest[stage])
        to += 1
    held.digest[at] = digest
    held.cells[MEASURES] = to
    held.cells[ROWS] = at + 1
    if standing == TOO_LATE:
        held.cells[TOO_LATE_ROWS] += 1


@kernel
def let_go(held: Held, until_ns: int, slice_ns: int) -> None:
    """Drop the rows of slices that end at or before `until_ns`; the others move up and keep their order."""
    to, measure_to, too_late = 0, 0, 0
    for row in range(held.cells[ROWS]):
        if held.slice_ns[row] + slice_ns <= until_ns:
            continue
        held.slice_ns[to] = held.slice_ns[row]
        held.time_ns[to] = held.time_ns[row]
        held.call_key[to] = held.call_key[row]
        held.event_key[to] = held.event_key[row]
        held.duration_ms[to] = held.duration_ms[row]
        held.digest[to] = held.digest[row]
        held.series_id[to] = held.series_id[row]
        held.cause_id[to] = held.cause_id[row]
        held.note_id[to] = held.note_id[row]
        held.type_id[to] = held.type_id[row]
        held.standing[to] = held.standing[row]
        too_late += held.standing[row] == TOO_LATE
        first = held.measure_first[row]
        held.measure_first[to] = measure_to
        held.measure_count[to] = held.measure_count[row]
        for measure in range(first, first + held.measure_count[row]):
            held.measure_stage[measure_to] = held.measure_stage[measure]
            held.measure_ms[measure_to] = held.measure_ms[measure]
            measure_to += 1
        to += 1
    held.cells[ROWS] = to
    held.cells[MEASURES] = measure_to
    held.cells[TOO_LATE_ROWS] = too_late
