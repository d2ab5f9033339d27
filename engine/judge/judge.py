"""Steps 5 to 7 as one: summaries in, alert changes out. Knows limits, windows, detectors and alerts.

No clock, no I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.judge.attribution import UNATTRIBUTED, blame, may_be_blamed
from engine.judge.bank import DetectorBank
from engine.judge.declines import Classifier
from engine.judge.detection import CRITICAL, Finding
from engine.judge.lifecycle import FIRING, Alert, AlertBook
from engine.judge.pages import PageWriter, causes_text
from engine.judge.roll import Roller, StreamCounters

if TYPE_CHECKING:
    from engine.decode.events import Note
    from engine.judge.declines import Rule
    from engine.judge.detection import Detector
    from engine.judge.implicit import LearnedValue
    from engine.judge.lifecycle import AlertChange
    from engine.judge.roll import Rolled
    from engine.limits import Register
    from engine.observe.summary import FirstDecline, SliceSummary
    from engine.settings import Settings

EARLY_ALERT = "CallLimitReached"
EARLY_SUMMARY = "Calls are being declined by a limit."
EARLY_DESCRIPTION = "{limit} has just declined a call ({causes}). In use: {in_use}."

EARLY_UNREGISTERED = (
    "A call has just met a limit that is not in the register and was declined ({causes}). "
    "Find where it lives, and write it into limits.yaml with an owner."
)


class Judgement(NamedTuple):
    """What one step of judging brought."""

    changes: tuple[AlertChange, ...]  # in order of time
    notes: tuple[Note, ...]  # of the slices that were judged
    slices: int


class FirstDeclined(NamedTuple):
    """The first decline that was put down to a limit.

    The event time is exact, or that of the beginning of its slice where it came after that was closed, or
    was told as an end.
    """

    limit: str
    split: tuple[tuple[str, str], ...]
    time_ns: int


class Judge:
    """Owns what is long: windows, detector states and alerts."""

    def __init__(
        self, settings: Settings, register: Register, rules: tuple[Rule, ...], detectors: tuple[Detector, ...]
    ) -> None:
        """Start with nothing seen."""
        self.roller = Roller(settings.engine, register, Classifier(rules))
        self.pages = PageWriter(self.roller)
        self.bank = DetectorBank(detectors, self.roller, self.pages)
        self.book = AlertBook(settings.engine.alerts_max, settings.alertmanager.resolved_resend_ns)
        self.first_declines: dict[int, FirstDeclined] = {}
        self.last: Rolled | None = None

    def reload(self, register: Register, rules: tuple[Rule, ...]) -> None:
        """Take a new register and new decline rules; windows, alerts and detector states go on."""
        self.roller.reload(register, Classifier(rules))

    def know(self, learned: tuple[LearnedValue, ...]) -> None:
        """Take values that were inferred before this start."""
        self.roller.learned.know(learned)

    def inferred(self) -> tuple[LearnedValue, ...]:
        """Give the inferred values in force; the same object for as long as nothing changes."""
        return self.roller.learned.values

    def hear(self, declines: tuple[FirstDecline, ...]) -> None:
        """Take note of when declines came, before the slices that they are of are taken."""
        self.roller.hear(declines)

    def take(self, summaries: list[SliceSummary], watermark_ns: int, counters: StreamCounters) -> Judgement:
        """Roll, detect and update for every slice that the watermark has passed."""
        self.roller.take(summaries)
        changes: list[AlertChange] = []
        notes: list[Note] = []
        slices = 0
        for rolled in self.roller.close_until(watermark_ns, counters):
            self.pages.take(rolled.summary.notes)
            changes += self.book.update(self.bank.detect(rolled), rolled.summary.end_ns)
            notes += rolled.summary.notes
            self._keep_first(rolled)
            self.last = rolled
            slices += 1
        return Judgement(tuple(changes), tuple(notes), slices)

    def _keep_first(self, rolled: Rolled) -> None:
        """Keep when the first decline of each limit was; what comes late may be earlier than what is kept."""
        for row, time_ns in rolled.declines.first_ns:
            known = self.first_declines.get(row)
            if known is None or time_ns < known.time_ns:
                instance = self.roller.index.instances[row]
                self.first_declines[row] = FirstDeclined(instance.name, instance.split, time_ns)

    def preview(self, declines: tuple[FirstDecline, ...]) -> tuple[Alert, ...]:
        """Word the early exit: declines whose slice is not closed yet, as alerts that fire already.

        The alert has the labels that the closed slice will give it, and its time is the end of that slice.
        Where no detector has that alert, as while learning, nothing is told early.
        """
        if not self.bank.may_say(EARLY_ALERT, CRITICAL):
            return ()
        early = []
        for decline in declines:
            row = self._blame(decline)
            if row != UNATTRIBUTED:
                if self.last is not None and row < len(self.last.summary.limits.value):
                    early.append(self._early(decline, ("limit", row), EARLY_DESCRIPTION))
            elif self._is_unregistered(decline):
                labels = (("limit", "unregistered"),)
                early.append(self._early(decline, ("deployment", 0), EARLY_UNREGISTERED, labels))
        return tuple(early)

    def _is_unregistered(self, decline: FirstDecline) -> bool:
        """Say whether no limit of the register can be to blame, not even one whose instance comes later."""
        classifier = self.roller.classifier
        if not classifier.is_limit_decline(decline.cause):
            return False
        labels = {name: value for name, value in zip(decline.labels, decline.values, strict=True) if value}
        decline_class = classifier.classify(decline.cause)
        return not may_be_blamed(self.roller.index.register, labels, decline.cause, decline_class)

    def _blame(self, decline: FirstDecline) -> int:
        if not self.roller.classifier.is_limit_decline(decline.cause):
            return UNATTRIBUTED
        decline_class = self.roller.classifier.classify(decline.cause)
        # Nothing is taken up here: which series are known may not depend on how rows came in batches.
        known = self.roller.index.instances_known(decline.labels, decline.values)
        full = self.roller.fullness(self.last.summary.limits) if self.last else np.zeros(0)
        return blame(self.roller.index, known, decline.cause, decline_class, full, is_early=True)

    def _early(
        self,
        decline: FirstDecline,
        subject: tuple[str, int],
        description: str,
        labels: tuple[tuple[str, str], ...] = (),
    ) -> Alert:
        kind, row = subject
        blamed = self.roller.index.instances[row].limit.name if kind == "limit" else ""
        finding = Finding(
            EARLY_ALERT,
            CRITICAL,
            subject,
            EARLY_SUMMARY,
            description,
            labels=labels,
            evidence=(("causes", causes_text([(decline.cause, 1)], blamed)),),
        )
        worded = self.bank.word(finding, self.last)
        end_ns = decline.slice_end_ns
        return Alert(worded.labels, worded.annotations, FIRING, end_ns, end_ns, end_ns, -1)
