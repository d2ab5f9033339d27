"""Key, folder or topic give trouble: it costs neither a start nor the checkpoint on the disk."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from engine.app import OwnedLine
from engine.commands.checkpoints import SAVE_S, Checkpoints, Resumed
from engine.state.durable import Disk
from engine.state.folder import Folder
from tests.line_traffic import TOPIC
from tests.test_checkpoints import configured, kept, rows, write_one

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from engine.state.manifest import Candidate, Manifest


S = 1_000_000_000


async def test_a_key_that_cannot_be_read_stays_for_as_long_as_its_checkpoints(tmp_path: Path) -> None:
    """It may be another user's for now. It gives way to the key of the next checkpoint, and is set aside."""
    await kept(tmp_path, rows()[:5])
    key_file, away = tmp_path / "call.key", tmp_path / "away"
    key_file.rename(away)
    key_file.mkdir()  # No user can read that.
    configuration = configured(tmp_path)
    checkpoints = Checkpoints(configuration)
    key = checkpoints.open(configuration)
    assert key.hex() not in away.read_text()
    assert checkpoints.stats.failures == {"key": 1}
    assert key_file.is_dir()
    assert checkpoints.resume(configuration).next_offsets == {}
    durable = await write_one(checkpoints, configuration, key)
    assert (tmp_path / "call.key.bad").is_dir()
    again = Checkpoints(configuration)
    assert again.open(configuration) == key
    assert again.resume(configuration).next_offsets == durable


@pytest.mark.parametrize("is_other_there", [False, True])
async def test_a_key_that_could_not_be_kept_is_kept_with_the_first_checkpoint(
    tmp_path: Path, is_other_there: bool
) -> None:
    """The volume comes late, with nothing or with a key of before; or what is in the folder is removed."""
    volume, folder = tmp_path / "volume", tmp_path / "volume" / "state"
    volume.write_bytes(b"")
    configuration = configured(folder)
    checkpoints = Checkpoints(configuration)
    key = checkpoints.open(configuration)
    volume.unlink()
    folder.mkdir(parents=True)
    if is_other_there:
        (folder / "call.key").write_text("0" * 32)
    for _ in range(2):
        durable = await write_one(checkpoints, configuration, key)
        assert durable
        again = Checkpoints(configuration)
        assert again.open(configuration) == key
        assert again.resume(configuration).next_offsets == durable
        (folder / "call.key").unlink()


def test_a_folder_that_cannot_be_looked_into_is_no_reason_not_to_run(tmp_path: Path) -> None:
    """Not even whether there is a key can be asked."""
    configuration = configured(tmp_path / ("x" * 300))
    checkpoints = Checkpoints(configuration)
    assert len(checkpoints.open(configuration)) == 16
    assert checkpoints.stats.failures == {"disk": 1, "key": 1}


def test_who_takes_over_while_another_still_writes_goes_on_with_what_that_wrote(tmp_path: Path) -> None:
    """What was listed is gone when its blobs are read: it is listed again, and nothing is set aside."""
    batches, configuration = rows(), configured(tmp_path)
    writer = Checkpoints(configuration)
    line = OwnedLine(configuration, writer.open(configuration))
    left = iter(batches[:8])

    def write_two() -> None:
        for raw in (*itertools.islice(left, 2), None):
            taken = writer.take(line, {})
            assert taken is not None
            assert not writer.save(taken).reason
            if raw is not None:
                line.step(raw)

    def open_file(path: Path, flags: int, mode: int) -> int:
        if path.suffix == ".blob" and not checkpoints.stats.outcomes:
            write_two()
        return os.open(path, flags, mode)

    line.step(next(left))
    write_two()
    checkpoints = Checkpoints(configuration, Disk(open=open_file))
    checkpoints.open(configuration)
    resumed = checkpoints.resume(configuration)
    assert resumed.next_offsets == line.line.pipeline.next_offsets
    assert checkpoints.stats.outcomes == {"whole": 1, "refused_replaced": 1}
    assert not list(tmp_path.glob("*.bad"))


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "too many open files"), MemoryError()])
async def test_what_cannot_be_read_for_now_is_set_aside_by_no_start(tmp_path: Path, error: Exception) -> None:
    """Nothing of it says that the checkpoint is bad, and there may be no other."""
    await kept(tmp_path, rows()[:4])

    def read(*_: object) -> bytes:
        raise error

    (found,), _ = Folder(tmp_path, 1 << 30, "0" * 8).candidates(TOPIC)
    set_aside: list[str] = []
    lost = found._replace(get=read, set_aside=lambda: set_aside.append("it"))
    elsewhere = configured(tmp_path / "elsewhere")
    checkpoints = Checkpoints(elsewhere)
    checkpoints.open(elsewhere)
    assert checkpoints.resume(elsewhere, "", [lost]) == Resumed()
    assert not set_aside


