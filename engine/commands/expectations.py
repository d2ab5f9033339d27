"""`replay --expect FILE`: what a log must and must not lead to, for use in a pipeline of one's own.

    expect:
      - firing: CallLimitApproaching        # this alert must fire
        severity: critical
        labels: {limit: sip-trunk-concurrency}
        within: 255s                        # of the first event
        before_first_decline: 4m            # ahead of the first decline of that limit
      - never: CallLimitReached             # this alert must not fire; the same filters apply

Every entry that is not met is named; the command then ends with exit code 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.app import alert_names
from engine.commands.report import NS_PER_S, Outcome, duration_text, is_about
from engine.decode.events import ALERT_LABELS
from engine.fields import Fields, Problems, as_duration_ns, did_you_mean
from engine.judge.detection import CRITICAL, INFO, ROUTINE, WARNING
from engine.judge.lifecycle import FIRING
from engine.settings_file import read_text_file
from engine.strict_yaml import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from engine.judge.lifecycle import AlertChange
    from engine.settings import Settings

BOUNDS = ("within", "before_first_decline")
KEYS = {"firing", "never", "severity", "labels", *BOUNDS}
SEVERITIES = (CRITICAL, WARNING, INFO)


class Expectation(NamedTuple):
    """One entry; an empty alertname stands for any that is not routine, -1 for no bound."""

    alertname: str
    is_wanted: bool
    labels: frozenset[tuple[str, str]]
    within_ns: int
    before_decline_ns: int

    def __str__(self) -> str:
        """Say it as the file does."""
        labels = ", ".join(f"{name}={value}" for name, value in sorted(self.labels))
        return f"{'firing' if self.is_wanted else 'never'}: {self.alertname or 'any alert'} {{{labels}}}"


class Expectations(NamedTuple):
    """All entries of a file."""

    entries: tuple[Expectation, ...]

    @staticmethod
    def load(path: Path, settings: Settings) -> Expectations:
        """Read the file; every problem is reported at once, also names that no alert has."""
        document = parse_yaml(read_text_file(path, "the expectations"), str(path))
        problems = Problems(document)
        top = Fields({} if document.value is None else document.value, (), problems)
        given = top.values.get("expect")
        top.known.append("expect")
        if not isinstance(given, list) or not given:
            given = []
            hint = "begin with `expect: [{firing: CallLimitApproaching, severity: critical}]`"
            top.wrong("expect", "there is no list `expect:` in it", hint)
        top.close()
        names = sorted(alert_names(settings))
        entries = [_entry(Fields(one, ("expect", at), problems), names) for at, one in enumerate(given)]
        problems.raise_any()
        return Expectations(tuple(entries))


def _entry(fields: Fields, names: list[str]) -> Expectation:
    values, problems = fields.values, fields.problems
    fields.known.extend(sorted(KEYS))
    fields.close()
    if fields.is_mapping and ("firing" in values) == ("never" in values):
        problems.add(fields.path, "needs exactly one of `firing` and `never`")
    for key in BOUNDS:
        if key in values and "never" in values:
            fields.wrong(key, "is for `firing`; `never` holds for the whole log")
    alertname = values.get("firing", values.get("never", "any"))
    if not isinstance(alertname, str) or not alertname:
        problems.add(fields.path, "needs the name of one alert, or `any`; two alerts are two entries")
        alertname = "any"
    elif alertname not in ("any", *names):
        problems.add(fields.path, f"there is no alert `{alertname}`", did_you_mean(alertname, names))
    return Expectation(
        "" if alertname == "any" else alertname,
        "firing" in values,
        _labels(fields),
        _duration(fields, "within"),
        _duration(fields, "before_first_decline"),
    )


def _labels(fields: Fields) -> frozenset[tuple[str, str]]:
    given, problems = fields.values, fields.problems
    labels = Fields(given["labels"] if fields.has("labels") else {}, (*fields.path, "labels"), problems)
    for name, value in labels.values.items():
        if name not in ALERT_LABELS:
            problems.add(labels.path, f"no alert has a label `{name}`", did_you_mean(str(name), ALERT_LABELS))
        if value is None or isinstance(value, (dict, list)):
            labels.wrong(str(name), f"must be one value, such as `{name}: acme`")
    wanted = {(str(name), str(value)) for name, value in labels.values.items()}
    if "severity" in given:
        wanted.add(("severity", str(given["severity"])))
    if len(wanted) > len({name for name, _ in wanted}):
        problems.add(fields.path, "`severity` and `labels.severity` are not the same", "keep one of them")
    for label, value in sorted(wanted):
        if label == "severity" and value not in SEVERITIES:
            problems.add(fields.path, f"there is no severity `{value}`", did_you_mean(value, SEVERITIES))
    return frozenset(wanted)


def _duration(fields: Fields, key: str) -> int:
    if key in fields.values and not fields.has(key):
        fields.wrong(key, "is empty", "write a duration such as 5m, or leave it out")
    return fields.get(key, as_duration_ns, -1)


def breaches(expected: Expectations, changes: Iterable[AlertChange], outcome: Outcome) -> list[str]:
    """Name every expectation that was not met; without an event not even a `never` was shown."""
    if outcome.first_ns < 0:
        return ["no event was read, so there is nothing to judge"]
    fired = [change for change in changes if change.state == FIRING]
    found = []
    for entry in expected.entries:
        matching = [change for change in fired if _matches(entry, change)]
        if not entry.is_wanted and matching:
            after = duration_text((matching[0].time_ns - outcome.first_ns) / NS_PER_S)
            found.append(f"{entry}: fired after {after}")
        elif entry.is_wanted:
            found += _too_late(entry, matching, outcome)
    return found


def _matches(entry: Expectation, change: AlertChange) -> bool:
    name = dict(change.labels)["alertname"]
    is_meant = name == entry.alertname if entry.alertname else name not in ROUTINE
    return is_meant and entry.labels <= set(change.labels)


def _too_late(entry: Expectation, matching: list[AlertChange], outcome: Outcome) -> list[str]:
    """Say what is amiss, nothing if one alert meets all of it; else of the one that comes nearest."""
    if not matching:
        return [f"{entry}: did not fire"]
    return min((_misses(entry, change, outcome) for change in matching), key=len)


def _misses(entry: Expectation, change: AlertChange, outcome: Outcome) -> list[str]:
    after_ns = change.time_ns - outcome.first_ns
    found = []
    if 0 <= entry.within_ns < after_ns:
        found.append(f"{entry}: fired after {duration_text(after_ns / NS_PER_S)}")
    if entry.before_decline_ns >= 0:
        labels = dict(change.labels)
        declines = [one.time_ns for one in outcome.first_declines if is_about(labels, one.limit, one.split)]
        if "limit" not in labels:
            found.append(f"{entry}: is about no limit, so there is no decline to be ahead of")
        elif not declines:
            found.append(f"{entry}: no call was declined by that limit, so there is nothing to be ahead of")
        elif min(declines) - change.time_ns < entry.before_decline_ns:
            lead = duration_text((min(declines) - change.time_ns) / NS_PER_S)
            found.append(f"{entry}: only {lead} before the first decline")
    return found
