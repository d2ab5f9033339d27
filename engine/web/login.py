"""Who is asking: a password or a token in the Authorization header, compared in constant time.

A bcrypt hash takes its time, so passwords are looked at in a thread of their own, few at a time, and one
that was right is remembered by a keyed hash of the header. An unknown user costs as much as a known one.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import bcrypt

if TYPE_CHECKING:
    from engine.web.web_file import Access

PASSWORD_BYTES_MAX = 72  # bcrypt looks no further
REMEMBERED_MAX = 64
WAITING_MAX = 4  # passwords under way or waiting; more are refused


class BusyError(Exception):
    """Too many passwords are being looked at."""


class Login:
    """Says whether a header names somebody who may come in. Belongs to the event loop's thread."""

    def __init__(self, access: Access) -> None:
        """Know the users and the token."""
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="password")
        self._key = secrets.token_bytes(32)
        self.take(access)

    def take(self, access: Access) -> None:
        """Take users and token anew; nobody who was let in before is remembered."""
        self._access = access
        self._remembered: set[bytes] = set()
        self._waiting = 0

    async def is_known(self, header: str) -> bool:
        """Look at an Authorization header; raises `BusyError`."""
        kind, _, given = header.partition(" ")
        if kind.lower() == "bearer":
            return bool(self._access.token) and self._is_same(given.strip(), self._access.token)
        if kind.lower() != "basic" or not self._access.users:
            return False
        digest = self._digest(given)
        if any(hmac.compare_digest(digest, one) for one in self._remembered):
            return True
        try:
            name, colon, password = base64.b64decode(given.strip(), validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        if not colon or len(password) > PASSWORD_BYTES_MAX or b"\0" in password:
            return False
        return await self._has_password(name, password, digest)

    async def _has_password(self, name: bytes, password: bytes, digest: bytes) -> bool:
        if self._waiting >= WAITING_MAX:
            raise BusyError
        remembered = self._remembered
        users = self._access.users
        hashed = users.get(name.decode("utf-8", "replace"))
        self._waiting += 1
        try:
            is_right = await asyncio.get_running_loop().run_in_executor(
                self._worker, bcrypt.checkpw, password, hashed or next(iter(users.values()))
            )
        finally:
            self._waiting -= 1
        if not is_right or hashed is None:
            return False
        if len(remembered) >= REMEMBERED_MAX:
            remembered.clear()
        remembered.add(digest)
        return True

    def _is_same(self, one: str, other: str) -> bool:
        return hmac.compare_digest(self._digest(one), self._digest(other))

    def _digest(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode("utf-8", "replace"), key=self._key, digest_size=32).digest()

    def close(self) -> None:
        """Let go of the thread."""
        self._worker.shutdown(wait=False, cancel_futures=True)
