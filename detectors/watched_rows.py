"""Which rows a detector keeps memory of, and which of several rows names one cause.

Rows are only ever appended, and there may be thousands; a detector that remembers much of each watches the
whole deployment and single label values, up to a bound. What does not fit still counts in the total.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NO_ROOM = -2  # what `engine.judge.bounds` counts
LabelSet = tuple[tuple[str, str], ...]
CARRIES_RATIO = 0.8  # of what is wrong: then a row is the cause, and the total says no more
TELLING_RATIO = 0.8  # a row with more of the calls than this says no more than the total


def with_slots(
    known: NDArray[np.int32], labels: Sequence[LabelSet], slots_max: int, kept_for_totals: int
) -> NDArray[np.int32]:
    """Give each row its slot (int32, (rows,)), where `known` has those of the first rows.

    Below 0 a row is not watched: -1 as a combination of labels, NO_ROOM for want of a slot. `labels` are
    those of the new rows alone. Single labels leave `kept_for_totals` slots free.
    """
    if not labels:
        return known
    taken = int(np.count_nonzero(known >= 0))
    fresh = []
    for one in labels:
        is_watched = taken < slots_max - (kept_for_totals if one else 0) and len(one) <= 1
        fresh.append(taken if is_watched else NO_ROOM if len(one) <= 1 else -1)
        taken += is_watched
    return np.concatenate([known, np.array(fresh, np.int32)])


class Carrier(NamedTuple):
    """A row that may name a cause: how much of what is wrong it has, and how many calls."""

    row: int  # window row
    label: str  # "": the whole deployment
    wrong: float
    calls: float
    slot: int = -1  # of the detector that asks


def excess(seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give how many more than usual lie beyond a cut, (slots,): the cut where that is most.

    `seen` (slots, 2, categories) is what was counted between cuts, lowest first, and what is usual.
    """
    more = seen[:, 0] - seen[:, 1]
    return np.asarray(np.cumsum(more[:, :0:-1], axis=1).max(axis=1, initial=0.0))


def causes(carriers: Sequence[Carrier], spoken: int = -1) -> list[Carrier]:
    """Pick who speaks for rows that are wrong at the same time, in the same way.

    The whole deployment is told by the narrowest row that has nearly all that is wrong and not nearly all the
    calls. Without the total, label values of one label stand side by side, and other labels, which divide the
    same calls anew, are left out. `spoken` is a row that spoke before: it, or its label, speaks while it can.
    """
    if not carriers:
        return []
    again = next((one for one in carriers if one.row == spoken), None)
    if again is not None:
        return [one for one in carriers if one.label == again.label]
    total = next((one for one in carriers if not one.label), None)
    rows = sorted((one for one in carriers if one.label), key=lambda one: (one.calls, one.row))
    if total is not None:
        telling = [
            one
            for one in rows
            if one.wrong >= CARRIES_RATIO * total.wrong and one.calls <= TELLING_RATIO * total.calls
        ]
        return telling[:1] or [total]
    wrong: dict[str, float] = {}
    calls: dict[str, float] = {}
    for one in rows:
        wrong[one.label] = wrong.get(one.label, 0.0) + one.wrong
        calls[one.label] = calls.get(one.label, 0.0) + one.calls
    most = max(wrong.values())
    label = min(
        (one for one in wrong if wrong[one] >= CARRIES_RATIO * most), key=lambda one: (calls[one], one)
    )
    return [one for one in rows if one.label == label]
