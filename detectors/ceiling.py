"""Walks the level of every instance through its bins of 100 ms, and keeps what speaks for a ceiling.

The ceiling is the highest level of the last quarter to half hour. Counted are declines while at it and below
it, how often the level came up to it, and the evidence of silence: for Poisson arrivals at rate r, a time t
at the ceiling without an acceptance speaks for a cap by exp(r t). A bin holds several events in an order that
is not known; of all orders that never pass the ceiling, `paths` has the share and the mean time at the
ceiling, so that evidence from bins is still an e-value. Rates are of accepted calls below the ceiling. An
excursion above the ceiling raises it, unless it was never admitted: attempts that are declined in the slice
after the one in which they started show as levels until then.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import allocating_kernel, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

EVENTS_MAX = 12  # in one bin, up or down; a busier bin of 100 ms says nothing
DEPTHS = 32  # depths below the ceiling that are told apart; the last one holds all below
OVER_BINS_MAX = 50  # an excursion that lasts longer is a level that was reached
# Declines at the ceiling are compared with the attempts around them: the share declined moves by itself.
HALF_LIFE_ATTEMPTS = 60.0
RATE_CALLS_MIN = 8.0  # accepted calls from which on their rate is known
DECLINES_SEEN = 0.5  # faded declines from which on attempts of this instance are known to be declined

# Whole numbers by row.
(
    LEVEL,  # at the end of the last bin
    CEILING,
    PEAK,  # of this quarter of an hour
    PEAK_BEFORE,  # of the quarter before
    OVER_BINS,  # how long the level has been above the ceiling; 0: it is not
    OVER_PEAK,
    OVER_ENDS,  # steps down above the ceiling that were ends of calls
    OVER_DECLINES,  # at the peak of the excursion
    TOUCHES,  # times the level came up to the ceiling
    DECLINES,  # at the ceiling
    REFILLS,  # times the level came back to the ceiling after a decline at it
    OVER_SPANS,  # 1: it went on from one slice to the next
    SINCE,  # bins since the level was at the ceiling
    IS_ARMED,  # 1: a decline at the ceiling, and no refill since
    BINS,  # since the ceiling was first touched
    NEW_DECLINES,  # at the ceiling, in this slice
    NEW_TOUCHES,  # in this slice
) = range(17)
WHOLE = 17
# Numbers by row. The first two fade with every attempt, the next two and AT_CEILING_S with time.
(
    ATTEMPTS_BELOW,  # accepted or declined below the ceiling
    DECLINES_BELOW,
    ROUGHNESS,  # half of the squared differences of the residuals of one slice and the next
    EXPECTED,  # what they are for Poisson arrivals
    LOG_E,  # evidence of silence
    MISSING,  # calls that would have come at the ceiling and did not
    RESIDUAL,  # accepted calls of the slice less those expected
    SLICE_CALLS,  # expected in the slice
    AT_CEILING_S,  # fades too
    RATE,  # of accepted calls below the ceiling, per second; what of it counts, after its error
    OVER_LOG_E,  # the same as LOG_E, MISSING and AT_CEILING_S, at the peak of an excursion
    OVER_MISSING,
    OVER_AT_S,
    CAUTIOUS_RATE,
) = range(14)
REAL = 14
FADING = (ROUGHNESS, EXPECTED, AT_CEILING_S)
CALLS, SECONDS = 0, 1  # of `depths`


class Ceilings(NamedTuple):
    """State of all instances."""

    whole: NDArray[np.int64]  # (rows, WHOLE)
    real: NDArray[np.float64]  # (rows, REAL)
    depths: NDArray[np.float64]  # (rows, 2, DEPTHS): accepted calls and seconds by depth below the ceiling


class Paths(NamedTuple):
    """By room below the ceiling, steps up and steps down in one bin, each up to EVENTS_MAX."""

    log_share: NDArray[np.float64]  # of the orders of the steps, those that never pass the ceiling
    at_ceiling: NDArray[np.float64]  # mean share of the bin that these spend at the ceiling


class Bins(NamedTuple):
    """One slice of bins, each (rows, bins) int32."""

    level: NDArray[np.int32]
    arrivals: NDArray[np.int32]
    declines: NDArray[np.int32]


class WalkParams(NamedTuple):
    """Constants of the walk."""

    bin_s: float
    errors: float  # standard errors of the rate that are taken off it
    caution: float  # of the rate, at most this much counts


def new_ceilings(rows: int) -> Ceilings:
    """Give the state of instances that were never used."""
    return Ceilings(np.zeros((rows, WHOLE), np.int64), np.zeros((rows, REAL)), np.zeros((rows, 2, DEPTHS)))


@cache
def paths() -> Paths:
    """Count the orders of steps in a bin, as lattice paths under the ceiling."""
    size = EVENTS_MAX + 1
    free = _under(size, 2 * size)
    log_share, at_ceiling = np.zeros((size, size, size)), np.zeros((size, size, size))
    from_ceiling = _under(size, 0)
    for room in range(size):
        under = _under(size, room)
        for ups in range(size):
            for downs in range(size):
                ways = under[ups, downs]
                if not ways:
                    log_share[room, ups, downs] = -np.inf
                    continue
                log_share[room, ups, downs] = np.log(ways / free[ups, downs])
                before = [(up, up - room) for up in range(room, ups + 1) if up - room <= downs]
                touched = sum(under[i, j] * from_ceiling[ups - i, downs - j] for i, j in before)
                at_ceiling[room, ups, downs] = touched / ways / (ups + downs + 1)
    return Paths(log_share, at_ceiling)


def _under(size: int, room: int) -> NDArray[np.float64]:
    """Count the orders of (ups, downs) steps that never climb more than `room` above their start."""
    ways = np.zeros((size, size))
    for ups in range(size):
        for downs in range(size):
            if ups - downs <= room:
                ways[ups, downs] = (
                    1.0
                    if ups == downs == 0
                    else (ways[ups - 1, downs] if ups else 0.0) + (ways[ups, downs - 1] if downs else 0.0)
                )
    return ways


@kernel
def fade(state: Ceilings, keep: float) -> None:
    """Let what is old count less, in place."""
    for row in range(len(state.whole)):
        for column in FADING:
            state.real[row, column] *= keep
        for depth in range(DEPTHS):
            state.depths[row, CALLS, depth] *= keep
            state.depths[row, SECONDS, depth] *= keep


@allocating_kernel
def move_ceiling(state: Ceilings, row: int, ceiling: int) -> None:
    """Begin anew at another ceiling: what was below stays known, by its depth below the new one."""
    whole, real, depths = state.whole[row], state.real[row], state.depths[row]
    moved = ceiling - whole[CEILING]
    fresh = np.zeros((2, DEPTHS))
    for kind in range(2):
        for depth in range(DEPTHS):
            to = min(depth + moved, DEPTHS - 1)
            if to >= 0:
                fresh[kind, to] += depths[kind, depth]
    depths[:] = fresh
    if moved > 0:  # Declines at the old ceiling were below the new one.
        real[ATTEMPTS_BELOW] += whole[DECLINES]
        real[DECLINES_BELOW] += whole[DECLINES]
    real[LOG_E] = real[MISSING] = real[AT_CEILING_S] = 0.0
    whole[CEILING] = ceiling
    whole[TOUCHES] = whole[DECLINES] = whole[REFILLS] = whole[IS_ARMED] = whole[BINS] = 0
    whole[OVER_BINS] = 0


@kernel
def begin_quarter(state: Ceilings) -> None:
    """Forget the peak before the last one, in place: a ceiling that is no longer reached comes down."""
    for row in range(len(state.whole)):
        whole = state.whole[row]
        highest = max(whole[PEAK], whole[PEAK_BEFORE])
        if highest < whole[CEILING] and whole[OVER_BINS] == 0:
            move_ceiling(state, row, highest)
        whole[PEAK_BEFORE] = whole[PEAK]
        whole[PEAK] = whole[LEVEL]


@kernel
def walk_bins(state: Ceilings, bins: Bins, known: Paths, params: WalkParams) -> None:
    """Take one slice in, in place."""
    rows, count = bins.level.shape
    for row in range(rows):
        whole, real = state.whole[row], state.real[row]
        calls, seconds = state.depths[row, CALLS].sum(), state.depths[row, SECONDS].sum()
        real[RATE] = calls / seconds if calls >= RATE_CALLS_MIN and seconds > 0.0 else 0.0
        share = 1.0 - params.errors / np.sqrt(max(calls, RATE_CALLS_MIN))
        real[CAUTIOUS_RATE] = max(min(share, params.caution), 0.0) * real[RATE]
        whole[NEW_DECLINES] = whole[NEW_TOUCHES] = 0
        accepted, expected = 0.0, 0.0
        for b in range(count):
            step = Step(bins.level[row, b], bins.arrivals[row, b], bins.declines[row, b])
            whole[OVER_SPANS] |= 1 if b == 0 and whole[OVER_BINS] > 0 else 0
            if whole[OVER_BINS] > 0 or step.level > whole[CEILING]:
                walk_over(state, row, step, known, params)
            else:
                below_s, came = walk_under(state, row, step, known, params)
                accepted += came
                expected += real[RATE] * below_s
            whole[PEAK] = max(whole[PEAK], min(step.level, whole[CEILING]))
            whole[LEVEL] = step.level
        residual = accepted - expected
        real[ROUGHNESS] += 0.5 * (residual - real[RESIDUAL]) ** 2
        real[EXPECTED] += 0.5 * (expected + real[SLICE_CALLS])
        real[RESIDUAL], real[SLICE_CALLS] = residual, expected


class Step(NamedTuple):
    """One bin of one instance."""

    level: int
    arrivals: int
    declines: int


@kernel
def steps_of(before: int, step: Step) -> tuple[int, int]:
    """Give the steps up and down of a bin: calls that were let in, and ends."""
    ups = max(step.arrivals - step.declines, step.level - before, 0)
    return ups, ups - (step.level - before)


@kernel
def at_the_top(top: int, before: int, step: Step, known: Paths) -> tuple[float, float]:
    """Give the share of a bin at level `top`, and ln of the share of orders that do not pass it.

    An order that passes it would speak against a cap there, as likely as it is.
    """
    room = top - before
    ups, downs = steps_of(before, step)
    if max(ups, downs) > EVENTS_MAX or room < 0 or room > EVENTS_MAX or step.level > top:
        return 0.0, 0.0
    return known.at_ceiling[room, ups, downs], known.log_share[room, ups, downs]


@kernel
def walk_over(state: Ceilings, row: int, step: Step, known: Paths, params: WalkParams) -> None:
    """Take in a bin of an excursion above the ceiling, in place; at its end, say what it was."""
    whole, real = state.whole[row], state.real[row]
    if whole[OVER_BINS] == 0:
        whole[OVER_PEAK] = whole[OVER_ENDS] = whole[OVER_DECLINES] = whole[OVER_SPANS] = 0
    whole[OVER_BINS] += 1
    fell = whole[LEVEL] - step.level
    if fell > 0 and step.declines < fell:
        whole[OVER_ENDS] += 1
    if step.level > whole[OVER_PEAK]:
        whole[OVER_PEAK] = step.level
        whole[OVER_DECLINES] = 0
        real[OVER_LOG_E] = real[OVER_MISSING] = real[OVER_AT_S] = 0.0
    else:
        share_at, log_share = at_the_top(whole[OVER_PEAK], whole[LEVEL], step, known)
        if share_at > 0.0 and step.declines == 0:
            real[OVER_AT_S] += share_at * params.bin_s
            real[OVER_MISSING] += real[RATE] * share_at * params.bin_s
            real[OVER_LOG_E] += real[CAUTIOUS_RATE] * share_at * params.bin_s + log_share
    whole[OVER_DECLINES] += step.declines
    is_over = step.level > whole[CEILING]
    if is_over and whole[OVER_BINS] <= OVER_BINS_MAX:
        return
    # A level that is gone after the next border of slices may have been of attempts that were declined then.
    declines = whole[DECLINES] + whole[OVER_DECLINES] + real[DECLINES_BELOW]
    was_declined = whole[OVER_ENDS] == 0 or (whole[OVER_SPANS] == 1 and declines > DECLINES_SEEN)
    if was_declined and not is_over:
        whole[OVER_BINS] = whole[SINCE] = 0
        whole[DECLINES] += whole[OVER_DECLINES]
        whole[NEW_DECLINES] += whole[OVER_DECLINES]
        whole[IS_ARMED] = 1
        return
    declined = whole[OVER_DECLINES]
    move_ceiling(state, row, whole[OVER_PEAK])
    whole[TOUCHES], whole[DECLINES] = 1, declined
    whole[NEW_TOUCHES], whole[NEW_DECLINES] = 1, declined
    whole[IS_ARMED] = 1 if declined > 0 else 0
    real[LOG_E], real[MISSING], real[AT_CEILING_S] = real[OVER_LOG_E], real[OVER_MISSING], real[OVER_AT_S]
    whole[SINCE] = 0
    whole[PEAK] = max(whole[PEAK], whole[CEILING])


@kernel
def walk_under(
    state: Ceilings, row: int, step: Step, known: Paths, params: WalkParams
) -> tuple[float, float]:
    """Take in a bin that ends at the ceiling or below, in place; give seconds and accepted calls below."""
    whole, real = state.whole[row], state.real[row]
    ceiling, room = whole[CEILING], whole[CEILING] - whole[LEVEL]
    ups, _ = steps_of(whole[LEVEL], step)
    share_at, log_share = at_the_top(ceiling, whole[LEVEL], step, known)
    is_at = share_at > 0.0 or step.level == ceiling
    at_s, below_s = share_at * params.bin_s, (1.0 - share_at) * params.bin_s
    if is_at:
        whole[SINCE] = 0
        if ups > 0:
            whole[TOUCHES] += 1
            whole[NEW_TOUCHES] += 1
        if room > 0 and step.level == ceiling:
            whole[REFILLS] += whole[IS_ARMED]
            whole[IS_ARMED] = 0
    else:
        whole[SINCE] += 1
    whole[BINS] += 1
    keep = 0.5 ** ((ups + step.declines) / HALF_LIFE_ATTEMPTS)
    real[ATTEMPTS_BELOW] = keep * real[ATTEMPTS_BELOW] + ups
    real[DECLINES_BELOW] *= keep
    if step.declines > 0 and ceiling > 0 and whole[SINCE] <= 1:
        whole[DECLINES] += step.declines
        whole[NEW_DECLINES] += step.declines
        whole[IS_ARMED] = 1
    else:
        real[DECLINES_BELOW] += step.declines
        real[ATTEMPTS_BELOW] += step.declines
    real[AT_CEILING_S] += at_s
    if share_at > 0.0 and step.declines == 0 and real[RATE] > 0.0:
        real[LOG_E] += real[CAUTIOUS_RATE] * at_s + log_share
        real[MISSING] += real[RATE] * at_s
    depth = min(max(room, 1), DEPTHS) - 1
    state.depths[row, CALLS, depth] += ups
    state.depths[row, SECONDS, depth] += below_s
    return below_s, float(ups)
