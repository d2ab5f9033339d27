"""Files that are on the disk when we say so: nothing here returns before they are.

`os.write` may write less than it was given, and on a full disk does so without an error; a disk that fails
says so at `fsync`, once. Both leave what was there before as it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MODE = 0o600


class Disk(NamedTuple):
    """The two calls that a disk refuses first; a test hands in those of a disk that fails."""

    write: Callable[[int, memoryview], int] = os.write
    fsync: Callable[[int], None] = os.fsync


DISK = Disk()


def write_new(path: Path, pieces: Iterable[bytes], disk: Disk = DISK) -> int:
    """Write a file that is not there yet, and bring it to the disk; give its length.

    Whatever goes wrong, it is not there afterwards.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    length = 0
    try:
        try:
            for piece in pieces:
                _write_all(file, piece, disk)
                length += len(piece)
            disk.fsync(file)
        finally:
            os.close(file)
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return length


def _write_all(file: int, data: bytes, disk: Disk) -> None:
    left = memoryview(data)
    while left:
        written = disk.write(file, left)
        if written <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left = left[written:]


def put_in_place(fresh: Path, current: Path, previous: Path, disk: Disk = DISK) -> None:
    """Let a written file become the current one, and the current one the previous one."""
    with contextlib.suppress(FileNotFoundError):
        current.replace(previous)
    fresh.replace(current)
    sync_folder(current.parent, disk)


def sync_folder(folder: Path, disk: Disk = DISK) -> None:
    """Bring the names in a folder to the disk."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        disk.fsync(opened)
    finally:
        os.close(opened)


def read_whole(path: Path, bytes_max: int) -> bytes:
    """Read a file of ours, no link; OSError if it is larger."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(file, "rb") as opened:
        data = opened.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data
