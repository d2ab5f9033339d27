"""What a person reads after a replay: the alerts in order, and for each limit how early the page came."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, NamedTuple

from engine.deliver.timestamps import rfc3339
from engine.judge.lifecycle import FIRING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.judge.judge import FirstDeclined
    from engine.judge.lifecycle import AlertChange
    from engine.judge.snapshot import LimitStatus, Snapshot

PAGE_ALERTS = ("CallLimitApproaching", "CallRateLimitApproaching", "CallQuotaExhaustion")
NS_PER_S = 1_000_000_000
ROUTINE = ("CallgaugeWatchdog",)  # says nothing about the calls


class Lead(NamedTuple):
    """How early one limit instance was paged. Times are event time in ns; -1: never."""

    limit: str
    split: tuple[tuple[str, str], ...]
    first_page_ns: int
    first_decline_ns: int
    declined: int

    @property
    def lead_s(self) -> float | None:
        """Seconds from the first page to the first decline; None unless both happened."""
        if self.first_page_ns < 0 or self.first_decline_ns < 0:
            return None
        return (self.first_decline_ns - self.first_page_ns) / NS_PER_S

    def as_fields(self) -> dict[str, object]:
        """Give the row for JSON."""
        return {
            "limit": self.limit,
            "split": dict(self.split),
            "first_page": rfc3339(self.first_page_ns) if self.first_page_ns >= 0 else None,
            "first_decline": rfc3339(self.first_decline_ns) if self.first_decline_ns >= 0 else None,
            "lead_seconds": self.lead_s,
            "declined": self.declined,
        }


class Outcome(NamedTuple):
    """What a replay led to."""

    first_ns: int
    first_declines: tuple[FirstDeclined, ...]
    limits: tuple[LimitStatus, ...]
    snapshot: Snapshot
    seconds: float

    def leads(self, changes: Iterable[AlertChange]) -> list[Lead]:
        """Give the lead of every limit instance, in the order of the register."""
        changes = list(changes)
        declined = {(one.limit, one.split): one.time_ns for one in self.first_declines}
        return [
            Lead(
                status.limit,
                status.split,
                first_page_ns(changes, status),
                declined.get((status.limit, status.split), -1),
                status.declined_total,
            )
            for status in self.limits
        ]


def first_page_ns(changes: Iterable[AlertChange], status: LimitStatus) -> int:
    """Give when the first critical page that this limit is coming fired, or -1."""
    wanted = {("severity", "critical"), ("limit", status.limit), *status.split}
    for change in changes:
        if (
            change.state == FIRING
            and wanted <= set(change.labels)
            and dict(change.labels)["alertname"] in PAGE_ALERTS
        ):
            return change.time_ns
    return -1


def table(changes: Iterable[AlertChange], columns: int = 100) -> str:
    """Write one line per alert change, and under each that fires what its page says."""
    shown = [change for change in changes if dict(change.labels)["alertname"] not in ROUTINE]
    if not shown:
        return "no alert fired\n"
    lines = []
    for change in shown:
        labels = dict(change.labels)
        name, severity = labels.pop("alertname"), labels.pop("severity")
        labels.pop("owner", None)
        subject = "".join(f" {label}={value}" for label, value in labels.items())
        lines.append(f"{rfc3339(change.time_ns)}  {change.state:8}  {severity:8}  {name}{subject}")
        if change.state == FIRING:
            said = dict(change.annotations).get("description", "")
            lines += textwrap.wrap(said, columns, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines) + "\n"


def headline(outcome: Outcome, changes: Iterable[AlertChange], *, is_timed: bool = True) -> str:
    """Write the lead of each limit, and how fast the replay was unless its pace was set on purpose."""
    lines = ["\n"]
    for lead in outcome.leads(changes):
        name = lead.limit + "".join(f" {label}={value}" for label, value in lead.split)
        page = _after(outcome, lead.first_page_ns, "first page")
        decline = _after(outcome, lead.first_decline_ns, "first decline")
        summary = f"lead {duration_text(lead.lead_s)}" if lead.lead_s is not None else "no lead to speak of"
        lines.append(f"{name}: {page}, {decline}, {summary}; {lead.declined} calls declined\n")
    rows = outcome.snapshot.rows_read
    lost = ", ".join(f"{count} {reason}" for reason, count in outcome.snapshot.rows_lost if count)
    speed = rows / outcome.seconds if outcome.seconds > 0 else 0.0
    if is_timed:
        lines.append(f"{rows} events in {outcome.seconds:.2f} s: {speed:,.0f} events/s\n")
    if lost:
        lines.append(f"not counted: {lost}\n")
    return "".join(lines)


def _after(outcome: Outcome, time_ns: int, what: str) -> str:
    if time_ns < 0:
        return f"no {what}"
    return f"{what} after {duration_text((time_ns - outcome.first_ns) / NS_PER_S)}"


def duration_text(seconds: float) -> str:
    """Write seconds as minutes and seconds; a lead below zero came too late."""
    sign = "-" if seconds < 0 else ""
    minutes, rest = divmod(abs(seconds), 60)
    return f"{sign}{int(minutes)} min {rest:.0f} s" if minutes else f"{sign}{rest:.1f} s"
