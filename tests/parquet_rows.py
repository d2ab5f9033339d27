"""Events for Parquet, and as the lines of JSON that they mean: columns of many types, good and bad values.

The lines are written here from the values alone, by another way than the engine's own.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from engine.decode.events import LABELS, EventType
from tests.event_rows import T

if TYPE_CHECKING:
    from pathlib import Path

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
TEXT_TYPES = [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())]
WIRE = [event_type.wire for event_type in EventType]
INTEGERS = [0, 1, -1, 503, 999_999, 1_000_000, 2**53 + 1, 2**62]
FLOATS = [0.0, -0.0, 1.5, -2.25, 503.0, 0.30000000000000004, 1e300, math.nan, math.inf, -math.inf]
TIMES = [
    T, T * 1000 + 7, T * 10**6 + 7, T * 10**9 + 7, 0, -1, 5, 978_307_199, 978_307_200, 99_999_999_999, 10**11,
    10**14, 10**17, 4_133_980_799, 4_133_980_800, 2**63 - 1,
]  # fmt: skip
TIME_TEXTS = [
    "2026-11-22T14:38:37Z", "2026-11-22T14:38:37.123456789123+01:00", "2026-11-22 14:38:37z", "2026-11-22",
    f"{T}.5", f"{T}", "2016-12-31T23:59:60Z", "2026-11-22T14:38:37", "", "soon", "2026-02-30T00:00:00Z",
    "2026-11-22T14:38:37Z ",
]  # fmt: skip
MOMENTS = [T * 10**6 + 43_607, T * 10**6, 1_700_000_000, 0, -(10**15), 4_133_980_800 * 10**6, 9 * 10**15]
LABEL_TEXTS = ["acme", "globex", "", "é", "+14155551234", "a" * 129, "a\nb", 'q"uote', "x" * 64, "sip-1"]
TEXTS: dict[str, list[str]] = {
    "type": [*WIRE[:12] * 3, *WIRE, "call.unknown", ""],
    "call_id": ["c1", "c2", "3f0c1d2e-aaaa-bbbb-cccc-0123456789", "", "x" * 256, "x" * 257, "é", 'a"\\\x00'],
    "id": ["e1", "e2", "", "x" * 257, "é"],
    "outcome": ["completed", "failed", "ok", "other", "exploded", ""],
    "code": ["486", "0503", "x", "1000000", "", "-1"],
    "reason": ["busy", "Service Unavailable", "no answer from +49 30 1234567", ""],
    "limit": ["sip", "+14155551234", "a" * 200],
    "metric": ["csat", "", "What the caller said"], "dependency": ["crm", "+49301234567"],
    "fallback": ["none", "open", "closed", "maybe"], "until": TIME_TEXTS, "time": TIME_TEXTS,
    "what": ["deploy", "a\x00b"], "from": ["v1", f"{T}"], "to": ["v2" * 100], "by": ["alice@example.com"],
    "unknown": ["\u2028"], **dict.fromkeys(LABELS, LABEL_TEXTS),
}  # fmt: skip


OF_OTHER_TYPES = ("duration_ms", "score", "used", "max", "calls", "expected")

# Values that differ in kind: each is JSON of its own in the file.
MIXED: list[Any] = ["acme", "", "é", 'q"uote', 7, -1.5, True, [1.5, "x"], {"time": T}, {"stt": 12.5, "x": []}]
JSON = pa.json_()

Typed = tuple[Any, list[Any]]  # a type of Arrow, and values


class Log(NamedTuple):
    """The same events twice."""

    table: pa.Table
    lines: list[bytes]


def write(log: Log, path: Path, row_group_rows: int = 1 << 20) -> None:
    """Write the table."""
    pq.write_table(log.table, path, row_group_size=row_group_rows)


def table_of(events: list[dict[str, Any]], **types: pa.DataType) -> pa.Table:
    """Make a table of events as dicts; a type that is not given is guessed."""
    names = dict.fromkeys(name for event in events for name in event)
    columns = {
        name: pa.array([event.get(name) for event in events], types.get(name.replace(".", "_")))
        for name in names
    }
    return pa.table(columns)


def array_of(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Make a column; pyarrow makes none of JSON from what Python has, nor one that holds such a column."""
    if kind == JSON:
        texts = [value if value is None else json.dumps(value) for value in values]
        return pa.ExtensionArray.from_storage(JSON, pa.array(texts, pa.string()))
    return pa.array(values, kind)


