"""Several logs as one: every row where the slow twin puts it, and every time as it reads it."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decode import timestamp
from engine.decode.fields import EventFields
from engine.errors import SourceError
from engine.source.lines import LogRows, Rows, rows_of
from engine.source.merge import DAMAGES_TOLD_MAX, LogMerge
from engine.source.order_times import (
    NO_TIME,
    decimal_ns,
    event_time_ns,
    event_times,
    plain_time,
    plain_times,
    unit_of,
)
from engine.source.pieces import lines_of, side_by_side
from tests import oracle_merge

T = 1_767_600_000
TIMES = [
    "0", "1", "00", "-1", "-0", "1e9", "1.", ".5", "1..2", "5-3", "", "null", "99999999999", "100000000000",
    "99999999999.999999", "9007199254740993", "9007199254740993.5", "1767600000.1234567890123",
    "18446744073709551615", "18446744073709551616", "4200000000000000000", "4199999999999999999",
    "99999999999999999999999", f"{T}.043607", f"{T}123.5", f"{T}000005", f"{T}043607001", f'"{T}"',
    '"2026-01-05T08:00:00Z"', '"2026-01-05T08:00:00+01:00"', '"2026-01-05"', '"soon"',
    '"9999-12-31T23:59:59Z"',
    "9223372036854776.0", "0.0000000000000001", f"{T}.0000000001", f"{T}000000001", f"{T}000000002",
    "99999999999999999", "100000000000000001",
]  # fmt: skip


def rows_with(times: list[str]) -> list[bytes]:
    """Write rows that begin with a time."""
    return [f'{{"time":{time},"call_id":"c{number}"}}'.encode() for number, time in enumerate(times)]


ROWS = st.one_of(
    st.sampled_from(rows_with(TIMES)),
    st.integers(0, 2**64).map(lambda value: b'{"time":%d}' % value),
    st.floats(0, 1e19, allow_nan=False).map(lambda value: f'{{"time":{value!r},"x":1}}'.encode()),
    st.decimals(0, 1e12, places=6, allow_nan=False).map(lambda value: f'{{"time":{value},"x":1}}'.encode()),
    st.sampled_from([
        b'{"time" : 5}', b'{"time": 1767600000}', b'{"time":1767600000', b'{"time', b"", b"time", b'"time":7',
        b'{"a":{"time":8},"time":9}', b'{"a":"\\"time\\":5","time":6}', b'"time"time":5', b'""time":5',
        b'{"time":5', b'{"time":', b'{"times":1,"time":2}', b"\xff\x00", b'{"a":{"time":8}}',
        b'{"a":"{","time":9}', b'{"a":{},"time":"9"',
    ]),
)  # fmt: skip


def laid_out(rows: list[bytes]) -> Rows:
    """Lay rows side by side with a byte between them."""
    end = np.cumsum([len(row) + 1 for row in rows], dtype=np.int64) - 1
    start = end - np.array([len(row) for row in rows], np.int64)
    return Rows(b"".join(row + b"\n" for row in rows), start, end)


@given(st.lists(ROWS, max_size=6))
def test_times_are_read_as_text_is(rows: list[bytes]) -> None:
    """Plain numbers by kernels, the others by the text itself."""
    expected = [event_time_ns(row) for row in rows]
    assert [NO_TIME if one is None else one for one in expected] == event_times(laid_out(rows)).tolist()


@pytest.mark.parametrize(
    "row",
    [
        b'{"time":"2026-01-05T08:00:00z"}',
        b'{"time":"2026-01-05t08:00:00z"}',
        b'{"time":"2026-01-05t09:00:00.25+01:00"}',
        b'{"time":"2026-01-05T08:00:00.2500000000000000000000000Z"}',
        b'{"time":"2026-01-05T08:00:00.25%sZ"}' % (b"0" * 41),  # 64 characters
        b'{"time":"2026-01-05T08:00:00\\u005a"}',
        b'{"meta":{"time":12},"time":1767600000}',
        b'{"meta":{"time":"12:00"},"time":1767600000.5}',
        b'{"meta":{"time":12},"time":"2026-01-05T08:00:00z"}',
        b'{"meta":[{"time":1767600007}],"time" : "1767600000"}',
        b'{"latency_ms":{"time":120},"time":1767600000,"type":"turn.completed"}',
        b'{"meta":{},"time":1767600007,"time":1767600000}',
        b'{"meta":{"time":12},"note":"\\"time\\":5 {","time":1767600000}',
        b'{"time":null,"latency_ms":{"time":120},"time":1767600000}',
    ],
)
def test_the_time_is_the_one_that_the_decoder_takes(row: bytes) -> None:
    """Small letters, as many characters as it takes, and what is named time in something else before."""
    time_ns = timestamp.event_time_ns(bytes(msgspec.json.decode(row, type=EventFields).time))
    assert time_ns in {T * 10**9, T * 10**9 + 250_000_000, T * 10**9 + 500_000_000}
    assert [time_ns] == event_times(laid_out([row])).tolist()


@pytest.mark.parametrize(
    "row",
    [b'{"meta":{"time":1767600000}}', b'{"time":null,"meta":{"time":12}}', b'{"meta":{"time":1767600000}'],
)
def test_the_time_of_something_else_is_none(row: bytes) -> None:
    """A row without a time of its own stays behind the row before it."""
    assert [NO_TIME] == event_times(laid_out([row])).tolist()


def test_a_leap_second_is_a_time() -> None:
    """A file may begin in one."""
    row = b'{"time":"2026-06-30T23:59:60.5Z"}'
    after_ns = timestamp.event_time_ns(b'"2026-07-01T00:00:00.5Z"')
    assert [after_ns - 10**9] == event_times(laid_out([row])).tolist()


def test_plain_numbers_need_no_text() -> None:
    """Or every row would be read twice."""
    rows = laid_out(rows_with([f"{T}", f"{T}.5", f"{T}043607001"]))
    times = np.zeros(3, np.int64)
    plain_times(np.frombuffer(rows.data, np.uint8), rows.start, rows.end, times)
    assert [T * 10**9, T * 10**9 + 5 * 10**8] == times[:2].tolist()
    assert times[2] == event_time_ns(rows.data[rows.start[2] : rows.end[2]])
    assert times[2] == plain_time(np.frombuffer(rows.data, np.uint8), int(rows.start[2]), int(rows.end[2]))
    assert T * 10**9 == decimal_ns(float(T))
    assert [10**9, 10**6, 10**3, 1] == [unit_of(float(T * 10**power)) for power in (0, 3, 6, 9)]


def merged(files: list[list[bytes]]) -> list[bytes]:
    """Merge files that are read for real."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.jsonl" for number in range(len(files))]
        for path, rows in zip(paths, files, strict=True):
            path.write_bytes(b"\n".join(rows))
        merge = LogMerge([str(path) for path in paths], 1 << 20)
        found: list[bytes] = []
        while (read := merge.read()) is not None:
            found += rows_of(lines_of(read))
        merge.close()
    return found


