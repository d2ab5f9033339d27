"""Routes that have an effect, on a listener of their own with users of its own. None of them is a GET."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from engine.errors import CallgaugeError
from engine.web.guard import Policy, Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class AdminRoutes:
    """Handlers; `reload` raises CallgaugeError when the old settings stay."""

    def __init__(self, reload: Callable[[], Awaitable[None]]) -> None:
        self._reload = reload

    def table(self) -> list[Route]:
        """List method, path, handler and policy."""
        return [
            Route("POST", "/-/reload", self.reload, Policy.ADMIN),
            Route("PUT", "/-/reload", self.reload, Policy.ADMIN),
        ]

    async def reload(self, request: web.Request) -> web.Response:
        """Take over limits, decline rules and certificates anew; on an error the old ones stay in force."""
        if "Origin" in request.headers:
            # A page in somebody's browser can post to a loopback address; no tool sends this header.
            return web.Response(status=403, text="reloading from a browser is not allowed\n")
        try:
            await self._reload()
        except CallgaugeError as error:
            return web.Response(status=500, text=f"not reloaded, the old settings stay: {error}\n")
        return web.Response(text="reloaded\n")
