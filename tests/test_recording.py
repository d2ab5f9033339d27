"""Recordings: exact replay, cut-off tails, damage, bounds, and who may read them."""

import errno
import logging
import os
import stat
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import SourceError
from engine.settings_file import parse_settings
from engine.source.contract import RawBatch, tick
from engine.source.frames import FrameReader, FrameWriter
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


def record(
    folder: Path,
    batches: list[RawBatch],
    digest: str = "d",
    *,
    recording_bytes_max: int = 1 << 30,
    segment_bytes_max: int = 1 << 26,
) -> RecordingWriter:
    """Record some batches and close."""
    writer = RecordingWriter(
        str(folder), digest, recording_bytes_max=recording_bytes_max, segment_bytes_max=segment_bytes_max
    )
    for one in batches:
        writer.write(one)
    writer.close()
    return writer


def frame_ends(segment: Path) -> list[int]:
    """Give the byte behind each frame of a whole segment."""
    reader = FrameReader(segment)
    ends = []
    while reader.read() is not None:
        ends.append(reader.place)
    reader.close()
    return ends


async def replayed_until(source: RecordingSource) -> tuple[list[RawBatch], str, str]:
    """Read all there is; give also why the recording ended before the run did, and what is damaged."""
    replayed, damage = [], ""
    try:
        await source.start()
        while (one := await source.read()) is not None:
            replayed.append(one)
    except SourceError as error:
        damage = str(error)
    await source.close()
    return replayed, source.ended_because, damage


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


async def test_a_cut_at_the_start_of_a_segment_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A kill while a segment was begun costs nothing; the reason is given once, and is this one."""
    writer = record(tmp_path, BATCHES, segment_bytes_max=2000)
    last = max(writer.folder.glob("segment-*.rec"))
    whole, replayed = last.read_bytes(), []
    for length in range(frame_ends(last)[0]):
        last.write_bytes(whole[:length])
        caplog.clear()
        more, reason, damage = await replayed_until(RecordingSource(tmp_path))
        assert (reason, damage) == ("it was cut off at the start of a segment, as by kill -9", "")
        assert len([one for one in caplog.messages if "ends before the run did" in one]) == 1
        replayed.append(len(more))
    assert 0 < replayed[0] < len(BATCHES)
    assert len(set(replayed)) == 1


async def test_a_wrong_length_is_damage_and_no_cut(tmp_path: Path) -> None:
    """Also in the last segment, and though its file is shorter than the length says."""
    writer = record(tmp_path, BATCHES[:6])
    (segment,) = writer.folder.glob("segment-*.rec")
    whole, ends = segment.read_bytes(), frame_ends(segment)
    for frame, start in enumerate([0, *ends[:-1]]):
        for byte in range(4):
            data = bytearray(whole)
            data[start + byte] ^= 0x11
            segment.write_bytes(data)
            replayed, reason, damage = await replayed_until(RecordingSource(tmp_path))
            assert reason == ""
            assert f"segment-000001.rec, byte {start}: a frame" in damage
            assert len(replayed) == max(0, frame - 1)


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


async def test_a_segment_that_ends_before_the_next_one_began_is_found(tmp_path: Path) -> None:
    """Also when the cut is exactly between two frames, which by itself looks like the segment's end."""
    writer = record(tmp_path, BATCHES, segment_bytes_max=2000)
    segment = sorted(writer.folder.glob("segment-*.rec"))[1]
    whole, ends = segment.read_bytes(), frame_ends(segment)
    for frame, end in enumerate(ends[:-1]):
        segment.write_bytes(whole[:end])
        replayed, reason, damage = await replayed_until(RecordingSource(tmp_path))
        assert reason == ""
        assert f"segment-000002.rec, byte {end}: the segment ends here, and had {len(whole)} bytes" in damage
        assert [seen(one) for one in replayed] == [seen(one) for one in BATCHES[: len(replayed)]]
        assert len(replayed) < len(BATCHES) - (len(ends) - 1 - frame)


async def test_a_recording_without_the_lengths_of_segments_is_read(tmp_path: Path) -> None:
    """Headers did not always say how long the segment before was."""
    writer = record(tmp_path / "new", BATCHES, segment_bytes_max=2000)
    (tmp_path / "old").mkdir()
    for number, segment in enumerate(sorted(writer.folder.glob("segment-*.rec")), start=1):
        reader, old = FrameReader(segment), FrameWriter(tmp_path / "old" / segment.name)
        reader.read()
        old.append(msgspec.msgpack.encode(["header", 1, number, "d"]), bytes_left=1 << 20)
        while (frame := reader.read()) is not None:
            old.append(frame, bytes_left=1 << 20)
        reader.close()
        old.close()
    replayed, reason, damage = await replayed_until(RecordingSource(tmp_path / "old"))
    assert [seen(one) for one in replayed] == [seen(one) for one in BATCHES]
    assert (reason, damage) == ("", "")


async def test_a_disk_that_fails_while_a_segment_is_read_is_named(tmp_path: Path) -> None:
    """What was read before counts; then it is an error with file and place."""
    record(tmp_path, BATCHES)
    opened: list[BinaryIO] = []

    def unbuffered(path: Path) -> BinaryIO:
        opened.append(path.open("rb", buffering=0))
        return opened[-1]

    source = RecordingSource(tmp_path, unbuffered)
    await source.start()
    assert await source.read() is not None
    folder = os.open(tmp_path, os.O_RDONLY)
    os.dup2(folder, opened[0].fileno())  # Of what cannot be read, this is at hand.
    os.close(folder)
    with pytest.raises(SourceError, match=r"segment-000001\.rec, byte \d+: cannot be read further: Is a dir"):
        await source.read()
    await source.close()


async def test_a_segment_that_cannot_be_looked_at_is_named(tmp_path: Path) -> None:
    """A link into nothing, as after a disk was taken away."""
    (tmp_path / "segment-000001.rec").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=r"segment-000001\.rec: cannot be read: No such file"):
        await RecordingSource(tmp_path).start()


async def test_a_disk_that_fails_between_two_segments_ends_the_recording(tmp_path: Path) -> None:
    """All that was recorded is replayed, and then the reason is given."""

    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    writer = RecordingWriter(str(tmp_path), "d", segment_bytes_max=2000, fsync=failing)
    for one in BATCHES:
        writer.write(one)
    writer.close()
    assert writer.stopped_because == "Input/output error"
    replayed, reason, damage = await replayed_until(RecordingSource(tmp_path))
    assert (reason, damage) == ("Input/output error", "")
    assert len(list(writer.folder.glob("segment-*.rec"))) == 2
    assert 0 < len(replayed) < len(BATCHES)
    assert [seen(one) for one in replayed] == [seen(one) for one in BATCHES[: len(replayed)]]


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
