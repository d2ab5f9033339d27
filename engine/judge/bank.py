"""Step 6, detect: every registered detector looks at every judged slice.

Its findings are worded for people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.judge.bounds import places_of

if TYPE_CHECKING:
    from engine.judge.detection import AlertPolicy, Detector, Finding, LimitForecast, ReleaseVerdict
    from engine.judge.lifecycle import Worded
    from engine.judge.pages import PageWriter
    from engine.judge.roll import Rolled, Roller


class DetectorBank:
    """The detectors and their states.

    `forecast` and `verdicts` are what the detectors of these said last, alert or not.
    """

    def __init__(self, detectors: tuple[Detector, ...], roller: Roller, pages: PageWriter) -> None:
        """Start every detector anew; two detectors must not claim one (alertname, severity)."""
        self.detectors = detectors
        self.roller = roller
        self.pages = pages
        self.forecast: LimitForecast | None = None
        self.verdicts: tuple[ReleaseVerdict, ...] = ()
        self._states = {detector.name: detector.new_state() for detector in detectors}
        self.places = tuple(places_of(state) for state in self._states.values())
        self._policies: dict[tuple[str, str], AlertPolicy] = {}
        for detector in detectors:
            for policy in detector.policies:
                key = (policy.alertname, policy.severity)
                assert key not in self._policies, f"two detectors claim {key}"
                self._policies[key] = policy

    def detect(self, rolled: Rolled) -> dict[str, list[Worded]]:
        """Give the worded findings of every detector that evaluated this slice."""
        limits = tuple(self.roller.index.instances)
        found = {}
        for detector in self.detectors:
            detection = detector.detect(self._states[detector.name], rolled.summary, limits)
            self._states[detector.name] = detection.state
            if detection.forecast is not None:
                self.forecast = detection.forecast
            if detection.verdicts is not None:
                self.verdicts = detection.verdicts
            self.roller.learned.take(detection.learned, limits)
            if detection.evaluated:
                found[detector.name] = [self.word(finding, rolled) for finding in detection.findings]
        return found

    def states(self) -> tuple[Any, ...]:
        """Give the states of all detectors."""
        return tuple(self._states.values())

    def state_of(self, name: str) -> Any:
        """Give the state of one detector."""
        return self._states[name]

    def may_say(self, alertname: str, severity: str) -> bool:
        """Say whether one of the detectors has this alert."""
        return (alertname, severity) in self._policies

    def word(self, finding: Finding, rolled: Rolled | None) -> Worded:
        """Give one finding its policy, labels and annotations."""
        return self.pages.word(finding, self._policies[finding.alertname, finding.severity], rolled)
