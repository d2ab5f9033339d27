"""What every request must pass before a handler sees it: a policy, a login, and bounds.

Each route of a listener names its policy in the table that it is registered from; a route that has none is
refused, and a test walks the router for them. Before the login nothing is told apart: a path that does not
exist asks for it as well.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from engine.web.login import BusyError, Login

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from aiohttp.typedefs import Middleware

    from engine.web.web_file import Access

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_BYTES_MAX = 16 * 1024
HEADER_BYTES_MAX = 8 * 1024
PIECE_BYTES = 128 * 1024  # more than aiohttp writes without a look at whether it is taken
CHALLENGE = {"WWW-Authenticate": 'Basic realm="callgauge", charset="UTF-8"', "Cache-Control": "no-store"}
KNOWN = web.RequestKey("known", bool)  # who asks has a login, or none is asked for

log = logging.getLogger(__name__)


class Policy(Enum):
    """Who may use a route."""

    OPEN = "open"  # whoever reaches the port; says nothing but that we live
    READ = "read"  # whoever has a login of the listener; changes nothing
    ADMIN = "admin"  # has an effect: on the admin listener alone, and never by GET


class Route(NamedTuple):
    """One route of a listener; GET answers HEAD as well."""

    method: str
    path: str
    handler: Handler
    policy: Policy


class Bounds(NamedTuple):
    """What one listener takes on."""

    connections_max: int = 256  # further ones are dropped, and counted
    request_s_max: float = 30.0  # for one answer, and again until the client has taken it
    handshake_s_max: float = 5.0  # of TLS


USUAL_BOUNDS = Bounds()


class Guard:
    """The middleware of one listener."""

    def __init__(self, routes: Iterable[Route], access: Access, bounds: Bounds = USUAL_BOUNDS) -> None:
        """Know the routes and who may use them."""
        self.routes = tuple(routes)
        self.access = access
        self.bounds = bounds
        self.login = Login(access)
        self.refused = 0  # requests without a right login
        self._policies = {(route.method, route.path): route.policy for route in self.routes}

    def application(self) -> web.Application:
        """Make an application of exactly these routes."""
        app = web.Application(client_max_size=REQUEST_BYTES_MAX, middlewares=[self._middleware()])
        for route in self.routes:
            if route.method == "GET":
                app.router.add_get(route.path, route.handler)
            else:
                app.router.add_route(route.method, route.path, route.handler)
        app.on_response_prepare.append(_say_little)
        return app

    def take(self, access: Access) -> None:
        """Take users and tokens anew."""
        self.access = access
        self.login.take(access)

    def close(self) -> None:
        """Let go of threads."""
        self.login.close()

    def policy_of(self, request: web.Request) -> Policy | None:
        """Give the policy of the route that a request is for; None: it has none."""
        resource = request.match_info.route.resource
        if resource is None:  # There is no such path, or not with this method.
            return Policy.READ
        method = "GET" if request.method == "HEAD" else request.method
        return self._policies.get((method, resource.canonical))

    def _middleware(self) -> Middleware:
        @web.middleware
        async def pass_guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                response = await self._answer(request, handler)
            except web.HTTPException as error:
                await self._send(request, error)
                raise
            return await self._send(request, response)

        return pass_guard

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        policy = self.policy_of(request)
        if policy is None:
            return web.Response(status=403, text="this route has no policy\n")
        try:
            is_known = not self.access.needs_login or await self._is_known(request)
        except BusyError:
            return web.Response(status=503, text="too many logins at once\n")
        if policy is not Policy.OPEN and not is_known:
            self.refused += 1
            return web.Response(status=401, text="callgauge asks for a login\n", headers=CHALLENGE)
        refusal = _beyond_bounds(request)
        if refusal is not None:
            return refusal
        request[KNOWN] = is_known
        try:
            async with asyncio.timeout(self.bounds.request_s_max):
                return await handler(request)
        except TimeoutError:
            return web.Response(status=503, text="that took too long\n")
        except web.HTTPException:
            raise
        except Exception as error:  # noqa: BLE001  # It costs one answer; its text may hold what was sent.
            log.error("an answer failed (%s): %s", policy.value, type(error).__name__)  # noqa: TRY400
            return web.Response(status=500, text="callgauge failed to answer\n")

    async def _send(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        """Send an answer; whoever does not take it loses the connection, or it would be held for ever."""
        transport = request.transport
        if transport is None:
            return response
        transport.set_write_buffer_limits(1, 0)  # Sent is what the machine took; TLS stalls at (0, 0).
        try:
            async with asyncio.timeout(self.bounds.request_s_max):
                return await _sent(request, response)
        except TimeoutError:
            transport.abort()
        return response

    async def _is_known(self, request: web.Request) -> bool:
        header = request.headers.get("Authorization", "")
        return bool(header) and await self.login.is_known(header)


async def _sent(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Send it; a long body in pieces, as TLS takes over a whole one at once, and says that it is sent."""
    body = response.body if isinstance(response, web.Response) and request.method != "HEAD" else None
    if not isinstance(body, bytes) or len(body) <= PIECE_BYTES:
        await response.prepare(request)
        await response.write_eof()
        return response
    answer = web.StreamResponse(status=response.status, headers=response.headers)
    answer.content_length = len(body)
    await answer.prepare(request)
    for start in range(0, len(body), PIECE_BYTES):
        await answer.write(body[start : start + PIECE_BYTES])
    await answer.write_eof()
    return answer


def _beyond_bounds(request: web.Request) -> web.Response | None:
    """Refuse bodies that are too long, of unknown length or packed; no route reads any."""
    if (request.content_length or 0) > REQUEST_BYTES_MAX:
        return web.Response(status=413, text="the request is too large\n")
    if "Transfer-Encoding" in request.headers:
        return web.Response(status=411, text="say how long the request is\n")
    if "Content-Encoding" in request.headers:
        return web.Response(status=415, text="requests are taken as they are, without an encoding\n")
    return None


async def _say_little(_: web.Request, response: web.StreamResponse) -> None:
    """Name no versions, and let no browser guess what an answer is."""
    response.headers["Server"] = "callgauge"
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
