"""The decoder's twin: `json.loads` with exact decimals, one row and one field at a time, no memory of rows.

It says what a row comes to, or why it is lost. It shares the redaction's rules with the product, which have
tests of their own; parsing, types, times, identities and hashing are written anew.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from engine.decode.events import LABELS, OUTCOMES, Cause, EventType
from engine.decode.mask import PLAIN_MASK
from engine.decode.redaction import clean_label, redact_change, redact_reason
from engine.errors import LossReason

MASK = (1 << 64) - 1
WIRE_TYPES = {event_type.wire: event_type for event_type in EventType}
NEEDS_CALL = {
    EventType.CALL_QUEUED, EventType.CALL_STARTED, EventType.CALL_ANSWERED, EventType.CALL_HEARTBEAT,
    EventType.CALL_ENDED, EventType.CALL_DECLINED, EventType.TURN_COMPLETED, EventType.TRANSFER_STARTED,
    EventType.TRANSFER_ENDED, EventType.QUALITY_SCORED,
}  # fmt: skip
KNOWN_FIELDS = {
    "type", "call_id", "id", "outcome", "code", "reason", "limit", "duration_ms", "latency_ms", "used", "max",
    "calls", "expected", "what", "from", "to", "by", *LABELS,
}  # fmt: skip


@dataclass
class Row:
    """What a row comes to, ids not yet made dense."""

    time_ns: int
    event_type: EventType
    labels: dict[str, str]
    call_key: int
    event_key: int
    cause: Cause | None = None
    duration_ms: float | None = None
    measures: list[tuple[str, float]] = field(default_factory=list)
    note: dict[str, object] | None = None


def siphash(message: bytes, key: bytes, rounds: int, last_rounds: int) -> int:
    """SipHash as in the paper, on whole numbers."""
    k0, k1 = (int.from_bytes(key[i : i + 8], "little") for i in (0, 8))
    v = [word ^ k for word, k in zip((0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261,
                                      0x7465646279746573), (k0, k1, k0, k1), strict=True)]  # fmt: skip

    def rotate(i: int, bits: int) -> None:
        v[i] = (v[i] << bits | v[i] >> (64 - bits)) & MASK

    def add(i: int, j: int) -> None:
        v[i] = (v[i] + v[j]) & MASK

    def mix(times: int) -> None:
        for _ in range(times):
            for a, b, c, d, bits in ((0, 1, 2, 3, (13, 16)), (2, 1, 0, 3, (17, 21))):
                add(a, b)
                add(c, d)
                rotate(b, bits[0])
                rotate(d, bits[1])
                v[b] ^= v[a]
                v[d] ^= v[c]
                rotate(a, 32)

    padded = message + bytes(-(len(message) + 1) % 8) + bytes([len(message) % 256])
    for i in range(0, len(padded), 8):
        word = int.from_bytes(padded[i : i + 8], "little")
        v[3] ^= word
        mix(rounds)
        v[0] ^= word
    v[2] ^= 0xFF
    mix(last_rounds)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def identity_key(kind: int, platform: str, tenant: str, name: str, key: bytes) -> int:
    """Give the key of a call (kind 0) or an event (kind 1)."""
    message = bytes([kind])
    for part in (platform.encode(), tenant.encode()):
        message += len(part).to_bytes(2, "little") + part
    return siphash(message + name.encode(), key, 1, 3) or 1


def event_time_ns(value: object) -> int | LossReason:
    """Give the time of a parsed JSON value, numbers as Decimal."""
    if isinstance(value, str):
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", value) and len(value) <= 64:
            return event_time_ns(Decimal(value))
        return _rfc3339_ns(value)
    if not isinstance(value, Decimal) or value.is_signed() or len(str(value)) > 200:
        return LossReason.TIME_MALFORMED
    if not Fraction(1, 10**6) < value < 10**20:
        return LossReason.TIME_OUT_OF_RANGE
    unit = 10**9 if value < 10**11 else 10**6 if value < 10**14 else 10**3 if value < 10**17 else 1
    return _in_range(int(Fraction(value) * unit))


def _rfc3339_ns(text: str) -> int | LossReason:
    match = re.fullmatch(
        r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d):(\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", text, re.ASCII
    )
    if match is None or len(text) > 64:
        return LossReason.TIME_MALFORMED
    day, hour_minute, second, fraction, zone = match.groups()
    try:
        minute = datetime.fromisoformat(f"{day}T{hour_minute}:00{'+00:00' if zone in 'Zz' else zone}")
        past_utc = minute.astimezone(UTC)
    except (ValueError, OverflowError):
        return LossReason.TIME_MALFORMED
    if int(second) > 60 or (second == "60" and (past_utc.hour, past_utc.minute) != (23, 59)):
        return LossReason.TIME_MALFORMED
    since = past_utc - datetime(1970, 1, 1, tzinfo=UTC)
    whole_s = since // timedelta(seconds=1) + int(second)
    return _in_range(whole_s * 10**9 + int(Fraction(f"0.{fraction or 0}") * 10**9))


def _in_range(time_ns: int) -> int | LossReason:
    first, end = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 10**9 for year in (2001, 2101))
    return time_ns if first <= time_ns < end else LossReason.TIME_OUT_OF_RANGE


def parse(text: bytes) -> dict[str, object] | LossReason:
    """Give a row's fields, every number a Decimal."""
    try:
        value = json.loads(text.decode(), parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse)
        json.dumps(value, default=str, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return LossReason.NOT_JSON
    if not isinstance(value, dict):
        return LossReason.NOT_AN_OBJECT
    if any(_has_infinite(value[name]) for name in KNOWN_FIELDS & value.keys()):
        return LossReason.FIELD_RANGE
    return value


def _refuse(name: str) -> object:
    raise ValueError(name)


def _has_infinite(value: object) -> bool:
    if isinstance(value, Decimal):
        return abs(float(value)) == float("inf")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_has_infinite(item) for item in inner)


