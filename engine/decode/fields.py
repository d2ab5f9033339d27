"""The fields of an event as the JSON parser gives them, and the rules of single fields.

Every field is `Any`: a field of the wrong type must not cost the row, so its type is looked at where it is
used. The times stay text, for their decimals. Fields not named here are skipped by the parser.
Measured on the bundled recordings: msgspec into this struct is as fast as `orjson.loads`, and six times as
fast as `json.loads`; typed fields would save a further fifth, at the price of a second parser for the rows
that fail it.
"""

from __future__ import annotations

import re
from math import inf, nan
from typing import Any, NamedTuple

import msgspec

from engine.decode.events import DEPENDENCY, FALLBACKS, OUTCOMES, TRANSFER, EventType

ABSENT = msgspec.Raw(b"")
CODE_DIGITS_MAX = 6  # a telephone number has seven or more

CODE_TEXT = re.compile(rf"[0-9]{{1,{CODE_DIGITS_MAX}}}")
KNOWN_OUTCOMES = frozenset(OUTCOMES)


class EventFields(msgspec.Struct, gc=False, rename={"from_": "from"}):
    """One event; None is absent, and so is null."""

    time: msgspec.Raw = ABSENT
    type: Any = None
    call_id: Any = None
    id: Any = None
    tenant: Any = None
    region: Any = None
    platform: Any = None
    provider: Any = None
    trunk: Any = None
    agent: Any = None
    release: Any = None
    direction: Any = None
    outcome: Any = None
    code: Any = None
    reason: Any = None
    limit: Any = None
    duration_ms: Any = None
    latency_ms: Any = None
    score: Any = None
    metric: Any = None
    dependency: Any = None
    fallback: Any = None
    used: Any = None
    max: Any = None
    calls: Any = None
    expected: Any = None
    until: msgspec.Raw = ABSENT
    what: Any = None
    from_: Any = None
    to: Any = None
    by: Any = None


class TypeRule(NamedTuple):
    """What a type of event carries: its row in the table of types in config/events.md."""

    type_id: int
    needs_call: bool
    has_latency: bool
    has_cause: bool
    has_duration: bool
    duration_stage: str  # the stage its duration is a measure of; "": none
    operation: str  # see `Cause`
    is_score: bool
    is_declined: bool
    is_note: bool
    is_list: bool


def _rule(event_type: EventType) -> TypeRule:
    kind = EventType
    return TypeRule(
        type_id=int(event_type),
        needs_call=event_type.wire.startswith(("call.", "turn.", "transfer.", "quality.")),
        has_latency=event_type in {kind.CALL_ANSWERED, kind.TURN_COMPLETED, kind.CALL_ENDED},
        has_cause=event_type
        in {kind.CALL_ENDED, kind.CALL_DECLINED, kind.TRANSFER_ENDED, kind.DEPENDENCY_CALLED},
        has_duration=event_type
        in {kind.CALL_ENDED, kind.CALL_DECLINED, kind.TRANSFER_ENDED, kind.DEPENDENCY_CALLED},
        duration_stage={kind.TRANSFER_ENDED: "transfer", kind.DEPENDENCY_CALLED: "dependency"}.get(
            event_type, ""
        ),
        operation={kind.TRANSFER_ENDED: TRANSFER, kind.DEPENDENCY_CALLED: DEPENDENCY}.get(event_type, ""),
        is_score=event_type is kind.QUALITY_SCORED,
        is_declined=event_type is kind.CALL_DECLINED,
        is_note=event_type in {kind.LIMIT_REPORTED, kind.CALLS_LISTED, kind.LOAD_PLANNED, kind.CHANGE_MADE},
        is_list=event_type is kind.CALLS_LISTED,
    )


TYPE_RULES = {event_type.wire: _rule(event_type) for event_type in EventType}


def quantity(value: object) -> float:
    """Give a number that is finite and not negative, or NaN."""
    if type(value) is float:
        return value + 0.0 if 0.0 <= value < inf else nan  # + 0.0: no negative zero
    if type(value) is int and value >= 0:
        try:
            return float(value)
        except OverflowError:
            return nan
    return nan


def code_number(value: object) -> int | None:
    """Give a code of at most six digits, from a number or its text; 0 when absent, None when it is none."""
    if value is None:
        return 0
    if isinstance(value, str) and CODE_TEXT.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is int and 0 <= value < 10**CODE_DIGITS_MAX:
        return value
    return None


def score_number(value: object) -> float:
    """Give a score from 0 to 1, or NaN."""
    number = quantity(value)
    return number if number <= 1.0 else nan


def fallback_name(value: object) -> str | None:
    """Give one of FALLBACKS, "" when absent, None when it is none."""
    if value is None:
        return ""
    return value if isinstance(value, str) and value in FALLBACKS else None


def outcome_name(value: object) -> str:
    """Give one of OUTCOMES; what is absent or unknown is `other`."""
    return value if isinstance(value, str) and value in KNOWN_OUTCOMES else "other"
