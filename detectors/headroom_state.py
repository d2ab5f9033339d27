"""What the headroom detector remembers of each instance, its constants, one evaluation of its filters.

Apart from the detector (detectors/headroom.py), so that each can be read at one sitting.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from detectors.holding_time import HoldingParams, HoldingTimes, new_holding_times
from detectors.limit_crossing import Verdict, new_verdict
from detectors.offered_load import (
    Dispersion,
    DispersionParams,
    Grid,
    Outlook,
    Scratch,
    dispersion_of,
    new_dispersion,
    observe_dispersion,
)
from detectors.planned_load import Plan
from detectors.statistics import FilterBank, FilterNoise, advance_row, new_bank, observe_row
from detectors.straight_line import new_levels
from detectors.usual_load import Season, new_season
from engine.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.baseline import Baseline


class HeadroomParams(NamedTuple):
    """Constants of the detector.

    Thresholds are in thresholds.py; noise and damping are per step of 15 s.
    """

    # models: steady, slow ramp, fast ramp, jump
    level_noise: tuple[float, ...] = (3e-5, 3e-5, 3e-5, 0.02)
    growth_noise: tuple[float, ...] = (1e-12, 3e-8, 3e-6, 1e-9)
    model_weight: tuple[float, ...] = (0.35, 0.25, 0.3, 0.1)  # prior odds at the start ...
    model_weight_warm: tuple[float, ...] = (0.9, 0.07, 0.025, 0.005)  # ... and once growth is not expected
    cold_growth_sd: tuple[float, ...] = (1e-4, 4e-3, 4e-2, 1e-3)
    # models of e^y: steady, drift, jump
    speed_level_noise: tuple[float, ...] = (1e-6, 1e-5, 3e-3)
    speed_growth_noise: tuple[float, ...] = (1e-14, 3e-7, 1e-10)
    speed_weight: tuple[float, ...] = (0.999, 5e-4, 5e-4)
    speed_level_var: float = 0.01
    speed_ends_min: float = 30.0  # the table learns alone until then
    damping_s: float = 1200.0
    # models without growth: steady, drift, jump
    steady_noise: tuple[float, ...] = (3e-5, 3e-4, 0.02)
    steady_weight: tuple[float, ...] = (0.98, 0.015, 0.005)
    known_var: float = 0.04  # of the log ratio to the usual, before anything was seen of the day
    ratio_s: float = 8.0 * 3600.0  # a ratio to the usual lasts about so long, and is ...
    ratio_var: float = 0.15**2  # ... about so large on ordinary days
    quiet_most: float = 16.0  # so many times shorter where now is quiet against what comes next
    switch: float = 3e-6
    steady_weight_known: tuple[float, ...] = (0.2, 0.3, 0.5)  # of a ratio to the usual: it may do anything
    switch_cold: float = 1e-3
    cold_s: float = 1800.0
    wait_s: float = 60.0
    wait_holdings: float = 2.0
    gate: float = 0.5
    long_margin: float = 1.5  # by how much more a forecast must say at the longest horizon
    page_margin: float = 2.0  # and by how much for a page while little of the cap is in use: all of it ...
    page_level: tuple[float, float] = (0.6, 0.75)  # ... up to the first share, none from the second on
    tail_s_max: float = 4.0 * 3600.0
    gap_s_max: float = 3600.0  # a longer hole in the stream: levels are forgotten
    burst_margin: float = 1.0  # added per e-fold of dispersion above `burst_dispersion`: such tails are fat
    burst_dispersion: float = 1.5
    cold_threshold: float = 0.25  # at least, as long as growth is expected; then it fades as long again
    holding: HoldingParams = HoldingParams()
    dispersion: DispersionParams = DispersionParams()


class Size(NamedTuple):
    """How wide the arrays of a state are."""

    horizons: int
    columns: int  # slots of the table of what is usual
    step_s: float


class HeadroomState(NamedTuple):
    """Everything remembered.

    Arrays have a row per instance and are never written after they were returned.
    """

    end_ns: int  # of the last slice; -1: none yet
    slice_ns: int
    arrivals: NDArray[np.float64]  # since the last evaluation
    exposure_s: NDArray[np.float64]  # how long of that was watched
    seen_ends: NDArray[np.float64]  # (instances, 2): ends since then, and how many were expected
    has_level: NDArray[np.bool_]
    is_ready: NDArray[np.bool_]
    rate: FilterBank
    steady: FilterBank  # the same without growth
    speed: FilterBank
    dispersion: Dispersion
    phi: NDArray[np.float64]  # dispersion of the arrivals, as of the last evaluation
    times: HoldingTimes
    outlook: Outlook
    verdict: Verdict
    season: Season
    levels: NDArray[np.float32]  # (instances, evaluations): of the last half hour
    plans: tuple[Plan, ...]  # announced and not yet begun
    plans_refused: int  # without room


class StepParams(NamedTuple):
    """What `step_rows` needs beside the state."""

    rate: FilterNoise
    steady: FilterNoise
    speed: FilterNoise
    dispersion: DispersionParams
    dispersion_keep: float
    switch: NDArray[np.float64]  # (instances,)
    switch_speed: float
    step_s: float
    speed_ends_min: float
    switch_steady: float
    offset: NDArray[np.float64]  # (instances,): log of the usual calls an evaluation


@kernel
def pass_time(bank: FilterBank, noise: FilterNoise, switch: float, steps: int) -> None:
    """Let steps without a count pass in every row, in place."""
    for i in range(bank.level.shape[0]):
        for _ in range(steps):
            advance_row(bank, i, noise, switch)


class Filters(NamedTuple):
    """The part of the state that `step_rows` works on; a kernel is compiled for every array it is given."""

    arrivals: NDArray[np.float64]
    exposure_s: NDArray[np.float64]
    seen_ends: NDArray[np.float64]
    has_level: NDArray[np.bool_]
    rate: FilterBank
    steady: FilterBank
    speed: FilterBank
    dispersion: Dispersion
    phi: NDArray[np.float64]
    ends_long: NDArray[np.float64]


def filters_of(state: HeadroomState) -> Filters:
    """Give the part of a state that is stepped."""
    return Filters(
        state.arrivals, state.exposure_s, state.seen_ends, state.has_level, state.rate, state.steady,
        state.speed, state.dispersion, state.phi, state.times.ends_long,
    )  # fmt: skip


@kernel
def step_rows(state: Filters, params: StepParams) -> None:
    """Pass one evaluation's counts to the filters of every instance, in place."""
    phi = state.phi
    for i in range(len(phi)):
        if state.has_level[i]:
            advance_row(state.rate, i, params.rate, params.switch[i])
            advance_row(state.steady, i, params.steady, params.switch_steady)
        watched = state.exposure_s[i] / params.step_s
        count = state.arrivals[i]
        if watched >= 1.0:
            observe_dispersion(state.dispersion, i, count, params.dispersion_keep, params.dispersion)
        phi[i] = dispersion_of(state.dispersion, i, params.dispersion)
        if watched > 0.0:
            usual = watched * math.exp(params.offset[i])
            if state.has_level[i]:
                observe_row(state.rate, i, count, usual, phi[i])
                observe_row(state.steady, i, count, usual, phi[i])
            else:
                first_level(state.rate, i, count, usual)
                first_level(state.steady, i, count, usual)
                state.has_level[i] = True
        if np.sum(state.ends_long[i]) >= params.speed_ends_min:
            advance_row(state.speed, i, params.speed, params.switch_speed)
            if state.seen_ends[i, 1] > 0.0:
                observe_row(state.speed, i, state.seen_ends[i, 0], state.seen_ends[i, 1], max(phi[i], 1.0))
        state.arrivals[i] = 0.0
        state.exposure_s[i] = 0.0
        state.seen_ends[i, 0] = 0.0
        state.seen_ends[i, 1] = 0.0


