"""Words for what the platform tells apart from calls: `at ... event TYPE`, and `reports`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from engine.decode.events import EventType
from engine.decode.fields import EventFields
from engine.fields import FaultError
from engine.scenario.statement import Change, Statement
from engine.scenario.values import NUMBER, count, duration, longer_than_nothing, one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.scenario.text import Token

T = TypeVar("T")

UNTIL = "until"  # the one field that is a time
FIELDS = frozenset(one.encode_name for one in msgspec.structs.fields(EventFields)) - {"time", "type", UNTIL}


class Span(NamedTuple):
    """Seconds from the start, both ends included; a moment has two equal ones."""

    from_s: float
    until_s: float


class Notice(NamedTuple):
    """An event as it is written, at one moment or every so often in a span."""

    span: Span
    every_s: float  # 0: once
    type: str
    fields: tuple[tuple[str, float | str], ...]
    until_s: float  # of a plan; negative: none

    @staticmethod
    def read(s: Statement, span: Span) -> Notice:
        """Read what follows `at TIME`: `[every 2s] event TYPE key=value ...`."""
        every_s = 0.0
        if s.plain and s.plain[0] == "every":
            s.plain.pop(0)
            every_s = _read(s, longer_than_nothing, s.name("a duration such as 2s"), 1.0)
        if s.name("`event` or `expect`") != "event":
            s.wrong("a time is followed by `event TYPE ...` or `expect ...`")
        kind = _read(s, one_of(tuple(kind.wire for kind in EventType)), s.name("a type of event"), "")
        if span.until_s > span.from_s and not every_s:
            s.wrong("a span needs how often", "write at 4m..8m every 2s event ...")
        tokens = [token for token in s.line.tokens[1:] if token.key]
        for key in sorted(FIELDS):
            s.get(key, str, "")
        until_s = s.get(UNTIL, duration, -1.0)
        s.close()
        fields = tuple((token.key, _value(token)) for token in tokens if token.key != UNTIL)
        return Notice(span, every_s, kind, fields, until_s)


class Report(NamedTuple):
    """The platform says how full a limit is: calls in flight with these labels, and others."""

    limit: str
    max: int
    unseen: int
    every_s: float
    labels: Mapping[str, str]
    change: Change

    @staticmethod
    def read(s: Statement) -> Report:
        """Read `reports`."""
        read = Report(
            limit=s.name("the name of a limit"),
            max=s.need("max", count, 1, "max=80"),
            unseen=s.get("unseen", count, 0),
            every_s=s.need("every", longer_than_nothing, 30.0, "every=30s"),
            labels=s.labels(),
            change=s.change(),
        )
        s.close()
        return read


def read_span(s: Statement) -> Span:
    """Take the next word as `300s` or `0s..12m`."""
    text = s.name("a time such as 300s or 0s..12m")
    from_text, dots, until_text = text.partition("..")
    from_s = _read(s, duration, from_text, 0.0)
    until_s = _read(s, duration, until_text, from_s) if dots else from_s
    if until_s < from_s:
        s.wrong(f"`{text}` ends before it begins")
    if max(from_s, until_s) > s.known.length_s:
        s.wrong(f"`{text}` lies behind the end", "mend it, or `length`")
    return Span(from_s, until_s)


def _read(s: Statement, reader: Callable[[str], T], text: str, stand_in: T) -> T:
    try:
        return reader(text)
    except FaultError as wrong:
        for fault in wrong.faults:
            s.wrong(fault.text, fault.hint)
        return stand_in


def _value(token: Token) -> float | str:
    """Give a number, unless it is in quotes."""
    if token.is_quoted or not NUMBER.fullmatch(token.value):
        return token.value
    return float(token.value) if "." in token.value else int(token.value)
