"""The words of an alert: labels that identify and route, annotations that say what a woken person needs.

Labels never hold a number. Annotations are plain decimals and short texts: which limit, where it lives, who
owns it, how long is left, who drives the load, what changed, what to do. Nothing here depends on when or how
the events were read, so a replay words its pages exactly as the live engine did.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from engine.decode.events import EventType
from engine.decode.redaction import redact_reason
from engine.judge.attribution import UNATTRIBUTED
from engine.judge.lifecycle import Worded
from engine.judge.usage import used_peak
from engine.judge.windows import FIVE_MINUTES

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from engine.decode.events import Note
    from engine.judge.detection import AlertPolicy, Finding
    from engine.judge.roll import Rolled, Roller

CONTRIBUTORS_MAX = 3
CHANGES_MAX = 3
CAUSES_MAX = 3
SIGNIFICANT_DIGITS = 4
UNSEEN_TEXT = "seen by the platform alone"
AFTER_GAP = "No event came from {} to {}: calls that ended then may still be counted as in use."
# Evidence under these names becomes an annotation as it is.
EVIDENCE_ANNOTATIONS = frozenset(
    (
        "used",
        "unseen_use",
        "limit_value",
        "time_to_limit_seconds",
        "time_to_limit_seconds_low",
        "time_to_limit_seconds_high",
        "probability",
        "declined_so_far",
        "baseline",
        "state",
        "expected_used",
        "offered_load",
        "holding_seconds",
        "arrivals_per_minute",
        "doubling_seconds",
        "first_decline",
    )
)


def plain(value: float | str) -> str:
    """Write a number as a plain decimal of at most four significant digits; texts stay."""
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "none" if value > 0 else "-none"
    if value == int(value):
        return str(int(value))
    decimals = max(SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(abs(value))), 0)
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def rfc3339(time_ns: int) -> str:
    """Write an event time as RFC 3339 in UTC, to the millisecond."""
    whole = datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{time_ns % 1_000_000_000 // 1_000_000:03d}Z"


class PageWriter:
    """Words findings. Keeps the last changes; everything else is read from the roller."""

    def __init__(self, roller: Roller) -> None:
        """Read names and levels from `roller`."""
        self.roller = roller
        self._changes: tuple[Note, ...] = ()  # the newest, oldest first

    def take(self, notes: tuple[Note, ...]) -> None:
        """Remember the changes among the notes of a slice."""
        fresh = {note for note in notes if note.type_id == EventType.CHANGE_MADE}
        if not fresh:
            return
        known = fresh.union(self._changes)
        self._changes = tuple(sorted(known, key=lambda note: (note.time_ns, repr(note)))[-CHANGES_MAX:])

    def word(self, finding: Finding, policy: AlertPolicy, rolled: Rolled | None) -> Worded:
        """Give a finding its labels and annotations; only one about the deployment can do without a slice."""
        kind, row = finding.subject
        identity = dict(finding.labels) | {"alertname": finding.alertname, "severity": finding.severity}
        facts: dict[str, str] = {}
        if rolled is not None and kind == "limit":
            identity |= self._limit_labels(row)
            facts |= self._limit_facts(row, rolled)
        elif rolled is not None and kind == "window":
            identity |= dict(rolled.summary.windows.labels[row])
        elif rolled is not None and kind == "dependency":
            name = rolled.summary.facts.dependencies.name[row]
            identity["dependency"] = name
            facts |= self._guardrail_facts(name)
            identity["owner"] = facts.pop("owner", "")
        elif rolled is not None and "limit" in identity:
            facts["causes"] = _causes_of(UNATTRIBUTED, rolled)
        evidence = {name: plain(value) for name, value in finding.evidence}
        facts |= evidence
        if self._changes:
            facts["changes"] = "; ".join(_change_text(note) for note in self._changes)
        # A page must never fail for a name that it does not know.
        told = {"in_use": _in_use(facts)}
        if "{p99_ms}" in finding.description:
            told["p99_ms"] = self._p99_ms(finding.subject, identity.get("stage", ""))
        words = _Words(identity | facts | told, evidence.keys())
        annotations = {
            name: text for name, text in facts.items() if name in EVIDENCE_ANNOTATIONS or name not in evidence
        }
        annotations["summary"] = finding.summary.format_map(words)
        annotations["description"] = finding.description.format_map(words)
        if rolled is not None and rolled.summary.is_partial:
            annotations["state"] = "partial"
        elif rolled is not None and kind == "limit" and (gap := self._gap(row, rolled)):
            annotations["state"] = "doubtful"
            annotations["description"] += f" {gap}"
        labels = tuple(sorted((name, text) for name, text in identity.items() if text))
        texts = tuple(sorted((name, text) for name, text in annotations.items() if text))
        return Worded(policy, labels, texts, self._in_force(finding.subject, rolled))

    def _gap(self, row: int, rolled: Rolled) -> str:
        """Say when the stream was silent, for as long as calls whose end was lost then may still count."""
        if not rolled.summary.limits.is_concurrency[row]:
            return ""
        own_ns = self.roller.index.instances[row].limit.max_duration_ns
        span_ns = self.roller.settings.call_ttl_ns if own_ns is None else own_ns
        gap = self.roller.silence.within(rolled.summary.end_ns, span_ns)
        return "" if gap is None else AFTER_GAP.format(*map(rfc3339, gap))

    def _in_force(self, subject: tuple[str, int], rolled: Rolled | None) -> tuple[tuple[str, str], ...]:
        """Give what the register says of a limit's value; nothing of one that is inferred or reported."""
        kind, row = subject
        if rolled is None or kind != "limit" or self.roller.index.instances[row].limit.is_implicit:
            return ()
        declared = float(rolled.summary.limits.declared[row])
        return () if math.isnan(declared) else (("limit_value", plain(declared)),)

    def _limit_labels(self, row: int) -> dict[str, str]:
        instance = self.roller.index.instances[row]
        return {"limit": instance.name, "owner": instance.limit.owner} | dict(instance.split)

    def _limit_facts(self, row: int, rolled: Rolled) -> dict[str, str]:
        limit = self.roller.index.instances[row].limit
        use = rolled.summary.limits
        used = float(used_peak(use, self.roller.index.instances)[row])
        facts = {
            "used": "" if math.isnan(used) else plain(used),
            "limit_value": plain(float(use.value[row])),
            "declined_so_far": plain(float(self.roller.declined_total[row])),
            "contributors": self.contributors(row),
            "lives_in": limit.lives_in,
            "action": limit.action,
            "confirmed_on": limit.confirmed_on or "never",
            "runbook_url": limit.runbook_url,
            "when_reached": limit.when_reached,
        }
        facts["causes"] = _causes_of(row, rolled, limit.name)
        if use.unseen_use[row] > 0:
            facts["unseen_use"] = plain(float(use.unseen_use[row]))
        return facts

    def _p99_ms(self, subject: tuple[str, int], stage: str) -> str:
        """Give the p99 of the last five minutes of the stage that a finding about a window row is of."""
        kind, row = subject
        if kind != "window" or not stage:
            return ""
        p99_s = self.roller.measures.latency_quantile_s(row, stage, FIVE_MINUTES, 0.99)
        return "" if math.isnan(p99_s) else str(round(1000 * p99_s))

    def _guardrail_facts(self, name: str) -> dict[str, str]:
        """Give what the register says of a check of this name; nothing if it is not there."""
        guardrails = self.roller.index.register.guardrails
        found = next((one for one in guardrails if one.name == name), None)
        if found is None:
            return {}
        return {"owner": found.owner, "because": found.because, "on_check_error": found.on_check_error}

    def contributors(self, row: int) -> str:
        """Name the label values that hold most of the calls of a limit instance, with their shares."""
        index, roller = self.roller.index, self.roller
        is_answered = index.instances[row].limit.counts_from == "answered"
        csr = (index.by_answer if is_answered else index.by_start).arrays()
        held_by_series = roller.series_answered if is_answered else roller.series_level
        series = np.searchsorted(csr.start, np.nonzero(csr.instance == row)[0], side="right") - 1
        levels = list(zip(series.tolist(), held_by_series[series].tolist(), strict=True))
        total = sum(level for _, level in levels)
        held = [(dict(index.series[one]), level) for one, level in levels if level > 0]
        label, by_value = _telling(held, roller.settings.series_labels)
        if total <= 0 or not label:
            return ""
        ranked = sorted(by_value.items(), key=lambda pair: (-pair[1], pair[0]))[:CONTRIBUTORS_MAX]
        return ", ".join(f"{label}={value or '(none)'} {level / total:.0%}" for value, level in ranked)


