"""HiddenCallLimit: calls stop at a level that nobody wrote down.

What it catches: a cap that is in no register, or lower than the register says; with declines of any kind, or
without any event. Formula, declines: k of them at the highest level, none accepted there, d below it among n
attempts: ln [C(n + k, k + d) / C(n, d)] >= 11.5, k >= 4, and the level came back to it in between. Silence:
ln e = rate x time at the ceiling without an acceptance >= 13.8 (detectors/ceiling.py). Both are higher where
the budget of pages asks for it. What is inferred is forecast from then on. A ceiling that the register
explained begins anew when the register changes. False positives: a source that
holds itself at a number of calls, such as a dialler with so many lines; most give themselves away (calls come
more slowly near the ceiling, or in step). False negatives: silent caps under 5, or full over 80 % of the
time; declines that come as ends of calls; a cap that another one hides. Reference: Fisher's exact test;
Ville's inequality for the likelihood ratio of Poisson arrivals.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors import ceiling as at
from detectors.ceiling import Bins, Ceilings, WalkParams
from detectors.hidden_cap_page import ALERT, Inferred, finding_of
from detectors.hidden_cap_rows import (
    AGREES,
    contradicted,
    covered_by,
    is_explained,
    is_known,
    overlapping,
    speaks_for,
)
from detectors.remembered import Remembered
from detectors.rows import grown
from detectors.sequential import log_alarm_level
from engine.judge.detection import CRITICAL, MINUTE_NS, NS, AlertPolicy, Detection, LearnedLimit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from detectors.hidden_cap_rows import Covered
    from engine.judge.detection import Finding
    from engine.judge.occupancy import LimitUse
    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance


class Params(NamedTuple):
    """Constants of detection.md 1g, and what keeps them from firing on what only looks like a cap."""

    log_e: float = 13.8  # evidence of silence, one in a million
    log_e_declines: float = 11.5
    look_s: float = 600.0  # a ceiling is a new one about so often, which is what the budget counts
    declines_min: int = 4
    refills_min: int = 2  # an outage declines at one level too, and nothing comes back to it
    level_min: int = 2
    level_min_silent: int = 5  # lower levels are held for long by few calls at night
    touches_min: int = 8
    at_ceiling_max: float = (
        0.8  # of the time: offered load five times the cap, or a source that keeps it full
    )
    caution: float = 0.97  # of the rate, against its changes
    rate_errors: float = 1.0  # standard errors taken off the rate: 0.9 of it is left after 100 calls
    half_life_s: float = 600.0
    quarter_s: float = 900.0
    gap_s_max: float = 60.0  # what was not judged for so long begins anew
    paced_max: float = 0.5  # roughness of arrivals in ratio to Poisson; below, they are paced
    rough_min: float = 1.3  # above it, evidence counts in ratio less
    rough_expected_min: float = 10.0  # calls from which on the roughness is known
    closed_log_odds: float = (
        2.3  # that the rate does not fall towards the ceiling, as that of few sources does
    )
    over_ratio: float = 0.02  # or one call: so far above an inferred value the level refutes it
    renewed_log_e: float = 4.6  # an inferred ceiling speaks again on so much evidence
    active_s: float = 600.0


class State(NamedTuple):
    """By instance."""

    ceilings: Ceilings
    learned: NDArray[np.float64]  # inferred value in force; NaN: none
    found_ns: NDArray[np.int64]  # last evidence of what was inferred; -1: not active
    is_silent: NDArray[np.bool_]  # how it was inferred
    before: NDArray[np.float64]  # what was inferred before that; NaN: nothing
    known: NDArray[np.float64]  # what the register or a report said last; NaN: nothing yet
    end_ns: int


class HiddenCap:
    """One finding per instance that has a ceiling which nobody wrote down."""

    name = "hidden_cap"
    policies = (AlertPolicy(ALERT, CRITICAL, keep_ns=10 * MINUTE_NS, repeat_ns=60 * MINUTE_NS),)

    def __init__(self, pages_per_week: float, params: Params | None = None) -> None:
        self.pages_per_week = pages_per_week
        self.params = params or Params()
        self._are_implicit = Remembered(are_implicit, by_value=True)

    def new_state(self) -> State:
        """Give the state before the first slice."""
        nothing = np.zeros(0)
        return State(
            at.new_ceilings(0),
            nothing,
            nothing.astype(np.int64),
            nothing.astype(np.bool_),
            nothing,
            nothing,
            -1,
        )

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
        use = summary.limits
        if not use.level_per_bin.shape[1]:  # Whoever feeds slices without bins knows no ceilings.
            return Detection(state, (), evaluated=False)
        state = self._grown(state, len(use.level))
        # Nothing but inference, before this start, gives an implicit limit a value.
        implicit = self._are_implicit(limits)[: len(use.level)]
        learned = np.where(implicit & np.isnan(state.learned), use.value, state.learned)
        ceilings = self._walk(state, summary)
        covered, changes = covered_by(use, limits, learned, implicit), []
        state = state._replace(ceilings=ceilings, end_ns=summary.end_ns, learned=learned)
        state = self._followed(state, covered)
        evident = self._evident(state.ceilings, use)
        is_any_learned = not np.isnan(learned).all()
        if not is_any_learned and not any(one.any() for one in evident):
            return Detection(state, ())
        if is_any_learned:
            refuted = self._refuted(learned, state.ceilings, covered)
            state = state._replace(
                learned=np.where(refuted, np.nan, learned),
                found_ns=np.where(refuted, -1, state.found_ns),
                before=np.where(refuted, learned, state.before),
            )
            changes += [LearnedLimit(int(row), math.nan, summary.end_ns) for row in np.flatnonzero(refuted)]
        if not summary.is_partial:
            state, new = self._inferred(state, covered, *evident)
            changes += new
        return Detection(state, self._findings(state, covered, summary), learned=tuple(changes))

    def _grown(self, state: State, rows: int) -> State:
        if len(state.learned) == rows:
            return state
        whole, real, depths = state.ceilings
        return State(
            Ceilings(grown(whole, rows, 0), grown(real, rows, 0), grown(depths, rows, 0)),
            grown(state.learned, rows, np.nan),
            grown(state.found_ns, rows, -1),
            grown(state.is_silent, rows, fill=False),
            grown(state.before, rows, np.nan),
            grown(state.known, rows, np.nan),
            state.end_ns,
        )

    def _walk(self, state: State, summary: WindowSummary) -> Ceilings:
        """Give the ceilings with one slice taken in."""
        use, params = summary.limits, self.params
        slice_s = (summary.end_ns - summary.start_ns) / NS
        missed_s = (summary.start_ns - state.end_ns) / NS if state.end_ns >= 0 else 0.0
        whole, real, depths = state.ceilings
        ceilings = Ceilings(whole.copy(), real.copy(), depths.copy())
        if missed_s > params.gap_s_max:
            ceilings = at.new_ceilings(len(use.level))
        quarter_ns = int(params.quarter_s * NS)
        if summary.start_ns // quarter_ns != summary.end_ns // quarter_ns:
            at.begin_quarter(ceilings)
        at.fade(ceilings, 0.5 ** (slice_s / params.half_life_s))
        bins = Bins(use.level_per_bin, use.arrivals_per_bin, use.declines_per_bin)
        walk = WalkParams(slice_s / use.level_per_bin.shape[1], params.rate_errors, params.caution)
        at.walk_bins(ceilings, bins, at.paths(), walk)
        return ceilings

    def _followed(self, state: State, covered: Covered) -> State:
        """Begin ceilings anew that the register explained, where what it says has changed.

        Declines at the old value would speak against the new one. A cap that stays gathers them again.
        """
        known, ceilings = state.known, state.ceilings
        is_told = ~np.isnan(covered.known)
        was_full = ceilings.whole[:, at.CEILING] >= known - AGREES
        has_moved = is_told & covered.use.is_concurrency & was_full & (covered.known != known)
        for row in np.flatnonzero(has_moved):
            is_over = overlapping(covered, int(row))
            for array in ceilings:  # Made by this slice's walk: nobody else holds them.
                array[is_over] = 0
        return state._replace(known=np.where(is_told, covered.known, known))

    def _refuted(
        self, learned: NDArray[np.float64], ceilings: Ceilings, covered: Covered
    ) -> NDArray[np.bool_]:
        """Say which inferred values the level has passed for good, or have come to be in the register."""
        above = np.maximum(1.0, self.params.over_ratio * learned)
        refuted = ceilings.whole[:, at.CEILING] > learned + above
        for row in np.flatnonzero(~np.isnan(learned) & ~refuted):
            refuted[row] = is_known(covered, int(row), float(learned[row]))
        return np.asarray(refuted)

    def _inferred(
        self, state: State, covered: Covered, declining: NDArray[np.bool_], silent: NDArray[np.bool_]
    ) -> tuple[State, list[LearnedLimit]]:
        """Take what has become evident in this slice."""
        whole, end_ns = state.ceilings.whole, state.end_ns
        evident = np.flatnonzero(declining | silent)
        if not len(evident) and np.isnan(state.learned).all():
            return state, []
        strength = self._strength(state, covered) if len(evident) else np.zeros(0)
        learned, found_ns = state.learned.copy(), state.found_ns.copy()
        is_silent, before = state.is_silent.copy(), state.before.copy()
        changes = []
        for row in evident:
            value = float(whole[row, at.CEILING])
            is_told = value == learned[row] or not speaks_for(covered, int(row), value)
            if is_told or is_explained(covered, int(row), strength):
                continue
            if not np.isnan(learned[row]):
                before[row] = learned[row]
            learned[row], found_ns[row], is_silent[row] = value, end_ns, not declining[row]
            if np.isnan(covered.use.declared[row]):
                changes.append(LearnedLimit(int(row), value, end_ns))
        # What was inferred speaks for as long as it is met again.
        is_met = whole[:, at.CEILING] == learned
        is_active = (found_ns >= 0) & (end_ns - found_ns <= self.params.active_s * NS)
        is_active |= state.ceilings.real[:, at.LOG_E] >= self.params.renewed_log_e
        met = (whole[:, at.NEW_DECLINES] > 0) | (is_active & (whole[:, at.NEW_TOUCHES] > 0))
        found_ns[is_met & met] = end_ns
        return state._replace(learned=learned, found_ns=found_ns, is_silent=is_silent, before=before), changes

    def _evident(self, ceilings: Ceilings, use: LimitUse) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Say for which rows declines, and silence, are evidence enough of a ceiling."""
        params, whole, real = self.params, ceilings.whole, ceilings.real
        may_decline = whole[:, at.DECLINES] >= params.declines_min
        may_touch = whole[:, at.TOUCHES] >= params.touches_min
        if not (may_decline | may_touch).any():
            return may_decline, may_touch
        budget = log_alarm_level(len(whole), params.look_s, self.pages_per_week)
        declining = use.is_concurrency & may_decline
        declining &= (whole[:, at.REFILLS] >= params.refills_min) & (whole[:, at.CEILING] >= params.level_min)
        for row in np.flatnonzero(declining):
            counts = (float(whole[row, at.DECLINES]), *real[row, [at.DECLINES_BELOW, at.ATTEMPTS_BELOW]])
            declining[row] = log_chance(*counts) >= max(params.log_e_declines, budget)
        silent = use.is_concurrency & (whole[:, at.CEILING] >= params.level_min_silent)
        silent &= may_touch
        level = max(params.log_e, budget)
        silent &= real[:, at.LOG_E] >= level
        for row in np.flatnonzero(silent):
            silent[row] = self._is_arrival_like(ceilings, int(row), level)
        return declining, silent

    def _strength(self, state: State, covered: Covered) -> NDArray[np.float64]:
        """Say how much speaks for the ceiling of each row, in logarithms; inf: a known limit is full."""
        whole, real = state.ceilings.whole, state.ceilings.real
        strength = np.where(whole[:, at.TOUCHES] > 1, real[:, at.LOG_E], 0.0)
        for row in np.flatnonzero(whole[:, at.DECLINES] > 0):
            counts = (float(whole[row, at.DECLINES]), *real[row, [at.DECLINES_BELOW, at.ATTEMPTS_BELOW]])
            strength[row] = max(strength[row], log_chance(*counts))
        value = np.where(np.isnan(covered.known), state.learned, covered.known)
        is_full = whole[:, at.CEILING] >= value - AGREES
        is_met = (strength > 0.0) | (real[:, at.DECLINES_BELOW] > at.DECLINES_SEEN)
        return np.where(is_full & is_met, np.inf, strength)

    def _is_arrival_like(self, ceilings: Ceilings, row: int, level: float) -> bool:
        """Say whether calls came by themselves: not in step, not from few sources, not to keep a level."""
        params, real, depths = self.params, ceilings.real[row], ceilings.depths[row]
        at_ceiling_s, below_s = float(real[at.AT_CEILING_S]), float(depths[at.SECONDS].sum())
        if at_ceiling_s > params.at_ceiling_max * (at_ceiling_s + below_s):
            return False
        roughness = 1.0
        if real[at.EXPECTED] >= params.rough_expected_min:
            roughness = float(real[at.ROUGHNESS] / real[at.EXPECTED])
        if roughness < params.paced_max:
            return False
        if roughness > params.rough_min and real[at.LOG_E] < level * roughness:
            return False
        return log_odds_open(depths) >= params.closed_log_odds

    def _findings(self, state: State, covered: Covered, summary: WindowSummary) -> tuple[Finding, ...]:
        """Word what was inferred, or met again, in this slice."""
        bin_s = (summary.end_ns - summary.start_ns) / NS / summary.limits.level_per_bin.shape[1]
        found = []
        for row in np.flatnonzero(state.found_ns == summary.end_ns):
            value, before = float(state.learned[row]), float(state.before[row])
            word = contradicted(covered, int(row), value)
            inferred = Inferred(int(row), value, before, bool(state.is_silent[row]), word, bin_s)
            found.append(finding_of(state.ceilings, inferred))
        return tuple(found)


