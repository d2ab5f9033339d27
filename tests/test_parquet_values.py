"""Values of Parquet that JSON or Python has none for: what becomes of them, and of their rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.decode.events import EventType
from engine.settings import EngineSettings
from engine.source.columns import FIELDS
from engine.source.file import FileSource
from tests.event_rows import KEY, T
from tests.parquet_rows import Log, table_of
from tests.test_parquet import DECODERS, batches_of, both_ways, usual

if TYPE_CHECKING:
    from pathlib import Path

    from engine.decode.decoder import JsonDecoder
    from engine.decode.fast_decoder import FastDecoder

# Python has no such date, list of dates, nanosecond or duration.
FAR_DATE = pa.array([10_000_000], pa.int32()).cast(pa.date32())
BEYOND_PYTHON = [
    FAR_DATE, pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), FAR_DATE),
    pa.MapArray.from_arrays(pa.array([0, 1], pa.int32()), FAR_DATE, pa.array([1.5])),
    pa.array([5]).cast(pa.time64("ns")), pa.array([2**60]).cast(pa.duration("s")),
]  # fmt: skip


@pytest.mark.parametrize("value", BEYOND_PYTHON, ids=lambda value: str(value.type))
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_value_beyond_those_of_python_is_one_that_no_field_takes(
    tmp_path: Path, value: pa.Array, decoder: type[FastDecoder | JsonDecoder]
) -> None:
    """That field alone is ignored and counted, or the row is lost for want of it, as with `false` in JSON."""
    events: list[dict[str, Any]] = [
        {"time": T, "type": kind.wire, "call_id": "c1", "id": "e1", "limit": "sip", "used": 1, "score": 0.5,
         "dependency": "crm", "calls": ["c2"], "expected": 1, "what": "deploy"}
        for kind in EventType
    ]  # fmt: skip
    far = pa.concat_arrays([value] * len(events))
    for name in FIELDS:
        table = table_of([event | {name: None} for event in events])
        table = table.set_column(table.schema.get_field_index(name), name, far)
        lines = [msgspec.json.encode(event | {name: False}) for event in events]
        both_ways(Log(table, lines), 100, decoder)

    pq.write_table(
        table_of(usual(6)).set_column(3, "tenant", pa.concat_arrays([value] * 6)), tmp_path / "log"
    )
    made = decoder(EngineSettings(), KEY, {})
    assert 6 == made.decode(batches_of(tmp_path / "log", 100)[0]).rows
    assert {"tenant": 6} == {name: count for name, count in made.fields_ignored.items() if count}


async def test_files_with_values_beyond_those_of_python_are_merged(tmp_path: Path) -> None:
    """Whether they stand in a label or in the time itself."""
    for name in ("time", "tenant"):
        table = table_of(usual(3))
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, pa.concat_arrays([FAR_DATE] * 3))
        pq.write_table(table, tmp_path / f"{name}.parquet")
    source = FileSource([str(tmp_path / "time.parquet"), str(tmp_path / "tenant.parquet")])
    await source.start()
    batches = [await source.read() for _ in range(2)]
    assert [3, 3] == [raw.rows for raw in batches if raw is not None]
    assert await source.read() is None
    await source.close()


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_what_is_missing_in_a_list_or_a_map_is_null_there(
    missing: float | None, decoder: type[FastDecoder | JsonDecoder]
) -> None:
    """It counts as a latency that cannot be used; a stage that is null, in a struct, is absent."""
    lists, pairs = pa.list_(pa.float64()), pa.map_(pa.string(), pa.float64())
    ways = [
        (pa.array([{"llm": [missing, 1.5]}], pa.struct({"llm": lists})), {"llm": [None, 1.5]}),
        (pa.array([[("stt", missing), ("llm", 1.5)]], pairs), {"stt": None, "llm": 1.5}),
        (pa.array([{"stt": missing, "llm": 1.5}]), {"llm": 1.5}),
    ]
    for column, latencies in ways:
        event = {"time": T, "type": "turn.completed", "call_id": "c1", "id": "e1"}
        table = table_of([event]).append_column("latency_ms", column)
        both_ways(Log(table, [msgspec.json.encode(event | {"latency_ms": latencies})]), 10, decoder)
