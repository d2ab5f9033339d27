"""A stage's latency creeps toward a wall at which calls will be cut, before the first one is.

A minute at a time: is the tail moving (a restarted e-value on calls beyond the 90 % and 99 % quantiles of the
last hours), and where to (the slope of the mean logarithm, the smaller one of two halves of twenty minutes or
of an hour, less its own error)? The tail now, moved on by the slope, says how many calls an hour will pass
the wall. A straight line through quantiles was rejected: a step makes it point upwards for as long as it is.
Walls are timeouts of the register, atoms seen before and, for set-up and transfers, usual defaults: these
only as long as no call has passed them. Second: no success beyond a wall, where the tail of the last hours
promises some, says that something cuts there by now, in silence; after a day of it that is how it is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.creep_tables import (
    COLUMNS,
    LOG_S,
    LOG_S_SQUARED,
    LOWER_S,
    Above,
    CutLaw,
    Fade,
    add_to_columns,
    add_to_cuts,
    columns_beyond,
    faded,
    sums_above,
)
from detectors.latency_walls import NONE, WALLS_MAX
from detectors.rows import grown
from detectors.sequential import log_alarm_level, log_e_bernoulli, log_mixture, restarted
from detectors.watched_rows import with_slots
from engine.judge.detection import MINUTE_NS, NS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary

RANKS = (0.5, 0.9, 0.99)
DEVIATES = (0.0, 1.2816, 2.3263)  # of a normal law, at these ranks
MINUTES = 60
HALVES = (10, 30)  # minutes: a fast creep is told by twenty minutes, a slow one by an hour
LOG_NONE = -1e9


class CreepParams(NamedTuple):
    """Constants."""

    recent_min: float = 5.0  # time constant of what is now, in minutes ...
    recent_slow_min: float = 40.0  # ... and where calls are so few that ...
    recent_calls: float = 40.0  # ... fewer than these are left
    past_min: float = 360.0
    past_calls: float = 100.0  # before there is a reference at all
    tail_calls: float = 300.0  # before a 99 % quantile is one
    effect: float = 1.3  # a share beyond the reference so many times the usual one is no movement yet
    odds: tuple[float, ...] = (1.5, 3.0, 9.0)
    beyond: float = 3.0
    doubt: float = 3.0
    doubt_min: int = 1440  # after so long what is new is usual
    horizon_min: int = 60
    step_min: int = 5
    failures_min: float = 3.0  # expected within the horizon
    worsening: float = 3.0  # times as many as the past lets expect
    near_ratio: float = 0.5  # the 99 % quantile is beyond this share of the wall
    near_usual_ratio: float = 0.6
    slope_errors: float = 1.0
    spread_min: float = 0.02
    tail_deviates_max: float = 6.0
    passed_max: float = 0.5  # calls beyond a usual default, above which it is no wall
    wall_slack: float = 1.03  # buckets are 2.2 % wide
    near_tail: float = 0.8
    tail_seen_min: float = 8.0
    streak: int = 3
    rows_max: int = 256


class CreepState(NamedTuple):
    """By slot (a watched latency row)."""

    slot: NDArray[np.int32]  # (latency rows,)
    minute: int
    pending: NDArray[np.int32]  # (slots, COLUMNS), of the minute that is being filled
    recent: NDArray[np.floating]
    past: NDArray[np.floating]
    minutes: NDArray[np.float64]  # (slots, MINUTES, 3): calls, sums of the logarithm and of its square
    log_m: NDArray[np.float64]  # (slots, 2, odds): movement beyond the 90 % and 99 % quantiles
    doubted: NDArray[np.int64]  # (slots,) minutes since the evidence began to grow
    log_cut: NDArray[np.float64]  # (slots, WALLS_MAX): evidence that nothing passes the wall any more
    wall_of: NDArray[np.float64]  # (slots, WALLS_MAX): the wall that it is about
    missed: NDArray[np.float64]  # (slots, WALLS_MAX): calls expected beyond it meanwhile
    cut_min: NDArray[np.int64]  # (slots, WALLS_MAX): minutes since that evidence began to grow
    streak: NDArray[np.int64]  # (slots,)
    outlook: Outlook


class Outlook(NamedTuple):
    """What was found at the last look, by slot; `wall_s` NaN: nothing."""

    wall_s: NDArray[np.float64]
    wall_kind: NDArray[np.int64]
    q50_s: NDArray[np.float64]
    q99_s: NDArray[np.float64]
    slope_per_min: NDArray[np.float64]  # of the logarithm
    expected: NDArray[np.float64]  # failures within the horizon
    first_min: NDArray[np.float64]  # until the first one is expected; NaN: not within the horizon
    since_min: NDArray[np.int64]
    cut_s: NDArray[np.float64]  # wall beyond which successes have stopped; NaN: none
    missed: NDArray[np.float64]


def new_creep(params: CreepParams) -> CreepState:
    """Give the state before the first slice."""
    table = np.zeros((0, COLUMNS), np.int32)
    walls, each = np.zeros((0, WALLS_MAX)), np.zeros(0, np.int64)
    log_m = np.zeros((0, 2, len(params.odds)))
    return CreepState(
        np.zeros(0, np.int32), -1, table, table.astype(np.float32), table.astype(np.float32),
        np.zeros((0, MINUTES, 3)), log_m, each, walls, walls, walls,
        walls.astype(np.int64), each, _no_outlook(0),
    )  # fmt: skip


def _no_outlook(slots: int) -> Outlook:
    nan, zero, none = np.full(slots, np.nan), np.zeros(slots), np.zeros(slots, np.int64)
    return Outlook(nan, none, nan, nan, zero, zero, nan, none, nan, zero)


def take_up(state: CreepState, summary: WindowSummary, params: CreepParams) -> CreepState:
    """Take up new latency rows."""
    windows = summary.windows
    if len(state.slot) == len(windows.latency_row):
        return state
    fresh = [windows.labels[row] for row in windows.latency_row[len(state.slot) :].tolist()]
    slot = with_slots(state.slot, fresh, params.rows_max, 16)
    slots = int(np.count_nonzero(slot >= 0))
    if slots == len(state.pending):
        return state._replace(slot=slot)
    outlook = Outlook(
        *(
            np.concatenate([old, new[len(old) :]])
            for old, new in zip(state.outlook, _no_outlook(slots), strict=True)
        )
    )
    return state._replace(
        slot=slot,
        outlook=outlook,
        pending=grown(state.pending, slots, 0),
        recent=grown(state.recent, slots, 0),
        past=grown(state.past, slots, 0),
        minutes=grown(state.minutes, slots, 0),
        log_m=grown(state.log_m, slots, LOG_NONE),
        doubted=grown(state.doubted, slots, 0),
        log_cut=grown(state.log_cut, slots, 0),
        wall_of=grown(state.wall_of, slots, np.nan),
        missed=grown(state.missed, slots, 0),
        cut_min=grown(state.cut_min, slots, 0),
        streak=grown(state.streak, slots, 0),
    )


def add_slice(state: CreepState, summary: WindowSummary) -> CreepState:
    """Count the latencies of a slice."""
    facts = summary.facts.latency
    if not len(facts.row):
        return state
    assert facts.row.max() < len(state.slot), "rows are taken up first"
    pending = state.pending.copy()
    add_to_columns(state.slot, facts.row, facts.bucket, facts.counted, pending)
    return state._replace(pending=pending)


def look(
    state: CreepState,
    passed_min: int,
    walls: tuple[NDArray[np.float64], NDArray[np.int64]],
    pages_per_week: float,
    params: CreepParams,
) -> CreepState:
    """Take the minute that is over; `walls` are (slots, WALLS_MAX): seconds (NaN: none) and kinds."""
    calls = state.pending.sum(axis=1).astype(np.float64)
    level = log_alarm_level(2 * max(len(calls), 1), MINUTE_NS / NS, pages_per_week)
    above = Above(sums_above(state.past), sums_above(state.pending))
    log_m = _moved(state, calls, above, level, params)
    evidence = log_mixture(log_m).max(axis=1) if len(calls) else np.zeros(0)
    is_moving, in_doubt = evidence >= level, evidence > params.doubt
    doubted = np.where(in_doubt, state.doubted + passed_min, 0)
    state, is_cut_usual = _cut(state, walls[0], above, passed_min, params)
    is_usual_now = (doubted > params.doubt_min) | is_cut_usual
    log_m = np.where(is_usual_now[:, None, None], LOG_NONE, log_m)
    kept = state.recent.sum(axis=1) * math.exp(-passed_min / params.recent_min) + calls
    slow = np.where(kept < params.recent_calls, params.recent_slow_min, params.recent_min)
    fade = Fade(
        np.exp(-passed_min / slow).astype(np.float32), np.float32(math.exp(-passed_min / params.past_min)),
        ~in_doubt, is_usual_now,
    )  # fmt: skip
    recent, past = faded(state.recent, state.past, state.pending, fade)
    state = state._replace(
        pending=np.zeros_like(state.pending), recent=recent, past=past,
        minutes=_turned(state, calls, passed_min),
        log_m=log_m, doubted=np.where(is_usual_now, 0, doubted),
    )  # fmt: skip
    cut_level = log_alarm_level(walls[0].size, MINUTE_NS / NS, pages_per_week) if walls[0].size else 0.0
    outlook = _outlook(state, walls, is_moving, params)
    return _with_streak(state, outlook, cut_level, params)


def _moved(
    state: CreepState, calls: NDArray[np.float64], above: Above, level: float, params: CreepParams
) -> NDArray[np.float64]:
    """Add the minute to the evidence that calls move beyond the quantiles of the past."""
    total = state.past.sum(axis=1).astype(np.float64)
    rows = np.arange(len(total))
    log_m = state.log_m.copy()
    for number, rank in enumerate(RANKS[1:]):
        # The first column above which there is at most the share 1 - rank.
        column = np.empty(len(total), np.int64)
        columns_beyond(above.past, (1.0 - rank) * total, column)
        column = np.minimum(column, COLUMNS - 1)
        share = (above.past[rows, column] + 1.0) / (total + 2.0)
        null = np.minimum(params.effect * share, 0.9)
        enough = total >= (params.past_calls if number == 0 else params.tail_calls)
        log_e = log_e_bernoulli(above.new[rows, column], calls, null, np.array(params.odds))
        watched = (enough & (calls > 0))[:, None]
        log_m[:, number] = np.where(watched, restarted(log_m[:, number], log_e), log_m[:, number])
    return np.asarray(np.minimum(log_m, level + params.beyond))


def _turned(state: CreepState, calls: NDArray[np.float64], passed_min: int) -> NDArray[np.float64]:
    """Move the minutes on; the newest is the last."""
    minutes = np.zeros_like(state.minutes)
    if passed_min < MINUTES:
        minutes[:, : MINUTES - passed_min] = state.minutes[:, passed_min:]
    pending = state.pending.astype(np.float64)
    minutes[:, -1] = np.stack([calls, pending @ LOG_S, pending @ LOG_S_SQUARED], axis=1)
    return minutes


def slope_of(minutes: NDArray[np.float64], params: CreepParams) -> NDArray[np.float64]:
    """Give the slope of the mean logarithm a minute, (slots,): what both halves of the time agree on.

    A slow creep must still be going on in the newest minutes.
    """
    short, long = HALVES
    newest, newest_error = _line(minutes[:, -short:], params)
    found = np.maximum(newest - newest_error, 0.0)
    before = _line(minutes[:, -2 * short : -short], params)
    found = np.minimum(found, np.maximum(before[0] - before[1], 0.0))
    slow = newest + newest_error
    for half in (minutes[:, -2 * long : -long], minutes[:, -long:]):
        slope, error = _line(half, params)
        slow = np.minimum(slow, slope - error)
    return np.asarray(np.maximum(found, slow))


def _line(
    minutes: NDArray[np.float64], params: CreepParams
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the slope of a line through minutes, weighted by their calls, and its error."""
    many, sums, squares = minutes[..., 0], minutes[..., 1], minutes[..., 2]
    total = np.maximum(many.sum(axis=1), 1e-9)
    at = np.arange(minutes.shape[1], dtype=np.float64)
    middle = (many @ at) / total
    mean = sums.sum(axis=1) / total
    var = np.maximum(squares.sum(axis=1) / total - mean**2, params.spread_min**2)
    width = np.maximum((many * (at - middle[:, None]) ** 2).sum(axis=1), 1e-9)
    slope = ((at - middle[:, None]) * sums).sum(axis=1) / width
    enough = total >= len(at)
    return np.where(enough, slope, 0.0), np.where(enough, params.slope_errors * np.sqrt(var / width), 0.0)


