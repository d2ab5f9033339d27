"""Lines that are appended to a file of bounded size: a full one becomes `<path>.1`, replacing the one before.

The file is opened for each append and closed again: appends are rare, and so a rotated, deleted or remounted
file needs no care. Lines are written whole, by one call, to a file that only its owner may read. Nothing here
may stop the engine: what cannot be written is counted and logged, once for each cause.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MODE = 0o600
# Without O_NONBLOCK a pipe that nobody reads would hold the engine up.
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

log = logging.getLogger(__name__)


class LineFile:
    """Two files of `bytes_max` at most; `what` is how the log calls them. A write is short, and blocks."""

    def __init__(self, path: str, bytes_max: int, what: str) -> None:
        """Open nothing."""
        self.written = self.failed = 0  # lines
        self._path = path
        self._bytes_max = bytes_max
        self._what = what
        self._is_line_open = False
        self._trouble = ""

    def append(self, lines: Sequence[bytes]) -> None:
        """Write lines, each with its end; never raises."""
        try:
            self._write(b"".join(lines))
        except OSError as error:
            self.fail(len(lines), str(error))
        else:
            self.written += len(lines)
            self._trouble = ""

    def fail(self, lines: int, trouble: str) -> None:
        """Count lines that are not in the file, and say why if it is another reason than the last one."""
        self.failed += lines
        if trouble != self._trouble:
            self._trouble = trouble
            log.warning("the %s %s cannot be written: %s", self._what, self._path, trouble)

    def _write(self, data: bytes) -> None:
        descriptor = self._open()
        try:
            size = os.fstat(descriptor).st_size
            if size and size + len(data) > self._bytes_max:
                Path(self._path).replace(self._path + ".1")
                os.close(descriptor)
                descriptor = -1
                descriptor = self._open()
            if self._is_line_open:  # A full disk cut the line before: end it, so that only that one is lost.
                data = b"\n" + data
            written = os.write(descriptor, data)
            self._is_line_open = written < len(data) and (written > 0 or self._is_line_open)
            if written < len(data):
                raise OSError("no room for the whole of it")
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _open(self) -> int:
        descriptor = os.open(self._path, FLAGS, MODE)
        try:
            _restrict(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def _restrict(descriptor: int) -> None:
    """Leave the file to its owner; a device such as /dev/null must not lose the rights that others need."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError("not a regular file")
    os.fchmod(descriptor, MODE)
