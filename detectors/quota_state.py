"""What the detector of quotas remembers: use by parts of the period, and what past periods were like."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.rows import grown
from engine.judge.detection import NS
from engine.limits import QUOTA

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.limits import Limit, LimitInstance

SLOTS = 288
WEEKDAYS = 7
DAY_NS = 86_400 * NS
FIRST_WEEKDAY = 3  # of 1970-01-01, Monday being 0


class State(NamedTuple):
    """By quota instance, in the order in which they appear; slots are equal parts of the period."""

    row_of: NDArray[np.int64]  # (quotas,): limit instance
    start_ns: NDArray[np.int64]  # (quotas,): of the period; -1: none yet
    first_ns: NDArray[np.int64]  # (quotas,): when counting began
    used: NDArray[np.float64]  # (quotas, SLOTS) in this period, or as a ring by time
    unseen: NDArray[np.float64]  # (quotas,): use of this period that the platform reports and we never saw
    reported: NDArray[np.float64]  # (quotas,): its newest report
    newest_slot: NDArray[np.int64]  # (quotas,)
    course: NDArray[np.float64]  # (quotas, SLOTS): faded sum over past periods
    periods: NDArray[np.float64]  # (quotas,): faded number of past periods
    total: NDArray[np.float64]  # (quotas, WEEKDAYS): faded sums of totals
    totals: NDArray[np.float64]  # (quotas, WEEKDAYS): faded numbers of them
    ratio_var: NDArray[np.float64]  # (quotas,): faded sum of squared log ratios of totals to what was usual
    recent: NDArray[np.float64]  # (quotas,): use a second, over about the last hour


def with_rows(state: State, limits: tuple[LimitInstance, ...]) -> State:
    """Give new quotas a place."""
    known = set(state.row_of.tolist())
    fresh = [
        one.index
        for one in limits
        if one.limit.kind == QUOTA and one.limit.per_ns and one.limit.resets and one.index not in known
    ]
    if not fresh:
        return state
    row_of = np.concatenate([state.row_of, np.array(fresh, np.int64)])
    many = len(row_of)
    fills = {"start_ns": -1, "first_ns": -1, "newest_slot": -1, "reported": -1}
    columns = {name: grown(getattr(state, name), many, fills.get(name, 0)) for name in State._fields[1:]}
    return State(row_of, **columns)


def slot_at(limit: Limit, time_ns: int) -> int:
    """Give the slot of a time: of its period, or for a rolling quota the number of the slot since 1970."""
    assert limit.per_ns is not None
    if limit.resets == "rolling":
        return time_ns * SLOTS // limit.per_ns
    start_ns, end_ns = limit.period_at(time_ns)
    return (time_ns - start_ns) * SLOTS // (end_ns - start_ns)


def empty_between(ring: NDArray[np.float64], newest: int, slot: int) -> None:
    """Empty the slots of a ring that a period has passed over, in place."""
    if newest < 0 or slot - newest >= SLOTS:
        ring[:] = 0.0
    elif slot > newest:
        ring[np.arange(newest + 1, slot + 1) % SLOTS] = 0.0


def weekday(start_ns: int, limit: Limit) -> int:
    """Give the weekday of a period of a day; 0 for other periods."""
    if limit.per_ns != DAY_NS:
        return 0
    local_day = (start_ns + limit.offset_at(start_ns) + DAY_NS // 2) // DAY_NS
    return int(local_day + FIRST_WEEKDAY) % WEEKDAYS


def usual_total(state: State, place: int, start_ns: int, limit: Limit) -> float:
    """Give the usual total of a period: of its weekday three to one against all others; 0: not known."""
    number, total = state.totals[place], state.total[place]
    if number.sum() <= 0.0:
        return 0.0
    weights = np.ones(WEEKDAYS)
    weights[weekday(start_ns, limit)] = 3.0
    return float((weights * total).sum() / (weights * number).sum())