def quantiles(table: NDArray[np.floating]) -> NDArray[np.float64]:
    """Give the logarithms of the quantiles RANKS, (ranks, slots); NaN: no calls."""
    cumulated = np.cumsum(table, axis=1, dtype=np.float64)
    total = cumulated[:, -1]
    found = [
        LOG_S[np.minimum((cumulated < rank * total[:, None]).sum(axis=1), COLUMNS - 1)] for rank in RANKS
    ]
    return np.where(total > 0.0, np.stack(found), np.nan)


def tail_beyond(
    table: NDArray[np.floating],
    log_wall: NDArray[np.float64],
    moved: float | NDArray[np.float64],
    params: CreepParams,
) -> NDArray[np.float64]:
    """Give the share of calls beyond a wall, (slots,), when all have moved by `moved` in the logarithm.

    Beyond what was seen, the tail goes on as that of a normal law through the last two quantiles.
    """
    low, middle, high = quantiles(table)
    is_fine = table.sum(axis=1) >= params.tail_calls
    anchor = np.where(is_fine, high, middle)
    deviate = np.where(is_fine, DEVIATES[2], DEVIATES[1])
    spread = np.where(
        is_fine, (high - middle) / (DEVIATES[2] - DEVIATES[1]), (middle - low) / (DEVIATES[1] - DEVIATES[0])
    )
    z = deviate + (log_wall - moved - anchor) / np.maximum(spread, params.spread_min)
    share = np.array([0.5 * math.erfc(one / math.sqrt(2.0)) for one in z.tolist()])
    return np.where(z < params.tail_deviates_max, share, 0.0)


