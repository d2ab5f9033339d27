"""Our own HTTP server: what only reads on one listener, what has an effect on another, off by default.

Both listen on loopback unless told otherwise; `engine/web/listener.py` says when they refuse to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.deliver.metrics import WebStats
from engine.web.admin import AdminRoutes
from engine.web.listener import Listener
from engine.web.routes import Routes, Sources

if TYPE_CHECKING:
    from engine.settings import WebSettings


class WebServer:
    """Serves `Routes`, and `AdminRoutes` where `web.admin_listen` says."""

    def __init__(self, settings: WebSettings, sources: Sources) -> None:
        self._routes = Routes(sources)
        self._admin = AdminRoutes(sources.reload)
        insecure = settings.allow_insecure
        files = settings.config_file, settings.token_file
        self.main = Listener("web.listen", settings.listen, files, allow_insecure=insecure)
        files = settings.admin_config_file, settings.admin_token_file
        self.admin = Listener("web.admin_listen", settings.admin_listen, files, allow_insecure=insecure)
        self._has_admin = bool(settings.admin_listen)

    @property
    def address(self) -> str:
        """Where the main listener is."""
        return self.main.address

    async def start(self) -> None:
        """Listen; raises DeliveryError when an address is not allowed, not valid, or taken."""
        await self.main.start(self._routes.table())
        if self._has_admin:
            try:
                await self.admin.start(self._admin.table())
            except BaseException:
                await self.close()
                raise

    def reload(self) -> None:
        """Read certificates, users and tokens anew; raises CallgaugeError, and all the old ones stay."""
        read = [(listener, listener.read_anew()) for listener in (self.main, self.admin)]
        for listener, fresh in read:
            if fresh is not None:
                listener.take(fresh)

    def stats(self) -> WebStats:
        """Give the counters as they stand."""
        listeners = (("main", self.main), ("admin", self.admin))
        return WebStats(
            tuple((name, one.is_insecure) for name, one in listeners),
            sum(one.guard.refused for _, one in listeners if one.guard),
            sum(one.connections_refused for _, one in listeners),
        )

    async def close(self) -> None:
        """Stop listening, and wait a moment for requests under way."""
        await self.main.close()
        await self.admin.close()
        self._routes.close()