def identifier(value: object) -> str | LossReason:
    """Give a call or event id, or say what is wrong with it."""
    if value is None:
        return LossReason.FIELD_MISSING
    if not isinstance(value, str):
        return LossReason.FIELD_TYPE
    return value if 1 <= len(value.encode()) <= 256 else LossReason.FIELD_RANGE


def number(value: object) -> float | None:
    """Give a number that is not negative; -0 is 0."""
    return abs(float(value)) if isinstance(value, Decimal) and value >= 0 else None


def decode_row(text: bytes, key: bytes, row_bytes_max: int = 1 << 20) -> Row | LossReason:
    """Say what one row comes to."""
    if len(text) > row_bytes_max:
        return LossReason.ROW_TOO_LONG
    fields = parse(text)
    if isinstance(fields, LossReason):
        return fields
    name = fields.get("type")
    if not isinstance(name, str):
        return LossReason.FIELD_MISSING if name is None else LossReason.FIELD_TYPE
    if name not in WIRE_TYPES:
        return LossReason.TYPE_UNKNOWN
    event_type = WIRE_TYPES[name]
    if "time" not in fields:
        return LossReason.FIELD_MISSING
    time_ns = event_time_ns(fields["time"])
    if isinstance(time_ns, LossReason):
        return time_ns
    call_id, event_id = identifier(fields.get("call_id")), identifier(fields.get("id"))
    if isinstance(call_id, LossReason) and event_type in NEEDS_CALL:
        return call_id
    calls = fields.get("calls")
    if event_type is EventType.CALLS_LISTED and not isinstance(calls, list):
        return LossReason.FIELD_MISSING if calls is None else LossReason.FIELD_TYPE
    if event_type is EventType.CALLS_LISTED and isinstance(calls, list):
        unusable = [call for call in calls if not isinstance(identifier(call), str)]
        if unusable:
            return LossReason.FIELD_RANGE if isinstance(unusable[0], str) else LossReason.FIELD_TYPE
    vague = [value for value in map(fields.get, (*LABELS, "limit")) if clean_label(value) is None]
    if vague and event_type in (EventType.LIMIT_REPORTED, EventType.LOAD_PLANNED):
        return LossReason.FIELD_RANGE if isinstance(vague[0], str) else LossReason.FIELD_TYPE

    bare = {label: clean_label(fields.get(label)) or "" for label in LABELS}

    def key_of(kind: int, found: object) -> int:
        return (
            identity_key(kind, bare["platform"], bare["tenant"], found, key) if isinstance(found, str) else 0
        )

    labels = {label: PLAIN_MASK.shown(label, value) for label, value in bare.items()}
    row = Row(time_ns, event_type, labels, key_of(0, call_id), key_of(1, event_id))
    if event_type in (EventType.CALL_ENDED, EventType.CALL_DECLINED, EventType.TRANSFER_ENDED,
                      EventType.DEPENDENCY_CALLED):  # fmt: skip
        row.cause = _cause(fields, event_type, labels["platform"])
        row.duration_ms = number(fields.get("duration_ms"))
        stage = {EventType.TRANSFER_ENDED: "transfer", EventType.DEPENDENCY_CALLED: "dependency"}.get(
            event_type
        )
        if stage and row.duration_ms is not None:
            row.measures.append((stage, row.duration_ms))
    score = number(fields.get("score"))
    if event_type is EventType.QUALITY_SCORED and score is not None and score <= 1:
        metric = fields.get("metric")
        row.measures.append(("metric:" + (metric if isinstance(metric, str) and metric else "score"), score))
    if event_type in (EventType.CALL_ANSWERED, EventType.TURN_COMPLETED, EventType.CALL_ENDED):
        row.measures += _latencies(fields.get("latency_ms"))
    if event_type is EventType.CALLS_LISTED and isinstance(calls, list):
        row.note = {"call_keys": tuple(key_of(0, call) for call in calls)}
    elif event_type in (EventType.LIMIT_REPORTED, EventType.LOAD_PLANNED, EventType.CHANGE_MADE):
        row.note = _note(fields, event_type)
    return row


