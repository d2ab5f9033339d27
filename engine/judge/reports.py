"""What the platform itself says of its limits: `limit.reported` events, kept while they are fresh.

A fresh report wins over the register: its `max` is the value in force, and `used` above our own count is use
that we cannot see, of a cap that is shared with others. How much that is shows where the report comes, and
stands until the next one: our count of later has moved on, and what was used then has not. A `max` of 0 says
nothing: panels write it for "no limit".
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

ReportKey = tuple[str, tuple[str, ...]]  # the limit, and the values that it is split by


class Report(NamedTuple):
    """The newest report of one limit instance; NaN where it did not say."""

    time_ns: int
    used: float
    max: float
    unseen: float = float("nan")  # how much more is used than was counted when it came; NaN: not compared yet


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
            first_ns = max(note.time_ns for note in notes) - FRESH_NS
            self._newest = {key: one for key, one in self._newest.items() if one.time_ns >= first_ns}
        for note in notes:
            fields = dict(note.fields)
            name = str(fields.get("limit", ""))
            if note.type_id != EventType.LIMIT_REPORTED or name not in self._names:
                continue
            labels = dict(note.labels)
            split = tuple(labels.get(label, "") for label in self._names[name])
            newest = self._newest.get((name, split))
            if newest is None and len(self._newest) >= REPORTS_MAX:
                self.refused += 1
                continue
            if newest is None or note.time_ns >= newest.time_ns:
                used, cap = (_number(fields.get(key)) for key in ("used", "max"))
                self._newest[name, split] = Report(note.time_ns, used, cap if cap > 0 else float("nan"))

    def unseen(self, key: ReportKey, level: int, *, is_settled: bool) -> float:
        """Give how much more a report says than was counted when it came; `level` is the count of now.

        Until the count `is_settled`, calls that were up all along are still being found: what is not seen yet
        is compared anew each time.
        """
        report = self._newest[key]
        if math.isnan(report.unseen):
            more = 0.0 if math.isnan(report.used) else max(report.used - level, 0.0)
            if not is_settled:
                return more
            report = self._newest[key] = report._replace(unseen=more)
        return report.unseen

    def fresh(self, now_ns: int) -> dict[ReportKey, Report]:
        """Give the newest reports, without those that are older than five minutes at `now_ns`."""
        return {key: one for key, one in self._newest.items() if now_ns - one.time_ns <= FRESH_NS}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
