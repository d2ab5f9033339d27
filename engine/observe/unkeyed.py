"""Ends without a start are remembered for a while, to find their calls in other partitions.

If such a call is in flight there, the topic is not keyed by `call_id` (or the number of partitions has
changed), and calls would seem to leak. A bounded ring over all partitions; when it is full the oldest end
is forgotten. Rejected: one table of calls over all partitions, which could not move with its partition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel
from engine.observe.calls import IN_FLIGHT, START_SEEN, STATE, Calls, find

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNMATCHED_MAX = 1024
END_KEY, END_NS, PARTITION = range(3)


class Unmatched(NamedTuple):
    """Ends of calls whose start was not seen in their partition."""

    ends: NDArray[np.int64]  # (UNMATCHED_MAX, 3): END_KEY (0: free), END_NS, PARTITION
    next: NDArray[np.int64]  # (1,): place that is written next
    forgotten: NDArray[np.int64]  # (1,): ends that had to make room


def new_unmatched() -> Unmatched:
    """Make an empty ring."""
    return Unmatched(np.zeros((UNMATCHED_MAX, 3), np.int64), *(np.zeros(1, np.int64) for _ in range(2)))


@kernel
def remember_end(unmatched: Unmatched, key: int, time_ns: int, partition: int) -> None:
    """Remember an end in place of the oldest one."""
    at = unmatched.next[0]
    unmatched.forgotten[0] += unmatched.ends[at, END_KEY] != 0
    unmatched.ends[at, END_KEY] = key
    unmatched.ends[at, END_NS] = time_ns
    unmatched.ends[at, PARTITION] = partition
    unmatched.next[0] = (at + 1) % len(unmatched.ends)


@kernel
def count_unkeyed(unmatched: Unmatched, calls: Calls, partition: int) -> int:
    """Count remembered ends of other partitions whose call is in flight in this one; each is counted once."""
    ends = unmatched.ends
    found = 0
    for at in range(len(ends)):
        if ends[at, END_KEY] == 0 or ends[at, PARTITION] == partition:
            continue
        slot = find(calls, ends[at, END_KEY])
        if slot >= 0 and calls[slot, STATE] & IN_FLIGHT and calls[slot, STATE] & START_SEEN:
            ends[at, END_KEY] = 0
            found += 1
    return found


@kernel
def forget_ends(unmatched: Unmatched, before_ns: int, partition: int) -> None:
    """Forget ends older than `before_ns`, and all of `partition` (-1: none)."""
    ends = unmatched.ends
    for at in range(len(ends)):
        if ends[at, END_NS] < before_ns or ends[at, PARTITION] == partition:
            ends[at, END_KEY] = 0