def _cause(fields: dict[str, object], event_type: EventType, platform: str) -> Cause:
    is_declined = event_type is EventType.CALL_DECLINED
    given = fields.get("outcome")
    outcome = given if isinstance(given, str) and given in OUTCOMES else "other"
    code, reason = fields.get("code"), fields.get("reason")
    if isinstance(code, str):
        code = Decimal(code) if re.fullmatch("[0-9]{1,6}", code) else None
    is_code = isinstance(code, Decimal) and code == int(code) and 0 <= code <= 999_999
    operation, fallback = {EventType.TRANSFER_ENDED: "transfer"}.get(event_type, ""), ""
    if event_type is EventType.DEPENDENCY_CALLED:
        name = clean_label(fields.get("dependency")) or ""
        operation = "dependency:" + PLAIN_MASK.shown("dependency", name)
        said = fields.get("fallback")
        fallback = said if isinstance(said, str) and said in ("none", "open", "closed") else ""
    return Cause(
        declined=is_declined,
        outcome="" if is_declined else outcome,
        platform=platform,
        code=int(code) if is_code and isinstance(code, Decimal) else 0,
        reason=redact_reason(reason) if isinstance(reason, str) else "",
        limit=PLAIN_MASK.shown("limit", clean_label(fields.get("limit")) or ""),
        operation=operation,
        fallback=fallback,
    )


def _latencies(latency_ms: object) -> list[tuple[str, float]]:
    if not isinstance(latency_ms, dict):
        return []
    measures = []
    for stage, values in latency_ms.items():
        for value in values if isinstance(values, list) else [values]:
            measured = number(value)
            if measured is not None:
                measures.append((stage, measured))
    return measures[:256]


def _note(fields: dict[str, object], event_type: EventType) -> dict[str, object]:
    note: dict[str, object] = {}
    if event_type is EventType.CHANGE_MADE:
        for name in ("what", "from", "to", "by"):
            value = fields.get(name)
            if isinstance(value, str):
                note[name] = redact_change(value)
            elif isinstance(value, Decimal):
                # A number in a change note is only ever compared with how Python writes it.
                note[name] = str(int(value)) if re.fullmatch("-?[0-9]+", str(value)) else str(float(value))
        return note
    limit = clean_label(fields.get("limit"))
    if limit:
        note["limit"] = PLAIN_MASK.shown("limit", limit)
    for name in ("used", "max") if event_type is EventType.LIMIT_REPORTED else ("expected",):
        value = number(fields.get(name))
        if value is not None:
            note[name] = value
    until = fields.get("until")
    if event_type is EventType.LOAD_PLANNED and until is not None:
        until_ns = event_time_ns(until)
        if not isinstance(until_ns, LossReason):
            note["until_ns"] = until_ns
    begin = fields.get("from")
    is_exact = isinstance(begin, str) or (isinstance(begin, Decimal) and re.fullmatch("-?[0-9]+", str(begin)))
    if event_type is EventType.LOAD_PLANNED and is_exact:
        from_ns = event_time_ns(begin)
        if not isinstance(from_ns, LossReason):
            note["from_ns"] = from_ns
    return note
