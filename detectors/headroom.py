"""CallLimitApproaching: a concurrency limit will be full in minutes, seen from arrivals, ages and holding times.

Catches: rising traffic, steps, longer calls (a slow model), calls that never end; also on a platform that starts
from nothing and has no history. Formula: detectors/offered_load.py; a finding when the score (forecast mean less cap,
in standard deviations, at the worst horizon) passes a threshold by size of cap, twice in a row (the policy), if at
least half the cap is in use or offered. Page: within 10 minutes; warning: within 30.
False positives: a ramp that stops short of the cap is, before it stops, the same as one that does not.
False negatives: a jump past the cap within a minute; the first two holding times of a platform.
For its first 30 minutes an instance expects growth (wider variances, likelier changes); then change is rare.
Reference: Massey and Whitt, peak congestion in multi-server systems with slowly varying arrival rates (M_t/G/inf).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from detectors.headroom_page import DESCRIPTION, SUMMARY, evidence_of
from detectors.holding_time import (
    HoldingParams,
    HoldingTimes,
    absorb_ends,
    age_bins,
    estimate_hazards,
    new_holding_times,
)
from detectors.limit_crossing import Horizons, Room, Verdict, judge, new_verdict
from detectors.offered_load import (
    Dispersion,
    DispersionParams,
    Grid,
    Outlook,
    Scratch,
    Today,
    dispersion_of,
    forecast,
    new_dispersion,
    observe_dispersion,
)
from detectors.statistics import FilterBank, FilterNoise, advance_row, interpolate_log, new_bank, observe_row
from engine.judge.detection import (
    CRITICAL,
    MINUTE_NS,
    NS,
    WARNING,
    AlertPolicy,
    Detection,
    Finding,
    LimitForecast,
)
from engine.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.occupancy import LimitUse
    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance
    from engine.settings import HeadroomSettings

LONG_RUN_SHARE = 0.1
PAGE_SHARES = (1 / 40, 1 / 20, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
WARN_SHARES = (0.25, 0.5, 1.0)
QUADRATURE_NODES = 9
ALERT = "CallLimitApproaching"
STEP_S = 15.0  # the constants of the filters below are per step of this length


class HeadroomParams(NamedTuple):
    """Constants of the detector; thresholds are per size of cap and come from `python -m bench.leadtime --calibrate`."""

    # models: steady, slow ramp, fast ramp, jump
    level_noise: tuple[float, ...] = (3e-5, 3e-5, 3e-5, 0.02)
    growth_noise: tuple[float, ...] = (1e-12, 3e-8, 1e-6, 1e-9)
    model_weight: tuple[float, ...] = (0.35, 0.25, 0.3, 0.1)
    cold_growth_sd: tuple[float, ...] = (1e-4, 4e-3, 4e-2, 1e-3)
    # models of e^y: steady, drift, jump
    speed_level_noise: tuple[float, ...] = (1e-6, 1e-5, 3e-3)
    speed_growth_noise: tuple[float, ...] = (1e-14, 3e-7, 1e-10)
    speed_weight: tuple[float, ...] = (0.999, 5e-4, 5e-4)
    speed_level_var: float = 0.01
    speed_ends_min: float = 30.0  # the table learns alone until then
    damping_s: float = 1200.0
    switch: float = 3e-6
    switch_cold: float = 1e-3
    cold_s: float = 1800.0
    wait_s: float = 60.0
    wait_holdings: float = 2.0
    gate: float = 0.5
    tail_s_max: float = 4.0 * 3600.0
    gap_s_max: float = 3600.0  # a longer hole in the stream: levels are forgotten
    caps: tuple[float, ...] = (10.0, 100.0, 1000.0)
    page_threshold: tuple[float, ...] = (0.5, 0.5, 0.5)
    warn_threshold: tuple[float, ...] = (0.5, 0.5, 0.5)
    cold_threshold: float = 0.5  # at least, as long as growth is expected
    holding: HoldingParams = HoldingParams()
    dispersion: DispersionParams = DispersionParams()


class HeadroomState(NamedTuple):
    """Everything remembered; arrays have a row per instance and are never written after they were returned."""

    end_ns: int  # of the last slice; -1: none yet
    slice_ns: int
    arrivals: NDArray[np.float64]  # since the last evaluation
    exposure_s: NDArray[np.float64]  # how long of that was watched
    seen_ends: NDArray[np.float64]  # (instances, 2): ends since then, and how many were expected
    has_level: NDArray[np.bool_]
    is_ready: NDArray[np.bool_]
    rate: FilterBank
    speed: FilterBank
    dispersion: Dispersion
    times: HoldingTimes
    outlook: Outlook
    verdict: Verdict


class StepParams(NamedTuple):
    """What `step_rows` needs beside the state."""

    rate: FilterNoise
    speed: FilterNoise
    dispersion: DispersionParams
    dispersion_keep: float
    switch: NDArray[np.float64]  # (instances,)
    switch_speed: float
    step_s: float
    speed_ends_min: float


@kernel
def pass_time(bank: FilterBank, noise: FilterNoise, switch: float, steps: int) -> None:
    """Let steps without a count pass in every row, in place."""
    for i in range(bank.level.shape[0]):
        for _ in range(steps):
            advance_row(bank, i, noise, switch)


@kernel
def step_rows(state: HeadroomState, params: StepParams, phi: NDArray[np.float64]) -> None:
    """Pass one evaluation's counts to the filters of every instance, in place; `phi` (instances,) is written."""
    for i in range(len(phi)):
        if state.has_level[i]:
            advance_row(state.rate, i, params.rate, params.switch[i])
        watched = state.exposure_s[i] / params.step_s
        count = state.arrivals[i]
        if watched >= 1.0:
            observe_dispersion(state.dispersion, i, count, params.dispersion_keep, params.dispersion)
        phi[i] = dispersion_of(state.dispersion, i, params.dispersion)
        if watched > 0.0:
            if state.has_level[i]:
                observe_row(state.rate, i, count, watched, phi[i])
            else:
                first_level(state.rate, i, count, watched)
                state.has_level[i] = True
        if np.sum(state.times.ends_long[i]) >= params.speed_ends_min:
            advance_row(state.speed, i, params.speed, params.switch_speed)
            if state.seen_ends[i, 1] > 0.0:
                observe_row(state.speed, i, state.seen_ends[i, 0], state.seen_ends[i, 1], max(phi[i], 1.0))
        state.arrivals[i] = 0.0
        state.exposure_s[i] = 0.0
        state.seen_ends[i, 0] = 0.0
        state.seen_ends[i, 1] = 0.0


