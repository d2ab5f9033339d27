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

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

NONE_NS = -1  # no watermark yet
# Places in a partition's `clock`; the last three are of a jump that is not believed yet.
NEWEST_NS, FLOOR_NS, NEXT_OFFSET, JUMP_ROWS, JUMP_LEAST_NS, JUMP_MOST_NS = range(6)
JUMP_ROWS_MAX = 8  # a plain log's jump is believed with the row after so many
NO_JUMP_NS = 1 << 62  # no time is this far from another


def new_clock() -> NDArray[np.int64]:
    """Make a partition's clock (int64, (6,)): newest accepted time, floor by idleness, next offset, jump."""
    return np.array([NONE_NS, NONE_NS, 0, 0, NONE_NS, NONE_NS], np.int64)


@kernel
def move(clock: NDArray[np.int64], time_ns: int, jump_ns: int) -> int:
    """Take a time (none beyond its receipt) as the newest; give how many rows before it prove to be ahead.

    A log without receipt times tells a wrong clock from a silent night by what follows. More than `jump_ns`
    beyond the newest time is a jump, believed, up to its least time, when rows in a row say so; if one
    comes that does not, the clock of those before it was wrong.
    """
    if clock[NEWEST_NS] < 0 or time_ns <= clock[NEWEST_NS] + jump_ns:
        wrong = int(clock[JUMP_ROWS])
        clock[NEWEST_NS] = max(clock[NEWEST_NS], time_ns)
        clock[JUMP_ROWS] = 0
        return wrong
    is_first = clock[JUMP_ROWS] == 0
    clock[JUMP_LEAST_NS] = time_ns if is_first else min(clock[JUMP_LEAST_NS], time_ns)
    clock[JUMP_MOST_NS] = time_ns if is_first else max(clock[JUMP_MOST_NS], time_ns)
    clock[JUMP_ROWS] += 1
    if clock[JUMP_ROWS] > JUMP_ROWS_MAX:
        clock[NEWEST_NS] = clock[JUMP_LEAST_NS]
        clock[JUMP_ROWS] = 0
    return 0


def believable_ns(clock: NDArray[np.int64], jump_ns: int) -> int:
    """Give the newest time that is believed where the log ends: nothing speaks against a jump there."""
    most_ns = int(clock[JUMP_MOST_NS]) if clock[JUMP_ROWS] else NONE_NS
    return max(int(clock[NEWEST_NS]) + jump_ns, most_ns)


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
