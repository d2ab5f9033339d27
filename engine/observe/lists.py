"""The platform's own lists of live calls (`calls.listed`), which heal what was lost.

A list says what was in flight at its time, in every partition, but it comes in one of them. It takes effect
in each partition at the same slice, `out_of_order` and `idle` after its time, or that of its row if that is
later, however calls are spread and rows batched; a partition that is already beyond takes it in its next
slice. A call is healed if its labels match all labels of the note that the series keep, it entered flight
before the list's time less the out-of-order bound, and it is not listed. Tenant and platform are part of what
a call is, so a list that names none speaks of calls that have none. Where the note names a label that series
do not keep, or a word that stands for many (`__number__`; `__other__` for what cannot be used), nothing can
be said to match, and nothing is healed; the decoder counts it. Listed calls that were healed before that are
in flight again, each where it was; those that no partition knows enter flight with unknown age, in the
partition of the note. That nobody knows them can only be said where every partition has come: until then none
closes the slice of the list, and what is ahead is held. A list for which too many rows would be held, or that
comes when a partition is so far beyond that it has forgotten what ended, opens nothing. Rejected: taking
effect at once, or opening in a partition that is ahead, which would depend on how far each partition is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.decode.events import LABELS, EventType
from engine.limits import SHARED_WORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engine.decode.events import Note

CALL_KEYS = "call_keys"
NOBODY = -1  # home of a list that opens nothing
IDENTITY = ("platform", "tenant")  # hashed with the call id


class CallList(NamedTuple):
    """One list, waiting for the slices in which it takes effect."""

    time_ns: int
    apply_ns: int  # start of that slice
    home: int  # partition in which it came, where unknown calls are opened; or NOBODY
    series_id: int  # of the note's row: labels of the calls opened
    labels: tuple[tuple[str, str], ...]
    keys: NDArray[np.int64]  # bits of the hashes; sorted, unique, no 0


Waiting = tuple[CallList, set[int]]  # with the partitions in which it took effect


class Reach(NamedTuple):
    """How far partitions have come."""

    least_ns: int  # all may close up to here
    most_ns: int  # one may
    closed_ns: int  # one has
    is_full: bool  # no more rows can be held for those that are behind


def call_list(note: Note, home: int, series_id: int, delay_ns: int, slice_ns: int) -> CallList | None:
    """Give the list that a note holds, or None if it is another note."""
    if note.type_id != EventType.CALLS_LISTED:
        return None
    found = dict(note.fields).get(CALL_KEYS)
    if found is None:  # It names no platform or tenant where calls have one: see the decoder.
        return None
    assert isinstance(found, tuple)
    keys = np.unique(np.array(found, np.uint64).view(np.int64))
    apply_ns = -(-(note.time_ns + delay_ns) // slice_ns) * slice_ns
    return CallList(note.time_ns, apply_ns, home, series_id, note.labels, keys[keys != 0])


def given_up(
    lists: Sequence[Waiting], reach: Reach, known_ns: int, slice_ns: int
) -> tuple[list[Waiting], int]:
    """Give the lists, and how many more cannot say which calls nobody knows: NOBODY is to open theirs.

    `known_ns` is how long after a list's time a partition still knows every call that ended since.
    """
    found, many = [], 0
    for one, done in lists:
        end_ns = one.apply_ns + slice_ns
        is_held_for = reach.is_full and reach.least_ns < end_ns <= reach.most_ns
        is_apart = is_held_for or reach.closed_ns > one.time_ns + known_ns
        if is_apart and _opens(one, done):
            found.append((one._replace(home=NOBODY), done))
            many += 1
        else:
            found.append((one, done))
    return found, many


def level_ns(lists: Sequence[Waiting], reach: Reach, slice_ns: int) -> int:
    """Give the time up to which partitions may close: lists beyond it wait for those that are behind."""
    starts = [one.apply_ns for one, done in lists if _opens(one, done)]
    return min((one for one in starts if one + slice_ns > reach.least_ns), default=reach.most_ns)


def _opens(one: CallList, done: set[int]) -> bool:
    return one.home != NOBODY and one.home not in done


def matching_series(
    labels: tuple[tuple[str, str], ...], names: tuple[str, ...], values: Sequence[tuple[str, ...]]
) -> NDArray[np.bool_]:
    """Say which series (bool, (series,)) have all the given labels, of those with `names` and `values`."""
    given = {label: value for label, value in labels if label in LABELS}
    wanted = list(({label: "" for label in IDENTITY if label in names} | given).items())
    if any(label not in names or value in SHARED_WORDS for label, value in wanted):
        return np.zeros(len(values), np.bool_)
    at = [(names.index(label), value) for label, value in wanted]
    return np.array([all(one[i] == value for i, value in at) for one in values], np.bool_)