def _cut(
    state: CreepState, walls_s: NDArray[np.float64], above: Above, passed_min: int, params: CreepParams
) -> tuple[CreepState, NDArray[np.bool_]]:
    """Add the minute to the evidence that nothing passes a wall any more, though the past did.

    Where it has been so for a day, which is said by slot, it begins anew.
    """
    is_same = state.wall_of == walls_s
    log_cut, missed = np.where(is_same, state.log_cut, 0.0), np.where(is_same, state.missed, 0.0)
    law = CutLaw(LOWER_S, params.wall_slack, params.near_tail, params.tail_seen_min)
    add_to_cuts(walls_s, above, law, log_cut, missed)
    cut_min = np.where(is_same & (log_cut > params.doubt), state.cut_min + passed_min, 0)
    is_usual = cut_min > params.doubt_min
    state = state._replace(
        wall_of=walls_s,
        log_cut=np.where(is_usual, 0.0, log_cut),
        missed=np.where(is_usual, 0.0, missed),
        cut_min=np.where(is_usual, 0, cut_min),
    )
    return state, np.asarray(is_usual.any(axis=1))


def _column(walls_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give the first column that lies beyond each wall."""
    return np.asarray(np.searchsorted(LOWER_S, np.nan_to_num(walls_s, nan=1e9)))


def _outlook(
    state: CreepState,
    walls: tuple[NDArray[np.float64], NDArray[np.int64]],
    is_moving: NDArray[np.bool_],
    params: CreepParams,
) -> Outlook:
    """Say which wall each row will meet first, and when."""
    walls_s, kinds = walls
    slots = len(is_moving)
    found = _no_outlook(slots)
    if not (is_moving & ~np.isnan(walls_s).all(axis=1)).any():
        return found
    slope = slope_of(state.minutes, params)
    low, _, high = quantiles(state.recent)
    rate = state.minutes[:, -HALVES[0] :, 0].mean(axis=1)  # calls a minute
    above = sums_above(np.maximum(state.recent, state.past))
    passed = np.take_along_axis(above, _column(walls_s * params.wall_slack), axis=1)
    steps = range(0, params.horizon_min, params.step_min)
    for column in range(WALLS_MAX):
        possible = is_moving & ~np.isnan(walls_s[:, column])
        if not possible.any():
            continue
        log_wall = np.log(walls_s[:, column])
        usual = kinds[:, column] == NONE + 1
        near = np.log(np.where(usual, params.near_usual_ratio, params.near_ratio))
        possible &= high - log_wall >= near
        possible &= passed[:, column] <= np.where(usual, params.passed_max, params.failures_min)
        possible &= np.isnan(found.wall_s) | (walls_s[:, column] < found.wall_s)
        if not possible.any():
            continue
        shares = [tail_beyond(state.recent, log_wall, slope * step, params) for step in steps]
        expected = rate * params.step_min * np.sum(shares, axis=0)
        before = rate * params.horizon_min * tail_beyond(state.past, log_wall, 0.0, params)
        possible &= expected >= np.maximum(params.failures_min, params.worsening * before)
        summed = np.cumsum(np.array(shares) * rate * params.step_min, axis=0)
        first = params.step_min * (summed < 1.0).sum(axis=0).astype(np.float64)
        for name, value in (
            ("wall_s", walls_s[:, column]), ("wall_kind", kinds[:, column]), ("q50_s", np.exp(low)),
            ("q99_s", np.exp(high)), ("slope_per_min", slope), ("expected", expected), ("first_min", first),
            ("since_min", state.doubted),
        ):  # fmt: skip
            found = found._replace(**{name: np.where(possible, value, getattr(found, name))})
    return found


def _with_streak(state: CreepState, outlook: Outlook, cut_level: float, params: CreepParams) -> CreepState:
    """Say what has been so for several looks, and where successes have stopped."""
    streak = np.where(np.isnan(outlook.wall_s), 0, state.streak + 1)
    is_cut = state.log_cut >= cut_level
    cut = np.where(is_cut, state.wall_of, np.inf).min(axis=1, initial=np.inf)
    best = np.where(is_cut, state.missed, 0.0).max(axis=1, initial=0.0)
    shown = outlook._replace(
        wall_s=np.where(streak >= params.streak, outlook.wall_s, np.nan),
        cut_s=np.where(np.isfinite(cut), cut, np.nan),
        missed=best,
    )
    return state._replace(streak=streak, outlook=shown)
