"""Ends without a start are remembered for a while, to find their calls in other partitions.

If such a call is in flight there, the topic is not keyed by `call_id` (or the number of partitions has changed), and calls would seem to
leak. A bounded ring over all partitions; when it is full the oldest end is forgotten.
Rejected: one table of calls over all partitions, which could not move with its partition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel
from engine.observe.calls import IN_FLIGHT, START_SEEN, Calls, find

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNMATCHED_MAX = 1024


class Unmatched(NamedTuple):
    """Ends of calls whose start was not seen in their partition; arrays of shape (UNMATCHED_MAX,)."""

    key: NDArray[np.uint64]  # 0: free
    time_ns: NDArray[np.int64]
    partition: NDArray[np.int64]
    next: NDArray[np.int64]  # (1,): place that is written next


def new_unmatched() -> Unmatched:
    """Make an empty ring."""
    return Unmatched(
        np.zeros(UNMATCHED_MAX, np.uint64),
        np.zeros(UNMATCHED_MAX, np.int64),
        np.zeros(UNMATCHED_MAX, np.int64),
        np.zeros(1, np.int64),
    )


@kernel
def remember_end(ends: Unmatched, key: np.uint64, time_ns: int, partition: int) -> None:
    """Remember an end in place of the oldest one."""
    at = ends.next[0]
    ends.key[at] = key
    ends.time_ns[at] = time_ns
    ends.partition[at] = partition
    ends.next[0] = (at + 1) % len(ends.key)


@kernel
def count_unkeyed(ends: Unmatched, calls: Calls, partition: int) -> int:
    """Count remembered ends of other partitions whose call is in flight in this one; each is counted once."""
    found = 0
    for at in range(len(ends.key)):
        if ends.key[at] == 0 or ends.partition[at] == partition:
            continue
        slot = find(calls, ends.key[at])
        if slot >= 0 and calls.state[slot] & IN_FLIGHT and calls.state[slot] & START_SEEN:
            ends.key[at] = 0
            found += 1
    return found


@kernel
def forget_ends(ends: Unmatched, before_ns: int, partition: int) -> None:
    """Forget ends older than `before_ns`, and all of `partition` (-1: none)."""
    for at in range(len(ends.key)):
        if ends.time_ns[at] < before_ns or ends.partition[at] == partition:
            ends.key[at] = 0
