"""What must follow: `at TIME expect ...` and `expect ...`, as a person wrote it.

Times are seconds of event time from the start; an alert carries the end of its slice. `first decline` is the
truth of the simulation, not what the engine saw of it. Judging them is `verdicts.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from engine.decode.events import ALERT_LABELS
from engine.fields import FaultError, did_you_mean
from engine.scenario.notices import Span
from engine.scenario.statement import Statement
from engine.scenario.values import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SILENCE = "silence"
DECLINE = ("the", "first", "decline")
_ALERT = re.compile(r"([A-Z][A-Za-z0-9]*)(?:\{(.*)\})?", re.DOTALL)
_MATCHER = re.compile(r'\s*([a-z_][a-z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')


class Matcher(NamedTuple):
    """One label of an alert: `=`, `!=`, or a regular expression with `=~`, `!~`."""

    label: str
    operator: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether an alert with these labels is meant; a missing label is ""."""
        found = labels.get(self.label, "")
        if self.operator in ("=", "!="):
            return (found == self.value) == (self.operator == "=")
        return bool(re.fullmatch(self.value, found)) == (self.operator == "=~")


class Pattern(NamedTuple):
    """Which alerts are meant; without a name: every one that is not of severity info."""

    alertname: str
    matchers: tuple[Matcher, ...]

    def matches(self, labels: Iterable[tuple[str, str]]) -> bool:
        """Say whether an alert with these labels is meant."""
        given = dict(labels)
        if not self.alertname:
            return given.get("severity") != "info"
        return given.get("alertname") == self.alertname and all(one.matches(given) for one in self.matchers)

    def exact(self, label: str) -> str:
        """Give the value that a label must have; "": it may have any."""
        return next((one.value for one in self.matchers if (one.label, one.operator) == (label, "=")), "")


class Moment(NamedTuple):
    """A time, or the first decline (by a cap)."""

    at_s: float  # negative: the first decline
    cap: str = ""  # "": by any


class Firing(NamedTuple):
    """It is firing at that moment."""

    pattern: Pattern
    at_s: float


class Never(NamedTuple):
    """At no moment of the span is it firing; no span: at no moment at all."""

    pattern: Pattern
    span: Span | None


class Soon(NamedTuple):
    """It is not firing at the onset, and fires at most so long after it."""

    pattern: Pattern
    within_s: float
    onset: Moment


class Lead(NamedTuple):
    """It fires at least so long before a moment."""

    pattern: Pattern
    lead_s: float
    before: Moment


class Expectation(NamedTuple):
    """One line."""

    line: int
    text: str
    wanted: Firing | Never | Soon | Lead


def read_expectation(s: Statement, span: Span | None) -> Expectation | None:
    """Read what follows `expect`; None if it is wrong, which is noted."""
    wanted = _at(s, span) if span else _overall(s)
    s.close()
    return None if wanted is None else Expectation(s.line.number, s.line.text, wanted)


def _at(s: Statement, span: Span) -> Firing | Never | None:
    verb = s.name("`firing ALERT`, `no ALERT` or `silence`")
    if verb == SILENCE:
        return Never(Pattern("", ()), span)
    if verb == "no":
        return Never(_pattern(s, s.name("the name of an alert")), span)
    if verb == "firing":
        if span.until_s > span.from_s:
            s.wrong("`expect firing` needs one moment", "write at 300s expect firing ...")
        return Firing(_pattern(s, s.name("the name of an alert")), span.from_s)
    if verb:
        s.wrong(f"`expect {verb}` is not known here", "write `firing ALERT`, `no ALERT` or `silence`")
    return None


def _overall(s: Statement) -> Never | Soon | Lead | None:
    verb = s.name("`ALERT within ...`, `ALERT ... before ...`, `no ALERT` or `silence`")
    if verb == SILENCE:
        return Never(Pattern("", ()), None)
    if verb == "no":
        return Never(_pattern(s, s.name("the name of an alert")), None)
    pattern = _pattern(s, verb)
    word = s.name("`within 75s of 4m` or `5m before the first decline`")
    if word == "within":
        within_s = _duration(s, s.name("a duration such as 75s"))
        _keyword(s, "of")
        return Soon(pattern, within_s, _moment(s))
    if word:
        lead_s = _duration(s, word)
        _keyword(s, "before")
        return Lead(pattern, lead_s, _moment(s))
    return None


def _keyword(s: Statement, word: str) -> None:
    found = s.name(f"`{word}`")
    if found and found != word:
        s.wrong(f"`{found}` stands where `{word}` should")


def _duration(s: Statement, text: str) -> float:
    if not text:
        return 0.0
    try:
        return duration(text)
    except FaultError as wrong:
        for fault in wrong.faults:
            s.wrong(fault.text, fault.hint)
        return 0.0


def _moment(s: Statement) -> Moment:
    """Read `4m`, `the first decline` or `the first decline by CAP`."""
    if tuple(s.plain[: len(DECLINE)]) == DECLINE:
        del s.plain[: len(DECLINE)]
        if not s.plain:
            if not s.known.caps:
                s.wrong("nothing declines a call here", "add a `cap`, `rate_cap` or `quota`")
            return Moment(-1.0)
        _keyword(s, "by")
        return Moment(-1.0, s.one_of(s.known.caps, "the name of a cap"))
    return Moment(_duration(s, s.name("a time such as 4m, or `the first decline`")))


def _pattern(s: Statement, text: str) -> Pattern:
    found = _ALERT.fullmatch(text)
    if not found:
        if text:
            s.wrong(f"`{text}` is not an alert", 'write it as CallTimeoutCliff{severity="critical"}')
        return Pattern("", ())
    matchers = []
    rest = found[2] or ""
    while rest.strip():
        matcher = _MATCHER.match(rest)
        if not matcher:
            s.wrong(f"`{{{found[2]}}}` cannot be read", 'write {label="value", other=~"a|b"}')
            break
        if matcher[1] not in ALERT_LABELS:
            s.wrong(f"no alert has a label `{matcher[1]}`", did_you_mean(matcher[1], ALERT_LABELS))
        value = re.sub(r"\\(.)", r"\1", matcher[3]) if matcher[2] in ("=", "!=") else matcher[3]
        matchers.append(Matcher(matcher[1], matcher[2], value))
        if matcher[2] in ("=~", "!~") and not _compiles(value):
            s.wrong(f"`{value}` is not a regular expression")
            break
        rest = rest[matcher.end() :]
    return Pattern(found[1], tuple(matchers))


def _compiles(expression: str) -> bool:
    try:
        re.compile(expression)
    except re.error:
        return False
    return True
