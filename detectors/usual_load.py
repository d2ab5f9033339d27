"""The rate of arrivals as what is usual at this time of the week, times a ratio that the filters follow.

    log rate(t) = x + offset(t),    offset(t) = weight x log usual(t)

`usual` is the baseline (engine/judge/baseline.py) between the middles of its slots. The weight is 0 where too
few days were watched, and moves to 1 within an hour; whenever it or the table changes, x is shifted so that
the rate of now stays what it is, and only its course ahead changes. The baseline is learned from the stream
itself, a slot at a time; a slice counts where it was watched: not while we had just attached, and not while
the whole stream was silent for longer than its traffic allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.judge.baseline import (
    SLOT_NS,
    SLOT_S,
    Baseline,
    day_and_slot,
    faded,
    new_baseline,
    usual_at,
    with_slots,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary
    from engine.learned import Learned
    from engine.limits import LimitInstance
    from engine.settings import UtcOffsets

NS = 1_000_000_000
SLOTS_BEFORE = 2  # kept in the table before the slot of now
SLOTS_AFTER = 3  # and after the last horizon
DAYS_MIN = 1.0  # watched at each slot ahead, before the baseline is used at all ...
DAYS_FULL = 2.0  # ... and fully; a weekday that is alike counts a third of a day
CALLS_MIN, CALLS_FULL = 2.0, 6.0  # that a slot of the baseline rests on, on average
FADE_A_SLOT = 1.0 / 12.0  # an hour from 0 to 1
SHAPE_VAR = 0.03**2  # by which a day's course differs from the usual one
HOURS, BUSIEST = 168, 4
WEEK_NS = 7 * 86_400 * NS
SILENT_CALLS = 10.0  # expected in a silence of the whole stream, from which on it is no traffic but an outage


class Season(NamedTuple):
    """What is usual, learned and looked up; arrays (instances, ...) that are replaced, never written to."""

    baseline: Baseline
    slot: int  # the slot that is counted, since 1970-01-01 in UTC; -1: none yet
    calls: NDArray[np.float64]  # counted in it
    watched_s: NDArray[np.float64]
    silent_s: float  # how long the whole stream has had no event
    expected_per_s: float  # calls, before the silence
    table_slot: int  # slot of the first column of the table; -1: none yet
    log_usual: NDArray[np.float64]  # (instances, columns): log of calls an evaluation, by slot
    usual_var: NDArray[np.float64]  # (instances, columns): of the logarithm
    days: NDArray[np.float64]  # watched days that the table rests on, at its least known slot
    busiest_per_s: NDArray[np.float64]  # calls in the busiest usual hours
    weight: NDArray[np.float64]
    offset: NDArray[np.float64]  # at the last evaluation; the filters' levels are relative to it
    offset_ns: int  # when that was


def new_season(rows: int, columns: int) -> Season:
    """Give a season that has seen nothing."""
    nothing = np.zeros(rows)
    table = np.zeros((rows, columns))
    return Season(
        new_baseline(rows), -1, nothing, nothing, 0.0, 0.0, -1, table, table,
        nothing, nothing, nothing, nothing, -1,
    )  # fmt: skip


def columns_for(ahead_s: float) -> int:
    """Give how many slots the table needs to look so far ahead."""
    return SLOTS_BEFORE + int(np.ceil(ahead_s / SLOT_S)) + SLOTS_AFTER


def count_slice(
    season: Season,
    summary: WindowSummary,
    counted: NDArray[np.bool_],
    rate_per_s: NDArray[np.float64],
    offsets: UtcOffsets,
) -> Season:
    """Give the season with one slice counted; `counted` (instances,): which of them had begun."""
    slot = summary.start_ns // SLOT_NS
    slice_s = (summary.end_ns - summary.start_ns) / NS
    if season.slot >= 0 and slot != season.slot and season.watched_s.any():
        day, week_slot = day_and_slot(season.slot * SLOT_NS, offsets)
        baseline = with_slots(
            season.baseline, day, np.array([week_slot]), season.calls[:, None], season.watched_s[:, None]
        )
        nothing = np.zeros(len(season.calls))
        season = season._replace(baseline=baseline, calls=nothing, watched_s=nothing)
    if summary.stream.events == 0:
        silent_s, expected_per_s = season.silent_s + slice_s, season.expected_per_s
    else:
        silent_s, expected_per_s = 0.0, float(np.fmax.reduce(rate_per_s, initial=0.0))
    calls, watched_s = season.calls, season.watched_s
    if not summary.is_partial and silent_s * expected_per_s < SILENT_CALLS:
        calls = calls + counted * summary.limits.arrivals
        watched_s = watched_s + counted * slice_s
    return season._replace(
        slot=slot, calls=calls, watched_s=watched_s, silent_s=silent_s, expected_per_s=expected_per_s
    )


def looked_up(
    season: Season, time_ns: int, has_level: NDArray[np.bool_], step_s: float, offsets: UtcOffsets
) -> tuple[Season, NDArray[np.float64]]:
    """Give the season with its table and offset brought to `time_ns`, and what to take off the levels.

    `step_s` is that of an evaluation. Where there is no level yet, the weight is at once what it should be.
    """
    slot = time_ns // SLOT_NS
    shift = np.zeros(len(season.weight))
    if season.table_slot != slot - SLOTS_BEFORE and season.baseline.day >= 0:
        columns = season.log_usual.shape[1]
        moments = [(slot - SLOTS_BEFORE + k) * SLOT_NS for k in range(columns)]
        week_slots = np.array([day_and_slot(at, offsets)[1] for at in moments])
        usual = usual_at(season.baseline, week_slots)
        days = usual.days.min(axis=1)
        # Hours that are always empty are known as well as busy ones, so it is the average that must do.
        watched_s = np.maximum(season.baseline.watched_s.sum(axis=1, dtype=np.float64), 1.0)
        calls = season.baseline.calls.sum(axis=1, dtype=np.float64) / watched_s * days * SLOT_S
        target = np.clip((days - DAYS_MIN) / (DAYS_FULL - DAYS_MIN), 0.0, 1.0)
        target *= np.clip((calls - CALLS_MIN) / (CALLS_FULL - CALLS_MIN), 0.0, 1.0)
        step = np.clip(target - season.weight, -FADE_A_SLOT, FADE_A_SLOT)
        known = usual.rate_per_s > 0.0
        season = season._replace(
            table_slot=slot - SLOTS_BEFORE,
            log_usual=np.log(np.where(known, usual.rate_per_s * step_s, 1.0)),
            usual_var=SHAPE_VAR + 1.0 / (usual.calls + 1.0),
            days=days,
            busiest_per_s=busiest_per_s(season.baseline),
            weight=np.where(has_level, season.weight + step, target),
        )
        if season.offset_ns >= 0:
            shift = offsets_at(season, np.array([season.offset_ns]))[:, 0] - season.offset
    offset = offsets_at(season, np.array([time_ns]))[:, 0]
    return season._replace(offset=offset, offset_ns=time_ns), shift


def busiest_per_s(baseline: Baseline) -> NDArray[np.float64]:
    """Give the rate of the busiest hours of the week: the fourth of them, as chance makes the first."""
    hours = (len(baseline.calls), HOURS, -1)
    calls = baseline.calls.reshape(hours).sum(axis=2, dtype=np.float64)
    watched_s = baseline.watched_s.reshape(hours).sum(axis=2, dtype=np.float64)
    rate = calls / np.maximum(watched_s, SLOT_S)
    return np.asarray(np.partition(rate, HOURS - BUSIEST, axis=1)[:, HOURS - BUSIEST])


def busiest_within(baseline: Baseline, row: int, span_ns: tuple[int, int], offsets: UtcOffsets) -> float:
    """Give the highest usual rate, calls a second, of one instance in a span of time."""
    first, last = span_ns[0] // SLOT_NS, min(span_ns[1] - 1, span_ns[0] + WEEK_NS) // SLOT_NS
    places = [day_and_slot(slot * SLOT_NS, offsets)[1] for slot in range(first, max(first, last) + 1)]
    own = Baseline(baseline.calls[row : row + 1], baseline.watched_s[row : row + 1], baseline.day)
    return float(usual_at(own, np.unique(places)).rate_per_s.max())


def offsets_at(season: Season, times_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the offset at some moments within the table, (instances, moments)."""
    low, share = places(season, times_ns)
    line = season.log_usual
    return np.asarray(season.weight[:, None] * (line[:, low] * (1.0 - share) + line[:, low + 1] * share))


