"""In which order a checkpoint reaches the disk, and what a disk that fails is left with."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.state.durable import Disk
from engine.state.folder import MANIFEST, PREVIOUS, Folder
from tests.test_state_folder import BYTES_MAX, OTHER_RUN, RUN, STAMP, a_capture, a_folder, number_in

if TYPE_CHECKING:
    from collections.abc import Callable


class FailingDisk:
    """A disk that fails from its `limit`th call on, in one of four ways."""

    def __init__(self, what: str, limit: int) -> None:
        self.what, self.limit = what, limit
        self.writes = self.fsyncs = 0

    def write(self, file: int, data: memoryview) -> int:
        """Write less than was given, or nothing, without an error."""
        self.writes += 1
        if self.what == "full" and self.writes >= self.limit:
            return 0
        return os.write(file, data[: max(len(data) // 3, 1)] if self.what == "short" else data)

    def fsync(self, file: int) -> None:
        """Say that what was written is gone."""
        self.fsyncs += 1
        is_folder = stat.S_ISDIR(os.fstat(file).st_mode)
        if self.fsyncs >= self.limit and self.what == ("folder" if is_folder else "fsync"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(file)

    def folder(self, path: Path) -> Folder:
        return Folder(path, BYTES_MAX, RUN, Disk(self.write, self.fsync))


def test_a_disk_that_writes_less_than_it_is_given_is_given_the_rest(tmp_path: Path) -> None:
    FailingDisk("short", 1).folder(tmp_path).save(a_capture(2), STAMP)
    assert number_in(tmp_path) == 2


@pytest.mark.parametrize("what", ["full", "fsync", "folder"])
def test_a_disk_that_fails_leaves_the_checkpoint_before(tmp_path: Path, what: str) -> None:
    """A full disk writes less than it is given, without an error; a failing one says so at fsync."""
    a_folder(tmp_path).save(a_capture(1), STAMP)
    for limit in range(1, 4):
        with pytest.raises(OSError, match=r"left on device|Input/output"):
            FailingDisk(what, limit).folder(tmp_path).save(a_capture(2), STAMP)
        # Where only the names are not on the disk for sure, the new one may be there, and is whole.
        assert number_in(tmp_path) in ({1, 2} if what == "folder" else {1})
    a_folder(tmp_path).save(a_capture(3), STAMP)
    assert number_in(tmp_path) == 3
    assert len(list(tmp_path.glob("*.blob"))) <= 4


def failing_at(call: int) -> Callable[[int], None]:
    """Give an fsync that says at one call that what was written is gone."""
    calls = 0

    def fsync(file: int) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fsync(file)

    return fsync


def test_nothing_is_named_before_it_is_on_the_disk_and_the_last_name_is_when_it_is_done(
    tmp_path: Path,
) -> None:
    """A power cut between any two of these calls leaves a whole checkpoint, and after the last one this."""
    a_folder(tmp_path).save(a_capture(1), STAMP)
    calls: list[str] = []

    def fsync(file: int) -> None:
        os.fsync(file)
        calls.append("folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file")

    def replace(old: Path, new: Path) -> None:
        old.replace(new)
        calls.append(new.name)

    Folder(tmp_path, BYTES_MAX, RUN, Disk(fsync=fsync, replace=replace)).save(a_capture(2), STAMP)
    assert calls == ["file", "file", "folder", "file", PREVIOUS, MANIFEST, "folder"]


def test_a_folder_that_takes_nothing_is_told_when_it_is_made_ready(tmp_path: Path) -> None:
    """A start says whether checkpoints will be kept; nothing of the trial is left."""
    with pytest.raises(OSError, match="Input/output"):
        Folder(tmp_path, BYTES_MAX, RUN, Disk(fsync=failing_at(1))).prepare()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_save_that_fails_leaves_no_file_even_where_nobody_knows_what_is_named(
    tmp_path: Path, call: int
) -> None:
    """A manifest of a newer version keeps everything that others wrote; ours would fill the disk."""
    a_folder(tmp_path).save(a_capture(1), STAMP)
    text = (tmp_path / MANIFEST).read_bytes()
    (tmp_path / MANIFEST).write_bytes(text.replace(b"callgauge-checkpoint 1", b"callgauge-checkpoint 2"))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="Input/output"):
        Folder(tmp_path, BYTES_MAX, OTHER_RUN, Disk(fsync=failing_at(call))).save(a_capture(2), STAMP)
    assert sorted(tmp_path.iterdir()) == before
