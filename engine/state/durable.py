"""Files that are on the disk when we say so: nothing here returns before they are.

`os.write` may write less than it was given, and on a full disk does so without an error; a disk that fails
says so at `fsync`, once. Both leave what was there before as it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

MODE = 0o600
READ_BYTES = 1 << 24


def _names_in(folder: Path) -> list[tuple[str, float]]:
    with os.scandir(folder) as found:
        return [(one.name, one.stat(follow_symlinks=False).st_mtime) for one in found]


class Disk(NamedTuple):
    """Every call that reaches a disk; a test hands in those of a disk that fails, or of none at all."""

    write: Callable[[int, memoryview], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    open: Callable[[Path, int, int], int] = os.open  # path, flags, mode
    read: Callable[[int, int], bytes] = os.read
    close: Callable[[int], None] = os.close
    replace: Callable[[Path, Path], None] = os.replace
    unlink: Callable[[Path], None] = os.unlink
    make_folder: Callable[[Path, int], None] = os.makedirs  # path, mode
    names: Callable[[Path], list[tuple[str, float]]] = _names_in  # with the time of the last change


DISK = Disk()


def write_new(path: Path, pieces: Iterable[bytes], disk: Disk = DISK) -> int:
    """Write a file that is not there yet, and bring it to the disk; give its length.

    Whatever goes wrong, it is not there afterwards.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = disk.open(path, flags, MODE)
    length = 0
    try:
        try:
            for piece in pieces:
                _write_all(file, piece, disk)
                length += len(piece)
            disk.fsync(file)
        finally:
            disk.close(file)
    except BaseException:
        with contextlib.suppress(OSError):
            disk.unlink(path)
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
        disk.replace(current, previous)
    disk.replace(fresh, current)
    sync_folder(current.parent, disk)


def sync_folder(folder: Path, disk: Disk = DISK) -> None:
    """Bring the names in a folder to the disk."""
    opened = disk.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, MODE)
    try:
        disk.fsync(opened)
    finally:
        disk.close(opened)


def read_whole(path: Path, bytes_max: int, disk: Disk = DISK) -> bytes:
    """Read a file of ours, no link; OSError if it is larger."""
    file = disk.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
    pieces, left = [], bytes_max + 1
    try:
        while left and (piece := disk.read(file, min(left, READ_BYTES))):
            pieces.append(piece)
            left -= len(piece)
    finally:
        disk.close(file)
    data = b"".join(pieces)
    if len(data) > bytes_max:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data
