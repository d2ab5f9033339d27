"""What a person reads after a replay: the alerts in order, and for each limit how early the page came."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, NamedTuple

from engine.deliver.timestamps import rfc3339
from engine.judge.detection import CRITICAL, ROUTINE
from engine.judge.lifecycle import FIRING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.judge.judge import FirstDeclined
    from engine.judge.lifecycle import AlertChange
    from engine.judge.snapshot import LimitStatus, Snapshot

PAGE_ALERTS = ("CallLimitApproaching", "CallRateLimitApproaching", "CallQuotaExhaustion", "CallTimeoutCliff")
NS_PER_S = 1_000_000_000
MINUTE_S = 60
INDENT = "    "


class Lead(NamedTuple):
    """How early one limit instance was paged. Times are event time in ns; -1: never."""

    limit: str
    split: tuple[tuple[str, str], ...]
    kind: str
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
            "kind": self.kind,
            "first_page": rfc3339(self.first_page_ns) if self.first_page_ns >= 0 else None,
            "first_decline": rfc3339(self.first_decline_ns) if self.first_decline_ns >= 0 else None,
            "lead_seconds": None if self.lead_s is None else round(self.lead_s, 3),
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
                status.kind,
                first_page_ns(changes, status),
                declined.get((status.limit, status.split), -1),
                status.declined_total,
            )
            for status in self.limits
        ]


def first_page_ns(changes: Iterable[AlertChange], status: LimitStatus) -> int:
    """Give when the first critical page that this limit is coming fired, or -1."""
    for change in changes:
        labels = dict(change.labels)
        if (
            change.state == FIRING
            and labels["severity"] == CRITICAL
            and labels["alertname"] in PAGE_ALERTS
            and is_about(labels, status.limit, status.split)
        ):
            return change.time_ns
    return -1


def is_about(labels: Mapping[str, str], limit: str, split: tuple[tuple[str, str], ...]) -> bool:
    """Say whether an alert with these labels is about that instance of a limit; a missing label is ""."""
    return labels.get("limit") == limit and all(labels.get(label, "") == value for label, value in split)


def table(changes: Iterable[AlertChange], columns: int = 100) -> str:
    """Write one line per alert change, and under each that fires its page."""
    shown = [change for change in changes if dict(change.labels)["alertname"] not in ROUTINE]
    if not shown:
        return "no alert fired\n"
    text = []
    for change in shown:
        labels = dict(change.labels)
        name, severity = labels.pop("alertname"), labels.pop("severity")
        labels.pop("owner", None)
        subject = "".join(f" {label}={value}" for label, value in labels.items())
        text.append(f"{clock_text(change.time_ns)}  {change.state:8}  {severity:8}  {name}{subject}\n")
        if change.state == FIRING:
            text.append(page(change, columns))
    return "".join(text)


def page(change: AlertChange, columns: int = 100) -> str:
    """Write what an alert tells its receiver: what is happening, who drives it, and what to do about it."""
    said, owner = dict(change.annotations), dict(change.labels).get("owner")
    lines = [
        said.get("description", ""),
        f"driven by: {said['contributors']}" if "contributors" in said else "",
        f"changes: {said['changes']}" if "changes" in said else "",
        f"lives in: {said['lives_in']}" if "lives_in" in said else "",
        f"to do: {said['action']}" if "action" in said else "",
        f"owner: {owner}" if owner else "",
    ]
    wrapped = [
        textwrap.fill(
            line, columns, initial_indent=INDENT, subsequent_indent=INDENT if place == 0 else 2 * INDENT
        )
        for place, line in enumerate(lines)
        if line
    ]
    return "".join(f"{one}\n" for one in wrapped)


def headline(outcome: Outcome, changes: Iterable[AlertChange], *, is_timed: bool = True) -> str:
    """Write the lead of each limit, and how fast the replay was unless its pace was set on purpose."""
    lines = ["\n"]
    for lead in outcome.leads(changes):
        name = lead.limit + "".join(f" {label}={value}" for label, value in lead.split)
        lines.append(f"{name}: {lead_text(lead, outcome.first_ns)}\n")
    if is_timed:
        rows = outcome.snapshot.rows_read
        speed = f": {rows / outcome.seconds:,.0f} events/s" if rows and outcome.seconds > 0 else ""
        lines.append(f"{counted(rows, 'event')} in {outcome.seconds:.2f} s{speed}\n")
    return "".join(lines)


def lead_text(lead: Lead, first_ns: int) -> str:
    """Say when the first page and the first decline of a limit came, and what lay between them."""
    page, declined = "no page", f"{counted(lead.declined, 'call') if lead.declined else 'no call'} declined"
    if lead.first_page_ns >= 0:
        page = f"first page after {duration_text((lead.first_page_ns - first_ns) / NS_PER_S)}"
    if lead.kind == "timeout":
        return page  # A timeout declines no call: it cuts one that was let in.
    if lead.first_decline_ns < 0:
        return f"{page}, {declined}"
    decline = f"first decline after {duration_text((lead.first_decline_ns - first_ns) / NS_PER_S)}"
    between = ""
    if lead.lead_s is not None:
        between = ", lead " if lead.lead_s >= 0 else ", too late by "
        between += duration_text(abs(lead.lead_s))
    return f"{page}, {decline}{between}; {declined}"


def counted(count: int, noun: str) -> str:
    """Write a count with its noun."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def clock_text(time_ns: int) -> str:
    """Write an event time as a person reads it, to the second; slices end on whole seconds."""
    return rfc3339(time_ns)[: len("2026-03-01T12:00:00")] + "Z"


def duration_text(seconds: float) -> str:
    """Write seconds as minutes and seconds, or below a minute to the tenth."""
    sign = "-" if seconds < 0 else ""
    seconds = abs(seconds)
    if round(seconds, 1) < MINUTE_S:
        return f"{sign}{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), MINUTE_S)
    return f"{sign}{minutes} min {rest} s"
