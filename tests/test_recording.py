"""Recordings: exact replay, cut-off tails, damage, bounds, and who may read them."""

import logging
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import SourceError
from engine.settings_file import parse_settings
from engine.source.contract import RawBatch, tick
from engine.source.recording import RecordingSource, RecordingWriter
from tests.source_contract import read_all, rows_of


def batch(rows: list[bytes], first_offset: int = 0, *, gap: int = 0, received_ns: int = 5) -> RawBatch:
    """Make a batch whose rows lie `gap` bytes apart."""
    length = np.array([len(row) for row in rows], np.int64)
    end = np.cumsum(length + gap)
    data = b"".join(b"#" * gap + row for row in rows)
    offset = np.arange(first_offset, first_offset + len(rows), dtype=np.int64) * 3
    return RawBatch(data, end - length, end, offset, "calls", 2, received_ns, (1, 2), (1,))


def seen(one: RawBatch) -> tuple[object, ...]:
    """Give everything that a step can see of a batch."""
    places = one.topic, one.partition, one.received_ns, one.assigned, one.caught_up
    return (rows_of(one), one.offset.tolist(), *places)


def record(folder: Path, batches: list[RawBatch], digest: str = "d", **bounds: int) -> RecordingWriter:
    """Record some batches and close."""
    writer = RecordingWriter(str(folder), digest, **bounds)
    for one in batches:
        writer.write(one)
    writer.close()
    return writer


BATCHES = [
    part
    for number in range(40)
    for part in (batch([b"row %d" % number] * 30, number * 30), tick("calls", number, (1, 2), (2,)))
]


@given(
    rows=st.lists(st.lists(st.binary(min_size=1, max_size=30), max_size=20), max_size=8),
    gap=st.integers(0, 2),
)
async def test_a_replay_is_what_was_recorded(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[bytes]], gap: int
) -> None:
    """Rows, offsets, times, assignment and ticks come back, whatever is in the rows."""
    folder = tmp_path_factory.mktemp("recording")
    batches = [batch(some, gap=gap) if some else tick("t", 9, (4,), ()) for some in rows]
    record(folder, batches)
    source = RecordingSource(folder)
    replayed = await read_all(source)
    await source.close()
    assert [seen(one) for one in replayed] == [seen(one) for one in batches]
    assert source.ended_because == ""


async def test_segments_follow_each_other(tmp_path: Path) -> None:
    """A run over many segments is one recording; its digest and progress are those of the whole."""
    writer = record(tmp_path, BATCHES, "the digest", segment_bytes_max=2000)
    assert len(list(writer.folder.glob("segment-*.rec"))) > 3
    source = RecordingSource(tmp_path)
    assert [seen(one) for one in await read_all(source)] == [seen(one) for one in BATCHES]
    assert source.digest == "the digest"
    done, total = source.progress()
    assert done == total > 0
    await source.close()


