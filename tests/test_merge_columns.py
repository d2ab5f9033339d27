"""Several logs of columns as one: what their lines come to when those are merged, to the last bit."""

from __future__ import annotations

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

from engine.decode.decoder import JsonDecoder
from engine.decode.events import LABELS
from engine.decode.fast_decoder import CAN_SCAN, FastDecoder
from engine.settings import EngineSettings
from engine.source.columns import Numbers, RowColumns, Words
from engine.source.contract import NO_ROWS, RawBatch
from engine.source.lines import Rows, rows_of
from engine.source.log import Piece
from engine.source.merge import LogMerge
from engine.source.order_times import NO_TIME, column_times, event_time_ns, whole_times
from engine.source.parquet import ParquetLog
from engine.source.pieces import lines_of, side_by_side
from tests import oracle_merge
from tests.decoder_pairs import Pair, assert_same_batch
from tests.event_rows import KEY, RECEIVED_NS, T, raw_batch
from tests.parquet_rows import INTEGERS, TIMES, Log, logs, table_of, write

DECODERS = [FastDecoder, JsonDecoder] if CAN_SCAN else [JsonDecoder]
CONFIGURED = EngineSettings(series_labels=LABELS)


def pieces_of(paths: list[Path], chunk_rows: int = 1 << 16) -> list[Piece]:
    """Merge files."""
    merge = LogMerge([str(path) for path in paths], 1 << 20, chunk_rows)
    pieces: list[Piece] = []
    while (piece := merge.read()) is not None:
        pieces.append(piece)
    merge.close()
    return pieces


def batch_of(piece: Piece, first: int) -> RawBatch:
    """Make the batch that the source would make."""
    if isinstance(piece, Rows):
        return raw_batch(rows_of(piece), first)
    offset = np.arange(first, first + piece.rows, dtype=np.int64)
    return RawBatch(b"", NO_ROWS, NO_ROWS, offset, "calls", 0, RECEIVED_NS, (0,), (), piece)


def written(folder: str | Path, files: list[list[dict[str, Any]]], **types: pa.DataType) -> list[Path]:
    """Write events as Parquet, a file for each list."""
    paths = [Path(folder) / f"{number}.parquet" for number in range(len(files))]
    for path, events in zip(paths, files, strict=True):
        pq.write_table(table_of(events, **types), path)
    return paths


def lines_in(path: Path) -> list[bytes]:
    """Give the lines that the rows of a file are."""
    log = ParquetLog(str(path))
    lines: list[bytes] = []
    while (columns := log.read()) is not None:
        lines += rows_of(lines_of(columns))
    log.close()
    return lines


def call_ids(pieces: list[Piece]) -> list[str]:
    """Give the ids in order, and see that columns stayed columns."""
    columns = [piece for piece in pieces if isinstance(piece, RowColumns)]
    assert len(columns) == len(pieces)
    return [str(piece.fields["call_id"].value(row)) for piece in columns for row in range(piece.rows)]


@settings(max_examples=100, deadline=None)
@given(st.lists(logs(), min_size=2, max_size=3), st.sampled_from([1, 3, 100]), st.sampled_from(DECODERS))
def test_columns_are_merged_as_their_lines_are(
    files: list[Log], chunk_rows: int, decoder: type[FastDecoder | JsonDecoder]
) -> None:
    """Other fields, types, times and orders of fields in each; wrong clocks, late rows, no times, ties."""
    found, expected = decoder(CONFIGURED, KEY, {}), JsonDecoder(CONFIGURED, KEY, {})
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.parquet" for number in range(len(files))]
        for path, log in zip(paths, files, strict=True):
            write(log, path, 5)
        expected_lines = oracle_merge.merged([lines_in(path) for path in paths])
        first = 0
        for piece in pieces_of(paths, chunk_rows):
            raw = batch_of(piece, first)
            lines = expected_lines[first : first + raw.rows]
            assert_same_batch(found.decode(raw), expected.decode(raw_batch(lines, first)))
            assert Pair.state_of(expected) == Pair.state_of(found)
            first += raw.rows
    assert len(expected_lines) == first


@settings(max_examples=100, deadline=None)
@given(logs(), st.sampled_from([3, 100]))
def test_times_are_those_of_the_lines(log: Log, chunk_rows: int) -> None:
    """Of every type that a time may have, and where a list or a stage has a name of that kind."""
    with tempfile.TemporaryDirectory() as folder:
        write(log, Path(folder) / "log.parquet", 5)
        reader = ParquetLog(str(Path(folder) / "log.parquet"), chunk_rows)
        while (columns := reader.read()) is not None:
            lines = [event_time_ns(line) for line in rows_of(lines_of(columns))]
            assert [NO_TIME if one is None else one for one in lines] == column_times(columns).tolist()
        reader.close()