FORMS = ["{}", "{}.5", '"2026-01-05T08:00:00Z"', "null", "4000000000"]
FILE = st.lists(st.tuples(st.integers(0, 40), st.sampled_from(FORMS)), max_size=40)


@settings(deadline=None)
@given(st.lists(FILE, min_size=1, max_size=4), st.booleans())
def test_files_are_merged_as_the_twin_merges_them(files: list[list[tuple[int, str]]], in_order: bool) -> None:
    """Rows without a time, wrong clocks, the same times in several files."""
    written = [
        [
            f'{{"time":{form.format(T + second)},"call_id":"{number}-{place}"}}'.encode()
            for place, (second, form) in enumerate(sorted(rows) if in_order else rows)
        ]
        for number, rows in enumerate(files)
    ]
    assert oracle_merge.merged(written) == merged(written)


@pytest.mark.parametrize(
    "form", ['"time":"2026-01-05t08:00:{:02}z"', '"meta":{{"time":12}},"time":17676000{:02}']
)
def test_however_a_file_says_its_times_its_rows_come_between_the_others(form: str) -> None:
    """Or all of it would come first, and the rest be late."""
    plain = rows_with([str(T + second) for second in range(0, 40, 2)])
    other = [b"{" + form.format(second).encode() + b"}" for second in range(1, 40, 2)]
    assert [row for pair in zip(plain, other, strict=True) for row in pair] == merged([plain, other])


def until_the_error(log: LogRows | LogMerge) -> tuple[list[bytes], SourceError]:
    """Read a damaged log as far as it goes; give its rows, and the error."""
    rows: list[bytes] = []
    try:
        while (read := log.read()) is not None:
            rows += rows_of(lines_of(read))
    except SourceError as error:
        return rows, error
    finally:
        log.close()
    raise AssertionError("the damage was not seen")


def before_the_error(log: LogRows | LogMerge) -> tuple[list[bytes], str]:
    """Read a damaged log as far as it goes; give its rows, and where it is damaged."""
    rows, error = until_the_error(log)
    return rows, error.where


