"""What the detector of rate limits remembers, and how a slice of 100-ms bins is added to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from detectors.headroom_state import HeadroomParams
from detectors.statistics import FilterBank, new_bank
from engine.judge.detection import NS
from engine.judge.occupancy import SECOND_BINS
from engine.kernel import kernel
from engine.limits import RATE
from engine.observe.summary import BIN_NS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engine.judge.occupancy import LimitUse
    from engine.limits import LimitInstance

PERIOD_NS_MAX = 60 * NS
SPREADS = 3  # ideas of clumps: of seconds lately, of seconds for long, of evaluations
FOUND = ("calls", "squares", "peak", "over", "high")  # in the bins of a slice
LOOKS = 40  # evaluations that are remembered: ten minutes


class RateLimitParams(NamedTuple):
    """Constants. Thresholds come from `python -m bench.detection rate_limit`."""

    excess_max: float = 1.0  # attempts over the cap that may be expected within the horizon
    seen_min: int = 3  # periods over the cap within ten minutes: at a healthy load once in millions of weeks
    wait_s: float = 60.0  # until the level and the clumps of a new row are known
    horizon_looks: int = 40  # ten minutes
    clump_half_lives_s: tuple[float, ...] = (90.0, 1800.0, 1800.0)  # of seconds, twice; of evaluations
    tail_half_life_s: float = 1800.0
    clump_prior_calls: float = 100.0  # worth of the guess that calls come one by one
    clip: float = 5.0  # one evaluation's difference counts for at most so many times the estimate so far
    high_share: float = 0.5  # of the cap: where the tail is held against what came
    quiet_share: float = 0.25  # of the calls that are expected: an evaluation with fewer is quiet ...
    quiet_calls: float = 10.0  # ... where so many, times their dispersion, are expected
    back_wait_s: float = 120.0  # until the level and the clumps of calls that came back are known
    filters: HeadroomParams = HeadroomParams()
    rows_max: int = 512


class RateLimitState(NamedTuple):
    """By slot: a limit instance of kind rate. Arrays are never written after they were returned."""

    known: int  # limit instances that were looked through
    row: NDArray[np.int32]  # (slots,): its row among all limits
    window: NDArray[np.int32]  # (slots,): its period in bins
    cap: NDArray[np.float64]  # (slots,): of the last slice in which it was known; NaN: in none
    end_ns: int  # of the last slice; -1: none yet
    looked_ns: int  # end of the last evaluation; -1: none yet
    before: NDArray[np.int32]  # (slots, bins): the newest bins, as many as the longest period has
    # Since the last evaluation:
    arrivals: NDArray[np.float64]
    squares: NDArray[np.float64]  # sum of the squares of calls per second
    seconds: NDArray[np.float64]
    peak: NDArray[np.int32]  # busiest rolling period
    over: NDArray[np.int32]  # bins at whose end the rolling period was over the cap
    high: NDArray[np.int32]  # the same for `high_share` of the cap
    # Of earlier evaluations:
    rate: FilterBank  # log of calls per evaluation
    is_known: NDArray[np.bool_]
    quiet_looks: NDArray[np.int32]  # evaluations in a row that were quiet; 0: it is as usual
    quiet_ns: NDArray[np.int64]  # end of the last quiet one; -1: none yet
    spread: NDArray[np.float64]  # (slots, SPREADS): decayed variances of seconds, errors of evaluations
    spread_mean: NDArray[np.float64]  # (slots, SPREADS): decayed means that belong to them
    high_seen: NDArray[np.float64]  # decayed: periods over `high_share` ...
    high_expected: NDArray[np.float64]  # ... and how many the tail foretold
    peaks: NDArray[np.int32]  # (slots, LOOKS), newest last
    overs: NDArray[np.int32]
    rate_limits_refused: int = 0  # without room


def new_state(slots: int, params: RateLimitParams) -> RateLimitState:
    """Give the state of slots of which nothing is known."""
    filters = params.filters
    none, numbers = np.zeros(slots), np.zeros(slots, np.int32)
    looks = np.zeros((slots, LOOKS), np.int32)
    bank = new_bank(slots, np.array(filters.model_weight_warm), np.square(filters.cold_growth_sd), 1.0)
    return RateLimitState(
        known=0, row=numbers, window=numbers, cap=np.full(slots, np.nan), end_ns=-1, looked_ns=-1,
        before=np.zeros((slots, SECOND_BINS), np.int32), arrivals=none, squares=none, seconds=none,
        peak=numbers, over=numbers, high=numbers, rate=bank, is_known=np.zeros(slots, np.bool_),
        quiet_looks=numbers, quiet_ns=np.full(slots, -1),
        spread=np.zeros((slots, SPREADS)), spread_mean=np.zeros((slots, SPREADS)), high_seen=none,
        high_expected=none,
        peaks=looks, overs=looks,
    )  # fmt: skip


def with_limits(
    state: RateLimitState, limits: Sequence[LimitInstance], params: RateLimitParams
) -> RateLimitState:
    """Give new limits of kind rate their slots, up to the most that are watched.

    For want of room those of limits that have retired are given up.
    """
    fresh = [
        one
        for one in limits[state.known :]
        if one.limit.kind == RATE and one.limit.per_ns is not None and one.limit.per_ns <= PERIOD_NS_MAX
    ]
    if not fresh:
        return state if state.known >= len(limits) else state._replace(known=len(limits))
    if len(state.row) + len(fresh) > params.rows_max:
        state = without_retired(state, limits)
    room = max(params.rows_max - len(state.row), 0)
    refused = state.rate_limits_refused + max(len(fresh) - room, 0)
    state, fresh = state._replace(rate_limits_refused=refused), fresh[:room]
    if not fresh:
        return state._replace(known=max(state.known, len(limits)))
    bins = [max(round((one.limit.per_ns or NS) / BIN_NS), 1) for one in fresh]
    slots, blank = len(state.row) + len(fresh), new_state(len(fresh), params)
    longest = max(*bins, state.before.shape[1])
    before = np.zeros((slots, longest), np.int32)
    before[: len(state.row), longest - state.before.shape[1] :] = state.before
    joined: dict[str, Any] = {
        name: np.concatenate([old, new])
        for name, old, new in zip(state._fields, state, blank, strict=True)
        if isinstance(old, np.ndarray) and name not in ("row", "window", "before")
    }
    return state._replace(
        **joined,
        known=len(limits),
        row=np.concatenate([state.row, np.array([one.index for one in fresh], np.int32)]),
        window=np.concatenate([state.window, np.array(bins, np.int32)]),
        before=before,
        rate=FilterBank(
            *(np.concatenate([old, new]) for old, new in zip(state.rate, blank.rate, strict=True))
        ),
    )


def without_retired(state: RateLimitState, limits: Sequence[LimitInstance]) -> RateLimitState:
    """Leave out the slots of limits that are in the register no more."""
    kept = np.array([not limits[row].is_retired for row in state.row.tolist()], np.bool_)
    arrays: dict[str, Any] = {
        name: one[kept] for name, one in zip(state._fields, state, strict=True) if isinstance(one, np.ndarray)
    }
    return state._replace(**arrays, rate=FilterBank(*(one[kept] for one in state.rate)))


def caps_of(state: RateLimitState, use: LimitUse) -> NDArray[np.float64]:
    """Give how many calls a period may have, by slot; NaN: unknown.

    Less than one call a period is a longer period in truth: one call, then.
    """
    value = use.value[state.row]
    return np.where((value > 0.0) & (value < 1.0), 1.0, np.floor(value + 1e-9))


def with_caps(state: RateLimitState, cap: NDArray[np.float64]) -> RateLimitState:
    """Forget of caps that were raised what was over the old one alone, and how its tail fared."""
    is_raised = cap > state.cap
    is_within = is_raised[:, None] & (state.peaks <= cap[:, None])
    return state._replace(
        cap=np.where(np.isnan(cap), state.cap, cap),
        over=np.where(is_raised & (state.peak <= cap), 0, state.over).astype(np.int32),
        high=np.where(is_raised, 0, state.high).astype(np.int32),
        high_seen=np.where(is_raised, 0.0, state.high_seen),
        high_expected=np.where(is_raised, 0.0, state.high_expected),
        overs=np.where(is_within, 0, state.overs).astype(np.int32),
    )


def add_slice(state: RateLimitState, use: LimitUse, end_ns: int, high_share: float) -> RateLimitState:
    """Add one slice's bins: counts by second, the busiest rolling period, and periods over the cap."""
    bins, cap = use.arrivals_per_bin[state.row], caps_of(state, use)
    caps = np.array([cap, np.floor(high_share * cap)]).T.copy()
    # The slice with a row's first call has a call by definition.
    first_ns = use.first_ns[state.row]
    counted = (first_ns >= 0) & (first_ns < end_ns)
    joined = np.concatenate([state.before, bins], axis=1)
    longest = state.before.shape[1]
    assert state.window.max(initial=0) <= longest, "bins are kept for the longest window"
    found = np.zeros((len(bins), len(FOUND)), np.int64)
    look_at_bins(joined, longest, state.window, caps, found)
    calls, squares, peak, over, high = found.T
    return state._replace(
        end_ns=end_ns,
        before=joined[:, -longest:],
        arrivals=state.arrivals + counted * calls,
        squares=state.squares + counted * squares,
        seconds=state.seconds + counted * (bins.shape[1] // SECOND_BINS),
        peak=np.maximum(state.peak, peak).astype(np.int32),
        over=state.over + over.astype(np.int32),
        high=state.high + high.astype(np.int32),
    )


@kernel
def look_at_bins(
    joined: NDArray[np.int32],
    before: int,
    window: NDArray[np.int32],
    caps: NDArray[np.float64],
    found: NDArray[np.int64],
) -> None:
    """Fill `found` (slots, FOUND) from bins `joined` (slots, ...), of which `before` are of earlier slices.

    Of the slice: calls, the squares of those in whole seconds, the busiest rolling period of `window` bins,
    and at how many bins' ends such a period was over each of `caps` (slots, 2).
    """
    for i in range(len(window)):
        rolling = 0
        second = 0
        for k in range(before - window[i], before):
            rolling += joined[i, k]
        for k in range(before, joined.shape[1]):
            calls = joined[i, k]
            found[i, 0] += calls
            second += calls
            if (k - before + 1) % SECOND_BINS == 0:
                found[i, 1] += second * second
                second = 0
            rolling += calls - joined[i, k - window[i]]
            found[i, 2] = max(found[i, 2], rolling)
            found[i, 3] += rolling > caps[i, 0]
            found[i, 4] += rolling > caps[i, 1]
