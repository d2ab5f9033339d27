"""Secrets, each alone in a file: settings hold the name of the file, and nothing here ends up in a message.

What a caller needs is the text without the line break at its end. A file that every user of the machine may
read is told once: a deployment that mounts secrets so goes on, and its owner knows.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

SECRET_BYTES_MAX = 4096
_told: set[str] = set()

log = logging.getLogger(__name__)


class SecretError(Exception):
    """A secret cannot be read; the text says why, and holds nothing of what is in the file."""


def read_secret(path: str) -> str:
    """Read a secret; raises `SecretError`."""
    try:
        with Path(path).open("rb") as file:
            is_open_to_all = os.fstat(file.fileno()).st_mode & stat.S_IROTH
            data = file.read(SECRET_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        raise SecretError(getattr(error, "strerror", None) or type(error).__name__) from None
    if len(data) > SECRET_BYTES_MAX:
        raise SecretError(f"the file is larger than {SECRET_BYTES_MAX} bytes")
    try:
        text = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretError("the file is not UTF-8 text") from None
    if not text or any(ord(char) < ord(" ") for char in text):
        raise SecretError("the file holds more than one line, or nothing")
    if is_open_to_all and path not in _told:
        _told.add(path)
        log.warning("%s can be read by every user of this machine; chmod 600 it", path)
    return text