@kernel
def first_level(bank: FilterBank, row: int, count: float, watched: float) -> None:
    """Set the level from the first count alone, as a flat prior would, in place.

    Half a call stands in for none.
    """
    seen = count + 0.5
    for m in range(bank.level.shape[1]):
        bank.level[row, m] = math.log(seen / watched)
        bank.level_var[row, m] = min(1.0 / seen + bank.growth_var[row, m], 4.0)


def new_state(rows: int, bins: int, size: Size, params: HeadroomParams) -> HeadroomState:
    """Give the state of instances that nothing is known of."""
    nothing = np.zeros(rows)
    return HeadroomState(
        end_ns=-1,
        slice_ns=0,
        arrivals=nothing,
        exposure_s=nothing.copy(),
        seen_ends=np.zeros((rows, 2)),
        has_level=np.zeros(rows, np.bool_),
        is_ready=np.zeros(rows, np.bool_),
        rate=new_bank(rows, np.array(params.model_weight), np.square(params.cold_growth_sd), 1.0),
        steady=new_bank(rows, np.array(params.steady_weight), np.full(len(params.steady_noise), 1e-14), 1.0),
        speed=new_bank(rows, np.array(params.speed_weight), np.full(3, 1e-8), params.speed_level_var),
        dispersion=new_dispersion(rows),
        phi=np.ones(rows),
        times=new_holding_times(rows, bins),
        outlook=new_outlook(rows, size.horizons),
        verdict=new_verdict(rows),
        season=new_season(rows, size.columns),
        levels=new_levels(rows, size.step_s),
        plans=(),
        plans_refused=0,
    )


