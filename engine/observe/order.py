"""The total order in which the rows of a slice take effect.

Slice, standing, time, kind, call, and then all else that a row says: two rows that are equal in all of it are
interchangeable. Series and causes are compared by the place of their names, since local ids depend on who
came first. A merge sort, since held rows come nearly in order: runs that already fit are not merged, and
nothing that is sent can make it quadratic. Rejected: numpy.lexsort, which sorts once for every column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.decode.events import EventType
from engine.kernel import kernel
from engine.observe.slices import LATE, ON_TIME, ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.observe.slices import Held

RUN = 16  # sorted by insertion

# Of events of one time, a call's start comes first, then what happens in it, then its decline or end, and
# a list of live calls after these. Where a decline and an end come together, the attempt was declined.
KIND_ORDER = (
    EventType.CALL_QUEUED, EventType.CALL_STARTED, EventType.CALL_ANSWERED, EventType.AGENT_JOINED,
    EventType.CALL_HEARTBEAT, EventType.TURN_COMPLETED, EventType.TRANSFER_STARTED, EventType.TRANSFER_ENDED,
    EventType.DEPENDENCY_CALLED, EventType.QUALITY_SCORED, EventType.CALL_DECLINED, EventType.CALL_ENDED,
    EventType.LIMIT_REPORTED, EventType.CALLS_LISTED, EventType.LOAD_PLANNED, EventType.CHANGE_MADE,
)  # fmt: skip


class Run(NamedTuple):
    """Rows of one open slice with one standing and one slice of their own: a span of the sorted order."""

    open_ns: int
    standing: int
    own_ns: int
    first: int
    last: int


class Ranks(NamedTuple):
    """Places in the order of names, by local id."""

    kind: NDArray[np.int64]  # (types,)
    series: NDArray[np.int64]  # (series,)
    cause: NDArray[np.int64]  # (causes + 1,): the last one is that of id -1


def kind_ranks() -> NDArray[np.int64]:
    """Give the place of each event type."""
    ranks = np.zeros(len(EventType), np.int64)
    ranks[list(KIND_ORDER)] = np.arange(len(EventType))
    return ranks


@kernel
def comes_before(held: Held, ranks: Ranks, a: int, b: int) -> bool:
    """Say whether row `a` takes effect strictly before row `b`."""
    if held.slice_ns[a] != held.slice_ns[b]:
        return bool(held.slice_ns[a] < held.slice_ns[b])
    if held.standing[a] != held.standing[b]:
        return bool(held.standing[a] < held.standing[b])
    if held.time_ns[a] != held.time_ns[b]:
        return bool(held.time_ns[a] < held.time_ns[b])
    if held.type_id[a] != held.type_id[b]:
        return bool(ranks.kind[held.type_id[a]] < ranks.kind[held.type_id[b]])
    if held.call_key[a] != held.call_key[b]:
        return bool(held.call_key[a] < held.call_key[b])
    if held.event_key[a] != held.event_key[b]:
        return bool(held.event_key[a] < held.event_key[b])
    if held.series_id[a] != held.series_id[b]:
        return bool(ranks.series[held.series_id[a]] < ranks.series[held.series_id[b]])
    if held.cause_id[a] != held.cause_id[b]:
        return bool(ranks.cause[held.cause_id[a]] < ranks.cause[held.cause_id[b]])
    # NaN (no duration) comes last.
    has_a, has_b = held.duration_ms[a] == held.duration_ms[a], held.duration_ms[b] == held.duration_ms[b]
    if has_a != has_b:
        return bool(has_a)
    if has_a and held.duration_ms[a] != held.duration_ms[b]:
        return bool(held.duration_ms[a] < held.duration_ms[b])
    if held.measure_count[a] != held.measure_count[b]:
        return bool(held.measure_count[a] < held.measure_count[b])
    return bool(held.digest[a] < held.digest[b])


@kernel
def due_rows(
    held: Held, until_ns: int, slice_ns: int, order: NDArray[np.int64], rough: NDArray[np.int64]
) -> int:
    """Write the numbers of the rows of slices that end at or before `until_ns` to `order`; give how many.

    `rough` gets numbers that order most of these rows: equal ones need `comes_before`. Both (held rows,).
    Twice the time leaves a place before each slice for the rows that are late; it fits until the year 2116.
    """
    many = 0
    for row in range(held.cells[ROWS]):
        if held.slice_ns[row] + slice_ns <= until_ns:
            order[many] = row
            many += 1
            is_on_time = held.standing[row] == ON_TIME
            rough[row] = 2 * held.time_ns[row] + 1 if is_on_time else 2 * held.slice_ns[row]
    return many


@kernel
def find_runs(held: Held, slice_ns: int, order: NDArray[np.int64], runs: NDArray[np.int64]) -> int:
    """Write the spans of `order` (rows,) that have one slice, one standing and one slice of their own.

    `runs` (rows, 5) gets the columns of `Run`. Gives how many spans there are.
    """
    many = 0
    for at in range(len(order)):
        row = order[at]
        open_ns, standing = held.slice_ns[row], np.int64(held.standing[row])
        own_ns = held.time_ns[row] // slice_ns * slice_ns if standing == LATE else open_ns
        run = runs[many - 1]
        if many == 0 or run[0] != open_ns or run[1] != standing or run[2] != own_ns:
            run = runs[many]
            run[0], run[1], run[2], run[3] = open_ns, standing, own_ns, at
            many += 1
        run[4] = at + 1
    return many


@kernel
def sort_runs(held: Held, ranks: Ranks, rough: NDArray[np.int64], order: NDArray[np.int64]) -> None:
    """Sort each run of RUN rows of `order` (row numbers, int64 (rows,)) in place."""
    for start in range(0, len(order), RUN):
        for i in range(start + 1, min(start + RUN, len(order))):
            row = order[i]
            j = i
            while j > start and (
                rough[row] < rough[order[j - 1]]
                or (rough[row] == rough[order[j - 1]] and comes_before(held, ranks, row, order[j - 1]))
            ):
                order[j] = order[j - 1]
                j -= 1
            order[j] = row


@kernel
def sort_rows(
    held: Held,
    ranks: Ranks,
    rough: NDArray[np.int64],
    order: NDArray[np.int64],
    scratch: NDArray[np.int64],
) -> None:
    """Sort the row numbers in `order` (int64, (rows,)) in place; `scratch` has the same shape.

    `rough` is what `due_rows` gives. Runs of sorted rows are merged two by two.
    """
    sort_runs(held, ranks, rough, order)
    width = RUN
    rows = len(order)
    while width < rows:
        for start in range(0, rows - width, 2 * width):
            middle = start + width
            end = min(middle + width, rows)
            a, b = order[middle], order[middle - 1]
            if rough[a] > rough[b] or (rough[a] == rough[b] and not comes_before(held, ranks, a, b)):
                continue
            for i in range(start, middle):
                scratch[i] = order[i]
            left, right, to = start, middle, start
            while left < middle and right < end:
                a, b = order[right], scratch[left]
                if rough[a] < rough[b] or (rough[a] == rough[b] and comes_before(held, ranks, a, b)):
                    order[to] = a
                    right += 1
                else:
                    order[to] = b
                    left += 1
                to += 1
            while left < middle:
                order[to] = scratch[left]
                left += 1
                to += 1
        width *= 2
