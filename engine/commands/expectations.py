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
from engine.durations import parse_duration
from engine.errors import SettingsError
from engine.fields import did_you_mean
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
        document = parse_yaml(read_text_file(path, "the expectations"), str(path)).value
        given = document.get("expect") if isinstance(document, dict) else None
        if not isinstance(given, list) or not given:
            raise SettingsError(
                "there is no list `expect:` in it",
                where=str(path),
                hint="begin with `expect: [{firing: CallLimitApproaching, severity: critical}]`",
            )
        problems: list[str] = []
        entries = [_entry(one, f"expect[{place}]", problems) for place, one in enumerate(given)]
        names = sorted(alert_names(settings))
        problems += [
            f"expect[{place}]: there is no alert `{one.alertname}`; {did_you_mean(one.alertname, names)}"
            for place, one in enumerate(entries)
            if one.alertname and one.alertname not in names
        ]
        if problems:
            raise SettingsError("the expectations are wrong", where=str(path), problems=tuple(problems))
        return Expectations(tuple(entries))


def _entry(given: object, place: str, problems: list[str]) -> Expectation:
    fields = given if isinstance(given, dict) else {}
    if ("firing" in fields) == ("never" in fields):
        problems.append(f"{place}: needs exactly one of `firing` and `never`")
    problems.extend(
        f"{place}.{key}: unknown; known are {', '.join(sorted(KEYS))}" for key in fields.keys() - KEYS
    )
    problems.extend(
        f"{place}.{key}: is for `firing`; `never` holds for the whole log"
        for key in BOUNDS
        if key in fields and "never" in fields
    )
    labels = fields.get("labels") or {}
    if not isinstance(labels, dict):
        problems.append(f"{place}.labels: must be a mapping of label to value")
        labels = {}
    problems.extend(
        f"{place}.labels: no alert has a label `{name}`; {did_you_mean(str(name), ALERT_LABELS)}"
        for name in labels
        if name not in ALERT_LABELS
    )
    problems.extend(
        f"{place}.labels.{name}: must be one value, such as `{name}: acme`"
        for name, value in labels.items()
        if value is None or isinstance(value, (dict, list))
    )
    wanted = {(str(name), str(value)) for name, value in labels.items()}
    if "severity" in fields:
        wanted.add(("severity", str(fields["severity"])))
    if len(wanted) > len({name for name, _ in wanted}):
        problems.append(f"{place}: `severity` and `labels.severity` are not the same; keep one of them")
    problems.extend(
        f"{place}: there is no severity `{value}`; {did_you_mean(value, SEVERITIES)}"
        for label, value in sorted(wanted)
        if label == "severity" and value not in SEVERITIES
    )
    name = fields.get("firing", fields.get("never", "any"))
    if not isinstance(name, str) or not name:
        problems.append(f"{place}: needs the name of one alert, or `any`; two alerts are two entries")
    return Expectation(
        name if isinstance(name, str) and name != "any" else "",
        "firing" in fields,
        frozenset(wanted),
        _duration(fields, "within", place, problems),
        _duration(fields, "before_first_decline", place, problems),
    )


def _duration(fields: dict[str, object], key: str, place: str, problems: list[str]) -> int:
    if key not in fields:
        return -1
    try:
        return parse_duration(str(fields[key]))
    except ValueError as error:
        problems.append(f"{place}.{key}: {error}")
        return -1


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