def are_implicit(limits: Sequence[LimitInstance]) -> NDArray[np.bool_]:
    """Say which instances are in no register."""
    return np.array([one.limit.is_implicit for one in limits], np.bool_)


def log_chance(at_ceiling: float, below: float, attempts_below: float) -> float:
    """Give ln of one in how many chances it takes for declines that come anywhere to meet all at the ceiling.

    Of the attempts at the ceiling all were declined. Fisher's exact test, with the margins fixed.
    """
    attempts = max(attempts_below, below)
    return _log_choose(attempts + at_ceiling, at_ceiling + below) - _log_choose(attempts, below)


def _log_choose(many: float, chosen: float) -> float:
    return math.lgamma(many + 1.0) - math.lgamma(chosen + 1.0) - math.lgamma(many - chosen + 1.0)


def log_odds_open(depths: NDArray[np.float64]) -> float:
    """Give ln of the odds of one rate at all depths against a rate in proportion to the depth.

    The latter is what a closed group of callers makes, whose size is the ceiling.
    """
    calls, seconds = depths[at.CALLS, :-1], depths[at.SECONDS, :-1]  # The last depth holds all deeper ones.
    depth = np.arange(1.0, len(calls) + 1.0)
    total = float(calls.sum())
    if total <= 0.0 or not seconds.sum() > 0.0:
        return 0.0
    closed = total * math.log(float((depth * seconds).sum())) - float((calls * np.log(depth)).sum())
    return closed - total * math.log(float(seconds.sum()))
