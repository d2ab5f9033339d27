"""Something that calls depend on fails, or turns us away: a provider, a lookup, a check.

What it catches: a dependency (`dependency.called`) whose calls fail, or are throttled, far more often than is
usual for it, with what became of the callers. Formula: e-SR over calls, M <- (M + 1) x likelihood ratio, for
odds 3 to 1000 times those of the null, paged at A = dependencies x looks a week / pages a week (over all
dependencies together). The null is twice the odds of its usual ratio over half a day, at least 1 % and at
most half; with nothing known, one in five is taken as usual, so one that fails from the beginning pages too.
Evidence of recovery is asked for as well: 20 to 1 that it is as usual again, then five quiet minutes.
Throttled is told apart: that is a limit of theirs. False positives: an outcome `error` that means "not found"
on a day when much is not found; retries of one request, which count as calls. False negatives: fewer than
five bad calls, a dependency that always fails half of its calls, one that is slow and does not fail.
Reference: its own past; Shin, Ramdas and Rinaldo, E-detectors (NEJSDS 2024).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.rows import grown
from detectors.sequential import (
    LOG_RESTART_MIN,
    log_alarm_level,
    log_e_bernoulli,
    log_mixture,
    restarted,
)
from engine.judge.detection import CRITICAL, MINUTE_NS, NS, AlertPolicy, Detection, Finding
from engine.settings import DetectionSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.facts import DependencyUse
    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

ALERT = "CallDependencyFailing"
FAILED, THROTTLED = 0, 1
COUNTS = (
    "calls", "failed", "throttled", "timeouts", "opened", "closed", "callers", "callers_failed",
    "callers_hung_up",
)  # fmt: skip
SUMMARIES = ("{dependency} is failing.", "{dependency} turns our calls away.")
FAILED_TEXT = (
    "{failed} of the {calls} calls to {dependency} in the last {minutes} min failed, {timeouts} of them by "
    "timeout; {usual_text}. {callers_text} {fallback_text}"
)
THROTTLED_TEXT = (
    "{throttled} of the {calls} calls to {dependency} in the last {minutes} min were throttled; "
    "{usual_text}. This is a limit of theirs, not an outage: call it less or ask for more, and write the "
    "limit into limits.yaml. {callers_text} {fallback_text}"
)
DESCRIPTIONS = (FAILED_TEXT, THROTTLED_TEXT)


class Params(NamedTuple):
    """Constants, with units."""

    odds: tuple[float, ...] = (3.0, 10.0, 30.0, 100.0, 1000.0)  # alternatives, times those of the null
    least_effect_odds: float = 2.0  # up to so much worse is no news
    usual_min: float = 0.01  # ratio; below it nobody is called
    usual_max: float = 0.5  # null at most: what fails more than half the time is failing
    prior_bad: float = 1.0  # one in five is usual for what was never seen
    prior_calls: float = 5.0
    usual_half_ns: int = 12 * 60 * MINUTE_NS
    bad_min: int = 5  # calls
    slices_min: int = 2  # with a bad call: one burst of retries is one event
    recovered_log: float = 3.0  # ln of 20
    silent_ns: int = 10 * MINUTE_NS  # without a call for so long it is not known to fail
    budget_share: float = 0.1  # of the pages that the team accepts


PARAMS = Params()


class State(NamedTuple):
    """By dependency, and by signal (failed, throttled) where there are two."""

    usual: NDArray[np.float64]  # (dependencies, 3) calls, failed and throttled, decaying
    log_m: NDArray[np.float64]  # (dependencies, 2, odds)
    suspicion: NDArray[np.float64]  # (dependencies, 2) CUSUM at 10 times the odds: 0 ends an episode
    is_alarmed: NDArray[np.bool_]  # (dependencies, 2)
    log_recovered: NDArray[np.float64]  # (dependencies, 2)
    episode: NDArray[np.int64]  # (dependencies, COUNTS) since suspicion began
    bad_slices: NDArray[np.int64]  # (dependencies, 2) of the episode
    began_ns: NDArray[np.int64]  # (dependencies,) the episode; -1: none
    called_ns: NDArray[np.int64]  # (dependencies,) end of the last slice with a call; -1: none


def followed(state: State, rows: int) -> State:
    """Make room for new dependencies."""
    return State(
        usual=grown(state.usual, rows, 0.0),
        log_m=grown(state.log_m, rows, LOG_RESTART_MIN),
        suspicion=grown(state.suspicion, rows, 0.0),
        is_alarmed=grown(state.is_alarmed, rows, 0),
        log_recovered=grown(state.log_recovered, rows, 0.0),
        episode=grown(state.episode, rows, 0),
        bad_slices=grown(state.bad_slices, rows, 0),
        began_ns=grown(state.began_ns, rows, -1),
        called_ns=grown(state.called_ns, rows, -1),
    )


class DependencyFailing:
    """One finding per dependency that fails or throttles."""

    name = "dependency_failing"
    policies = (AlertPolicy(ALERT, CRITICAL, keep_ns=5 * MINUTE_NS),)

    def __init__(self, settings: DetectionSettings | None = None, params: Params = PARAMS) -> None:
        """Take a share of the budget of false pages."""
        self.params = params
        self.pages_per_week = (settings or DetectionSettings()).pages_per_week * params.budget_share

    def new_state(self) -> State:
        """Give the state before the first slice."""
        none, wide = np.zeros((0, 2)), np.zeros(0, np.int64)
        return State(
            usual=np.zeros((0, 3)),
            log_m=np.zeros((0, 2, len(self.params.odds))),
            suspicion=none,
            is_alarmed=np.zeros((0, 2), np.bool_),
            log_recovered=none,
            episode=np.zeros((0, len(COUNTS)), np.int64),
            bad_slices=np.zeros((0, 2), np.int64),
            began_ns=wide,
            called_ns=wide,
        )

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
        del limits
        use = summary.facts.dependencies
        state = followed(state, len(use.name))
        if not len(use.name):
            return Detection(state, ())
        slice_ns = summary.end_ns - summary.start_ns
        level = log_alarm_level(2 * len(use.name), slice_ns / NS, self.pages_per_week)
        state = self.advanced(state, use, (summary.start_ns, summary.end_ns), level)
        findings = tuple(
            self._finding(state, int(row), summary.end_ns)
            for row in np.flatnonzero(state.is_alarmed.any(axis=1))
        )
        return Detection(state, findings)

    def null(self, usual: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the ratio, (dependencies, 2), up to which nothing is said."""
        params = self.params
        ratio = (usual[:, 1:] + params.prior_bad) / (usual[:, :1] + params.prior_calls)
        odds = np.maximum(ratio, params.usual_min)
        odds = params.least_effect_odds * odds / np.maximum(1.0 - odds, 1e-9)
        return np.minimum(odds / (1.0 + odds), params.usual_max)

    def advanced(self, state: State, use: DependencyUse, span_ns: tuple[int, int], level: float) -> State:
        """Weigh the calls of one slice."""
        params, (start_ns, end_ns) = self.params, span_ns
        bad = np.stack([use.failed, use.throttled], axis=1).astype(np.float64)
        calls = np.repeat(use.calls[:, None].astype(np.float64), 2, axis=1)
        was_called, null = calls > 0, self.null(state.usual)
        shape = (len(null), 2, len(params.odds))
        flat = bad.ravel(), calls.ravel(), null.ravel()
        log_e = log_e_bernoulli(*flat, np.array(params.odds)).reshape(shape)
        log_m = np.where(was_called[..., None], restarted(state.log_m, log_e), state.log_m)
        suspicion = np.maximum(state.suspicion + log_e[:, :, 1], 0.0)
        is_open = np.asarray((suspicion > 0.0).any(axis=1) | state.is_alarmed.any(axis=1))
        counts = np.stack([getattr(use, name) for name in COUNTS], axis=1).astype(np.int64)
        episode = np.where(is_open[:, None], state.episode + counts, 0)
        bad_slices = np.where(is_open[:, None], state.bad_slices + (bad > 0), 0)
        evidence = log_mixture(log_m)
        is_certain = evidence >= level
        is_certain &= (episode[:, 1:3] >= params.bad_min) & (bad_slices >= params.slices_min)
        log_recovered = self._recovered(state, calls, bad, null)
        called_ns = np.where(use.calls > 0, end_ns, state.called_ns)
        is_silent = end_ns - called_ns > params.silent_ns
        is_over = state.is_alarmed & ((log_recovered >= params.recovered_log) | is_silent[:, None])
        is_alarmed = (state.is_alarmed | is_certain) & ~is_over
        # What is suspicious becomes usual only when it has come to nothing.
        kept = np.where(is_open, 1.0, 0.5 ** ((end_ns - start_ns) / params.usual_half_ns))
        learned = np.where(is_open[:, None], 0, state.episode + counts)[:, :3]
        is_closed = np.asarray(is_over.any(axis=1) & ~is_alarmed.any(axis=1))
        return State(
            usual=state.usual * kept[:, None] + learned,
            log_m=np.where(is_over[..., None], LOG_RESTART_MIN, log_m),
            suspicion=np.where(is_over, 0.0, suspicion),
            is_alarmed=is_alarmed,
            log_recovered=np.where(is_alarmed & state.is_alarmed, log_recovered, 0.0),
            episode=np.where(is_closed[:, None], 0, episode),
            bad_slices=bad_slices,
            began_ns=np.where(
                is_open & ~is_closed, np.where(state.began_ns < 0, start_ns, state.began_ns), -1
            ),
            called_ns=called_ns,
        )

    def _recovered(
        self,
        state: State,
        calls: NDArray[np.float64],
        bad: NDArray[np.float64],
        null: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Weigh "as usual again" against "half as bad as it was"."""
        was = state.episode[:, 1:3] / np.maximum(state.episode[:, :1], 1)
        still = np.clip(np.maximum(was / 2, np.sqrt(null * np.maximum(was, null))), null, 0.99)
        usual = np.minimum(null, 0.98)
        log_e = bad * np.log(usual / still) + (calls - bad) * np.log((1.0 - usual) / (1.0 - still))
        return np.asarray(np.maximum(state.log_recovered + log_e, 0.0))

    def _finding(self, state: State, row: int, end_ns: int) -> Finding:
        signal = FAILED if state.is_alarmed[row, FAILED] else THROTTLED
        counts = {name: int(value) for name, value in zip(COUNTS, state.episode[row], strict=True)}
        calls, bad = state.usual[row, 0], state.usual[row, 1 + signal]
        usual = (
            f"usual are {100 * bad / calls:.1f} %"
            if calls >= 10 * self.params.prior_calls
            else "too little is known of it to say what is usual"
        )
        return Finding(
            ALERT,
            CRITICAL,
            ("dependency", row),
            SUMMARIES[signal],
            DESCRIPTIONS[signal],
            evidence=(
                *counts.items(),
                ("minutes", max(round((end_ns - state.began_ns[row]) / MINUTE_NS), 1)),
                ("usual_text", usual),
                ("callers_text", callers_text(counts)),
                ("fallback_text", fallback_text(counts)),
            ),
        )


def callers_text(counts: dict[str, int]) -> str:
    """Say what became of the callers who met it."""
    if not counts["callers"]:
        return "No caller who met this has ended yet."
    return (
        f"Of {counts['callers']} callers who met this and whose calls have ended, "
        f"{counts['callers_hung_up']} hung up and {counts['callers_failed']} ended in a failure."
    )


def fallback_text(counts: dict[str, int]) -> str:
    """Say what was done without it."""
    if not counts["opened"] and not counts["closed"]:
        return "No fallback is reported."
    return f"{counts['opened']} calls went on without it, {counts['closed']} were turned away."
