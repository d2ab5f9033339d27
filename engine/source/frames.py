"""Segments of a recording: compressed frames that only ever get appended, each with its length and checksum.

    frame = compressed length | plain length | CRC-32 of the compressed bytes | Zstandard of the record

The three numbers are uint32, little-endian. Each frame is compressed alone, so that a file that was cut
off is readable up to the cut; there Zstandard tells a frame that was cut off from a length that is wrong.
One stream of Zstandard over a segment was rejected: its tail is lost with the process. So was a log of lines:
raw rows may hold anything.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from typing import TYPE_CHECKING

from engine.errors import SourceError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import BinaryIO

LENGTHS = struct.Struct("<III")
FRAME_BYTES_MAX = 1 << 30
DAMAGE_HINT = "everything before this place was replayed; copy the recording again from where it came"


class TornError(Exception):
    """The file ends within a frame."""


class FrameWriter:
    """One new segment, open for appending; `size` is its length in bytes."""

    def __init__(self, path: Path, fsync: Callable[[int], None] = os.fsync) -> None:
        """Make the file, readable by its owner alone."""
        self.size = 0
        self._fsync = fsync
        self._folder = path.parent
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)

    def append(self, record: bytes, *, bytes_left: int) -> int:
        """Append a frame and give its length, 0 if `bytes_left` are too few; an OSError leaves no trace."""
        packed = zstd.compress(record)
        frame = LENGTHS.pack(len(packed), len(record), zlib.crc32(packed)) + packed
        if len(frame) > bytes_left or len(record) > FRAME_BYTES_MAX:
            return 0
        rest = memoryview(frame)
        try:
            # A full disk takes what fits and says so only at the next write.
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self.size += len(frame)
        return len(frame)

    def close(self) -> None:
        """Bring the segment and its name to the disk."""
        try:
            self._fsync(self._fd)
        finally:
            os.close(self._fd)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            self._fsync(folder)
        finally:
            os.close(folder)


def open_segment(path: Path) -> BinaryIO:
    """Open a segment for reading."""
    return path.open("rb")


class FrameReader:
    """One segment, read frame by frame; `place` is the byte after the last whole frame."""

    def __init__(self, path: Path, opened: Callable[[Path], BinaryIO] = open_segment) -> None:
        """Open the segment."""
        self.place = 0
        self._path = path
        self._file = opened(path)

    def read(self) -> bytes | None:
        """Give the next record, None at the end; TornError where it is cut off, SourceError at damage."""
        head = self._file.read(LENGTHS.size)
        if not head:
            return None
        if len(head) < LENGTHS.size:
            raise TornError
        packed_bytes, plain_bytes, checksum = LENGTHS.unpack(head)
        if max(packed_bytes, plain_bytes) > FRAME_BYTES_MAX:
            raise self._damage("a frame's length cannot be")
        packed = self._file.read(packed_bytes)
        is_short = len(packed) < packed_bytes
        if not is_short and zlib.crc32(packed) != checksum:
            raise self._damage("a frame's checksum does not match")
        decompressor = zstd.ZstdDecompressor()
        try:
            record = decompressor.decompress(packed, plain_bytes)
        except zstd.ZstdError as error:
            raise self._damage("a frame cannot be decompressed") from error
        if is_short and not decompressor.eof:
            raise TornError
        # A frame that ends before its length does was not cut off: the length is wrong.
        if is_short or len(record) != plain_bytes:
            raise self._damage("a frame's length does not match")
        self.place += LENGTHS.size + packed_bytes
        return record

    def close(self) -> None:
        """Close the segment; closing twice is fine."""
        self._file.close()

    def _damage(self, what: str) -> SourceError:
        return SourceError(what, where=f"{self._path}, byte {self.place}", hint=DAMAGE_HINT)