@given(st.lists(st.one_of(st.integers(-5, 2**63 - 1), st.sampled_from(TIMES + INTEGERS)), max_size=9))
def test_whole_times_are_read_as_text_is(numbers: list[int]) -> None:
    """At the ends of the magnitudes above all."""
    edges = [10**power + step for power in (11, 14, 17) for step in (-1, 0, 1)]
    times = [event_time_ns(b'"time":%d,' % number) for number in edges + numbers]
    found = whole_times(np.array(edges + numbers, np.int64))
    assert [NO_TIME if time is None else time for time in times] == found.tolist()


def test_a_stage_that_is_called_time_is_not_that_of_the_event(tmp_path: Path) -> None:
    """Where the line has it first."""
    events = [
        {"latency_ms": {"time": T + 5}, "time": T + place, "call_id": f"c{place}"} for place in range(7)
    ]
    (path,) = written(tmp_path, [events])
    columns = ParquetLog(str(path)).read()
    assert columns is not None
    assert [(T + place) * 10**9 for place in range(7)] == column_times(columns).tolist()


def test_times_that_interleave_and_tie(tmp_path: Path) -> None:
    """At the same time, rows come in the order in which the files were named; those of a file keep theirs."""
    files = [
        [{"time": T + 2 * place, "call_id": f"a{place}", "tenant": f"t{place % 3}"} for place in range(9)],
        [{"time": T + place, "call_id": f"b{place}", "duration_ms": place} for place in range(9)],
        [{"time": T + 3, "call_id": f"c{place}", "tenant": "t1"} for place in range(9)],
    ]
    pieces = pieces_of(written(tmp_path, files))
    expected = sorted(
        ((event["time"], number, place, event["call_id"])
         for number, events in enumerate(files) for place, event in enumerate(events)),
    )  # fmt: skip
    assert [call_id for *_, call_id in expected] == call_ids(pieces)
    piece = pieces[0]
    assert isinstance(piece, RowColumns)
    tenants, durations = piece.fields["tenant"], piece.fields["duration_ms"]
    assert isinstance(tenants, Words)
    assert (b"t0", b"t1") == tenants.texts[:2]
    assert isinstance(durations, Numbers)
    assert durations.is_null.any()
    assert not durations.is_null.all()


def test_a_late_row_stays_where_its_file_has_it(tmp_path: Path) -> None:
    """It is late in one file, so it is late among several; so is a row without a time."""
    files = [
        [{"time": T + place, "call_id": f"a{place}"} for place in range(12)],
        [{"time": T + place, "call_id": f"b{place}"} for place in range(12)],
    ]
    files[1][6]["time"] = T
    files[0][8]["time"] = None
    paths = written(tmp_path, files)
    expected = oracle_merge.merged([lines_in(path) for path in paths])
    found = call_ids(pieces_of(paths, chunk_rows=5))
    assert [msgspec.json.decode(line)["call_id"] for line in expected] == found
    assert found.index("b5") < found.index("b6") < found.index("b7")
    assert found.index("a7") < found.index("a8") < found.index("a9")


@pytest.mark.parametrize("names", [("call_id", "time"), ("time", "call_id")])
def test_columns_in_an_order_that_does_not_suit_become_lines(tmp_path: Path, names: tuple[str, str]) -> None:
    """The order of stages is that in which their ids are given."""
    events: list[dict[str, Any]] = [{"time": T + place, "call_id": "c"} for place in range(5)]
    pieces = pieces_of(
        written(tmp_path, [events, [{name: event[name] for name in names} for event in events]])
    )
    assert isinstance(pieces[0], RowColumns if names[0] == "time" else Rows)
    assert 10 == sum(len(rows_of(lines_of(piece))) for piece in pieces)


def test_a_long_dictionary_gives_only_what_the_rows_have() -> None:
    """A block of few rows does not pay for all texts of its files."""
    words = Words(np.array([70_000, 5, 5], np.int32), tuple(b"%d" % number for number in range(70_000)))
    piece = side_by_side([RowColumns(3, {"trunk": words}), RowColumns(1, {"trunk": words.part(1, 2)})])
    assert isinstance(piece, RowColumns)
    joined = piece.fields["trunk"]
    assert isinstance(joined, Words)
    assert (b"5",) == joined.texts
    assert [None, "5", "5", "5"] == [joined.value(row) for row in range(4)]