def hanging(folder: Path, go_on: threading.Event) -> tuple[Checkpoints, OwnedLine]:
    """Give a line, and checkpoints on a disk that hangs until it may go on."""

    def fsync(file: int) -> None:
        go_on.wait(30)
        os.fsync(file)

    configuration = configured(folder)
    line = OwnedLine(configuration, Checkpoints(configuration).open(configuration))
    line.step(rows()[0])
    return Checkpoints(configuration, Disk(fsync=fsync)), line


async def test_a_disk_that_hangs_holds_partitions_up_for_some_seconds_alone(tmp_path: Path) -> None:
    """The group waits for a member that saves, and would put it out in the end."""
    go_on, durable = threading.Event(), dict[int, int]()
    checkpoints, line = hanging(tmp_path, go_on)
    try:
        with ThreadPoolExecutor(1) as worker:
            async with asyncio.timeout(SAVE_S + 5.0):
                await checkpoints.save_now(worker, line, {}, durable)
        assert (durable, checkpoints.stats.count) == ({}, 0)
    finally:
        go_on.set()


async def test_while_a_checkpoint_is_written_no_other_is_taken(tmp_path: Path) -> None:
    """A disk that hangs for an hour would have hundreds of them wait in memory."""
    go_on = threading.Event()
    checkpoints, line = hanging(tmp_path, go_on)
    taken = checkpoints.take_if_due(line, {})
    assert taken is not None
    checkpoints.write_soon(taken, {})
    meanwhile = checkpoints.take_if_due(line, {})
    go_on.set()
    assert meanwhile is None
    assert checkpoints._writing is not None
    await checkpoints._writing
    assert checkpoints.take_if_due(line, {}) is not None


class SlowTopic:
    """A topic whose broker takes a minute to answer the first time."""

    def __init__(self) -> None:
        self.written: list[Mapping[int, int]] = []
        self.begun = asyncio.Event()
        self.is_closed = False

    async def write(self, manifest: Manifest, _: Candidate) -> int:
        if not self.begun.is_set():
            self.begun.set()
            await asyncio.sleep(60)
        self.written.append(manifest.next_offsets)
        return 1

    async def close(self) -> None:
        self.is_closed = True


def begun_with(topic: SlowTopic, folder: Path, **state: int) -> tuple[Checkpoints, OwnedLine]:
    """Give checkpoints that also go to this topic, and their line."""
    configuration = configured(folder, **state)
    checkpoints = Checkpoints(configuration, topic=topic)  # type: ignore[arg-type]
    return checkpoints, OwnedLine(configuration, checkpoints.open(configuration))


@pytest.mark.parametrize("is_begun", [False, True])
@pytest.mark.parametrize("is_end", [False, True])
async def test_a_slow_topic_does_not_cost_the_last_checkpoint(
    tmp_path: Path, is_begun: bool, is_end: bool
) -> None:
    """What was being written there is broken off, or not begun: the last one goes there itself."""
    topic = SlowTopic()
    if not is_begun:
        topic.begun.set()
    checkpoints, line = begun_with(topic, tmp_path)
    batches, durable = rows(), dict[int, int]()
    line.step(batches[0])
    taken = checkpoints.take(line, {})
    assert taken is not None
    checkpoints.write_soon(taken, durable)
    if is_begun:
        await topic.begun.wait()
    for raw in batches[1:]:
        line.step(raw)
    with ThreadPoolExecutor(1) as worker:
        await (checkpoints.finish if is_end else checkpoints.save_now)(worker, line, {}, durable)
    assert durable == line.line.pipeline.next_offsets
    assert (topic.written, topic.is_closed) == ([durable], is_end)
    assert checkpoints.stats.count == 2
    assert checkpoints.stats.failures == {}


async def test_the_topic_is_written_in_its_own_time(tmp_path: Path) -> None:
    """Not with each checkpoint that is on the disk."""
    topic = SlowTopic()
    topic.begun.set()
    checkpoints, line = begun_with(topic, tmp_path, topic_period_ns=3600 * S)
    line.step(rows()[0])
    for _ in range(2):
        taken = checkpoints.take(line, {})
        assert taken is not None
        await checkpoints.write(taken, {})
    assert (checkpoints.stats.count, len(topic.written)) == (2, 1)


async def test_after_a_hurried_checkpoint_the_topic_is_written_as_before(tmp_path: Path) -> None:
    """Partitions went and came back while one was written there: those of later go there too."""
    topic = SlowTopic()
    checkpoints, line = begun_with(topic, tmp_path, topic_period_ns=1)
    line.step(rows()[0])
    for number in range(3):
        taken = checkpoints.take(line, {})
        assert taken is not None
        if number > 0:
            await checkpoints.write(taken, {})
            continue
        checkpoints.write_soon(taken, {})
        await topic.begun.wait()
        with ThreadPoolExecutor(1) as worker:
            await checkpoints.save_now(worker, line, {}, {})
    assert len(topic.written) == 3
