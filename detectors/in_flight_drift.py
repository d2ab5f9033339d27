"""Our count of calls in flight and the platform's own drift apart.

What it catches: (1) the platform's lists of live calls (`calls.listed`) take out calls again and again: their
ends are lost; (2) `limit.reported` says another `used` than is counted here, report after report: a
cap shared with others (more), or calls that we hold for up and that are gone (less). A bare report shows
drift and heals nothing; a list heals.  Formula: difference >= max(5 calls, 5 % of the level, 4 sqrt(level)),
in three reports in a row of one limit (then until one agrees, or for two hours), or in two lists within an
hour. False positives: reports that lag by minutes while traffic moves fast; a report of a wider scope.
False negatives: a drift of a few calls; platforms that say nothing of the level; calls that a list adds.
Reference: reconciliation by an authoritative list, as in caches and inventories; no formula of its own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.reported import reported
from detectors.rows import grown
from engine.judge.detection import MINUTE_NS, WARNING, AlertPolicy, Detection, Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

ALERT = "CallsInFlightDrift"
SUMMARY = "The count of calls in flight is not what the platform says."
LISTED = (
    "The platform's list of live calls does not have {gone} of the {counted} calls that were counted as up "
    "here, for the second time within an hour; they were taken out. Their call.ended events are lost on the "
    "way, and until a list comes they hold capacity that is free."
)
MORE = (
    "{limit}: the platform reports {reported_used} in use, {counted} are counted here, for {reports} "
    "reports. The {difference} others belong to somebody who shares this limit, or their starts are lost. "
    "Forecasts add as many, until the next report or for five minutes."
)
LESS = (
    "{limit}: the platform reports {reported_used} in use, {counted} are counted here, for {reports} "
    "reports. {difference} calls held for up here are gone: their ends are lost, or the report covers less "
    "than the entry in the register."
)


class Params(NamedTuple):
    """Constants."""

    calls_min: float = 5.0
    ratio_min: float = 0.05  # of the level
    sds_min: float = 4.0  # square roots of the level: what a report that lags a little differs by
    reports: int = 3  # in a row
    again_ns: int = 60 * MINUTE_NS  # a second list with a difference within this
    hold_ns: int = 120 * MINUTE_NS  # a difference stands for this long after the last report, if none agrees
    keep_ns: int = 15 * MINUTE_NS


class State(NamedTuple):
    """By limit instance (rows,), and the end of the last slice whose list differed (-1: none)."""

    above: NDArray[np.int64]  # reports in a row that say more than is counted
    below: NDArray[np.int64]  # ... less
    listed_ns: int
    said_ns: NDArray[np.int64]  # of the last report, the end of its slice ...
    used: NDArray[np.float64]  # ... what it said ...
    level: NDArray[np.float64]  # ... and what was counted then


class InFlightDrift:
    """One finding per limit that is reported differently, and one for lists."""

    name = "in_flight_drift"

    def __init__(self, params: Params | None = None) -> None:
        self.params = params or Params()
        self.policies = (AlertPolicy(ALERT, WARNING, keep_ns=self.params.keep_ns),)

    def new_state(self) -> State:
        """Give the state before the first slice."""
        none = np.zeros(0, np.int64)
        return State(none, none, -1, none, np.zeros(0), np.zeros(0))

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
        if summary.is_partial:
            return Detection(state, ())
        listed_ns, findings = self._lists(state, summary)
        state = self._reports(state, summary, limits)
        is_said = np.maximum(state.above, state.below) >= self.params.reports
        is_said &= summary.end_ns - state.said_ns <= self.params.hold_ns
        for row in np.flatnonzero(is_said).tolist():
            if not limits[row].is_retired:
                findings.append(self._reported(row, state))
        return Detection(state._replace(listed_ns=listed_ns), tuple(findings))

    def _reports(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> State:
        """Give the state with the reports of a slice in it."""
        use, rows = summary.limits, len(summary.limits.level)
        above, below = grown(state.above, rows, 0).copy(), grown(state.below, rows, 0).copy()
        said_ns = grown(state.said_ns, rows, 0).copy()
        useds, levels = grown(state.used, rows, 0.0).copy(), grown(state.level, rows, 0.0).copy()
        # A fresh report tells the instance in force from one of the same name that has retired.
        told = np.flatnonzero(~np.isnan(use.reported_use)).tolist()
        for row, used in reported(summary.notes, (limits[row] for row in told), "used"):
            if not use.is_concurrency[row]:
                continue
            level = float(use.level[row])
            is_far = abs(used - level) >= self._least(max(level, used))
            above[row] = above[row] + 1 if is_far and used > level else 0
            below[row] = below[row] + 1 if is_far and used < level else 0
            said_ns[row], useds[row], levels[row] = summary.end_ns, used, level
        return State(above, below, state.listed_ns, said_ns, useds, levels)

    def _lists(self, state: State, summary: WindowSummary) -> tuple[int, list[Finding]]:
        stream = summary.stream
        gone = stream.healed_listed
        if gone < self._least(stream.in_flight + gone):
            return state.listed_ns, []
        again = state.listed_ns >= 0 and summary.end_ns - state.listed_ns <= self.params.again_ns
        found = [_listed(gone, stream.in_flight + gone)] if again else []
        return summary.end_ns, found

    def _least(self, level: float) -> float:
        """Give the least difference that says something."""
        params = self.params
        return max(params.calls_min, params.ratio_min * level, params.sds_min * math.sqrt(max(level, 0.0)))

    def _reported(self, row: int, state: State) -> Finding:
        used, level = float(state.used[row]), float(state.level[row])
        evidence: tuple[tuple[str, float | int | str], ...] = (
            ("reported_used", used),
            ("counted", level),
            ("difference", abs(used - level)),
            ("reports", int(max(state.above[row], state.below[row]))),
        )
        text = MORE if used > level else LESS
        problem = "more_than_counted" if used > level else "less_than_counted"
        labels = (("problem", problem),)
        return Finding(ALERT, WARNING, ("limit", row), SUMMARY, text, labels=labels, evidence=evidence)


def _listed(gone: int, counted: int) -> Finding:
    evidence = (("gone", gone), ("counted", counted))
    labels = (("problem", "list_differs"),)
    return Finding(ALERT, WARNING, ("deployment", 0), SUMMARY, LISTED, labels=labels, evidence=evidence)