@kernel
def first_level(bank: FilterBank, row: int, count: float, watched: float) -> None:
    """Set the level from the first count alone, as a flat prior would, in place; half a call stands in for none."""
    seen = count + 0.5
    for m in range(bank.level.shape[1]):
        bank.level[row, m] = math.log(seen / watched)
        bank.level_var[row, m] = min(1.0 / seen + bank.growth_var[row, m], 4.0)


class Headroom:
    """The detector; see the module."""

    name = "headroom"
    policies = (
        AlertPolicy(ALERT, CRITICAL, evaluations=2, keep_ns=10 * MINUTE_NS, repeat_ns=60 * MINUTE_NS),
        AlertPolicy(ALERT, WARNING, evaluations=2, keep_ns=10 * MINUTE_NS, repeat_ns=60 * MINUTE_NS),
    )

    def __init__(self, settings: HeadroomSettings, params: HeadroomParams | None = None) -> None:
        self.settings = settings
        self.params = params or HeadroomParams()
        self.step_s = settings.evaluate_ns / NS
        self.horizons = horizons_of(settings, self.params)

    def new_state(self) -> HeadroomState:
        return new_state(0, 0, len(self.horizons.ahead_s), self.params)

    def detect(self, state: Any, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Take in one slice; look ahead at every evaluation."""
        del limits  # Names and owners are put in by the engine.
        use = summary.limits
        before: HeadroomState = state
        now = self.absorb(before, summary)
        if summary.end_ns % self.settings.evaluate_ns:
            return Detection(now, (), evaluated=False, forecast=forecast_of(now, self.horizons.page - 1))
        now = self.evaluate(now, use, summary.end_ns)
        findings = self.findings(now, use, summary.end_ns)
        return Detection(now, findings, forecast=forecast_of(now, self.horizons.page - 1))

    def absorb(self, state: HeadroomState, summary: WindowSummary) -> HeadroomState:
        """Give the state with one slice's counts in it; all its arrays are fresh."""
        use = summary.limits
        rows, cells = use.alive.shape
        bins = age_bins(cells)
        slice_ns = summary.end_ns - summary.start_ns
        slice_s = slice_ns / NS
        blank = new_state(rows, len(bins.middle), len(self.horizons.ahead_s), self.params)
        if state.slice_ns != slice_ns or state.times.ends.shape[1] != len(bins.middle):
            # Ages are counted in slices: another slice length is another table.
            state = state._replace(
                slice_ns=slice_ns, times=new_holding_times(len(state.is_ready), len(bins.middle))
            )
        state = fresh(grown(state, blank))
        missed = (summary.start_ns - state.end_ns) // self.settings.evaluate_ns if state.end_ns >= 0 else 0
        if missed > 0:
            state = self.after_gap(state, int(missed), blank)
        counted = (use.first_ns >= 0) & (use.first_ns < summary.end_ns)  # The first slice has a call by definition.
        state.arrivals[counted] += use.arrivals[counted]
        state.exposure_s[counted] += slice_s
        holding = self.params.holding
        keep = (0.5 ** (slice_s / holding.half_life_s), 0.5 ** (slice_s / holding.half_life_long_s))
        absorb_ends(
            state.times, bins.of_cell, use.alive, use.ended_by_age, use.healed_by_age, keep, state.seen_ends
        )
        return state._replace(end_ns=summary.end_ns)

    def after_gap(self, state: HeadroomState, missed: int, blank: HeadroomState) -> HeadroomState:
        """Let unwatched time pass: levels become vague, and after a long hole are forgotten."""
        if missed * self.step_s > self.params.gap_s_max:
            return state._replace(
                rate=blank.rate, speed=blank.speed, dispersion=blank.dispersion, has_level=blank.has_level,
                arrivals=blank.arrivals, exposure_s=blank.exposure_s, seen_ends=blank.seen_ends,
            )  # fmt: skip
        noise = self.noise(self.params.level_noise, self.params.growth_noise)
        pass_time(state.rate, noise, self.params.switch, missed)
        return state

    def noise(self, level: tuple[float, ...], growth: tuple[float, ...]) -> FilterNoise:
        """Give the noise of one evaluation."""
        steps = self.step_s / STEP_S
        return FilterNoise(
            np.array(level) * steps, np.array(growth) * steps**3, math.exp(-self.step_s / self.params.damping_s)
        )

    def evaluate(self, state: HeadroomState, use: LimitUse, end_ns: int) -> HeadroomState:
        """Give the state with filters, tables, outlook and verdict brought up to date; `state` is written to."""
        params = self.params
        rows, cells = use.alive.shape
        age_s = np.where(use.first_ns >= 0, (end_ns - use.first_ns) / NS, 0.0)
        phi = np.ones(rows)
        step_rows(state, self.step_params(age_s), phi)
        estimate_hazards(state.times, use.expected_holding_s, state.slice_ns / NS, params.holding)
        may_look = use.is_concurrency & state.has_level & (age_s >= params.wait_s)
        grid = self.grid(cells, state.slice_ns / NS)
        outlook = new_outlook(rows, len(grid.steps))
        scratch = new_scratch(cells, grid, len(params.model_weight))
        forecast(self.today(state, use, may_look, phi), grid, scratch, outlook)
        ready = may_look & (state.is_ready | (age_s >= params.wait_holdings * outlook.holding_s))
        verdict = new_verdict(rows)
        room = Room(use.value - use.unseen_use, use.level.astype(np.float64), ready)
        judge(room, outlook, self.horizons, params.gate, verdict)
        return state._replace(is_ready=ready, outlook=outlook, verdict=verdict)

    def step_params(self, age_s: NDArray[np.float64]) -> StepParams:
        """Give the constants of one evaluation; the younger an instance, the likelier a change."""
        params = self.params
        steps = self.step_s / STEP_S
        coldness = np.clip(1.0 - age_s / params.cold_s, 0.0, 1.0)
        return StepParams(
            rate=self.noise(params.level_noise, params.growth_noise),
            speed=self.noise(params.speed_level_noise, params.speed_growth_noise),
            dispersion=params.dispersion,
            dispersion_keep=0.5 ** (self.step_s / params.dispersion.half_life_s),
            switch=params.switch * (params.switch_cold / params.switch) ** coldness * steps,
            switch_speed=params.switch * steps,
            step_s=self.step_s,
            speed_ends_min=params.speed_ends_min,
        )

    def today(
        self, state: HeadroomState, use: LimitUse, may_look: NDArray[np.bool_], phi: NDArray[np.float64]
    ) -> Today:
        """Gather what a forecast starts from."""
        holding = self.params.holding
        bins = age_bins(use.alive.shape[1])
        alive = np.add.reduceat(use.alive, bins.first, axis=1, dtype=np.float64)
        worth = np.where(use.expected_holding_s > 0, holding.declared_ends, holding.expected_ends)
        # The long run speaks for a quiet night, at a tenth of its weight: it may be out of date.
        ends = state.times.ends.sum(axis=1) + LONG_RUN_SHARE * state.times.ends_long.sum(axis=1)
        return Today(
            is_ready=may_look,
            alive=alive,
            unknown_age=np.maximum(use.level - alive.sum(axis=1), 0.0),
            hazard=state.times.hazard,
            rate=state.rate,
            speed=state.speed,
            hazard_var=1.0 / (ends + worth),
            dispersion=phi,
        )

    def grid(self, cells: int, slice_s: float) -> Grid:
        """Give ages and horizons in slices and evaluations."""
        bins = age_bins(cells)
        return Grid(
            of_cell=bins.of_cell,
            middle=bins.middle,
            steps=np.round(self.horizons.ahead_s / self.step_s).astype(np.int64),
            step_slices=round(self.step_s / slice_s),
            slice_s=slice_s,
            damping=math.exp(-self.step_s / self.params.damping_s),
            tail_slices_max=self.params.tail_s_max / slice_s,
        )

    def findings(self, state: HeadroomState, use: LimitUse, end_ns: int) -> tuple[Finding, ...]:
        """Compare scores with thresholds."""
        page, warn = self.thresholds(use, end_ns)
        is_page = state.verdict.page_score >= page
        is_warning = is_page | (state.verdict.warn_score >= warn)
        found: list[Finding] = []
        for row in np.flatnonzero(is_warning):
            age_s = (end_ns - int(use.first_ns[row])) / NS
            severities = (CRITICAL, WARNING) if is_page[row] else (WARNING,)
            evidence = evidence_of(
                state, use, int(row), (self.step_s, age_s, self.settings.page_horizon_ns / NS), self.horizons.page - 1
            )
            found += [
                Finding(ALERT, severity, ("limit", int(row)), SUMMARY, DESCRIPTION, evidence=evidence)
                for severity in severities
            ]
        return tuple(found)

    def thresholds(self, use: LimitUse, end_ns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give the scores from which on to page and to warn, by size of cap; higher on a platform just started."""
        params = self.params
        caps = np.array(params.caps)
        page = interpolate_log(use.value, caps, np.array(params.page_threshold))
        warn = interpolate_log(use.value, caps, np.array(params.warn_threshold))
        if self.settings.page_threshold is not None:
            page = np.full_like(page, self.settings.page_threshold)
        if self.settings.warn_threshold is not None:
            warn = np.full_like(warn, self.settings.warn_threshold)
        is_cold = (use.first_ns >= 0) & (end_ns - use.first_ns < params.cold_s * NS)
        if self.settings.page_threshold is None:
            page = np.where(is_cold, np.maximum(page, params.cold_threshold), page)
        if self.settings.warn_threshold is None:
            warn = np.where(is_cold, np.maximum(warn, params.cold_threshold), warn)
        return page, warn


def horizons_of(settings: HeadroomSettings, params: HeadroomParams) -> Horizons:
    """Lay the horizons out over the two tiers, in whole evaluations."""
    step_s = settings.evaluate_ns / NS
    page, warn = settings.page_horizon_ns / NS, settings.warn_horizon_ns / NS
    wanted = [page * share for share in PAGE_SHARES]
    wanted += [page + (warn - page) * share for share in WARN_SHARES if warn > page]
    steps = sorted({max(round(ahead / step_s), 1) for ahead in wanted})
    damping = math.exp(-step_s / params.damping_s)
    nodes, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE_NODES)
    ahead = np.array(steps, dtype=np.float64)
    return Horizons(
        ahead_s=ahead * step_s,
        reach=(1.0 - damping**ahead) / (1.0 - damping),
        page=steps.index(max(round(page / step_s), 1)) + 1,
        nodes=nodes,
        node_weight=weights / weights.sum(),
    )


def new_state(rows: int, bins: int, horizons: int, params: HeadroomParams) -> HeadroomState:
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
        speed=new_bank(rows, np.array(params.speed_weight), np.full(3, 1e-8), params.speed_level_var),
        dispersion=new_dispersion(rows),
        times=new_holding_times(rows, bins),
        outlook=new_outlook(rows, horizons),
        verdict=new_verdict(rows),
    )


def new_outlook(rows: int, horizons: int) -> Outlook:
    """Give an outlook that says nothing."""
    shapes = [(rows, horizons)] * 3 + [(rows,)] * 3
    return Outlook(*(np.full(shape, np.nan) for shape in shapes))


def new_scratch(cells: int, grid: Grid, models: int) -> Scratch:
    """Give working memory for one evaluation."""
    steps = int(grid.steps[-1])
    return Scratch(
        total=np.empty(cells + steps * grid.step_slices + 2),
        stay=np.empty(steps),
        stay_slope=np.empty(steps),
        rate=np.empty((models, steps)),
        reach=np.empty(steps),
    )


def grown(state: Any, blank: Any) -> Any:
    """Append rows of `blank` to every array of `state` that has fewer rows; nothing is written to."""
    if isinstance(state, tuple):
        return type(state)(*(grown(old, new) for old, new in zip(state, blank, strict=True)))  # type: ignore[call-arg]
    if not isinstance(state, np.ndarray) or len(state) >= len(blank):
        return state
    return np.concatenate([state, blank[len(state) :]])


def fresh(state: Any) -> Any:
    """Copy every array, so that kernels may write in place."""
    if isinstance(state, tuple):
        return type(state)(*(fresh(part) for part in state))  # type: ignore[call-arg]
    return state.copy() if isinstance(state, np.ndarray) else state


def forecast_of(state: HeadroomState, at: int) -> LimitForecast:
    """Give the last evaluation as everyone else sees it; `at` is the page horizon."""
    outlook, verdict = state.outlook, state.verdict
    ready = state.is_ready
    return LimitForecast(
        score=verdict.page_score,
        probability=verdict.probability,
        mean=np.where(ready, outlook.mean[:, at], np.nan),
        offered_load=outlook.rate_per_s * outlook.holding_s,
        holding_s=outlook.holding_s,
        time_to_limit_s=verdict.time_s,
        time_to_limit_s_low=verdict.time_s_low,
        time_to_limit_s_high=verdict.time_s_high,
    )
