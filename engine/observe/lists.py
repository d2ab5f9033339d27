"""The platform's own lists of live calls (`calls.listed`), which heal what was lost.

A list says what was in flight at its time, in every partition, but it comes in one of them. It takes
effect in each partition at the same slice, LIST_DELAY after its time, so that the result is the same
however calls are spread; a partition that is already beyond takes it in its next slice. A call is healed
if its labels match all labels of the note that the series keep, it entered flight before the list's time
less the out-of-order bound, and it is not listed. Tenant and platform are part of what a call is, so a list
that names none speaks of calls that have none. Where the note names a label that series do not keep, nothing
can be said to match, and nothing is healed; the decoder counts it. Listed calls that were healed before that
are in flight again, each where it was; those that no partition knows enter flight with unknown age, in the
partition of the note. Rejected: taking effect at once, which would depend on
how far each partition is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.decode.events import LABELS, EventType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engine.decode.events import Note

CALL_KEYS = "call_keys"
IDENTITY = ("platform", "tenant")  # hashed with the call id


class CallList(NamedTuple):
    """One list, waiting for the slices in which it takes effect."""

    time_ns: int
    apply_ns: int  # start of that slice
    home: int  # partition in which it came, and where unknown calls are opened
    series_id: int  # of the note's row: labels of the calls opened
    labels: tuple[tuple[str, str], ...]
    keys: NDArray[np.int64]  # bits of the hashes; sorted, unique, no 0


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


def matching_series(
    labels: tuple[tuple[str, str], ...], names: tuple[str, ...], values: Sequence[tuple[str, ...]]
) -> NDArray[np.bool_]:
    """Say which series (bool, (series,)) have all the given labels, of those with `names` and `values`."""
    given = {label: value for label, value in labels if label in LABELS}
    wanted = list(({label: "" for label in IDENTITY if label in names} | given).items())
    if any(label not in names for label, _ in wanted):
        return np.zeros(len(values), np.bool_)
    at = [(names.index(label), value) for label, value in wanted]
    return np.array([all(one[i] == value for i, value in at) for one in values], np.bool_)
