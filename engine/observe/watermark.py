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
# Places in a partition's `clock`.
NEWEST_NS, FLOOR_NS, NEXT_OFFSET = range(3)


def new_clock() -> NDArray[np.int64]:
    """Make a partition's clock (int64, (3,)): newest accepted time, floor by idleness, next offset."""
    return np.array([NONE_NS, NONE_NS, 0], np.int64)


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
