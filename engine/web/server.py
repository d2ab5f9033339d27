"""Our own HTTP server: where it listens, and when it refuses to.

It listens on loopback unless told otherwise. Off loopback it refuses to start, since there is neither TLS nor
a password yet and anybody could reload settings or read who is near a limit; `web.allow_insecure` overrides
that for networks that keep strangers out by other means.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING

from aiohttp import web

from engine.addresses import is_loopback, split_listen
from engine.errors import DeliveryError
from engine.web.routes import Routes, Sources

if TYPE_CHECKING:
    from engine.settings import WebSettings

REQUEST_BYTES_MAX = 16 * 1024
STOP_S = 2.0  # for requests under way at shutdown

log = logging.getLogger(__name__)


class WebServer:
    """Serves `Routes`; `address` is where it listens once started (of interest for port 0)."""

    def __init__(self, settings: WebSettings, sources: Sources) -> None:
        self._settings = settings
        self._routes = Routes(sources, enable_reload=settings.enable_reload)
        self._runner: web.AppRunner | None = None
        self.address = settings.listen

    async def start(self) -> None:
        """Listen; raises DeliveryError when the address is not allowed, not valid, or taken."""
        host, port = parse_listen(self._settings.listen)
        if not self._settings.allow_insecure and not is_loopback(host):
            raise DeliveryError(
                "the HTTP server would be open to the network without TLS or a password",
                where=f"web.listen: {self._settings.listen}",
                hint="listen on 127.0.0.1 and put a proxy in front, or set web.allow_insecure: true",
            )
        app = web.Application(client_max_size=REQUEST_BYTES_MAX)
        app.add_routes(self._routes.table())
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=STOP_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            raise _cannot_listen(self._settings.listen, error) from error
        self._runner = runner
        bound_host, bound_port, *_ = runner.addresses[0]
        self.address = f"[{bound_host}]:{bound_port}" if ":" in bound_host else f"{bound_host}:{bound_port}"
        log.info("listening on http://%s", self.address)

    async def close(self) -> None:
        """Stop listening, and wait a moment for requests under way."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self._routes.close()


def parse_listen(listen: str) -> tuple[str, int]:
    """Split `host:port` or `[v6]:port`; raises DeliveryError."""
    place = split_listen(listen)
    if place is None:
        hint = "write it as host:port, such as 127.0.0.1:9810 or [::1]:9810"
        raise DeliveryError("not an address to listen on", where=f"web.listen: {listen}", hint=hint)
    return place


def _cannot_listen(listen: str, error: OSError) -> DeliveryError:
    if error.errno == errno.EADDRINUSE:
        return DeliveryError(
            "the port is in use",
            where=f"web.listen: {listen}",
            hint="another callgauge may be running (ss -ltnp shows who listens); choose another port",
        )
    hint = "is the address one of this machine, and the port one that this user may open?"
    return DeliveryError("cannot listen", where=f"web.listen: {listen}", cause=str(error), hint=hint)
