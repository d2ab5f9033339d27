"""Reading logs: compression, lines, damage, several files."""

import asyncio
import gzip
import os
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.app import load_configuration
from engine.commands.replay import open_source
from engine.config_files import config_path
from engine.errors import SourceError
from engine.source.file import FileSource, expand
from engine.source.lines import LineCutter, LogRows
from engine.source.order_times import event_time_ns
from tests.source_contract import read_all, rows_by_partition, rows_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIMITS = str(config_path("demo/limits.yaml"))
BOMB_BYTES = 300_000_000
LINES = [b'{"time":%d.5,"call_id":"call-%d"}' % (1_767_600_000 + n, n * 7919) for n in range(3000)]
TEXT = b"\n".join(LINES) + b"\n"


async def rows_in(*paths: Path | str, row_bytes_max: int = 1 << 20) -> list[bytes]:
    """Read logs to their end."""
    source = FileSource([str(path) for path in paths], row_bytes_max=row_bytes_max)
    try:
        return rows_by_partition(await read_all(source)).get(0, [])
    finally:
        await source.close()


async def rows_before_the_error(path: Path) -> tuple[list[bytes], SourceError]:
    """Read a damaged log as far as it goes."""
    source = FileSource([str(path)])
    await source.start()
    rows: list[bytes] = []
    try:
        while (batch := await source.read()) is not None:
            rows += rows_of(batch)
    except SourceError as error:
        return rows, error
    finally:
        await source.close()
    raise AssertionError("the damage was not seen")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("log.jsonl", TEXT),
        ("log.jsonl.gz", gzip.compress(TEXT)),
        ("log.jsonl.zst", zstd.compress(TEXT)),
        ("log.gz", gzip.compress(TEXT[:40_000]) + gzip.compress(TEXT[40_000:]) + bytes(512)),
        ("log.zst", zstd.compress(TEXT[:40_000]) + zstd.compress(TEXT[40_000:])),
        ("no-suffix-gzip", gzip.compress(TEXT)),
        ("no-suffix-zstd", zstd.compress(TEXT)),
        ("with-a-mark.jsonl", b"\xef\xbb\xbf" + TEXT),
        ("with-a-mark.jsonl.gz", gzip.compress(b"\xef\xbb\xbf" + TEXT)),
        ("with-a-mark.jsonl.zst", zstd.compress(b"\xef\xbb\xbf" + TEXT)),
        ("mark-in-two-frames.zst", zstd.compress(b"\xef\xbb") + zstd.compress(b"\xbf" + TEXT)),
        ("crlf.jsonl", TEXT.replace(b"\n", b"\r\n")),
        ("empty-lines.jsonl", TEXT.replace(b"\n", b"\n\n\r\n")),
        ("no-last-newline.jsonl", TEXT[:-1]),
    ],
)
async def test_a_log_reads_the_same_however_it_is_stored(tmp_path: Path, name: str, data: bytes) -> None:
    """Compression, line ends and the last newline make no difference."""
    (tmp_path / name).write_bytes(data)
    assert await rows_in(tmp_path / name) == LINES


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.gz", "empty.zst", "blank.jsonl"])
async def test_an_empty_log_ends_at_once(tmp_path: Path, name: str) -> None:
    """Nothing to read is no error."""
    (tmp_path / name).write_bytes(b"\n\n" if name.startswith("blank") else b"")
    assert await rows_in(tmp_path / name) == []


async def test_garbage_comes_as_rows(tmp_path: Path) -> None:
    """A plain file may hold anything: the decoder counts it."""
    garbage = bytes(range(256)) * 40
    (tmp_path / "log.jsonl").write_bytes(garbage)
    expected = [row.removesuffix(b"\r") for row in garbage.split(b"\n")]
    assert await rows_in(tmp_path / "log.jsonl") == [row for row in expected if row]


async def test_a_row_that_is_too_long_is_cut(tmp_path: Path) -> None:
    """One byte more than allowed is left, so that it is counted as too long and costs no memory."""
    (tmp_path / "log.jsonl").write_bytes(b"a\n" + b"x" * 3_000_000 + b"\nb\n" + b"y" * 200 + b"\n")
    rows = await rows_in(tmp_path / "log.jsonl", row_bytes_max=100)
    assert rows == [b"a", b"x" * 101, b"b", b"y" * 101]


