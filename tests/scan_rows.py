"""Rows to tell two decoders apart by: mostly as platforms write them, some damaged, in one order or another.

A `Writer` keeps to a few combinations of labels, as a platform does, so that most rows are taken by the
scanner; how many rows are strange is drawn for each writer, so that strange ones come among usual ones.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from engine.decode.events import EventType
from tests.event_rows import T

if TYPE_CHECKING:
    import numpy as np

LABELS: dict[str, list[str]] = {
    "tenant": ["acme", "globex", "é-corp", "a b", "", *(f"t{i}" for i in range(20))],
    "region": ["eu", "us-east-1-with-a-name-of-more-than-sixteen-bytes"],
    "platform": ["voice", "p2"],
    "provider": ["openai", "azure"],
    "trunk": ["sip-1", "sip-2", "+14155551234"],
    "agent": ["a1", "booking-agent", "x" * 63, "x" * 64, "x" * 128],
    "release": ["2026.11.1", "4155551234"],
    "direction": ["inbound", "outbound"],
}
OPTIONAL = {
    "call.ended": ["outcome", "code", "reason", "limit", "duration_ms", "latency_ms"],
    "call.declined": ["code", "reason", "limit", "duration_ms", "outcome"],
    "turn.completed": ["latency_ms"], "call.answered": ["latency_ms"],
    "transfer.ended": ["outcome", "duration_ms", "code", "reason"],
    "dependency.called": ["dependency", "fallback", "outcome", "duration_ms"],
    "quality.scored": ["score", "metric"], "limit.reported": ["used", "max", "limit"],
    "calls.listed": ["calls"], "load.planned": ["expected", "until", "from"],
    "change.made": ["what", "from", "to", "by"],
}  # fmt: skip
TYPES = [event_type.wire for event_type in EventType]
NUMBERS = [
    "0", "-0", "-0.0", "-1", "-1.5", "1e5", "1E-3", "00", "1.", ".5", "-", "9007199254740993",
    "9007199254740993.0", "0.30000000000000004", "18446744073709551616", "1e400", "8.41", "12345.67",
    "123.4567", "1234567890123456789", "0.12345678901234567", "123456.7890123456789", "true", '"7"',
]  # fmt: skip
TIMES = [
    f"{T}", f"{T}.043607", f"{T}123", f"{T}000005", f"{T}043607001", '"2026-11-22T14:38:37Z"',
    '"2026-11-22T14:38:37.5+01:00"', '"2026-11-22T14:38:60Z"', '"2026-11-22t14:38:37z"', f'"{T}"', "5", "-5",
    "1e9", "99999999999", "978307200", "978307199", "4133980800", "null", "[]", '"soon"', "1795358317.",
]  # fmt: skip
STRANGE = [
    "null", "true", "7", "[]", "{}", '"\\n"', '""', '[1,{"a":null}]', '"\\ud83d"', '"\\u0041"', "nul", "[1,]",
    '{"a":1,"a":2}', "01", '"x\\"y"', "[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]", '"\x7f"', '"\u2028"',
]  # fmt: skip
TEXTS: dict[str, list[str]] = {
    "outcome": ["completed", "failed", "timeout", "weird", "other"],
    "reason": ["Service Unavailable", "busy", "no answer from +49 30 1234567", "503 x", 'a "b"', "a  b", "é"],
    "limit": ["sip", "cap", "+14155551234"],
    "metric": ["csat", "nps", "", "What the caller said"],
    "dependency": ["crm", "db", "+49301234567"],
    "fallback": ["none", "open", "closed", "maybe"],
    "id": ["e1", "e2", f"01J{7:023}", "x" * 256, "x" * 257, "é"],
    "call_id": ["c1", "c2", "3f0c1d2e-aaaa-bbbb-cccc-0123456789ab", "x" * 256, "é" * 129, "", "1234567"],
}
BYTES = [
    bytes([code]) for code in b'"\\{}[],:0123456789eE+-.tfn \n\t\r\x00\x1f\x7f\x80\xc3\xa9\xed\xa0\xf4\xff'
]
IN_ORDER, REVERSED, EITHER, SHUFFLED = range(4)


class Writer:
    """Writes rows of a platform with habits of its own."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._order = int(rng.integers(0, 4))
        self._strange_ratio = float(self._one([0.0, 0.02, 0.1, 0.4]))
        self._labels = [
            {name: self._one(values) for name, values in LABELS.items() if rng.random() < 0.8}
            for _ in range(int(rng.integers(1, 9)))
        ]
        self._comma, self._colon = self._one([(",", ":"), (",", ":"), (", ", ": "), (" ,\n", "\t:\r ")])

    def rows(self, count: int) -> list[bytes]:
        """Write rows, some of them damaged."""
        return [self._damaged(self._row()) for _ in range(count)]

    def _one(self, values: list[Any]) -> Any:
        return values[int(self._rng.integers(0, len(values)))]

    def _row(self) -> bytes:
        is_strange = self._rng.random() < self._strange_ratio
        type_ = self._one(TYPES[:12] * 3 + TYPES)
        names = ["time", "type", "call_id", *(n for n in OPTIONAL.get(type_, []) if self._rng.random() < 0.7)]
        names += ["id"] if self._rng.random() < 0.5 else []
        labels = self._one(self._labels)
        names += list(labels)
        if is_strange:
            names += [self._one(["meta", "from_", "score", "code", *LABELS, *names])]
            names.pop(int(self._rng.integers(0, len(names)))) if self._rng.random() < 0.3 else None
        if self._order == SHUFFLED:
            names = [names[i] for i in self._rng.permutation(len(names))]
        elif self._order == REVERSED or (self._order == EITHER and self._rng.random() < 0.5):
            names.reverse()
        given: dict[str, object] = {**labels, "type": type_}
        pairs = [f'"{name}"{self._colon}{self._value(name, given, is_strange)}' for name in names]
        return bytes(("{" + self._comma.join(pairs) + "}").encode("utf-8", "surrogatepass"))

    def _value(self, name: str, given: dict[str, object], is_strange: bool) -> str:
        if is_strange and self._rng.random() < 0.15:
            return str(self._one(STRANGE))
        if name in given:
            return json.dumps(given[name], ensure_ascii=bool(is_strange and self._rng.random() < 0.5))
        if name == "time":
            return str(self._one(TIMES)) if is_strange else f"{T}{int(self._rng.integers(0, 1000)):03}"
        if name == "latency_ms":
            return self._latencies(is_strange)
        if name == "code":
            return str(
                self._one(["503", '"486"', "0", "404.0", "-1", "1000000", '"x"'][: 7 if is_strange else 2])
            )
        if name in TEXTS:
            texts = TEXTS[name]
            return json.dumps(self._one(texts if is_strange else texts[:2]), ensure_ascii=False)
        if name in ("score", "duration_ms", "used", "max", "expected"):
            return self._number(is_strange)
        return json.dumps(self._one([["c1", "c2"], "deploy", "v1", f"{T}"]))

    def _number(self, is_strange: bool) -> str:
        if is_strange and self._rng.random() < 0.5:
            return str(self._one(NUMBERS))
        value = float(self._rng.lognormal(3, 3))
        return repr(value) if is_strange else f"{value:.{int(self._rng.integers(0, 4))}f}"

    def _latencies(self, is_strange: bool) -> str:
        names = ["stt", "llm", "tts", "time"][: int(self._rng.integers(0, 5))]
        names += [self._one(["Bad Name", "stt", f"s{int(self._rng.integers(0, 40))}"])] if is_strange else []
        values = [self._number(is_strange) for _ in names]
        if names and self._rng.random() < 0.2:
            values[0] = f"[{self._comma.join(values[: int(self._rng.integers(0, 4))])}]"
        pairs = [f'"{name}"{self._colon}{value}' for name, value in zip(names, values, strict=True)]
        return str("{" + self._comma.join(pairs) + "}")

    def _damaged(self, text: bytes) -> bytes:
        draw = self._rng.random() / max(self._strange_ratio, 0.05)
        at = int(self._rng.integers(0, len(text)))
        if draw < 0.1:
            return text[:at] + bytes(self._one(BYTES)) + text[at + 1 :]
        if draw < 0.15:
            return text[:at]
        if draw < 0.2:
            return text[:at] + text[at + 1 :]
        if draw < 0.25:
            return text[:at] + bytes(self._one(BYTES)) + text[at:]
        if draw < 0.3:
            return bytes(
                self._one([b" " + text, b"}" + text, text + b"}", text + b"\r", text + b" {}", text[1:]])
            )
        return text
