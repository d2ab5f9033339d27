"""Handshakes of TLS that are under way on one listener: each takes a place from when it is accepted.

asyncio tells a server of TLS of a connection only once its handshake is over. So connections are accepted
plain, and counted; then TLS takes over their socket. (`start_tls` on the plain connection would lose what is
read before it begins.)
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ssl


class _UnderWay(NamedTuple):
    protocol: asyncio.Protocol  # what the connection is for after its handshake
    sock: socket.socket


class Handshakes:
    """Those of one listener; one that fails or takes too long costs its connection, and nothing else."""

    def __init__(self, context: ssl.SSLContext, seconds_max: float) -> None:
        """Begin none yet."""
        self._context = context
        self._seconds_max = seconds_max
        self._under_way: dict[asyncio.Task[None], _UnderWay] = {}
        self._is_closed = False

    @property
    def protocols(self) -> set[asyncio.Protocol]:
        """What the connections are for; after its handshake one is served, and for a moment still here."""
        return {one.protocol for one in self._under_way.values()}

    def begin(self, accepted: asyncio.BaseTransport, protocol: asyncio.Protocol) -> None:
        """Begin TLS over the socket of a connection just accepted; OSError: there is no descriptor left."""
        if self._is_closed:
            return
        one = _UnderWay(protocol, accepted.get_extra_info("socket").dup())
        task = asyncio.get_running_loop().create_task(self._shake_hands(one))
        self._under_way[task] = one
        task.add_done_callback(self._under_way.pop)

    async def close(self) -> None:
        """End those that are under way."""
        self._is_closed = True
        for one in self._under_way.values():
            with contextlib.suppress(OSError):  # Closed already.
                one.sock.shutdown(socket.SHUT_RDWR)
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _shake_hands(self, one: _UnderWay) -> None:
        with contextlib.suppress(OSError):  # Of TLS as well, and that it took too long.
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: one.protocol, one.sock, ssl=self._context, ssl_handshake_timeout=self._seconds_max
            )