@pytest.mark.parametrize("name", ["log.gz", "log.zst"])
@pytest.mark.parametrize("filler", [b"x", b"{}\n"])
def test_a_log_that_expands_ten_thousandfold_costs_no_more_memory(
    tmp_path: Path, name: str, filler: bytes
) -> None:
    """300 MB in some kilobytes: one endless line, or a hundred million short ones; good rows come through."""
    plain = b"good\n" + filler * (BOMB_BYTES // len(filler)) + b"\ngood\n"
    packed = gzip.compress(plain) if name.endswith("gz") else zstd.compress(plain)
    assert len(packed) < BOMB_BYTES // 500
    (tmp_path / name).write_bytes(packed)
    del plain, packed
    rows = LogRows(str(tmp_path / name), 1 << 20)
    good = 0
    tracemalloc.start()
    while (found := rows.read()) is not None:
        good += found.data.count(b"good")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 2 == good
    assert peak_bytes < 64 << 20


@pytest.mark.parametrize("name", ["log.gz", "log.zst"])
async def test_a_truncated_log_gives_what_it_has_and_says_where_it_stops(tmp_path: Path, name: str) -> None:
    """Every whole row before the end comes first, then an error with file, place and mend."""
    frames = [gzip.compress(TEXT), zstd.compress(TEXT)]
    whole = frames[name == "log.zst"] * 2
    (tmp_path / name).write_bytes(whole[:-20])
    rows, error = await rows_before_the_error(tmp_path / name)
    assert rows[: len(LINES)] == LINES
    assert "truncated" in error.what
    assert f"{name}, near byte {len(whole) - 20} of {len(whole) - 20}" in error.where
    assert error.hint


@pytest.mark.parametrize("name", ["log.gz", "log.zst"])
async def test_a_damaged_log_gives_what_precedes_the_damage(tmp_path: Path, name: str) -> None:
    """The rows of whole frames before the damage come, then the error."""
    compress = gzip.compress if name.endswith("gz") else zstd.compress
    (tmp_path / name).write_bytes(compress(TEXT) + b"this is no frame" * 100)
    rows, error = await rows_before_the_error(tmp_path / name)
    assert rows == LINES
    assert "damaged" in error.what
    assert name in error.where


async def test_a_window_that_is_too_large_is_not_called_damage(tmp_path: Path) -> None:
    """`zstd --long=28` makes one, of a frame whose size is not known; the frames before it are read."""
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 28})
    path = tmp_path / "log.zst"
    path.write_bytes(zstd.compress(TEXT) + compressor.compress(TEXT) + compressor.flush())
    rows, error = await rows_before_the_error(path)
    assert rows == LINES
    assert "window larger than 128 MiB" in str(error)
    assert "damaged" not in str(error)
    assert "--long=31" in error.hint


@pytest.mark.parametrize("name", ["not.gz", "not.zst"])
async def test_a_name_that_promises_compression_is_believed(tmp_path: Path, name: str) -> None:
    """A plain text under such a name is damage at byte 0, not rows."""
    (tmp_path / name).write_bytes(TEXT)
    rows, error = await rows_before_the_error(tmp_path / name)
    assert rows == []
    assert "near byte 0 of" in error.where


@pytest.mark.parametrize("name", ["no-such.jsonl", "no-such-*.jsonl", "."])
async def test_what_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    """A path or glob that names no file, or a folder, is an error with its name and a hint."""
    with pytest.raises(SourceError) as raised:
        await rows_in(tmp_path / name)
    assert str(tmp_path) in raised.value.where
    assert raised.value.hint


