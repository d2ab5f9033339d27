"""A release that does worse than those which run beside it: roll it back, go on, or promote it.

What it catches: more failures, slower stages or lower scores of a newer release (label `release`) than of the
older ones in the same minutes and strata (tenant, trunk, ...). Formula: event-share e-values, a product over
blocks of calls, averaged over odds of 1.5 to 20 (release_evidence.py); `rollback` at e >= 1/alpha for
failures, 2/alpha for latency and 2/alpha for quality, so that at most 2 alpha of the releases that are no
worse are ever rolled back, however often one looks; `promote` when the confidence sequence has excluded the
margin for all that was measured. Looking at the same minutes cancels whatever happens to both sides.
False positives: a label the series lack decides over both the release and the trouble; turns of a call that
depend more on each other than assumed. False negatives: strata in which no older release takes calls, calls
that never end, a release less than 1.2 times as bad or a tenth slower, or with less than a call an hour; the
first minutes of calls that last long. Reference: reference/detection.md 1d: Lindon and Malek (NeurIPS 2022);
the older releases are pooled, but for those that are themselves to be rolled back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.release_comparison import (
    FAILURES,
    LATENCY,
    QUALITY,
    Comparison,
    Signals,
    advanced,
    log_evidence,
    new_comparison,
    sides_of,
)
from detectors.release_rows import Releases, follow, new_releases, present
from detectors.release_texts import failures_text, finding_of, verdict_of
from engine.judge.detection import CRITICAL, MINUTE_NS, AlertPolicy, Detection, ReleaseVerdict
from engine.settings import DetectionSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.detection import Finding
    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

ALERT = "ReleaseRegression"
COMPARISONS_MAX = 4  # those to be rolled back, then the newest; more at a time are not compared
SIGNALS_MAX = 24  # failures, and so many stages and metrics
FINDING_NS = 5 * MINUTE_NS  # a release without a call for longer was withdrawn


class State(NamedTuple):
    """Grows with window rows, and by a comparison for each release that takes calls beside older ones."""

    releases: Releases
    signals: Signals
    comparisons: tuple[Comparison, ...]
    comparisons_refused: int = 0  # releases left out, each time


class ReleaseRegression:
    """One finding per release that is to be rolled back, one verdict per release."""

    name = "release_regression"
    policies = (AlertPolicy(ALERT, CRITICAL, keep_ns=10 * MINUTE_NS, repeat_ns=60 * MINUTE_NS),)

    def __init__(self, settings: DetectionSettings | None = None) -> None:
        """Roll back at evidence that follows from the accepted ratio of false rollbacks."""
        alpha = (settings or DetectionSettings()).false_rollback_ratio
        self.log_levels = {
            FAILURES: math.log(1.0 / alpha),
            LATENCY: math.log(2.0 / alpha),
            QUALITY: math.log(2.0 / alpha),
        }

    def new_state(self) -> State:
        """Give the state before the first slice."""
        none = np.zeros(0, np.int16)
        return State(new_releases(), Signals(((FAILURES, ""),), none, none), ())

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
        del limits
        releases = follow(state.releases, summary)
        signals = _with_signals(state.signals, summary)
        is_present = present(releases, summary.end_ns)
        condemned = [one.canary for one in state.comparisons if one.rollback_ns >= 0]
        comparisons, baselines = [], {}
        known = {one.canary: one for one in state.comparisons}
        pairs = _pairs(releases, is_present, known, condemned)
        refused = state.comparisons_refused + max(len(pairs) - COMPARISONS_MAX, 0)
        for canary, older in pairs[:COMPARISONS_MAX]:
            one = known.get(canary)
            if one is None:
                one = new_comparison(canary, summary.start_ns, len(releases.strata), len(signals.names))
            sides = sides_of(releases, canary, older)
            one = self._decided(advanced(one, sides, signals, summary), signals, summary.end_ns)
            comparisons.append(one)
            baselines[canary] = older
        state = State(releases, signals, tuple(comparisons), refused)
        verdicts, findings = self._said(state, baselines, is_present, summary.end_ns)
        return Detection(state, findings, verdicts=verdicts)

    def _decided(self, one: Comparison, signals: Signals, end_ns: int) -> Comparison:
        """Begin a rollback when there is evidence enough of any kind; end it when all of it is gone."""
        log_e = {kind: log_evidence(one, signals, kind) for kind in self.log_levels}
        if one.rollback_ns < 0 and any(log_e[kind] >= level for kind, level in self.log_levels.items()):
            return one._replace(rollback_ns=end_ns)
        if one.rollback_ns >= 0 and max(log_e.values()) < 0.0:
            return one._replace(rollback_ns=-1)
        return one

    def _said(
        self,
        state: State,
        baselines: dict[int, NDArray[np.bool_]],
        is_present: NDArray[np.bool_],
        end_ns: int,
    ) -> tuple[tuple[ReleaseVerdict, ...], tuple[Finding, ...]]:
        """Give the verdict on every release that is remembered, and a finding for each rollback."""
        releases, compared = state.releases, {one.canary: one for one in state.comparisons}
        verdicts, findings = [], []
        for release in np.flatnonzero(releases.born_ns >= 0):
            name, number = releases.names[release], int(release)
            one = compared.get(number)
            if one is None:
                because = _not_compared(releases, is_present, number)
                verdicts.append(ReleaseVerdict(name, "continue", because))
                continue
            verdict = verdict_of(one, releases, baselines[number], state.signals, (self.log_levels, end_ns))
            verdicts.append(verdict)
            if one.rollback_ns >= 0 and end_ns - releases.last_ns[release] <= FINDING_NS:
                row = int(releases.marginal_row[release])
                findings.append(
                    finding_of(ALERT, row, verdict, failures_text(one, verdict, state.signals), end_ns)
                )
        return tuple(verdicts), tuple(findings)


def _pairs(
    releases: Releases,
    is_present: NDArray[np.bool_],
    known: dict[int, Comparison],
    condemned: list[int],
) -> list[tuple[int, NDArray[np.bool_]]]:
    """Give (canary, older releases): those to be rolled back first, then the newest that take calls.

    A comparison begins when both sides take calls, and goes on while both are remembered: neither a night nor
    a canary of few calls loses evidence, and nobody sends calls again to a release that was condemned.
    """
    is_remembered = releases.born_ns >= 0
    remembered = np.flatnonzero(is_remembered)
    found = []
    order = np.lexsort((remembered, -releases.born_ns[remembered], ~is_present[remembered]))
    for release in remembered[order]:
        canary = int(release)
        older = is_remembered & (releases.born_ns < releases.born_ns[canary])
        here = older & is_present
        is_new = canary not in known
        if not older.any() or (is_new and not (is_present[canary] and here.any())):
            continue
        older = here if here.any() else older
        trusted = older.copy()
        trusted[[one for one in condemned if one != canary]] = False
        found.append((canary, trusted if trusted.any() else older))
    return sorted(found, key=lambda pair: pair[0] not in condemned)


def _not_compared(releases: Releases, is_present: NDArray[np.bool_], release: int) -> str:
    if not is_present[release]:
        return "It takes no calls any more."
    older = is_present & (releases.born_ns >= 0) & (releases.born_ns < releases.born_ns[release])
    if older.any():
        return "Too many releases take calls at a time for all of them to be compared."
    return "No older release takes calls beside it, so there is nothing to compare it with."


def _with_signals(known: Signals, summary: WindowSummary) -> Signals:
    """Take up new stages and metrics, and say which rows are theirs; the rest are not compared."""
    stages, metrics = summary.windows.latency_stage, summary.facts.scores.metric
    if len(stages) == len(known.latency) and len(metrics) == len(known.score):
        return known
    names, refused = list(known.names), known.signals_refused
    fresh = [(LATENCY, one) for one in stages[len(known.latency) :]]
    fresh += [(QUALITY, one) for one in metrics[len(known.score) :]]
    for name in dict.fromkeys(fresh):
        if name not in names and len(names) <= SIGNALS_MAX:
            names.append(name)
        refused += name not in names
    numbers = {name: number for number, name in enumerate(names)}
    latency = [numbers.get((LATENCY, one), -1) for one in stages[len(known.latency) :]]
    score = [numbers.get((QUALITY, one), -1) for one in metrics[len(known.score) :]]
    return Signals(
        tuple(names),
        np.concatenate([known.latency, np.array(latency, known.latency.dtype)]),
        np.concatenate([known.score, np.array(score, known.score.dtype)]),
        refused,
    )