def primed(state: HeadroomState, baseline: Baseline) -> HeadroomState:
    """Give the state with a baseline put in, a row for each instance that will come, in their order."""
    rows = len(baseline.calls)
    season = grown(state.season, new_season(rows, state.season.log_usual.shape[1]))
    return state._replace(season=season._replace(baseline=baseline))


def begin_known(state: HeadroomState, known: NDArray[np.bool_], params: HeadroomParams) -> None:
    """Start filters of instances whose usual rate is known, before their first count, in place."""
    if not known.any():
        return
    state.has_level[known] = True
    for bank, weight in (
        (state.rate, params.model_weight_warm),
        (state.steady, params.steady_weight_known),
    ):
        bank.level[known] = 0.0
        bank.level_var[known] = params.known_var
        bank.growth[known] = 0.0
        bank.covariance[known] = 0.0
        bank.growth_var[known] = np.array([1e-12, 1e-7, 1e-6, 1e-9])[: bank.growth_var.shape[1]]
        bank.weight[known] = weight
    state.steady.growth_var[known] = 1e-14


def new_outlook(rows: int, horizons: int) -> Outlook:
    """Give an outlook that says nothing."""
    ahead, now = np.full((6, rows, horizons), np.nan), np.full((3, rows), np.nan)
    return Outlook(*ahead[:3], *now, *ahead[3:])


def new_scratch(cells: int, grid: Grid, models: int, steady_models: int) -> Scratch:
    """Give working memory for one evaluation."""
    steps = int(grid.steps[-1])
    return Scratch(
        total=np.empty(cells + steps * grid.step_slices + 2),
        stay=np.empty(steps),
        stay_slope=np.empty(steps),
        usual=np.ones(steps),
        rate=np.empty((models, steps)),
        steady=np.empty((steady_models, steps)),
        reach=np.empty(steps),
    )


def grown(state: Any, blank: Any) -> Any:
    """Append rows of `blank` to every array of `state` that has fewer rows; nothing is written to."""
    if isinstance(state, HeadroomState):
        parts = [grown(old, new) for old, new in zip(state[:-2], blank[:-2], strict=True)]
        return HeadroomState._make([*parts, *state[-2:]])  # Plans are not by instance.
    if isinstance(state, Season) and len(state.weight) >= len(blank.weight):
        return state
    if isinstance(state, tuple):
        return type(state)(*(grown(old, new) for old, new in zip(state, blank, strict=True)))
    if not isinstance(state, np.ndarray) or len(state) >= len(blank):
        return state
    return np.concatenate([state, blank[len(state) :]])


def fresh(state: Any) -> Any:
    """Copy every array that kernels write in place."""
    if isinstance(state, np.ndarray):
        return state.copy()
    if not isinstance(state, tuple) or isinstance(state, Season) or type(state) is tuple:
        return state  # Replaced when they change.
    return type(state)(*[fresh(part) for part in state])


def fresh_filters(state: HeadroomState) -> HeadroomState:
    """Copy the arrays that an evaluation writes to, where those that every slice is counted in are fresh."""
    return state._replace(
        has_level=state.has_level.copy(),
        rate=fresh(state.rate),
        steady=fresh(state.steady),
        speed=fresh(state.speed),
        dispersion=fresh(state.dispersion),
        phi=state.phi.copy(),
        times=state.times._replace(hazard=state.times.hazard.copy()),
    )


def fresh_times(times: HoldingTimes) -> HoldingTimes:
    """Copy the tables that every slice is counted in; hazards are written to by evaluations alone."""
    return HoldingTimes(
        times.ends.copy(), times.at_risk.copy(), times.ends_long.copy(), times.at_risk_long.copy(),
        times.hazard,
    )  # fmt: skip
