"""What is usual for a few window rows at this time of the week, learned from the stream: a table that grows.

It tells an evening from an outage. Slots of five minutes are counted whether calls come or not: on the first
evenings nobody knows that they are quiet, and a table that left out what looked like an outage would never
learn it. One real outage then is one day among several. Beyond ROWS_MAX rows nothing is known of a row. The
table is part of the detector's state: a restart with a checkpoint keeps it, one without takes three days
again. The first weekend is like no day before it; the second is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.rows import grown
from engine.judge.baseline import (
    DAYS,
    SLOT_NS,
    SLOT_S,
    SLOTS,
    Baseline,
    day_and_slot,
    new_baseline,
    pooled,
    with_slots,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.settings import UtcOffsets

NS = 1_000_000_000
ROWS_MAX = 64
WEEKDAYS_MIN = 3
DAYS_MIN = 0.8  # watched at a slot before it is believed: one day, faded for a week; another counts a third


class UsualArrivals(NamedTuple):
    """By tracked row; arrays are replaced, never written to."""

    looked_at: int  # window rows so far
    rows: NDArray[np.int64]  # (tracked,): the window row of each
    baseline: Baseline
    slot: int  # that is counted, since 1970-01-01 in UTC; -1: none yet
    calls: NDArray[np.float64]  # (tracked,): counted in it
    watched_s: float
    rate_per_s: NDArray[np.float64]  # (tracked,): usual in it; inf where that is not known
    usual_rows_refused: int = 0  # without room


def nothing_usual() -> UsualArrivals:
    """Give a table without rows."""
    return UsualArrivals(0, np.zeros(0, np.int64), new_baseline(0), -1, np.zeros(0), 0.0, np.zeros(0))


def with_rows(usual: UsualArrivals, looked_at: int, rows: list[int]) -> UsualArrivals:
    """Give the table with new window rows in it, as far as it has room, and how many were looked at."""
    missing = np.array(rows[: ROWS_MAX - len(usual.rows)], np.int64)
    tracked = np.concatenate([usual.rows, missing])
    baseline = Baseline(
        grown(usual.baseline.calls, len(tracked), 0.0),
        grown(usual.baseline.watched_s, len(tracked), 0.0),
        usual.baseline.day,
    )
    return usual._replace(
        looked_at=looked_at,
        rows=tracked,
        baseline=baseline,
        calls=grown(usual.calls, len(tracked), 0.0),
        rate_per_s=grown(usual.rate_per_s, len(tracked), np.inf),
        usual_rows_refused=usual.usual_rows_refused + len(rows) - len(missing),
    )


def with_slice(
    usual: UsualArrivals, span_ns: tuple[int, int], arrivals: NDArray[np.int64], offsets: UtcOffsets
) -> UsualArrivals:
    """Give the table with a slice counted; `arrivals` (window rows,) are of that slice."""
    slot = span_ns[0] // SLOT_NS
    if slot != usual.slot:
        baseline = usual.baseline
        if usual.slot >= 0 and len(usual.rows):
            day, place = day_and_slot(usual.slot * SLOT_NS, offsets)
            watched_s = np.full((len(usual.rows), 1), usual.watched_s)
            baseline = with_slots(baseline, day, np.array([place]), usual.calls[:, None], watched_s)
        place = day_and_slot(slot * SLOT_NS, offsets)[1]
        usual = usual._replace(
            baseline=baseline,
            slot=slot,
            calls=np.zeros(len(usual.rows)),
            watched_s=0.0,
            rate_per_s=rate_at(baseline, place),
        )
    return usual._replace(
        calls=usual.calls + arrivals[usual.rows], watched_s=usual.watched_s + (span_ns[1] - span_ns[0]) / NS
    )


def rate_at(baseline: Baseline, place: int) -> NDArray[np.float64]:
    """Give the usual rate in a slot of the week, (tracked,); inf where it is not known.

    It is the least of the slot and those beside it, as counted: nobody closes to the minute. On a weekday
    that was hardly watched yet it is the highest of the others, from three of them on.
    """
    weekday, slot = divmod(place, SLOTS)
    around = (slot + np.array([-1, 0, 1])) % SLOTS
    calls, watched_s = (counted[:, around] for counted in pooled(baseline, weekday))
    own = (calls / np.maximum(watched_s, 1.0)).min(axis=1)
    is_known = watched_s.min(axis=1) >= DAYS_MIN * SLOT_S
    by_day = len(own), DAYS, SLOTS
    day_calls = baseline.calls.reshape(by_day)[:, :, around]
    day_watched_s = baseline.watched_s.reshape(by_day)[:, :, around]
    others = (day_calls / np.maximum(day_watched_s, 1.0)).min(axis=2).max(axis=1, initial=0.0)
    days = (day_watched_s.min(axis=2) > 0.0).sum(axis=1)
    others = np.where(days >= WEEKDAYS_MIN, others, np.inf)
    return np.where(is_known, own, others).astype(np.float64)