async def test_reloads_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A replay says that limits changed during the run, and to what."""
    writer = RecordingWriter(str(tmp_path), "before")
    writer.write(BATCHES[0])
    writer.mark_reload("after")
    writer.close()
    source = RecordingSource(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert len(await read_all(source)) == 1
    assert source.reloads == ["after"]
    assert "loaded anew" in caplog.text
    await source.close()


async def test_a_torn_tail_is_readable_up_to_the_tear(tmp_path: Path) -> None:
    """Wherever a kill cut the last segment, what precedes the cut replays, and the replay says so."""
    writer = RecordingWriter(str(tmp_path), "d")
    ends = []
    for one in BATCHES[:6]:
        writer.write(one)
        (segment,) = writer.folder.glob("segment-*.rec")
        ends.append(segment.stat().st_size)
    writer.close()
    whole = segment.read_bytes()
    for length in range(len(whole)):
        segment.write_bytes(whole[:length])
        source = RecordingSource(tmp_path)
        replayed = await read_all(source)
        await source.close()
        assert [seen(one) for one in replayed] == [
            seen(one) for one in BATCHES[: sum(e <= length for e in ends)]
        ]
        assert "cut off" in source.ended_because


async def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    """Damage in the middle is an error with file and place, after everything that precedes it."""
    writer = record(tmp_path, BATCHES)
    (segment,) = writer.folder.glob("segment-*.rec")
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 0x40
    segment.write_bytes(data)
    source = RecordingSource(tmp_path)
    await source.start()
    replayed = []
    with pytest.raises(SourceError, match=r"segment-000001\.rec, byte \d+: a frame") as raised:
        replayed += [one async for one in _batches(source)]
    assert raised.value.hint
    await source.close()


async def test_a_missing_segment_is_found(tmp_path: Path) -> None:
    """A gap between segments is an error, not a shorter recording."""
    writer = record(tmp_path, BATCHES, segment_bytes_max=2000)
    sorted(writer.folder.glob("segment-*.rec"))[1].unlink()
    source = RecordingSource(tmp_path)
    with pytest.raises(SourceError, match="segment 2 is missing"):
        await read_all(source)
    await source.close()


async def test_a_full_recording_stops_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At the bound the recording ends, the run does not; the replay gives what fitted, and the reason."""
    with caplog.at_level(logging.WARNING):
        writer = record(tmp_path, BATCHES, recording_bytes_max=3000)
    assert writer.stopped_because == "recording.bytes_max is reached, over all runs in the folder"
    assert "the run goes on" in caplog.text
    source = RecordingSource(tmp_path)
    replayed = await read_all(source)
    await source.close()
    assert 0 < len(replayed) < len(BATCHES)
    assert [seen(one) for one in replayed] == [seen(one) for one in BATCHES[: len(replayed)]]
    assert source.ended_because == "recording.bytes_max is reached, over all runs in the folder"
    (segment,) = writer.folder.glob("segment-*.rec")
    assert segment.stat().st_size < 3000 + 4096


async def test_each_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """A restart never fails over an older recording; a replay of several asks for one of them."""
    first, second = record(tmp_path, BATCHES[:2]), record(tmp_path, BATCHES[2:6])
    with pytest.raises(SourceError, match="2 runs are recorded here"):
        await RecordingSource(tmp_path).start()
    for writer, batches in ((first, BATCHES[:2]), (second, BATCHES[2:6])):
        source = RecordingSource(writer.folder)
        assert [seen(one) for one in await read_all(source)] == [seen(one) for one in batches]
        await source.close()


def test_the_bound_is_for_all_runs_in_the_folder(tmp_path: Path) -> None:
    """A service that restarts in a loop does not fill the disk run by run."""
    record(tmp_path, BATCHES, recording_bytes_max=3000)
    writer = record(tmp_path, BATCHES, recording_bytes_max=3000)
    assert writer.stopped_because == "recording.bytes_max is reached, over all runs in the folder"


def test_the_bound_is_the_setting_of_that_name() -> None:
    settings = parse_settings("recording: {bytes_max: 1MiB}", "test")

    assert settings.recording.bytes_max == 1 << 20


def test_only_the_owner_can_read_a_recording(tmp_path: Path) -> None:
    """The rows are what callers' systems sent: folders are 0700, files 0600."""
    writer = record(tmp_path / "new", BATCHES)
    for folder in (tmp_path / "new", writer.folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in writer.folder.iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["missing", "empty"])
async def test_a_folder_without_a_recording_is_named(tmp_path: Path, name: str) -> None:
    """The error names the folder."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=name):
        await RecordingSource(tmp_path / name).start()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A recording into something that is no folder is refused at the start."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SourceError, match="cannot be written here") as raised:
        RecordingWriter(str(tmp_path / "file"), "d")
    assert str(tmp_path / "file") in raised.value.where
    assert raised.value.hint


async def _batches(source: RecordingSource):  # type: ignore[no-untyped-def]  # noqa: ANN202
    while (one := await source.read()) is not None:
        yield one