def damaged(path: Path, rows: list[bytes], end: int = -6) -> tuple[list[bytes], str]:
    """Write a log that stops in the middle; give what is read of it alone, and where it is damaged."""
    path.write_bytes(gzip.compress(b"\n".join(rows))[:end])
    return before_the_error(LogRows(str(path), 1 << 20))


@pytest.mark.parametrize(("count", "end"), [(3000, -5000), (3000, -6), (10, -6), (1, -6), (10, 12)])
def test_a_damaged_file_gives_its_rows_and_the_others_go_on(tmp_path: Path, count: int, end: int) -> None:
    """However few they are: every row that can be read comes in its order, and then the error."""
    whole = rows_with([str(T + 2 * place) for place in range(3000)])
    cut = rows_with([f"{T + 2 * place + 1}.{place * place % 9973:04}" for place in range(count)])
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(whole))
    readable, where = damaged(tmp_path / "b.jsonl.gz", cut, end)
    (tmp_path / "c.jsonl").write_bytes(b'{"time":%d}' % (T + 9000))
    merge = LogMerge([str(path) for path in sorted(tmp_path.iterdir())], 1 << 20)
    expected = oracle_merge.merged([whole, readable, [b'{"time":%d}' % (T + 9000)]])
    assert (expected, where) == before_the_error(merge)


def test_of_several_damaged_files_each_is_told(tmp_path: Path) -> None:
    """In the order in which they end, at the end of all, each with its hint."""
    later, later_where = damaged(tmp_path / "a.jsonl.gz", rows_with([str(T + 60 + i) for i in range(10)]))
    first, first_where = damaged(tmp_path / "b.jsonl.gz", rows_with([str(T + i) for i in range(10)]))
    merge = LogMerge([str(path) for path in sorted(tmp_path.iterdir())], 1 << 20)
    rows, error = until_the_error(merge)
    assert first + later == rows
    told = str(error).splitlines()
    assert ["2 logs cannot be read to their end: "] == told[:1]
    for place, where in enumerate((first_where, later_where)):
        assert told[1 + 2 * place].startswith(f"  - {where}: the gzip data stops")
        assert told[2 + 2 * place].startswith("    hint: ")


def test_no_more_damaged_files_are_told_than_one_can_read(tmp_path: Path) -> None:
    for number in range(DAMAGES_TOLD_MAX + 3):
        damaged(tmp_path / f"{number}.jsonl.gz", rows_with([str(T)]))
    _, error = until_the_error(LogMerge([str(path) for path in sorted(tmp_path.iterdir())], 1 << 20))
    assert str(error).endswith("and 3 more")
    assert str(error).count("hint: ") == DAMAGES_TOLD_MAX


@pytest.mark.parametrize("is_last", [False, True])
def test_a_file_that_is_gone_when_it_is_its_turn_is_as_one_that_is_damaged(
    tmp_path: Path, is_last: bool
) -> None:
    """Old logs are removed while they wait; the rows of the others come, and then the error."""
    for number in range(3):
        rows = rows_with([str(T + 60 * number + second) for second in range(20)])
        (tmp_path / f"{number}.jsonl").write_bytes(b"\n".join(rows))
    paths = sorted(tmp_path.iterdir())
    merge = LogMerge([str(path) for path in paths], 1 << 20)
    gone = paths[2 if is_last else 1]
    gone.unlink()
    expected = [row for path in paths if path != gone for row in path.read_bytes().split(b"\n")]
    assert (expected, str(gone)) == before_the_error(merge)


def test_what_cannot_be_opened_fails_before_anything_is_read(tmp_path: Path) -> None:
    """A damaged file beside it or not."""
    damaged(tmp_path / "a.jsonl.gz", rows_with([str(T)]))
    with pytest.raises(SourceError, match="cannot be opened"):
        LogMerge([str(tmp_path / "a.jsonl.gz"), str(tmp_path / "none.jsonl")], 1 << 20)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_rows_of_several_buffers_lie_in_one(count: int) -> None:
    """Only the bytes of the rows are copied."""
    rows = laid_out([b"a" * number for number in range(1, 9)])
    parts = [Rows(rows.data, rows.start[2:5], rows.end[2:5])] * count
    found = side_by_side(parts)
    assert isinstance(found, Rows)
    assert [b"aaa", b"aaaa", b"aaaaa"] * count == [
        found.data[start:end] for start, end in zip(found.start, found.end, strict=True)
    ]
    assert len(found.data) == 14 * count
    assert lines_of(found) is found
