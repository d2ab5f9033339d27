"""CallLimitApproaching: a concurrency limit will be full in minutes.

Catches: rising traffic, steps, longer calls (a slow model), calls that never end; also on a platform that
starts from nothing and has no history. Formula: detectors/offered_load.py; a finding when the score (forecast
mean less cap, in standard deviations, at the worst horizon) passes a threshold (thresholds.py), twice in a
row (the policy), if half the cap is in use or offered. Page: within 10 minutes, and more is asked for up to
75 % of the cap in use; warning: within 30, or 2 h where past weeks say what is usual (usual_load.py), and
more is asked of the longer horizons. A level without growth and a straight line speak beside the forecast.
False positives: a ramp that stops short of the cap is, before it stops, the same as one that does not.
False negatives: a jump past the cap within a minute; the first two holding times of a platform.
For its first 30 minutes an instance expects growth (wider variances, likelier changes); then change is rare.
Reference: Massey and Whitt, peak congestion in multi-server systems with slowly varying arrival rates
(M_t/G/inf).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from detectors.headroom_page import (
    ALERT,
    DESCRIPTION,
    SUMMARY,
    evidence_of,
    forecast_of,
    horizon_of,
    plan_findings,
)
from detectors.headroom_state import (
    HeadroomParams,
    HeadroomState,
    Size,
    StepParams,
    begin_known,
    filters_of,
    fresh,
    fresh_filters,
    fresh_times,
    grown,
    new_outlook,
    new_scratch,
    new_state,
    pass_time,
    step_rows,
)
from detectors.holding_time import absorb_ends, age_bins, estimate_hazards, new_holding_times
from detectors.limit_crossing import Room, horizons_of, judge, new_verdict
from detectors.offered_load import Grid, Today, forecast
from detectors.planned_load import EVALUATIONS, overloads, planned
from detectors.statistics import FilterNoise
from detectors.straight_line import line_scores, with_level
from detectors.thresholds import LOAD_UNKNOWN, Thresholds, best, surfaces_of
from detectors.usual_load import (
    columns_for,
    count_slice,
    looked_up,
    offsets_ahead,
    pulls,
    variances_at,
    with_learned,
)
from engine.judge.detection import (
    CRITICAL,
    MINUTE_NS,
    NS,
    WARNING,
    AlertPolicy,
    Detection,
    Finding,
)
from engine.learned import SPEAKERS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.occupancy import LimitUse
    from engine.judge.windows import WindowSummary
    from engine.learned import Learned
    from engine.limits import LimitInstance
    from engine.settings import HeadroomSettings

STEP_S = 15.0  # the noise of the filters is stated per step of this length
LONG_RUN_SHARE = 0.1


class Headroom:
    """The detector; see the module."""

    name = "headroom"
    policies = tuple(
        AlertPolicy(ALERT, severity, EVALUATIONS, keep_ns=10 * MINUTE_NS, repeat_ns=60 * MINUTE_NS)
        for severity in (CRITICAL, WARNING)
    )

    def __init__(
        self,
        settings: HeadroomSettings,
        params: HeadroomParams | None = None,
        learned: Learned | None = None,
    ) -> None:
        self.settings = settings
        self.learned = learned
        self.params = params or HeadroomParams()
        self.step_s = settings.evaluate_ns / NS
        self.horizons = horizons_of(settings, self.params.damping_s, self.params.long_margin)
        longest_s = float(self.horizons.ahead_s[-1])
        self.horizons_ns = np.round(self.horizons.ahead_s * NS).astype(np.int64)
        self.steps_ns = settings.evaluate_ns * np.arange(1, round(longest_s / self.step_s) + 1)
        odds = np.divide(self.params.model_weight_warm, self.params.model_weight)
        self.tilt = odds ** (self.step_s / self.params.cold_s)
        self.size = Size(len(self.horizons.ahead_s), columns_for(longest_s), self.step_s)
        self.surface_thresholds = Thresholds(surfaces_of(learned))
        self.noise = self.noise_of(self.params.level_noise, self.params.growth_noise)
        self.steady_noise = self.noise_of(self.params.steady_noise, (1e-14,) * len(self.params.steady_noise))
        self.speed_noise = self.noise_of(self.params.speed_level_noise, self.params.speed_growth_noise)

    def new_state(self) -> HeadroomState:
        return new_state(0, 0, self.size, self.params)

    def detect(self, state: Any, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Take in one slice; look ahead at every evaluation."""
        use = summary.limits
        before: HeadroomState = state
        now = self.absorb(before, summary)
        if self.learned is not None and len(before.phi) < len(now.phi):
            season = with_learned(now.season, self.learned, limits, len(before.phi))
            now = now._replace(season=season)
        now = planned(now, summary.notes, summary.end_ns)
        if summary.end_ns % self.settings.evaluate_ns:
            return Detection(now, (), evaluated=False, forecast=forecast_of(now, self.horizons.page - 1))
        now = self.evaluate(fresh_filters(now), use, summary.end_ns)
        # One finding speaks for one limit and severity: what is seen speaks over what is planned.
        horizon_ns = self.settings.page_horizon_ns
        over = overloads(now, use, limits, self.settings) if now.plans else []
        coming = plan_findings(over, use, summary.end_ns, horizon_ns)
        found = {(one.subject, one.severity): one for one in coming}
        for one in self.findings(now, use, summary.end_ns):
            found[one.subject, one.severity] = one
        findings = tuple(found.values())
        return Detection(now, findings, forecast=forecast_of(now, self.horizons.page - 1))

    def absorb(self, state: HeadroomState, summary: WindowSummary) -> HeadroomState:
        """Give the state with one slice's counts in it; arrays that count are fresh, but for hazards."""
        use = summary.limits
        rows, cells = use.alive.shape
        bins = age_bins(cells)
        slice_ns = summary.end_ns - summary.start_ns
        slice_s = slice_ns / NS
        if state.slice_ns != slice_ns or state.times.ends.shape[1] != len(bins.middle):
            # Ages are counted in slices: another slice length is another table.
            state = state._replace(
                slice_ns=slice_ns, times=new_holding_times(len(state.is_ready), len(bins.middle))
            )
        if len(state.is_ready) < rows:
            state = grown(state, new_state(rows, len(bins.middle), self.size, self.params))
        missed = (summary.start_ns - state.end_ns) // self.settings.evaluate_ns if state.end_ns >= 0 else 0
        if missed > 0:
            state = self.after_gap(fresh(state), int(missed))
        # The first slice has a call by definition.
        counted = (use.first_ns >= 0) & (use.first_ns < summary.end_ns)
        season = count_slice(
            state.season, summary, counted, state.outlook.rate_per_s, self.settings.utc_offsets
        )
        holding = self.params.holding
        keep = (0.5 ** (slice_s / holding.half_life_s), 0.5 ** (slice_s / holding.half_life_long_s))
        times, seen_ends = fresh_times(state.times), state.seen_ends.copy()
        absorb_ends(times, bins.of_cell, use.alive, use.ended_by_age, use.healed_by_age, keep, seen_ends)
        return state._replace(
            end_ns=summary.end_ns, arrivals=state.arrivals + counted * use.arrivals,
            exposure_s=state.exposure_s + counted * slice_s, seen_ends=seen_ends, times=times, season=season,
        )  # fmt: skip

    def after_gap(self, state: HeadroomState, missed: int) -> HeadroomState:
        """Let unwatched time pass, in place: levels become vague, and after a long hole are forgotten."""
        blank = new_state(len(state.is_ready), state.times.ends.shape[1], self.size, self.params)
        if missed * self.step_s > self.params.gap_s_max:
            return state._replace(
                rate=blank.rate, steady=blank.steady, speed=blank.speed, dispersion=blank.dispersion,
                has_level=blank.has_level, arrivals=blank.arrivals, exposure_s=blank.exposure_s,
                seen_ends=blank.seen_ends, levels=blank.levels,
            )  # fmt: skip
        pass_time(state.rate, self.noise, self.params.switch, missed)
        pass_time(state.steady, self.steady_noise, self.params.switch, missed)
        return state._replace(levels=blank.levels)

    def noise_of(self, level: tuple[float, ...], growth: tuple[float, ...]) -> FilterNoise:
        """Give the noise of one evaluation."""
        steps = self.step_s / STEP_S
        return FilterNoise(
            np.array(level) * steps,
            np.array(growth) * steps**3,
            math.exp(-self.step_s / self.params.damping_s),
        )

    def evaluate(self, state: HeadroomState, use: LimitUse, end_ns: int) -> HeadroomState:
        """Give the state with filters, tables, outlook and verdict brought up to date; writes to `state`."""
        params = self.params
        rows, cells = use.alive.shape
        age_s = np.where(use.first_ns >= 0, (end_ns - use.first_ns) / NS, 0.0)
        state = self.look_up(state, end_ns)
        # Where it is known what is usual, growth is not to be expected, however short we have watched.
        known_s = age_s + 2.0 * params.cold_s * state.season.weight
        self.hand_over(state, known_s)
        step_rows(filters_of(state), self.step_params(known_s, state.season.offset))
        estimate_hazards(state.times, use.expected_holding_s, state.slice_ns / NS, params.holding)
        may_look = use.is_concurrency & state.has_level & (age_s >= params.wait_s)
        grid = self.grid(cells, state.slice_ns / NS)
        outlook = new_outlook(rows, len(grid.steps))
        scratch = new_scratch(cells, grid, len(params.model_weight), len(params.steady_weight))
        today = self.today(state, use, may_look)
        forecast(today, grid, scratch, outlook)
        ready = may_look & (state.is_ready | (age_s >= params.wait_holdings * outlook.holding_s))
        verdict = new_verdict(rows)
        level = use.level.astype(np.float64)
        room = Room(use.value - use.unseen_use, level, ready, today.horizons, use.unseen_use)
        judge(room, outlook, self.horizons, params.gate, verdict)
        state = state._replace(
            is_ready=ready, outlook=outlook, verdict=verdict, levels=with_level(state.levels, level)
        )
        return self.weigh(state, room, use.value, known_s)

    def look_up(self, state: HeadroomState, end_ns: int) -> HeadroomState:
        """Give the state with what is usual at the middle of the evaluation just past.

        Filters of `state` are written to: levels become relative to it, and ratios fade.
        """
        params = self.params
        middle_ns = end_ns - self.settings.evaluate_ns // 2
        season, shift = looked_up(
            state.season, middle_ns, state.has_level, self.step_s, self.settings.utc_offsets
        )
        begin_known(state, (season.weight >= 1.0) & ~state.has_level & (state.exposure_s > 0.0), params)
        pull = pulls(season, middle_ns, params.ratio_s, params.quiet_most) * self.step_s
        extra = 2.0 * np.maximum(pull - self.step_s / params.ratio_s, 0.0) * params.ratio_var
        if shift.any() or pull.any():
            for bank in (state.rate, state.steady):
                bank.level[:] = (bank.level - shift[:, None]) * (1.0 - pull)[:, None]
                bank.level_var[:] += extra[:, None]
        return state._replace(season=season)

    def weigh(
        self, state: HeadroomState, room: Room, value: NDArray[np.float64], known_s: NDArray[np.float64]
    ) -> HeadroomState:
        """Give the state with the scores of all speakers in its verdict."""
        verdict = state.verdict
        line = line_scores(state.levels, room.cap, room.unseen, self.step_s, self.params.gate)
        # A platform that fills for the first time is for the forecast alone.
        is_warm = known_s > self.params.cold_s
        may_all = room.is_ready & is_warm
        line = np.where(may_all, line, -np.inf)
        page, warn = verdict.page_by_speaker.copy(), verdict.warn_by_speaker.copy()
        for by_speaker in (page, warn):
            by_speaker[:, SPEAKERS.index("level")][~may_all] = -np.inf
            by_speaker[:, SPEAKERS.index("line")] = line
        page -= np.where(is_warm, self.page_margin(room), 0.0)[:, None]
        season = state.season
        load = season.busiest_per_s * state.outlook.holding_s / value
        load = np.where(np.isnan(load), LOAD_UNKNOWN, load)
        page_from = self.surface_thresholds.of("page", value, load, season.weight)
        warn_from = self.surface_thresholds.of("warn", value, load, season.weight)
        verdict = verdict._replace(
            page_score=best(page, page_from), warn_score=best(warn, warn_from), page_by_speaker=page,
            warn_by_speaker=warn, page_thresholds=page_from, warn_thresholds=warn_from,
        )  # fmt: skip
        return state._replace(verdict=verdict)

    def page_margin(self, room: Room) -> NDArray[np.float64]:
        """Give by how much more is asked for before someone is woken over a cap that is half empty."""
        low, high = self.params.page_level
        share = (room.level + room.unseen) / np.maximum(room.cap + room.unseen, 1.0)
        in_use = np.where(np.isnan(share), high, share)
        empty = np.minimum(np.maximum((high - in_use) / (high - low), 0.0), 1.0)
        return np.asarray(self.params.page_margin * empty)

    def hand_over(self, state: HeadroomState, age_s: NDArray[np.float64]) -> None:
        """Turn the cold prior odds of the models into the warm ones, bit by bit, in place.

        Where counts are too few or too bursty to tell the models apart, the prior is all there is.
        """
        params = self.params
        cold = (age_s > 0.0) & (age_s <= params.cold_s)
        if not cold.any():
            return
        state.rate.weight[cold] *= self.tilt
        state.rate.weight[cold] /= state.rate.weight[cold].sum(axis=1, keepdims=True)

    def step_params(self, age_s: NDArray[np.float64], offset: NDArray[np.float64]) -> StepParams:
        """Give the constants of one evaluation; the younger an instance, the likelier a change."""
        params = self.params
        steps = self.step_s / STEP_S
        coldness = np.minimum(np.maximum(1.0 - age_s / params.cold_s, 0.0), 1.0)
        return StepParams(
            rate=self.noise,
            steady=self.steady_noise,
            speed=self.speed_noise,
            dispersion=params.dispersion,
            dispersion_keep=0.5 ** (self.step_s / params.dispersion.half_life_s),
            switch=params.switch * (params.switch_cold / params.switch) ** coldness * steps,
            switch_speed=params.switch * steps,
            step_s=self.step_s,
            speed_ends_min=params.speed_ends_min,
            switch_steady=params.switch * steps,
            offset=offset,
        )

    def today(self, state: HeadroomState, use: LimitUse, may_look: NDArray[np.bool_]) -> Today:
        """Gather what a forecast starts from."""
        holding = self.params.holding
        bins = age_bins(use.alive.shape[1])
        alive = np.add.reduceat(use.alive, bins.first, axis=1, dtype=np.float64)
        worth = np.where(use.expected_holding_s > 0, holding.declared_ends, holding.expected_ends)
        # The long run speaks for a quiet night, at a tenth of its weight: it may be out of date.
        ends = state.times.ends.sum(axis=1) + LONG_RUN_SHARE * state.times.ends_long.sum(axis=1)
        season = state.season
        many = np.where(season.weight >= 1.0, len(self.horizons.ahead_s), self.horizons.warn)
        return Today(
            is_ready=may_look,
            alive=alive,
            unknown_age=np.maximum(use.level - alive.sum(axis=1), 0.0),
            hazard=state.times.hazard,
            rate=state.rate,
            speed=state.speed,
            hazard_var=1.0 / (ends + worth),
            dispersion=state.phi,
            steady=state.steady,
            offset=season.offset,
            offset_ahead=offsets_ahead(season, season.offset_ns + self.steps_ns),
            offset_var=variances_at(season, season.offset_ns + self.horizons_ns),
            horizons=many,
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
        if not (np.maximum(state.verdict.page_score, state.verdict.warn_score) > -np.inf).any():
            return ()
        page, warn = self.thresholds(state, use, end_ns)
        is_page = state.verdict.page_score >= page
        is_warning = is_page | (state.verdict.warn_score >= warn)
        found: list[Finding] = []
        by_tier = {
            True: state.verdict.page_by_speaker - state.verdict.page_thresholds,
            False: state.verdict.warn_by_speaker - state.verdict.warn_thresholds,
        }
        for row in np.flatnonzero(is_warning):
            age_s = (end_ns - int(use.first_ns[row])) / NS
            severities = (CRITICAL, WARNING) if is_page[row] else (WARNING,)
            page_at = self.horizons.page - 1
            at = page_at if is_page[row] else horizon_of(state, use, int(row), self.horizons)
            evidence = evidence_of(
                state,
                use,
                int(row),
                (self.step_s, age_s, float(self.horizons.ahead_s[at])),
                at,
                by_tier[bool(is_page[row])][row],
            )
            found += [
                Finding(ALERT, severity, ("limit", int(row)), SUMMARY, DESCRIPTION, evidence=evidence)
                for severity in severities
            ]
        return tuple(found)

    def thresholds(
        self, state: HeadroomState, use: LimitUse, end_ns: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give the scores from which on to page and to warn, by size of cap.

        Higher on a platform just started, and where arrivals come in bursts.
        """
        params = self.params
        page, warn = state.verdict.page_thresholds[:, 0], state.verdict.warn_thresholds[:, 0]
        burst = params.burst_margin * np.log(np.maximum(state.phi / params.burst_dispersion, 1.0))
        page, warn = page + burst, warn + burst
        if self.settings.page_threshold is not None:
            page = np.full_like(page, self.settings.page_threshold)
        if self.settings.warn_threshold is not None:
            warn = np.full_like(warn, self.settings.warn_threshold)
        cold = np.clip(2.0 - (end_ns - use.first_ns) / (params.cold_s * NS), 0.0, 1.0)
        cold *= 1.0 - state.season.weight
        if self.settings.page_threshold is None:
            page += cold * np.maximum(params.cold_threshold - page, 0.0)
        if self.settings.warn_threshold is None:
            warn += cold * np.maximum(params.cold_threshold - warn, 0.0)
        return page, warn
