"""A disk in memory that forgets what was not brought to it, and fails as disks do, all from one generator.

What a process sees are the files as they stand; what is there after a crash is what was fsynced, and some of
the rest: of a file that was not, a part or bytes of zero; of names that changed since their folder was, any
selection. A file's fsync keeps its bytes and not its name, as POSIX has it and most file systems are better.
An fsync that fails loses what it was for, and the next one says nothing of it.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.state.durable import Disk

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

FOLDER_FD = 1 << 20  # file numbers from here on are folders


class Crash(BaseException):
    """The process is gone. No error: nobody may handle it."""


class DiskFaults(NamedTuple):
    """How likely each call goes wrong."""

    short: float = 0.0  # a write takes a part of what it is given
    full: float = 0.0  # a write takes nothing, or says so
    bad_sync: float = 0.0


class File:
    """Bytes as they stand, and how many of them are on the disk."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = 0
        self.lost = False  # an fsync failed: what was not synced by then never will be


class SimulatedDisk:
    """`calls` are handed in; `crash_after` lets the process die at a call to come."""

    def __init__(self, generator: np.random.Generator, clock_s: Callable[[], float]) -> None:
        self.faults = DiskFaults()
        self.crash_after = -1  # calls until the process dies; -1: it lives
        self.count = 0  # of calls, since the start
        self._generator = generator
        self._clock_s = clock_s
        self._is_dead = False
        self._names: dict[str, File] = {}
        self._kept: dict[str, File] = {}
        self._changed_s: dict[str, float] = {}
        self._pending: list[tuple[str, str, str, File]] = []  # (what, from, to, file), since a folder's fsync
        self._open: dict[int, tuple[File, int]] = {}  # file, place
        self._next_fd = 3

    @property
    def calls(self) -> Disk:
        """Give what stands in for the operating system."""
        return Disk(
            self._write, self._fsync, self._open_file, self._read, self._close, self._replace,
            self._unlink, lambda _path, _mode: None, self._list,
        )  # fmt: skip

    @property
    def files(self) -> list[str]:
        """Give the names of the files that are there."""
        return sorted(self._names)

    def crash(self) -> None:
        """Keep what is on the disk, and what happened to get there; the process may start again."""
        for what, old, new, file in self._pending:
            if self._generator.random() < 0.5:
                continue
            if self._kept.get(old) is file:
                del self._kept[old]
            if what != "unlink":
                self._kept[new] = file
        self._pending.clear()
        for file in {id(one): one for one in self._kept.values()}.values():
            rest = len(file.data) - file.synced
            if rest:
                kept = int(self._generator.integers(0, rest + 1))
                torn = self._generator.random() < 0.5
                del file.data[file.synced + kept :]
                if torn:
                    file.data[file.synced :] = bytes(kept)
                file.synced = len(file.data)
        self._names = dict(self._kept)
        self._open.clear()
        self._is_dead, self.crash_after = False, -1

    def let_go(self) -> None:
        """Let the process be gone, and the machine live on: every byte and name stays as it stands."""
        self._open.clear()
        self._is_dead, self.crash_after = False, -1

    def surely_kept(self) -> SimulatedDisk:
        """Give a disk with what a crash now would leave at the least."""
        least = SimulatedDisk(self._generator, self._clock_s)
        for name, file in self._kept.items():
            one = least._names[name] = File()
            one.data = file.data[: file.synced]
        return least

    def _reach(self) -> None:
        """Count a call, and die at the one that was chosen."""
        self.count += 1
        if self._is_dead or self.crash_after == 0:
            self._is_dead = True
            raise Crash
        self.crash_after -= self.crash_after > 0

    def _hits(self, ratio: float) -> bool:
        return ratio > 0 and bool(self._generator.random() < ratio)

    def _open_file(self, path: Path, flags: int, _mode: int) -> int:
        self._reach()
        self._next_fd += 1
        if flags & os.O_DIRECTORY:
            return FOLDER_FD + self._next_fd
        name = str(path)
        if flags & os.O_CREAT:
            if name in self._names:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
            file = self._names[name] = File()
            self._changed_s[name] = self._clock_s()
            self._pending.append(("create", "", name, file))
        elif name not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        self._open[self._next_fd] = (self._names[name], 0)
        return self._next_fd

    def _write(self, number: int, data: memoryview) -> int:
        file, _ = self._open[number]
        try:
            self._reach()
        except Crash:
            file.data += data[: int(self._generator.integers(0, len(data) + 1))]
            raise
        if self._hits(self.faults.full):
            if self._hits(0.5):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return 0
        count = (
            int(self._generator.integers(1, len(data) + 1)) if self._hits(self.faults.short) else len(data)
        )
        file.data += data[:count]
        return count

    def _fsync(self, number: int) -> None:
        self._reach()
        is_bad = self._hits(self.faults.bad_sync)
        if number >= FOLDER_FD:
            if is_bad:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            self._kept = dict(self._names)
            self._pending.clear()
            return
        file, _ = self._open[number]
        if is_bad:
            file.lost = True
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if not file.lost:
            file.synced = len(file.data)

    def _read(self, number: int, count: int) -> bytes:
        self._reach()
        file, place = self._open[number]
        piece = bytes(file.data[place : place + count])
        self._open[number] = (file, place + len(piece))
        return piece

    def _close(self, number: int) -> None:
        self._reach()
        self._open.pop(number, None)

    def _replace(self, old: Path, new: Path) -> None:
        self._reach()
        file = self._names.pop(str(old), None)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(old))
        self._names[str(new)] = file
        self._changed_s[str(new)] = self._changed_s.get(str(old), 0.0)
        self._pending.append(("replace", str(old), str(new), file))

    def _unlink(self, path: Path) -> None:
        self._reach()
        file = self._names.pop(str(path), None)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        self._pending.append(("unlink", str(path), "", file))

    def _list(self, folder: Path) -> list[tuple[str, float]]:
        self._reach()
        return [
            (Path(name).name, self._changed_s.get(name, 0.0))
            for name in sorted(self._names)
            if Path(name).parent == folder
        ]
