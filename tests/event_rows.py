"""Rows for the tests of the decoder: single events, batches of them, and a strategy for good and bad ones."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import strategies as st

from engine.decode.decoder import JsonDecoder
from engine.decode.events import LABELS, EventBatch, EventType
from engine.settings import EngineSettings
from engine.source.contract import RawBatch

KEY = bytes(range(16))
T = 1_795_358_317
S = 1_000_000_000
RECEIVED_NS = (T + 5) * S


def raw_batch(
    rows: list[bytes], first: int = 0, received_ns: int = RECEIVED_NS, partition: int = 0
) -> RawBatch:
    """Put rows into one buffer, with a newline behind each; the first has offset `first`."""
    end = np.cumsum([len(row) + 1 for row in rows], dtype=np.int64) - 1
    start = end - np.array([len(row) for row in rows], np.int64)
    offset = np.arange(first, first + len(rows), dtype=np.int64)
    data = b"".join(row + b"\n" for row in rows)
    return RawBatch(data, start, end, offset, "calls", partition, received_ns, (partition,), ())


def new_decoder(**changes: Any) -> JsonDecoder:
    """Make a decoder in which every label is a label of the series."""
    return JsonDecoder(EngineSettings(**{"series_labels": LABELS, **changes}), KEY, {})


def row(type_: str = "call.started", **fields: Any) -> bytes:
    """Write an event; `call_id` and `time` have defaults."""
    event = {"time": T, "type": type_, "call_id": "c1", **{name.rstrip("_"): v for name, v in fields.items()}}
    return json.dumps(event).encode()


def decode_one(text: bytes, **changes: Any) -> tuple[EventBatch, JsonDecoder]:
    """Decode one row."""
    decoder = new_decoder(**changes)
    return decoder.decode(raw_batch([text])), decoder


LABEL_VALUES = st.sampled_from(
    [
        "acme",
        "globex",
        "",
        "é",
        "+14155551234",
        "4155551235",
        "a" * 129,
        "é" * 65,
        "a\nb",
        "550e8400-e29b-41d4",
    ]
)
WRONG_VALUES = st.sampled_from([None, True, False, 7, -1, 1.5, [], ["x"], {}, {"a": [1]}, "", "x", "NaN"])
FIELD_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "time": st.sampled_from(
        [
            T,
            T + 0.043607,
            T * 1000,
            f"{T}.123456789",
            "2026-11-22T14:38:37Z",
            "2026-11-22T14:38:37",
            5,
            -5,
            "",
        ]
    ),
    "type": st.sampled_from([event_type.wire for event_type in EventType] * 3 + ["call.unknown", ""]),
    "call_id": st.sampled_from(["c1", "c2", "", "x" * 256, "é" * 129, "\u0000", "😀"]),
    "id": st.sampled_from(["e1", "e2", "x" * 257]),
    **dict.fromkeys(LABELS, LABEL_VALUES),
    "outcome": st.sampled_from(["completed", "failed", "ok", "other", "exploded", ""]),
    "code": st.sampled_from([503, "486", 404.0, 1.5, -1, 1_000_000, "abc", "0999999"]),
    "reason": st.sampled_from(["Service Unavailable", "no answer from +49 30 1234567", "a@b.c d", ""]),
    "limit": st.sampled_from(["sip-trunk", "+14155551234", "a" * 200]),
    "duration_ms": st.sampled_from([0, -0.0, 15000.0, -1, 10**30]),
    "latency_ms": st.dictionaries(
        st.sampled_from(["setup", "llm", "e2e"]),
        st.one_of(
            st.sampled_from([0, -1, 1.5, 10**30, None, "7", True]), st.lists(st.integers(-3, 9), max_size=4)
        ),
        max_size=3,
    ),
    "used": st.sampled_from([0, 79.5, -1]),
    "max": st.sampled_from([80, "80"]),
    "calls": st.lists(st.sampled_from(["c1", "c2", "", 7, None, "x" * 257]), max_size=4),
    "expected": st.sampled_from([120, -1]),
    "until": st.sampled_from([T + 60, "2026-11-22T15:38:37Z", "soon", 5]),
    "what": st.sampled_from(["deploy", "a\u0000b"]),
    "from": st.sampled_from([80, 1.5, "v1", -3]),
    "to": st.sampled_from([True, "v2" * 100]),
    "by": st.sampled_from(["alice@example.com", ["x"]]),
    "unknown": st.sampled_from(["\u2028", [{"deep": [1, {}]}], 1e99]),
}


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """Rows as platforms, broken platforms and broken disks write them."""
    always = [name for name in ("time", "type", "call_id") if draw(st.integers(0, 19)) > 0]
    others = draw(st.lists(st.sampled_from(list(FIELD_VALUES)), max_size=9))
    names = draw(st.permutations(always + others))  # a name may come twice: the last one wins
    space = draw(st.sampled_from(["", " ", "\t\r\n "]))
    fields = []
    for name in names:
        value = draw(FIELD_VALUES[name] if draw(st.integers(0, 11)) else WRONG_VALUES)
        is_ascii = draw(st.booleans())
        fields.append(f"{json.dumps(name)}{space}:{space}{json.dumps(value, ensure_ascii=is_ascii)}")
    text = ("{" + space + f",{space}".join(fields) + "}" + space).encode()
    damage = draw(st.integers(0, 19))
    if damage == 0:
        return text[: draw(st.integers(0, len(text)))]
    if damage == 1:
        at = draw(st.integers(0, len(text) - 1))
        return text[:at] + draw(st.binary(min_size=1, max_size=1)) + text[at + 1 :]
    if damage == 2:
        return draw(
            st.sampled_from([b"[]", b"[1", b"7", b'"x"', b"null", b"", b" ", b"{}", b"\xff", b"{} {}"])
        )
    return text
