"""How far a partition, and the engine as a whole, has come in event time.

A partition's watermark is its newest accepted event time less the out-of-order bound. A row ahead of its
receipt counts as one at its receipt, so it never passes `received_ns` less the bound. It is kept row by
row (in `hold`), so whether a row is late does not depend on batches. The engine's watermark is the least of
the partitions that are not idle. A partition is idle only when its position has equalled the log's end for
`idle_ns` of receipt time; nothing moves by receipt time while any partition lags. An idle partition is
taken along with the engine's watermark: what it says later is late. Rejected: time-outs since the last
row, which would drop the rows of a slow partition after a restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel
from engine.source.contract import PLAIN_LOG_RECEIVED_NS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engine.settings import EngineSettings

NONE_NS = -1  # no watermark yet
# Places in a partition's `clock`; from the fourth on, the rows of a jump that is not believed yet.
NEWEST_NS, FLOOR_NS, NEXT_OFFSET, JUMP_ROWS, JUMP_NS = range(5)
JUMP_ROWS_MAX = 8  # a plain log's jump is believed with the row after so many
NO_JUMP_NS = 1 << 62  # no time is this far from another


def new_clock() -> NDArray[np.int64]:
    """Make a partition's clock, int64, (JUMP_NS + JUMP_ROWS_MAX + 1,).

    Newest accepted time, floor by idleness, next offset, rows of a jump, their times in order. Where rows
    have a receipt, nothing from the rows of a jump on is ever used.
    """
    clock = np.zeros(JUMP_NS + JUMP_ROWS_MAX + 1, np.int64)
    clock[:NEXT_OFFSET] = NONE_NS
    return clock


def jump_ns_of(settings: EngineSettings, received_ns: int) -> int:
    """Give how far one row may move time: in a plain log not so far that others would be lost as late."""
    if received_ns != PLAIN_LOG_RECEIVED_NS:
        return NO_JUMP_NS
    late_ns = (settings.late_ns, *settings.late_by_platform_ns.values())
    return min(*late_ns, settings.clock_ahead_ns)


@kernel
def move(clock: NDArray[np.int64], time_ns: int, jump_ns: int) -> int:
    """Take a time (none beyond its receipt) as the newest; give how many rows prove to be ahead by it.

    A log without receipt times tells a wrong clock from a silence by its other rows. A row more than
    `jump_ns` beyond the newest time, or the first, waits with those like it. Each row that does not lie
    there takes one away, the furthest; once there are nine, their least is the newest time.
    """
    rows = clock[JUMP_ROWS]
    if time_ns <= clock[NEWEST_NS] + jump_ns:
        clock[NEWEST_NS] = max(clock[NEWEST_NS], time_ns)
        if rows == 0:
            return 0
        follow(clock, jump_ns)
        if clock[JUMP_ROWS] == 0:
            return 0
        clock[JUMP_ROWS] -= 1
        return 1
    at = JUMP_NS + rows
    while at > JUMP_NS and clock[at - 1] > time_ns:
        clock[at] = clock[at - 1]
        at -= 1
    clock[at] = time_ns
    clock[JUMP_ROWS] = rows + 1
    if rows == JUMP_ROWS_MAX:
        clock[NEWEST_NS] = clock[JUMP_NS]
        follow(clock, jump_ns)
    return 0


@kernel
def follow(clock: NDArray[np.int64], jump_ns: int) -> None:
    """Let the newest time go on over the waiting rows that it has come within reach of."""
    rows, reached = clock[JUMP_ROWS], 0
    while reached < rows and clock[JUMP_NS + reached] <= clock[NEWEST_NS] + jump_ns:
        clock[NEWEST_NS] = max(clock[NEWEST_NS], clock[JUMP_NS + reached])
        reached += 1
    for row in range(reached, rows):
        clock[JUMP_NS + row - reached] = clock[JUMP_NS + row]
    clock[JUMP_ROWS] = rows - reached


def believable_ns(clock: NDArray[np.int64], ahead_ns: int) -> int:
    """Give the newest time that is believed where the log ends: nothing more speaks against a jump there."""
    rows = int(clock[JUMP_ROWS])
    most_ns = int(clock[JUMP_NS + rows - 1]) if rows else NONE_NS
    return max(int(clock[NEWEST_NS]) + ahead_ns, most_ns)


@kernel
def watermark_of(clock: NDArray[np.int64], out_of_order_ns: int) -> int:
    """Give a partition's watermark, or NONE_NS before its first row."""
    if clock[NEWEST_NS] < 0:
        return int(clock[FLOOR_NS])
    return int(max(clock[NEWEST_NS] - out_of_order_ns, clock[FLOOR_NS]))


class Idleness(NamedTuple):
    """What receipt time says; replaced, never changed. `since_ns` holds the partitions at their log's end."""

    received_ns: int = NONE_NS
    since_ns: tuple[tuple[int, int], ...] = ()  # (partition, receipt since which it is at the end), sorted


def after(idleness: Idleness, received_ns: int, caught_up: tuple[int, ...], busy: int) -> Idleness:
    """Give what is known after a batch or tick; `busy` is the partition that has just had rows (-1: none).

    A plain log has no receipt time (`received_ns` below 0): nothing of it is ever idle.
    """
    if received_ns < 0:
        return idleness
    received_ns = max(received_ns, idleness.received_ns)
    before = dict(idleness.since_ns)
    since = {p: received_ns if p == busy else before.get(p, received_ns) for p in caught_up}
    return Idleness(received_ns, tuple(sorted(since.items())))


def idle_partitions(idleness: Idleness, idle_ns: int) -> frozenset[int]:
    """Name the partitions that have been at their log's end for long enough."""
    return frozenset(p for p, since in idleness.since_ns if idleness.received_ns - since >= idle_ns)


def engine_watermark(
    watermarks: Mapping[int, int], idle: frozenset[int], all_idle_ns: int, before_ns: int
) -> int:
    """Give the engine's watermark over the assigned partitions; it never goes back.

    `all_idle_ns` is the one that receipt time allows when every partition is idle. A partition that has sent
    nothing and is not idle holds the engine back.
    """
    if not watermarks:
        return before_ns
    waited_for = [at_ns for partition, at_ns in watermarks.items() if partition not in idle]
    return max(before_ns, min(waited_for) if waited_for else all_idle_ns)
