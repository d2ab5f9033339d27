"""One address that we listen on: how many may connect, for how long, and when it refuses to be opened.

Off loopback there must be TLS, and a login or certificates of clients; `allow_insecure` overrides that for
networks that keep strangers out by other means, and `is_insecure` then says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import ssl
from typing import TYPE_CHECKING, NamedTuple, cast

from aiohttp import web

from engine.addresses import split_listen
from engine.errors import DeliveryError
from engine.web.guard import HEADER_BYTES_MAX, USUAL_BOUNDS, Bounds, Guard, Route
from engine.web.handshake import Handshakes
from engine.web.web_file import Access, RenewableContext, make_context, read_access, refuse_insecure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

STOP_S = 2.0  # for requests under way at shutdown
IDLE_S_MAX = 75.0  # of a connection without a whole request, longer than the usual time between two scrapes
LINGER_S = 0.5  # how long the body of a request that was answered is read

log = logging.getLogger(__name__)
# aiohttp logs what it cannot parse, word for word: anything that a stranger sends.
SILENT = logging.getLogger(f"{__name__}.requests")
SILENT.setLevel(logging.CRITICAL + 1)


class Fresh(NamedTuple):
    """What a listener has read anew and found right, to be taken."""

    access: Access
    context: ssl.SSLContext | None
    missing: str  # what keeps strangers out and is not there, off loopback


class Listener:
    """Serves routes on one address; `address` is where it listens once started (of interest for port 0)."""

    def __init__(
        self, key: str, listen: str, files: tuple[str, str], *, allow_insecure: bool,
        bounds: Bounds = USUAL_BOUNDS,
    ) -> None:  # fmt: skip
        """Open nothing yet; `key` is the setting, such as `web.listen`, `files` those of TLS and token."""
        self.address = listen
        self.is_insecure = False
        self.connections_refused = 0
        self.guard: Guard | None = None
        self._where = f"{key}: {listen}"
        self._token_setting = key.replace("listen", "token_file")
        self._listen = listen
        self._files = files
        self._bounds = bounds
        self._allow_insecure = allow_insecure
        self._context: RenewableContext | None = None
        self._handshakes: Handshakes | None = None  # with TLS
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    async def start(self, routes: Iterable[Route]) -> None:
        """Listen; raises DeliveryError when the address is not allowed, not valid, or taken."""
        host, port = parse_listen(self._listen, self._where)
        fresh = self._read()
        if fresh.context is not None:
            self._context = RenewableContext(ssl.PROTOCOL_TLS_SERVER)
            self._handshakes = Handshakes(self._context, self._bounds.handshake_s_max)
        self.guard = Guard(routes, fresh.access, self._bounds)
        self.take(fresh)
        self._runner = runner = web.AppRunner(
            self.guard.application(), access_log=None, handle_signals=False, shutdown_timeout=STOP_S,
            keepalive_timeout=IDLE_S_MAX, lingering_time=LINGER_S, max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX, auto_decompress=False, logger=SILENT,
        )  # fmt: skip
        await runner.setup()
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._connected, host, port, reuse_address=True
            )
        except OSError as error:
            await self.close()
            raise _cannot_listen(self._where, error) from error
        bound_host, bound_port, *_ = self._server.sockets[0].getsockname()
        self.address = f"[{bound_host}]:{bound_port}" if ":" in bound_host else f"{bound_host}:{bound_port}"
        log.info("listening on %s://%s", "https" if self._context else "http", self.address)

    def read_anew(self) -> Fresh | None:
        """Read certificates, users and token anew; DeliveryError or SettingsError if they are no use.

        Whether there is TLS at all stays as it was at the start. None: the listener is not open.
        """
        if self.guard is None:
            return None
        fresh = self._read()
        if (fresh.context is None) != (self._context is None):
            raise DeliveryError("TLS is switched on or off only at a start", where=self._where)
        return fresh

    def take(self, fresh: Fresh) -> None:
        """Let in whom the new files let in; connections that are open go on."""
        if self._context is not None and fresh.context is not None:
            self._context.newest = fresh.context
        if self.guard is not None:
            self.guard.take(fresh.access)
        self.is_insecure = bool(fresh.missing)
        if fresh.missing:
            log.warning("%s is open to the network without %s", self._where, fresh.missing)

    async def close(self) -> None:
        """Stop listening, and wait a moment for requests under way."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._handshakes is not None:
            await self._handshakes.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self.guard is not None:
            self.guard.close()

    @property
    def connections(self) -> int:
        """Count those that are open, also before the end of their handshake."""
        server = self._runner.server if self._runner else None
        served = server.connections if server else []
        return len({*served, *self._handshakes.protocols} if self._handshakes else served)

    def _connected(self) -> asyncio.BaseProtocol:
        """Take a connection, or drop it at once when there are too many."""
        if self._handshakes is not None:
            return _Accepted(self._begin_tls)
        if not self._has_room():
            return _Accepted(None)
        return self._protocol()

    def _begin_tls(self, accepted: asyncio.BaseTransport) -> None:
        assert self._handshakes is not None, "there is TLS"
        if self._runner is None or not self._has_room():
            return
        try:
            self._handshakes.begin(accepted, self._protocol())
        except OSError:  # There is no descriptor left.
            self.connections_refused += 1

    def _has_room(self) -> bool:
        if self.connections < self._bounds.connections_max:
            return True
        self.connections_refused += 1
        return False

    def _protocol(self) -> asyncio.Protocol:
        assert self._runner is not None, "there is a runner before connections"
        server = self._runner.server
        assert server is not None, "setup comes first"
        return server()

    def _read(self) -> Fresh:
        host, _ = parse_listen(self._listen, self._where)
        access = read_access(*self._files, self._token_setting)
        missing = refuse_insecure(access, host, self._where, allow_insecure=self._allow_insecure)
        context = make_context(access.tls) if access.tls else None
        return Fresh(access, context, missing)


class _Accepted(asyncio.Protocol):
    """A connection that is left before anything is read: dropped, unless TLS takes over its socket."""

    def __init__(self, take_over: Callable[[asyncio.BaseTransport], None] | None) -> None:
        self._take_over = take_over

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        try:
            if self._take_over is not None:
                self._take_over(transport)
        finally:
            with contextlib.suppress(OSError):
                cast("asyncio.Transport", transport).abort()


def parse_listen(listen: str, where: str) -> tuple[str, int]:
    """Split `host:port` or `[v6]:port`; raises DeliveryError."""
    place = split_listen(listen)
    if place is None:
        hint = "write it as host:port, such as 127.0.0.1:9810 or [::1]:9810"
        raise DeliveryError("not an address to listen on", where=where, hint=hint)
    return place


def _cannot_listen(where: str, error: OSError) -> DeliveryError:
    if error.errno == errno.EADDRINUSE:
        return DeliveryError(
            "the port is in use",
            where=where,
            hint="another callgauge may be running (ss -ltnp shows who listens); choose another port",
        )
    hint = "is the address one of this machine, and the port one that this user may open?"
    return DeliveryError("cannot listen", where=where, cause=str(error), hint=hint)