def _telling(
    held: list[tuple[dict[str, str], int]], series_labels: tuple[str, ...]
) -> tuple[str, dict[str, int]]:
    """Give the first label that tells calls apart, or else the first that they have; and calls by value."""
    found: tuple[str, dict[str, int]] = ("", {})
    for label in series_labels:
        by_value: dict[str, int] = {}
        for labels, level in held:
            value = labels.get(label, "")
            by_value[value] = by_value.get(value, 0) + level
        if len(by_value) > 1:
            return label, by_value
        if not found[0] and any(by_value):
            found = label, by_value
    return found


def _in_use(facts: dict[str, str]) -> str:
    """Say what is used of a limit, and how much of it only the platform sees."""
    text = f"{facts.get('used') or 'unknown'} of {facts.get('limit_value') or 'unknown'}"
    return f"{text} ({facts['unseen_use']} of them {UNSEEN_TEXT})" if "unseen_use" in facts else text


class _Words:
    """What templates may name; a name without a text reads as "unknown", but for evidence that is empty."""

    def __init__(self, texts: dict[str, str], evidence: AbstractSet[str]) -> None:
        self._texts = texts
        self._evidence = evidence

    def __getitem__(self, name: str) -> str:
        return self._texts.get(name) or ("" if name in self._evidence else "unknown")