@pytest.mark.parametrize("name", ["log.jsonl", "*.jsonl"])
def test_a_folder_that_one_may_not_enter_is_named(tmp_path: Path, name: str) -> None:
    """Whether the log or a recording in it is asked for."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "log.jsonl").write_bytes(TEXT)
    for path in (*tmp_path.parents[:2], tmp_path):
        path.chmod(0o755)
    folder.chmod(0o744)
    configuration = load_configuration(None, LIMITS, None)
    user = os.geteuid()
    if user == 0:  # Root may enter every folder, so be nobody for a moment.
        os.seteuid(65_534)
    try:
        open_source((str(folder / name),), configuration)
        with pytest.raises(SourceError, match="cannot be opened: Permission denied") as raised:
            expand([str(folder / name)])
    finally:
        os.seteuid(user)
    assert str(folder) in raised.value.where
    assert raised.value.hint


async def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    """A glob and a path may overlap."""
    (tmp_path / "log.jsonl").write_bytes(TEXT)
    assert await rows_in(tmp_path / "*.jsonl", tmp_path / "log.jsonl") == LINES


async def test_files_are_merged_by_event_time(tmp_path: Path) -> None:
    """Files that overlap, follow each other or are empty come in one order of time."""
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(LINES[:1500:2]))
    (tmp_path / "b.jsonl").write_bytes(b"\n".join(LINES[1:1500:2]))
    (tmp_path / "c.jsonl").write_bytes(b"\n".join(LINES[1500:]))
    (tmp_path / "d.jsonl").write_bytes(b"")
    assert await rows_in(*(tmp_path / f"{name}.jsonl" for name in "dcba")) == LINES


async def test_a_merge_keeps_rows_without_a_time_where_they_were(tmp_path: Path) -> None:
    """What cannot be ordered follows the row before it in its file, and nothing is lost."""
    first = [row for line in LINES[:100] for row in (line, b"no time here")]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(first))
    (tmp_path / "b.jsonl").write_bytes(b"\n".join(LINES[100:200]))
    rows = await rows_in(tmp_path / "b.jsonl", tmp_path / "a.jsonl")
    assert rows == first + LINES[100:200]


@pytest.mark.parametrize("wrong", [1, 3, 8])
async def test_a_few_wrong_clocks_do_not_hold_up_their_file(tmp_path: Path, wrong: int) -> None:
    """Rows far ahead of their neighbours stay between them."""
    ahead = [b'{"time":4000000000,"call_id":"wrong-%d"}' % number for number in range(wrong)]
    lines = [*LINES[:100:2], *ahead, *LINES[100:200:2]]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    (tmp_path / "b.jsonl").write_bytes(b"\n".join(LINES[1:200:2]))
    rows = await rows_in(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert [row for row in rows if row in lines] == lines
    assert all(abs(rows.index(row) - 100) <= 2 * 8 + wrong for row in ahead)
    right = [row for row in rows if row not in ahead]
    assert all(abs(place - LINES.index(row)) <= 8 for place, row in enumerate(right))


@pytest.mark.parametrize("time", [b"9999-12-31T23:59:59Z", b"0001-01-01T00:00:00Z", b"1969-12-31T23:59:59Z"])
async def test_a_time_out_of_all_range_stays_where_it_was(tmp_path: Path, time: bytes) -> None:
    """Logs are merged all the same, and the row goes on to the decoder, which counts it."""
    first = [LINES[0], b'{"time":"%s"}' % time, *LINES[1:100]]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(first))
    (tmp_path / "b.jsonl").write_bytes(b"\n".join(LINES[100:200]))
    assert await rows_in(tmp_path / "b.jsonl", tmp_path / "a.jsonl") == first + LINES[100:200]


async def test_progress_ends_at_the_size_of_the_files(tmp_path: Path) -> None:
    """A progress bar gets to its end."""
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_bytes(TEXT)
    source = FileSource([str(tmp_path / "*.jsonl")])
    await read_all(source)
    assert source.progress() == (2 * len(TEXT), 2 * len(TEXT))
    await source.close()


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd.compress])
def test_standard_input_is_read_whatever_its_compression(compress: type[bytes]) -> None:
    """`-` goes by its first bytes."""
    program = (
        "import asyncio\nfrom tests.test_file_source import rows_in\n"
        "rows = asyncio.run(rows_in('-'))\nprint(len(rows), len(b''.join(rows)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=compress(TEXT), capture_output=True, check=True, timeout=60
    )
    assert done.stdout.split() == [b"%d" % len(LINES), b"%d" % len(b"".join(LINES))]


async def test_a_quiet_pipe_gives_ticks(tmp_path: Path) -> None:
    """While a pipe is open and nothing comes, reading goes on with ticks."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    holder = os.open(pipe, os.O_RDWR)
    source = FileSource([str(pipe)])
    await source.start()
    silent = await source.read()
    os.write(holder, b"row\n")
    spoken = await source.read()
    assert silent is not None
    assert (silent.rows, silent.partition, silent.assigned, silent.caught_up) == (0, -1, (0,), ())
    assert spoken is not None
    assert rows_of(spoken) == [b"row"]
    await source.close()
    os.close(holder)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere opening such a pipe waits for its writer")
