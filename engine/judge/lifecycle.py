"""Step 7, update: findings become alerts with a life: inactive, pending, firing, resolved.

A finding that holds for enough evaluations in a row fires; a firing alert is resolved when its finding has
been away for the time its policy keeps it. Times are ends of slices, never "now", so a replay walks through
the same lives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from engine.judge.detection import AlertPolicy

PENDING, FIRING, RESOLVED = "pending", "firing", "resolved"

Pairs = tuple[tuple[str, str], ...]


class Alert(NamedTuple):
    """One alert as it stands. Identity is `labels` alone.

    Every time says which event it marks (event time, ns).
    """

    labels: Pairs  # sorted; alertname, severity, owner, limit, ...
    annotations: Pairs  # sorted; numbers as plain decimals
    state: str  # pending | firing | resolved
    active_ns: int  # first finding of this life
    fired_ns: int  # -1: not yet
    found_ns: int  # last finding
    resolved_ns: int  # -1: not yet


class AlertChange(NamedTuple):
    """An alert began to fire or was resolved, at the end of a slice."""

    time_ns: int
    state: str  # firing | resolved
    labels: Pairs
    annotations: Pairs
    fired_ns: int


class Worded(NamedTuple):
    """A finding with its names and page: what the lifecycle works on."""

    policy: AlertPolicy
    labels: Pairs
    annotations: Pairs
    in_force: Pairs = ()  # the value of the limit, as the register has it: another one is another situation


class Life(NamedTuple):
    """An alert and what its policy needs to remember about it."""

    alert: Alert
    policy: AlertPolicy
    detector: str
    evaluations: int  # findings in a row while pending


class AlertBook:
    """All alerts, by labels. Bounded.

    When full, new alerts are refused and counted, those that live go on.
    """

    def __init__(self, alerts_max: int, resolved_keep_ns: int) -> None:
        """Start empty; resolved alerts stay visible for `resolved_keep_ns`, so that they can be re-sent."""
        self.alerts_max = alerts_max
        self.resolved_keep_ns = resolved_keep_ns
        self.refused = 0
        self._lives: dict[Pairs, Life] = {}
        self._last_fired_ns: dict[Pairs, int] = {}

    def alerts(self) -> tuple[Alert, ...]:
        """Give every alert that is pending, firing or freshly resolved, in order of labels."""
        return tuple(self._lives[labels].alert for labels in sorted(self._lives))

    def update(self, found: Mapping[str, Collection[Worded]], end_ns: int) -> list[AlertChange]:
        """Take the findings of every detector that evaluated this slice.

        Give what changed, in order of labels.

        A detector that is missing from `found` did not look: its alerts stay as they are.
        """
        changes = []
        standing: dict[str, list[Pairs]] = {}
        for labels, life in self._lives.items():
            standing.setdefault(life.detector, []).append(labels)
        for detector in sorted(found):
            if not found[detector] and detector not in standing:
                continue
            present = {one.labels: one for one in found[detector]}
            for labels in standing.get(detector, ()):
                if labels not in present:
                    changes += self._missing(labels, end_ns)
            for labels in sorted(present):
                changes += self._present(detector, present[labels], end_ns)
        for labels in [one for one, life in self._lives.items() if life.alert.state == RESOLVED]:
            if end_ns - self._lives[labels].alert.resolved_ns > self.resolved_keep_ns:
                del self._lives[labels]
        self._forget_old_pages()
        return sorted(changes, key=lambda change: (change.state, change.labels))

    def _present(self, detector: str, worded: Worded, end_ns: int) -> list[AlertChange]:
        life = self._lives.get(worded.labels)
        if life is None or life.alert.state == RESOLVED:
            if self._is_repeat(worded, end_ns):
                return []
            if life is None and len(self._lives) >= self.alerts_max:
                self.refused += 1
                return []
            alert = Alert(worded.labels, worded.annotations, PENDING, end_ns, -1, end_ns, -1)
            life = Life(alert, worded.policy, detector, 0)
        alert = life.alert._replace(annotations=worded.annotations, found_ns=end_ns)
        changes = []
        evaluations = life.evaluations + 1
        if alert.state == PENDING and evaluations >= worded.policy.evaluations:
            alert = alert._replace(state=FIRING, fired_ns=end_ns)
            self._last_fired_ns[worded.labels + worded.in_force] = end_ns
            changes.append(AlertChange(end_ns, FIRING, alert.labels, alert.annotations, end_ns))
        self._lives[worded.labels] = Life(alert, worded.policy, detector, evaluations)
        return changes

    def _missing(self, labels: Pairs, end_ns: int) -> list[AlertChange]:
        """Go on without the condition, which a detector looked for and did not find."""
        life = self._lives[labels]
        alert = life.alert
        if alert.state == PENDING:
            del self._lives[labels]
        elif alert.state == FIRING and end_ns - alert.found_ns >= life.policy.keep_ns:
            alert = alert._replace(state=RESOLVED, resolved_ns=end_ns)
            self._lives[labels] = life._replace(alert=alert)
            return [AlertChange(end_ns, RESOLVED, alert.labels, alert.annotations, alert.fired_ns)]
        return []

    def _is_repeat(self, worded: Worded, end_ns: int) -> bool:
        """Say whether this identity fired so recently, under the same value, that it may not page again."""
        last_ns = self._last_fired_ns.get(worded.labels + worded.in_force)
        return last_ns is not None and end_ns - last_ns < worded.policy.repeat_ns

    def _forget_old_pages(self) -> None:
        """Keep the memory of last pages bounded: the oldest is forgotten first."""
        while len(self._last_fired_ns) > 2 * self.alerts_max:
            del self._last_fired_ns[
                min(self._last_fired_ns, key=lambda labels: (self._last_fired_ns[labels], labels))
            ]
