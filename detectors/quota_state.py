"""What the detector of quotas remembers: use by parts of the period, and what past periods were like."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from detectors.rows import grown
from engine.judge.detection import NS
from engine.limits import QUOTA

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary
    from engine.limits import Limit, LimitInstance

SLOTS = 288
WEEKDAYS = 7
DAY_NS = 86_400 * NS
FIRST_WEEKDAY = 3  # of 1970-01-01, Monday being 0
UNHEARD_LEAST = 10.0  # arrivals, from which on a silence of the whole stream is no traffic but an outage


class State(NamedTuple):
    """By quota instance, in the order in which they appear; slots are equal parts of the period."""

    row_of: NDArray[np.int64]  # (quotas,): limit instance
    start_ns: NDArray[np.int64]  # (quotas,): of the period; -1: none yet
    first_ns: NDArray[np.int64]  # (quotas,): when counting began
    used: NDArray[np.float64]  # (quotas, SLOTS) in this period, or as a ring by time
    unseen: NDArray[np.float64]  # (quotas,): use now that the platform reports and we never saw
    reported: NDArray[np.float64]  # (quotas,): its newest report
    reported_before: NDArray[np.float64]  # (quotas,): the newest one before this period
    newest_slot: NDArray[np.int64]  # (quotas,)
    course: NDArray[np.float64]  # (quotas, SLOTS): faded sum over past periods
    periods: NDArray[np.float64]  # (quotas,): faded number of past periods
    total: NDArray[np.float64]  # (quotas, WEEKDAYS): faded sums of totals
    totals: NDArray[np.float64]  # (quotas, WEEKDAYS): faded numbers of them
    ratio_var: NDArray[np.float64]  # (quotas,): faded sum of squared log ratios of totals to what was usual
    recent: NDArray[np.float64]  # (quotas,): use a second, over about the last hour
    unwatched: NDArray[
        np.float64
    ]  # (quotas,): share of this period, by its usual course, that was not watched
    was_unwatched: NDArray[np.bool_]  # (quotas, WEEKDAYS): much of the last period of that weekday was not
    end_ns: int = -1  # of the last slice; -1: none yet
    arrivals_per_s: float = 0.0  # of the whole stream, over about the last hour
    unheard: float = 0.0  # arrivals that would have come in the present silence of the whole stream


def new_quota_state() -> State:
    """Give the state before the first slice."""
    whole, none, wide = np.zeros(0, np.int64), np.zeros(0), np.zeros((0, SLOTS))
    week = np.zeros((0, WEEKDAYS))
    return State(
        whole, whole, whole, wide, none, none, none, whole, wide, none, week, week, none, none,
        none, np.zeros((0, WEEKDAYS), np.bool_),
    )  # fmt: skip


def listened(state: State, summary: WindowSummary, memory_s: float) -> tuple[State, tuple[int, int]]:
    """Give the state with what the whole stream did in a slice, and the span before its end nobody watched.

    That is what lies between the slices, and a silence of the whole stream in which many calls would
    have come at the rate of the last hour before it.
    """
    slice_s = (summary.end_ns - summary.start_ns) / NS
    keep = math.exp(-slice_s / memory_s)
    rate = keep * state.arrivals_per_s + (1.0 - keep) * summary.stream.arrivals / slice_s
    unheard = state.unheard + state.arrivals_per_s * slice_s if summary.stream.events == 0 else 0.0
    seen_ns = summary.start_ns if state.end_ns < 0 else min(state.end_ns, summary.start_ns)
    span = (seen_ns, summary.end_ns if unheard >= UNHEARD_LEAST else summary.start_ns)
    return state._replace(end_ns=summary.end_ns, arrivals_per_s=rate, unheard=unheard), span


def share_done(course: NDArray[np.float64], through: float) -> float:
    """Give the share of a usual period that is over at this part of its time; without a course, that part."""
    total = course.sum()
    if total <= 0.0:
        return min(max(through, 0.0), 1.0)
    edges = np.concatenate([[0.0], np.cumsum(course / total)])
    return float(np.interp(through * SLOTS, np.arange(SLOTS + 1), edges))


def share_of(course: NDArray[np.float64], period: tuple[int, int], span: tuple[int, int]) -> float:
    """Give the share of a usual period that lies in a span of time."""
    if span[1] <= span[0]:
        return 0.0
    from_, to = ((at - period[0]) / (period[1] - period[0]) for at in span)
    return share_done(course, to) - share_done(course, from_)


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
    fills = {"start_ns": -1, "first_ns": -1, "newest_slot": -1, "reported": -1, "reported_before": -1}
    names = [name for name in State._fields if isinstance(getattr(state, name), np.ndarray)]
    columns: dict[str, Any] = {name: grown(getattr(state, name), many, fills.get(name, 0)) for name in names}
    return state._replace(**columns | {"row_of": row_of})


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