def offsets_ahead(season: Season, times_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the same for the many moments of a forecast, which are 0 while nothing is usual."""
    if season.weight.any():
        return offsets_at(season, times_ns)
    return np.zeros((len(season.weight), len(times_ns)))


def variances_at(season: Season, times_ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the variance of the offset at some moments, (instances, moments)."""
    if not season.weight.any():
        return np.zeros((len(season.weight), len(times_ns)))
    low, share = places(season, times_ns)
    line = season.usual_var
    return np.asarray(
        np.square(season.weight)[:, None] * (line[:, low] * (1.0 - share) + line[:, low + 1] * share)
    )


def places(season: Season, times_ns: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give between which columns moments lie, and how far; a slot's value is that of its middle."""
    columns = season.log_usual.shape[1]
    place = (times_ns - season.table_slot * SLOT_NS) / SLOT_NS - 0.5
    place = np.minimum(np.maximum(place, 0.0), columns - 1.000001)
    low = place.astype(np.int64)
    return low, place - low


def pulls(season: Season, time_ns: int, usual_s: float, quiet_most: float) -> NDArray[np.float64]:
    """Give by how much a second the ratios of now lose of their logarithm.

    A ratio lasts for about `usual_s`, much shorter where now is quiet against what comes next: that ten calls
    came at night instead of two says little of the morning.
    """
    is_known = season.weight >= 1.0
    if not is_known.any():
        return np.zeros(len(is_known))
    now = offsets_at(season, np.array([time_ns]))[:, 0]
    quiet = np.exp(np.minimum(season.log_usual[:, SLOTS_BEFORE:].max(axis=1) - now, 10.0))
    rate = np.clip(quiet / 3.0, 1.0, quiet_most) / usual_s
    return np.where(is_known, rate, 0.0)


def with_learned(season: Season, learned: Learned, limits: tuple[LimitInstance, ...], first: int) -> Season:
    """Give the season with what was learned offline put in for the instances from row `first` on."""
    known = {(one.limit, one.split): one for one in learned.baselines}
    rows = range(first, min(len(limits), len(season.calls)))
    found = [(row, known.get((limits[row].limit.name, limits[row].split))) for row in rows]
    if not any(one for _, one in found):
        return season
    baseline = season.baseline
    day = max(baseline.day, learned.day)
    baseline = faded(baseline, day)._replace(day=day)
    calls, watched_s = baseline.calls.copy(), baseline.watched_s.copy()
    for row, one in found:
        if one is not None:
            given = Baseline(
                np.array([one.calls], np.float32), np.array([one.watched_s], np.float32), learned.day
            )
            given = faded(given, day)
            calls[row], watched_s[row] = given.calls[0], given.watched_s[0]
    return season._replace(baseline=Baseline(calls, watched_s, day))