def meant(value: Any, kind: pa.DataType) -> Any:
    """Give what a value is in JSON; None: absent."""
    if isinstance(value, float):
        if pa.types.is_float32(kind):
            value = float(np.float32(value))
        return value if math.isfinite(value) else None
    if pa.types.is_timestamp(kind) and value is not None:
        moment = EPOCH + dt.timedelta(microseconds=value // {"us": 1, "ns": 1000}[kind.unit])
        return moment.isoformat().replace("+00:00", "Z") if 2001 <= moment.year < 2200 else 5
    return value


def _chosen(draw: st.DrawFn, ways: list[Typed]) -> Typed:
    return draw(st.sampled_from(ways))


def _values(draw: st.DrawFn, name: str) -> Typed:
    """Choose a type for a column, and what may stand in it; most columns are of the type that they should."""
    texts = (draw(st.sampled_from(TEXT_TYPES)), TEXTS.get(name, ["x", "7"]))
    integers = (draw(st.sampled_from([pa.int64(), pa.uint64()])), INTEGERS)
    floats = (pa.float64(), FLOATS)
    singles = (pa.float32(), [0.0, 412.7, -1.0])
    odd = draw(st.integers(0, 9)) == 0
    if draw(st.integers(0, 9)) == 0:
        times = [*TIMES, *TIME_TEXTS, T + 0.25] if name in ("time", "until") else []
        return JSON, [*TEXTS.get(name, []), *times, *times, *MIXED]
    if name == "time":
        return _chosen(draw, [
            (pa.int64(), TIMES), (pa.int64(), TIMES), texts, (pa.timestamp("us", "UTC"), MOMENTS),
            (pa.timestamp("ns", "+01:00"), [moment * 1000 for moment in MOMENTS if abs(moment) < 9e15]),
            (pa.float64(), [T + 0.25, T * 1000 + 0.5, T * 1.0, -1.0, 0.0, math.nan, 1e300, T + 0.123456]),
        ])  # fmt: skip
    if name in ("duration_ms", "score", "used", "max", "expected", "code"):
        is_text = odd or (name == "code" and draw(st.booleans()))
        return texts if is_text else _chosen(draw, [integers, floats, singles])
    if name == "calls":
        return pa.list_(pa.string()), [[], ["c1", "c2"], ["c1", None, ""], ["x" * 257]]
    if name == "until":
        return _chosen(draw, [texts, (pa.int64(), TIMES)])
    if odd:
        return _chosen(draw, [integers, floats, (pa.bool_(), [True, False])])
    return texts


def _signed(kind: pa.DataType, values: list[Any]) -> list[Any]:
    return [value for value in values if value >= 0] if kind == pa.uint64() else values


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Draw which columns there are, of which types, and their rows, each null now and then."""
    others = draw(st.lists(st.sampled_from([*TEXTS, *OF_OTHER_TYPES]), max_size=9))
    names = draw(st.permutations(list(dict.fromkeys(["time", "type", "call_id", *others]))))
    rows = draw(st.integers(0, 12))
    nulls_of_ten = draw(st.sampled_from([0, 1, 5]))

    def column(values: list[Any]) -> list[Any]:
        one = st.integers(0, 9).flatmap(
            lambda tenth: st.none() if tenth < nulls_of_ten else st.sampled_from(values)
        )
        return draw(st.lists(one, min_size=rows, max_size=rows))

    arrays: dict[str, pa.Array] = {}
    events: list[dict[str, Any]] = [{} for _ in range(rows)]
    for name in names:
        kind, values = _values(draw, name)
        given = column(_signed(kind, values))
        arrays[name] = array_of(_raw(given, kind), kind)
        for event, value in zip(events, given, strict=True):
            event[name] = meant(value, kind)
    stages = draw(st.lists(st.sampled_from(["stt", "llm", "tts", "Bad Name"]), max_size=3, unique=True))
    columns: dict[str, Typed] = {}
    for stage in stages:
        kind, values = draw(st.sampled_from([
            (pa.float64(), FLOATS), (pa.float64(), FLOATS), (pa.int64(), INTEGERS),
            (pa.list_(pa.float64()), [[], [1.5, -1.0], [0.5, None]]), (pa.string(), ["7"]),
            (JSON, [*MIXED, 400, 412.5, [400, 12.5], [[]]]),
        ]))  # fmt: skip
        columns[stage] = kind, column(values)
    _put_latencies(draw, columns, arrays, events)
    lines = [
        json.dumps({name: value for name, value in event.items() if value is not None}).encode()
        for event in events
    ]
    return Log(pa.table(arrays), lines)


def _raw(values: list[Any], kind: pa.DataType) -> list[Any]:
    """Give texts as bytes where the column is of bytes."""
    if kind != pa.binary():
        return values
    return [value if value is None else value.encode() for value in values]


def _put_latencies(
    draw: st.DrawFn, columns: dict[str, Typed], arrays: dict[str, pa.Array],
    events: list[dict[str, Any]],
) -> None:  # fmt: skip
    """Put stages in a struct, in columns of their own, or in a map."""
    if not columns:
        return
    for row, event in enumerate(events):
        given = {stage: meant(values[row], kind) for stage, (kind, values) in columns.items()}
        event["latency_ms"] = {stage: value for stage, value in given.items() if value is not None}
    way = draw(st.sampled_from(["struct", "flat", "map"]))
    if way == "flat":
        for stage, (kind, values) in columns.items():
            arrays[f"latency_ms.{stage}"] = array_of(values, kind)
    elif way == "map" and all(kind == pa.float64() for kind, _ in columns.values()):
        pairs = [list(event["latency_ms"].items()) for event in events]
        arrays["latency_ms"] = pa.array(pairs, pa.map_(pa.string(), pa.float64()))
    else:
        parts = [array_of(values, kind) for kind, values in columns.values()]
        arrays["latency_ms"] = pa.StructArray.from_arrays(parts, list(columns))