async def test_a_pipe_that_nobody_writes_to_yet_is_a_quiet_one(tmp_path: Path) -> None:
    """Nothing waits where Ctrl-C would not end it; who writes later is read to the end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    source = FileSource([str(pipe)])
    starting = asyncio.create_task(source.start())
    started, _ = await asyncio.wait([starting], timeout=10)
    silent = [await source.read() for _ in range(2)] if started else []
    holder = os.open(pipe, os.O_RDWR)
    os.write(holder, b"row\n")
    await starting
    rows = await source.read()
    os.close(holder)
    assert [0, 0] == [batch.rows for batch in silent if batch is not None]
    assert rows is not None
    assert rows_of(rows) == [b"row"]
    assert await source.read() is None
    await source.close()


@pytest.mark.parametrize("kinds", [("pipe", "pipe"), ("pipe", "file"), ("file", "pipe")])
def test_pipes_are_merged_as_files_are(tmp_path: Path, kinds: tuple[str, str]) -> None:
    """What was read of a pipe to see when it begins is not lost."""
    paths = [tmp_path / str(number) for number in range(len(kinds))]
    with ThreadPoolExecutor() as threads:
        for number, (path, kind) in enumerate(zip(paths, kinds, strict=True)):
            data = b"\n".join(LINES[number::2])
            if kind == "pipe":
                os.mkfifo(path)
                threads.submit(path.write_bytes, data)
            else:
                path.write_bytes(data)
        program = "import asyncio, sys\nfrom tests.test_file_source import rows_in\n"
        program += "sys.stdout.buffer.write(b'\\n'.join(asyncio.run(rows_in(*sys.argv[1:]))))"
        try:
            done = subprocess.run(
                [sys.executable, "-c", program, *paths], capture_output=True, check=True, timeout=60
            )
        finally:
            for path in paths:  # Lets go of a writer that nobody reads.
                os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    assert done.stdout.splitlines() == LINES


@example(data=b"aaaaa\ra", cuts=[])
@example(data=b"aaaaa\r\ra\n", cuts=[3])
@given(
    data=st.lists(st.sampled_from([b"a", b"bb", b"\n", b"\r\n", b"\r", b"ccccccc"]), max_size=60).map(
        b"".join
    ),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
def test_where_pieces_are_cut_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    """The rows are those of splitting the whole at its newlines."""
    cutter = LineCutter(row_bytes_max=5)
    rows: list[bytes] = []
    bounds = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in pairwise(bounds)]
    for found in [*(cutter.cut(piece) for piece in pieces), cutter.last()]:
        if found is not None:
            ends = found.end.tolist()
            rows += [found.data[start:end] for start, end in zip(found.start.tolist(), ends, strict=True)]
    lines = [line.removesuffix(b"\r") if is_whole_crlf(line) else line for line in data.split(b"\n")]
    assert [row[:6] for row in rows] == [line[:6] for line in lines if line]


def is_whole_crlf(line: bytes) -> bool:
    """Say whether a line's carriage return is within the bound of six bytes that are kept."""
    return line.endswith(b"\r") and len(line) <= 6


@pytest.mark.parametrize(
    ("row", "time_ns"),
    [
        (b'{"time":1767600000,"a":1}', 1_767_600_000_000_000_000),
        (b'{"a":1,"time" : 1767600000123}', 1_767_600_000_123_000_000),
        (b'{"time":"1767600000"}', 1_767_600_000_000_000_000),
        (b'{"time":"2026-01-05T08:00:00Z"}', 1_767_600_000_000_000_000),
        (b'{"time":"2026-01-05T09:00:00+01:00"}', 1_767_600_000_000_000_000),
        (b'{"time":"2026-01-05T08:00:00.25Z"}', 1_767_600_000_250_000_000),
        (b'{"time":"2026-01-05T08:00:00"}', None),
        (b'{"time":"9999-12-31T23:59:59-05:00"}', None),
        (b'{"time":"0001-01-01T00:00:00+05:00"}', None),
        (b'{"time":"soon"}', None),
        (b'{"time":1e400}', None),
        (b"\xff\xfe", None),
    ],
)
def test_times_are_found_well_enough_to_order_by(row: bytes, time_ns: int | None) -> None:
    """Numbers of any unit and RFC 3339 with a zone are times; anything else is none."""
    assert event_time_ns(row) == time_ns
