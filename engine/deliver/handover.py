"""What Alertmanager is told, and when: nothing while catching up, and declines before their slice is closed.

After a start or a takeover the line reads hours of old events. Alerts of that time have fired and gone;
sending them would page people for the past. So nothing is handed over until the partitions were once read to
their end; after two minutes, alerts of the present alone are (late pages are better than none). An alert that
still fires then is the one that was firing before, under the same labels and with the same start, and
Alertmanager takes it as such. A member that no longer owns the partitions hands nothing over: its alerts are
those of the new owner now. Alerts that a checkpoint says are firing are sent again, as they were, before they
run out there, however long it takes to read what was missed; not at once, for those that were resolved after
the checkpoint would page again. Where it is so old that it is time for that already, catching up is given a
short grace first: it tells which of them still fire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.deliver.postings import OWED
from engine.judge.lifecycle import FIRING, RESOLVED

if TYPE_CHECKING:
    from engine.judge.lifecycle import Alert, AlertChange, Pairs
    from engine.judge.snapshot import Snapshot
    from engine.source.contract import RawBatch

CATCH_UP_NS_MAX = 120_000_000_000
PRESENT_NS = 300_000_000_000  # alerts found this shortly before the receipt are of the present
BEHIND_NS_MAX = 30_000_000_000  # a watermark this close to the receipt counts as caught up
EARLY_ALERTS_MAX = 1_000


class Handover:
    """Decides what goes to the sink after each step. No clock of its own: time is that of receipt."""

    def __init__(self) -> None:
        """Start as a member that owns nothing."""
        self.is_catching_up = True
        self._since_ns = -1  # when the first partition was assigned
        self._early: dict[Pairs, Alert] = {}
        self.refused = 0  # beyond EARLY_ALERTS_MAX: these come with their slice
        self._next_restored: tuple[Alert, ...] = ()
        self._restored: tuple[Alert, ...] = ()
        self._due_ns = 0  # they are sent from then on
        self._grace_ns = 0  # and not before so long after the assignment
        self.told_ns = -1  # when alerts were last handed over, by whichever process; -1: not known

    def restore(
        self, firing: tuple[Alert, ...], due_ns: int = 0, grace_ns: int = 0, told_ns: int = -1
    ) -> None:
        """Keep sending these from `due_ns` on until all was once read to its end.

        The first time is `grace_ns` after the next assignment, or later.
        """
        self._next_restored, self._due_ns, self._grace_ns = firing, due_ns, grace_ns
        self.told_ns = told_ns

    def alerts(
        self,
        raw: RawBatch,
        snapshot: Snapshot,
        early: tuple[Alert, ...],
        changes: tuple[AlertChange, ...] = (),
    ) -> tuple[Alert, ...] | None:
        """Give the alerts to hand over after the step of `raw`, which brought `changes`; None: nothing now.

        What fired and was resolved within the step is owed its page, unless others may have told it before.
        """
        is_news = not self.is_catching_up
        found = self._found(raw, snapshot, early)
        if found is not None and is_news and len(changes) > 1:
            fired = {(one.labels, one.fired_ns) for one in changes if one.state == FIRING}
            found = tuple(
                one._replace(state=OWED)
                if one.state == RESOLVED and (one.labels, one.fired_ns) in fired
                else one
                for one in found
            )
        if found is not None:
            self.told_ns = raw.received_ns
        return found

    def _found(self, raw: RawBatch, snapshot: Snapshot, early: tuple[Alert, ...]) -> tuple[Alert, ...] | None:
        if not raw.assigned:
            self.is_catching_up, self._since_ns = True, -1
            self._early.clear()
            return None
        if self._since_ns < 0:
            self._since_ns = raw.received_ns
            self._restored, self._next_restored = self._next_restored, ()
        if self.is_catching_up:
            is_read = set(raw.assigned) <= set(raw.caught_up)
            is_close = 0 <= raw.received_ns - snapshot.watermark_ns < BEHIND_NS_MAX
            self.is_catching_up = not (is_read or is_close)
        if not self.is_catching_up:
            return self._with_early(snapshot, early)
        if raw.received_ns - self._since_ns < CATCH_UP_NS_MAX:
            is_due = raw.received_ns >= max(self._due_ns, self._since_ns + self._grace_ns)
            return (self._restored or None) if is_due else None
        # Late pages are better than none, but only those of the present.
        late = tuple(one for one in snapshot.alerts if raw.received_ns - one.found_ns < PRESENT_NS)
        known = {one.labels for one in late if one.state == FIRING}
        resolved = {one.labels for one in self._restored}
        return (
            *(one for one in late if one.state == FIRING or one.labels not in resolved),
            *(one for one in self._restored if one.labels not in known),
        )

    def _with_early(self, snapshot: Snapshot, early: tuple[Alert, ...]) -> tuple[Alert, ...]:
        """Add alerts that fire early, until the closed slice has brought them itself."""
        for alert in early:
            if len(self._early) < EARLY_ALERTS_MAX:
                self._early.setdefault(alert.labels, alert)
            else:
                self.refused += alert.labels not in self._early
        firing = {alert.labels for alert in snapshot.alerts if alert.state == FIRING}
        for labels, alert in list(self._early.items()):
            if labels in firing or alert.fired_ns <= snapshot.watermark_ns:
                del self._early[labels]
        if not self._early:
            return snapshot.alerts
        others = tuple(alert for alert in snapshot.alerts if alert.labels not in self._early)
        return (*others, *self._early.values())
