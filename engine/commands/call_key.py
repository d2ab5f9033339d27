"""The key that hides call ids, where no file of settings names one: `call.key`, beside the checkpoints.

It belongs to them: under another one no call of a checkpoint is known again. So one that is there and cannot
be used stays as long as the checkpoints made under it, and gives way, set aside, to the key of the next one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from engine.app import HASH_KEY_BYTES, read_hash_key
from engine.errors import UsageError
from engine.state.durable import sync_folder, write_new

if TYPE_CHECKING:
    from pathlib import Path

KEY_FILE = "call.key"
BAD = ".bad"


class CallKey:
    """That of one folder."""

    def __init__(self, folder: Path) -> None:
        """Touch nothing."""
        self._path = folder / KEY_FILE
        self._key = b""
        self._is_kept = False

    def open(self) -> tuple[bytes, str]:
        """Give the key, and what is wrong with it; the first start makes it. Blocks, never raises."""
        is_there = os.path.lexists(self._path)
        try:
            self._key = read_hash_key(str(self._path), b"")
            self._is_kept = True
        except UsageError as error:
            self._key = secrets.token_bytes(HASH_KEY_BYTES)
            if is_there:
                return self._key, f"calls are hidden under a new key: {error}"
        return self._key, self.keep()

    def keep(self) -> str:
        """See that the key lies in the folder, say why not; what is there in its place is set aside."""
        if not self._key or (self._is_kept and os.path.lexists(self._path)):
            return ""
        try:
            with contextlib.suppress(FileNotFoundError):
                self._path.replace(self._path.with_name(KEY_FILE + BAD))
            write_new(self._path, [self._key.hex().encode() + b"\n"])
            self._is_kept = True
            sync_folder(self._path.parent)
        except OSError as error:
            return f"the key of call ids could not be kept: {error.strerror or error}"
        return ""
