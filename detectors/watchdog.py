"""An alert that always fires: when it is missing, the alerting itself is broken.

What it catches: nothing in the calls. A dead-man receiver behind Alertmanager raises the alarm when this
alert stops coming, which means that callgauge, its broker or the way to Alertmanager is down (Prometheus
mixins: "Watchdog"). Formula: true in every slice. False positives: none. False negatives: none while slices
close.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.judge.detection import INFO, AlertPolicy, Detection, Finding

if TYPE_CHECKING:
    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

ALERT = "CallgaugeWatchdog"
SUMMARY = "callgauge is watching."
DESCRIPTION = (
    "This alert always fires. If it stops, calls are no longer watched: look at callgauge, Kafka and the way "
    "here."
)


class State(NamedTuple):
    """Nothing is carried."""


class Watchdog:
    """One finding, always."""

    name = "watchdog"
    policies = (AlertPolicy(ALERT, INFO),)

    def new_state(self) -> State:
        """Give the state before the first slice."""
        return State()

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
        return Detection(state, (Finding(ALERT, INFO, ("deployment", 0), SUMMARY, DESCRIPTION),))