def _causes_of(row: int, rolled: Rolled, blamed: str = "") -> str:
    """Say how the calls were declined that were put down to a limit, or to none, in this slice."""
    causes: list[tuple[object, int]] = [(one[1], one[2]) for one in rolled.declines.causes if one[0] == row]
    return causes_text(causes, blamed) if causes else ""


def causes_text(causes: list[tuple[object, int]], blamed: str = "") -> str:
    """Say how calls were declined: the most frequent codes and reasons, with counts if there are several.

    A limit that the event names is said too, unless it is the one that is `blamed`; as free text is, for
    nothing says that it is a name.
    """
    counted: dict[str, int] = {}
    for cause, count in causes:
        code, reason = getattr(cause, "code", 0), getattr(cause, "reason", "")
        limit = getattr(cause, "limit", "")
        named = redact_reason(limit) if limit != blamed else ""
        parts = (code, reason, f"limit={named}" if named else "")
        shape = " ".join(str(part) for part in parts if part) or "no code"
        counted[shape] = counted.get(shape, 0) + count
    ranked = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))[:CAUSES_MAX]
    if len(ranked) == 1:
        return ranked[0][0]
    return ", ".join(f"{shape} ({count})" for shape, count in ranked)


def _change_text(note: Note) -> str:
    fields = dict(note.fields)
    what = str(fields.get("what", "change"))
    moved = f" from {fields['from']} to {fields['to']}" if "from" in fields and "to" in fields else ""
    by = f" by {fields['by']}" if "by" in fields else ""
    where = "".join(f" {label}={value}" for label, value in note.labels)
    return f"{rfc3339(note.time_ns)} {what}{moved}{by}{where}"
