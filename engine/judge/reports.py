"""What the platform itself says of its limits: `limit.reported` events, kept while they are fresh.

A fresh report wins over the register: its `max` is the value in force, and `used` above our own count is use
that we cannot see, of a cap that is shared with others. How much that is shows where the report comes, and
stands until the next one: our count of later has moved on, and what was used then has not. `used` and `max`
may come in reports of their own, and are fresh each for itself: what a report does not say, it does not take
back. A `max` of 0 says nothing: panels write it for "no limit".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from engine.decode.events import EventType

if TYPE_CHECKING:
    from engine.decode.events import Note
    from engine.limits import Register

FRESH_NS = 300_000_000_000
REPORTS_MAX = 4_096  # instances with a report; reports of further ones are not kept while all are fresh
UNSAID = float("nan")

ReportKey = tuple[str, tuple[str, ...]]  # the limit, and the values that it is split by


class Report(NamedTuple):
    """The newest that was said of one limit instance, and when; NaN where nothing was."""

    used_ns: int = -1
    used: float = UNSAID
    max_ns: int = -1
    max: float = UNSAID
    unseen: float = UNSAID  # how much more was used than was counted when `used` came; NaN: not compared yet

    def since(self, first_ns: int) -> Report:
        """Give it without what was said before `first_ns`."""
        report = self
        if report.used_ns < first_ns:
            report = report._replace(used=UNSAID)
        if report.max_ns < first_ns:
            report = report._replace(max=UNSAID)
        return report


class Reports:
    """Newest report by (limit, split values)."""

    def __init__(self) -> None:
        """Start without a report."""
        self._newest: dict[ReportKey, Report] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self.refused = 0  # beyond REPORTS_MAX

    def know(self, register: Register) -> None:
        """Take reports of these limits from now on; reports of unknown limits are not kept."""
        self._names = {limit.name: limit.split_by for limit in register.limits}
        self._newest = {key: report for key, report in self._newest.items() if key[0] in self._names}

    def take(self, notes: tuple[Note, ...]) -> None:
        """Keep the reports among the notes of a slice; when they get too many, those that are stale go."""
        if notes and len(self._newest) + len(notes) > REPORTS_MAX:
            self._newest = self.fresh(max(note.time_ns for note in notes))
        for note in notes:
            fields = dict(note.fields)
            name = str(fields.get("limit", ""))
            if note.type_id != EventType.LIMIT_REPORTED or name not in self._names:
                continue
            labels = dict(note.labels)
            key = name, tuple(labels.get(label, "") for label in self._names[name])
            if key not in self._newest and len(self._newest) >= REPORTS_MAX:
                self.refused += 1
                continue
            report = self._newest.get(key, Report())
            used, cap = (_number(fields.get(field)) for field in ("used", "max"))
            if not math.isnan(used) and note.time_ns >= report.used_ns:
                report = report._replace(used_ns=note.time_ns, used=used, unseen=UNSAID)
            if cap > 0 and note.time_ns >= report.max_ns:
                report = report._replace(max_ns=note.time_ns, max=cap)
            self._newest[key] = report

    def unseen(self, key: ReportKey, level: int, *, is_settled: bool) -> float:
        """Give how much more a fresh `used` says than was counted when it came; `level` is the count of now.

        Until the count `is_settled`, calls that were up all along are still being found: what is not seen yet
        is compared anew each time.
        """
        report = self._newest[key]
        if math.isnan(report.unseen):
            more = max(report.used - level, 0.0)
            if not is_settled:
                return more
            report = self._newest[key] = report._replace(unseen=more)
        return report.unseen

    def fresh(self, now_ns: int) -> dict[ReportKey, Report]:
        """Give what was said of each limit, without what is older than five minutes at `now_ns`."""
        first_ns = now_ns - FRESH_NS
        return {
            key: one.since(first_ns)
            for key, one in self._newest.items()
            if one.used_ns >= first_ns or one.max_ns >= first_ns
        }


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
