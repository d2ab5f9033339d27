"""Logs in Parquet come to what the same events come to as lines of JSON, to the last bit."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.app import REPLAY_HASH_KEY, build_line, load_configuration
from engine.config_files import config_path
from engine.decode.decoder import JsonDecoder
from engine.decode.events import LABELS
from engine.decode.fast_decoder import CAN_SCAN, FastDecoder
from engine.decode.fields import EventFields
from engine.deliver.jsonl import alert_change_line
from engine.errors import LossReason, SourceError
from engine.settings import EngineSettings
from engine.source.columns import FIELDS
from engine.source.contract import NO_ROWS, RawBatch
from engine.source.file import FileSource
from engine.source.lines import LogRows, rows_of
from engine.source.parquet import ParquetLog
from tests.decoder_pairs import Pair, assert_same_batch
from tests.event_rows import KEY, RECEIVED_NS, T, raw_batch
from tests.oracle_scan import PARTS
from tests.parquet_rows import JSON, Log, array_of, logs, table_of, write

DECODERS = [FastDecoder, JsonDecoder] if CAN_SCAN else [JsonDecoder]
SETTINGS: list[dict[str, Any]] = [
    {},
    {"series_labels": ("tenant", "trunk", "provider", "release")},
    {"series_max": 3, "causes_max": 16, "stages_max": 2},
    {"measures_max": 2},
]


def batches_of(path: Path, chunk_rows: int) -> list[RawBatch]:
    """Read a file, a batch for each chunk."""
    log = ParquetLog(str(path), chunk_rows)
    batches: list[RawBatch] = []
    first = 0
    while (columns := log.read()) is not None:
        offset = np.arange(first, first + columns.rows, dtype=np.int64)
        first += columns.rows
        batches.append(RawBatch(b"", NO_ROWS, NO_ROWS, offset, "calls", 0, RECEIVED_NS, (0,), (), columns))
    log.close()
    return batches


def both_ways(log: Log, chunk_rows: int, decoder: type[FastDecoder | JsonDecoder], **changes: Any) -> int:
    """Decode a log twice over, as columns and as lines; give how many rows were not parsed."""
    configured = EngineSettings(**{"series_labels": LABELS, **changes})
    found, expected = decoder(configured, KEY, {}), JsonDecoder(configured, KEY, {})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        write(log, path, 5)
        for _ in range(2):
            for raw in batches_of(path, chunk_rows):
                lines = log.lines[raw.offset[0] : raw.offset[-1] + 1]
                assert_same_batch(found.decode(raw), expected.decode(raw_batch(lines, int(raw.offset[0]))))
                assert Pair.state_of(expected) == Pair.state_of(found)
    assert 2 * len(log.lines) == found.rows_read
    return found.rows_scanned if isinstance(found, FastDecoder) else 0


@settings(max_examples=150, deadline=None)
@given(logs(), st.sampled_from([1, 4, 100]), st.sampled_from(DECODERS), st.sampled_from(SETTINGS))
def test_any_columns_come_to_what_their_lines_come_to(
    log: Log, chunk_rows: int, decoder: type[FastDecoder | JsonDecoder], changes: dict[str, Any]
) -> None:
    """Types, nulls, malformed and missing values: the same columns, tables, losses and samples."""
    both_ways(log, chunk_rows, decoder, **changes)


@pytest.mark.full
@pytest.mark.timeout(900)
@settings(max_examples=5_000, deadline=None)
@given(logs(), st.sampled_from([1, 4, 100]), st.sampled_from(DECODERS), st.sampled_from(SETTINGS))
def test_very_many_columns_come_to_what_their_lines_come_to(
    log: Log, chunk_rows: int, decoder: type[FastDecoder | JsonDecoder], changes: dict[str, Any]
) -> None:
    """The same for longer."""
    both_ways(log, chunk_rows, decoder, **changes)


def usual(count: int, **more: Any) -> list[dict[str, Any]]:
    """Write turns as a platform does."""
    return [
        {"time": (T + n) * 1000, "type": "turn.completed", "call_id": f"c{n % 7}", "tenant": f"t{n % 3}",
         "trunk": "sip-1", "id": f"turn-{n}", "latency_ms": {"stt": 1.5 * n, "llm": 400.0}} | more
        for n in range(count)
    ]  # fmt: skip


@pytest.mark.skipif(not CAN_SCAN, reason="addresses need compiled kernels, little-endian")
@pytest.mark.parametrize("time_type", [pa.int64(), pa.timestamp("ms", "UTC"), pa.float64(), pa.string()])
def test_usual_rows_are_not_parsed(time_type: pa.DataType) -> None:
    """All but the first ones, from which labels and stages are learned."""
    events = usual(100)
    lines = [msgspec.json.encode(event) for event in events]
    if pa.types.is_string(time_type):
        times: list[Any] = [f"2026-11-22T14:{n // 60:02}:{n % 60:02}.5Z" for n in range(100)]
    elif pa.types.is_floating(time_type):
        times = [T + n + 0.5 for n in range(100)]
    else:
        times = [event["time"] for event in events]
    events = [event | {"time": time} for event, time in zip(events, times, strict=True)]
    if not pa.types.is_timestamp(time_type):
        lines = [msgspec.json.encode(event) for event in events]
    taken = both_ways(Log(table_of(events, time=time_type), lines), 50, FastDecoder)
    assert taken >= 2 * 100 - 20


def test_the_fields_read_are_those_of_the_contract() -> None:
    """A field that the parser knows and Parquet does not would be lost without a word."""
    assert EventFields.__struct_encode_fields__ == FIELDS


def test_the_kernels_have_twins() -> None:
    """All of them are compared with the parser above."""
    assert {"scan_columns", "read_columns", "word_in", "words_in", "id_in", "number_in"} <= set(PARTS)
    assert {"quantity_in", "latencies_in", "time_in", "written_time", "magnified"} <= set(PARTS)


def test_text_that_is_none_is_no_json(tmp_path: Path) -> None:
    """Neither in an id nor in a label; the row is lost, and the rows beside it are not."""
    good = {"time": T, "type": "call.started", "call_id": b"c1", "tenant": b"acme"}
    events = [good, good | {"call_id": b"\xff"}, good | {"tenant": b"\xc3"}, good]
    pq.write_table(table_of(events), tmp_path / "log.parquet")
    for decoder in DECODERS:
        made = decoder(EngineSettings(), KEY, {})
        batch = made.decode(batches_of(tmp_path / "log.parquet", 100)[0])
        assert 2 == batch.rows
        assert 2 == made.losses[LossReason.NOT_JSON]


async def changes_of(*paths: Path) -> bytes:
    """Replay logs; give the alert changes as `replay --output jsonl` writes them."""
    configuration = load_configuration(None, str(config_path("demo/limits.yaml")), None)
    pipeline = build_line(configuration, REPLAY_HASH_KEY).pipeline
    source = FileSource([str(path) for path in paths])
    await source.start()
    changes: list[Any] = []
    while (raw := await source.read()) is not None:
        changes += pipeline.step(raw).changes
    changes += pipeline.finish().changes
    await source.close()
    assert pipeline.decoder.rows_read
    return b"".join(map(alert_change_line, changes))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[dict[str, Any]]]:
    """Give the bundled recording as it is, as Parquet, and as dicts."""
    path = config_path("demo/sip-go-live.events.jsonl.zst")
    log = LogRows(str(path), 1 << 20)
    events: list[dict[str, Any]] = []
    while (rows := log.read()) is not None:
        events += [msgspec.json.decode(text) for text in rows_of(rows)]
    log.close()
    as_columns = tmp_path_factory.mktemp("recording") / "log.parquet"
    pq.write_table(table_of(events), as_columns)
    return path, as_columns, events


async def test_a_recording_gives_the_same_alerts_byte_for_byte(
    recording: tuple[Path, Path, list[dict[str, Any]]],
) -> None:
    """The line as `replay` runs it."""
    path, as_columns, _ = recording
    expected = await changes_of(path)
    assert b"CallLimitReached" in expected
    assert expected == await changes_of(as_columns)


async def test_several_files_are_merged_as_lines_are(
    recording: tuple[Path, Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    """Two halves of the calls, one in Parquet and one in lines, then both in Parquet."""
    path, _, events = recording
    halves: list[list[dict[str, Any]]] = [[], []]
    for event in events:
        halves[sum(event.get("call_id", "").encode()) % 2].append(event)
    pq.write_table(table_of(halves[0]), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, halves[1])))
    pq.write_table(table_of(halves[1]), tmp_path / "b.parquet")
    expected = await changes_of(path)
    assert expected == await changes_of(tmp_path / "a.parquet", tmp_path / "b.jsonl")
    assert expected == await changes_of(tmp_path / "a.parquet", tmp_path / "b.parquet")


async def test_an_empty_log_and_one_of_other_columns(tmp_path: Path) -> None:
    """No rows are no error; rows without a field of an event are rows that are lost."""
    pq.write_table(table_of(usual(3)).slice(0, 0), tmp_path / "empty.parquet")
    pq.write_table(pa.table({"other": [1, 2, 3]}), tmp_path / "other.parquet")
    assert [] == batches_of(tmp_path / "empty.parquet", 10)
    for decoder in DECODERS:
        made = decoder(EngineSettings(), KEY, {})
        assert 0 == made.decode(batches_of(tmp_path / "other.parquet", 10)[0]).rows
        assert 3 == made.losses[LossReason.FIELD_MISSING]


def test_rows_without_a_field_come_in_pieces_too(tmp_path: Path) -> None:
    """Few bytes may hold very many of them."""
    pq.write_table(pa.table({"other": [1, 2, 3, 4, 5]}), tmp_path / "other.parquet")
    log = ParquetLog(str(tmp_path / "other.parquet"), 2)
    pieces: list[tuple[int, bool]] = []
    while (columns := log.read()) is not None:
        pieces.append((columns.rows, log.bytes_done == log.bytes_total))
    assert [(2, False), (2, False), (1, True)] == pieces
    pq.write_table(pa.table({"other": pa.array([], pa.int8())}), tmp_path / "none.parquet")
    assert [] == batches_of(tmp_path / "none.parquet", 2)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (pa.table({"time": pa.array([T], pa.timestamp("s"))}), "zone"),
        (pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["time", "time"]), "twice"),
        (pa.table({"latency_ms": [{"llm": 1}], "latency_ms.llm": [2]}), "twice"),
    ],
)
async def test_columns_that_cannot_be_told_are_refused(tmp_path: Path, table: pa.Table, says: str) -> None:
    """A guess that is wrong would move every alert; the message says what to do."""
    pq.write_table(table, tmp_path / "log.parquet")
    with pytest.raises(SourceError, match=says) as raised:
        await FileSource([str(tmp_path / "log.parquet")]).start()
    assert str(tmp_path) in raised.value.where
    assert raised.value.hint


async def test_damage_is_an_error_with_the_name_of_the_file(tmp_path: Path) -> None:
    """Cut off, of another format, or with a page that does not match its checksum."""
    path = tmp_path / "log.parquet"
    pq.write_table(table_of(usual(2000)), path, write_page_checksum=True, row_group_size=500)
    whole = path.read_bytes()
    page = len(whole) // 2
    damaged = whole[:page] + bytes(byte ^ 0x55 for byte in whole[page : page + 40]) + whole[page + 40 :]
    for data in (whole[:-9], b"time,type\n1,2\n", b"", damaged):
        path.write_bytes(data)
        source = FileSource([str(path)])
        with pytest.raises(SourceError) as raised:
            await _read_all(source)
        await source.close()
        assert str(path) in raised.value.where


async def _read_all(source: FileSource) -> None:
    await source.start()
    while await source.read() is not None:
        pass


async def test_it_is_known_without_the_suffix_too(tmp_path: Path) -> None:
    """As compressed logs are."""
    pq.write_table(table_of(usual(3)), tmp_path / "log")
    source = FileSource([str(tmp_path / "log")])
    await source.start()
    raw = await source.read()
    assert raw is not None
    assert raw.columns is not None
    assert [0, 1, 2] == raw.offset.tolist()
    assert 0 < source.progress()[1]
    assert await source.read() is None
    await source.close()


def test_without_pyarrow_a_message_says_what_to_install(tmp_path: Path) -> None:
    """It is an extra; exit code 2, as for any request that cannot be met as it is."""
    (tmp_path / "log.parquet").write_bytes(b"PAR1")
    program = "import sys; sys.modules['pyarrow'] = None\nfrom engine.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "replay", str(tmp_path / "log.parquet")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 2 == done.returncode
    assert "pip install 'callgauge[parquet]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_number_is_absent() -> None:
    """That is how pandas writes what is missing; JSON has no such number."""
    events = usual(4, duration_ms=math.nan)
    lines = [
        msgspec.json.encode({name: value for name, value in event.items() if name != "duration_ms"})
        for event in events
    ]
    both_ways(Log(table_of(events), lines), 10, DECODERS[0])


def test_json_is_what_its_text_says() -> None:
    """DuckDB writes a column so whose values differ in kind: texts, numbers and lists of one field."""
    mixed: list[dict[str, Any]] = [
        {"time": T + 0.043607, "call_id": "c1", "tenant": "acme", "code": 486, "latency_ms": {"llm": 400}},
        {
            "time": "2026-11-22T14:38:37.69Z",
            "call_id": 17,
            "code": "503",
            "latency_ms": {"llm": [410, 380.5]},
        },
        {"time": T, "call_id": "c1", "tenant": 4, "latency_ms": "400"},
    ]
    events = [event | {"type": "turn.completed", "id": f"e{n}"} for n, event in enumerate(mixed)]
    names = ("time", "type", "call_id", "id", "tenant", "code", "latency_ms")
    columns = {name: array_of([event.get(name) for event in events], JSON) for name in names}
    lines = [msgspec.json.encode(event) for event in events]
    for decoder in DECODERS:
        both_ways(Log(pa.table(columns), lines), 2, decoder)


DAMAGED = ['"c1","call_id":"c2"', "{", '"c1', "1 2", "]", "", "nan"]


@pytest.mark.parametrize("is_listed", [False, True])
def test_damaged_json_is_a_value_that_cannot_be_used(*, is_listed: bool) -> None:
    """Put into the row as it stands, it could say anything of any field."""
    texts = ['"c1"', *DAMAGED, '"c1"']
    events = [
        {"time": T + n, "type": "calls.listed" if is_listed else "turn.completed", "id": f"e{n}"}
        for n in range(len(texts))
    ]
    columns = {name: pa.array([event[name] for event in events]) for name in ("time", "type", "id")}
    values = pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(texts))
    whole = {"calls": ["c1"]} if is_listed else {"call_id": "c1"}
    columns |= {
        name: pa.ListArray.from_arrays(range(len(texts) + 1), values) if is_listed else values
        for name in whole
    }
    unusable = {"calls": [False]} if is_listed else {"call_id": False}
    damaged = range(1, len(texts) - 1)
    lines = [msgspec.json.encode(e | (unusable if n in damaged else whole)) for n, e in enumerate(events)]
    for decoder in DECODERS:
        both_ways(Log(pa.table(columns), lines), 3, decoder)


def test_json_in_lists_and_maps_is_what_its_text_says() -> None:
    """Of a list or map of values that differ in kind, each is JSON."""
    latencies: list[dict[str, Any]] = [{"stt": 90, "llm": [410, 380.5]}, {}, {"llm": "fast", "stt": None}]
    calls: list[list[Any]] = [["c1", 7], [], ["c2", "c3"]]
    kinds = ["turn.completed", "turn.completed", "calls.listed"]
    events = [{"time": T + n, "type": kind, "call_id": "c1", "id": f"e{n}"} for n, kind in enumerate(kinds)]
    lines = [
        msgspec.json.encode(event | {"latency_ms": latency, "calls": listed})
        for event, latency, listed in zip(events, latencies, calls, strict=True)
    ]
    pairs = [pair for latency in latencies for pair in latency.items()]
    values = array_of([value for _, value in pairs], JSON)
    by_stage = pa.MapArray.from_arrays(
        pa.array([0, 2, 2, 4]), pa.array([stage for stage, _ in pairs]), values
    )
    listed = array_of([call for each in calls for call in each], JSON)
    table = table_of(events).append_column("latency_ms", by_stage)
    table = table.append_column("calls", pa.ListArray.from_arrays(pa.array([0, 2, 2, 4]), listed))
    for decoder in DECODERS:
        both_ways(Log(table, lines), 2, decoder)
