"""Who may do what over HTTP: every route that the router has, by every kind of caller.

The tables are made from the running applications, so a route that is added without a policy fails here.
"""

import asyncio
import base64
import contextlib
import itertools
import os
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from engine.errors import DeliveryError, SettingsError
from engine.secret_file import SECRET_BYTES_MAX
from engine.web.admin import AdminRoutes
from engine.web.guard import REQUEST_BYTES_MAX, Bounds, Guard, Policy, Route
from engine.web.listener import Listener
from engine.web.login import PASSWORD_BYTES_MAX, REMEMBERED_MAX, WAITING_MAX, BusyError, Login
from engine.web.routes import Routes
from engine.web.web_file import Access
from tests.web_world import (
    PASSWORD,
    TOKEN,
    USER,
    World,
    as_user,
    basic,
    certified,
    hashed,
    running,
    secret_file,
    status_of,
    trusting,
    web_file,
)


def applications() -> dict[str, Guard]:
    world = World()
    return {
        "main": Guard(Routes(world.sources()).table(), Access()),
        "admin": Guard(AdminRoutes(world.reload).table(), Access()),
    }


def routed(guard: Guard) -> list[tuple[str, str, str]]:
    """List (method, pattern, an example path) of everything that the router answers."""
    found = []
    for route in guard.application().router.routes():
        assert route.resource is not None
        pattern = route.resource.canonical
        example = pattern.replace("{release}", "v2.0").replace("{fingerprint}", "0123456789abcdef")
        found.append((route.method, pattern, example))
    return found


ROUTES = [(name, *row) for name, guard in applications().items() for row in routed(guard)]


@pytest.mark.parametrize(("listener", "method", "pattern", "_path"), ROUTES)
def test_every_route_of_the_router_has_a_policy(listener: str, method: str, pattern: str, _path: str) -> None:
    guard = applications()[listener]
    asked = "GET" if method == "HEAD" else method

    policies = {(route.method, route.path): route.policy for route in guard.routes}

    assert (asked, pattern) in policies, "a route without a policy"
    policy = policies[asked, pattern]
    assert (policy is Policy.ADMIN) == (listener == "admin"), "what has an effect is on the admin listener"
    assert not (policy is Policy.ADMIN and asked in {"GET", "HEAD"}), "no GET has an effect"


def test_the_router_has_what_it_shall_have() -> None:
    """Or the tables above would be empty, and everything fine."""
    assert {"GET /metrics", "GET /-/healthy", "POST /-/reload", "POST /api/v1/releases/{release}/gate"} <= {
        f"{method} {pattern}" for _, method, pattern, _ in ROUTES
    }
    open_ones = {pattern for listener, method, pattern, _ in ROUTES
                 for route in applications()[listener].routes
                 if route.path == pattern and route.policy is Policy.OPEN}  # fmt: skip
    assert {"/-/healthy", "/-/ready"} == open_ones


async def test_a_route_without_a_policy_is_refused() -> None:
    """Forgotten in the table, there in the router: closed."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(text="should not be seen")

    guard = Guard([], Access())
    app = guard.application()
    app.router.add_get("/forgotten", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        address = "{}:{}".format(*runner.addresses[0][:2])
        assert 403 == await status_of(address, "GET", "/forgotten")
    finally:
        await runner.cleanup()
        guard.close()


LOGINS: dict[str, tuple[dict[str, str], bool]] = {
    "nobody": ({}, False),
    "user": ({"Authorization": basic(USER, PASSWORD)}, True),
    "token": ({"Authorization": f"Bearer {TOKEN}"}, True),
    "wrong password": ({"Authorization": basic(USER, "wrong")}, False),
    "no such user": ({"Authorization": basic("nobody", PASSWORD)}, False),
    "wrong token": ({"Authorization": f"Bearer {TOKEN}x"}, False),
    "empty token": ({"Authorization": "Bearer "}, False),
    "another scheme": ({"Authorization": f"Digest {TOKEN}"}, False),
    "no base64": ({"Authorization": "Basic ***"}, False),
    "no colon": ({"Authorization": "Basic " + base64.b64encode(b"prometheus").decode()}, False),
    "a hash as password": ({"Authorization": basic(USER, hashed(PASSWORD))}, False),
    "too long": ({"Authorization": "Basic " + "A" * 4000}, False),
    "longer than bcrypt looks": ({"Authorization": basic(USER, "x" * (PASSWORD_BYTES_MAX + 1))}, False),
    "the same to bcrypt": ({"Authorization": basic(USER, f"{PASSWORD}\0{PASSWORD}")}, False),
}


async def test_every_route_by_every_caller(tmp_path: Path) -> None:
    """401 for all who have no login, on every route but the open ones, also where there is no route."""
    files = {
        "config_file": web_file(tmp_path, {USER: PASSWORD}),
        "token_file": secret_file(tmp_path, "token", TOKEN),
    }
    files |= {f"admin_{name}": text for name, text in files.items()}
    world = World()
    rows = [*ROUTES, ("main", "GET", "/nowhere", "/nowhere"), ("main", "DELETE", "/metrics", "/metrics"),
            ("admin", "GET", "/-/reload", "/-/reload"),
            ("main", "POST", "/-/reload", "/-/reload")]  # fmt: skip
    wrong = []
    async with running(world, **files) as server:
        policies = {
            (name, route.method, route.path): route.policy
            for name, one in (("main", server.main), ("admin", server.admin))
            for route in (one.guard.routes if one.guard else ())
        }
        for (listener, method, pattern, path), who in itertools.product(rows, LOGINS):
            headers, is_known = LOGINS[who]
            address = getattr(server, listener).address
            status = await status_of(address, method, path, headers=headers)
            policy = policies.get((listener, "GET" if method == "HEAD" else method, pattern))
            may_pass = is_known or policy is Policy.OPEN
            if (status == 401) == may_pass:
                wrong.append((listener, method, pattern, who, status))
        refused = server.stats().logins_refused
    assert [] == wrong
    assert refused > len(ROUTES)
    assert 4 == world.reloads, "POST and PUT, by user and by token; no GET and nobody else"


async def test_a_token_as_long_as_its_file_may_be_lets_in(tmp_path: Path) -> None:
    """What is accepted at the start is known when it comes."""
    token = "t" * (SECRET_BYTES_MAX - 1)  # And a line break.
    files = {"token_file": secret_file(tmp_path, "token", token)}
    async with running(World(), **files) as server:
        for given, status in ((token, 200), (token[1:], 401)):
            headers = {"Authorization": f"Bearer {given}"}
            assert status == await status_of(server.main.address, "GET", "/metrics", headers=headers)


async def test_one_listener_does_not_take_the_logins_of_the_other(tmp_path: Path) -> None:
    """Whoever scrapes may not reload."""
    other = tmp_path / "admin"
    other.mkdir()
    world = World()
    async with running(
        world,
        config_file=web_file(tmp_path, {USER: PASSWORD}),
        admin_config_file=web_file(other, {"operator": "another-password"}),
    ) as server:
        headers = as_user(USER, PASSWORD)
        assert 200 == await status_of(server.main.address, "GET", "/metrics", headers=headers)
        assert 401 == await status_of(server.admin.address, "POST", "/-/reload", headers=headers)
    assert 0 == world.reloads


async def test_readiness_tells_strangers_no_reason(tmp_path: Path) -> None:
    world = World()
    world.not_ready = "waiting for Kafka"
    async with (
        running(world, config_file=web_file(tmp_path, {USER: PASSWORD})) as server,
        aiohttp.ClientSession(f"http://{server.address}") as session,
    ):
        async with session.get("/-/ready") as answer:
            assert (503, False) == (answer.status, "Kafka" in await answer.text())
        async with session.get("/-/ready", headers=as_user(USER, PASSWORD)) as answer:
            assert "Kafka" in await answer.text()


async def test_reload_is_off_unless_there_is_an_admin_listener_and_never_for_browsers() -> None:
    world = World()
    async with running(world, admin_listen="") as server:
        assert 404 == await status_of(server.address, "POST", "/-/reload")
        assert server.admin.guard is None
    async with running(world) as server:
        headers = {"Origin": "https://elsewhere.example"}
        assert 403 == await status_of(server.admin.address, "POST", "/-/reload", headers=headers)
        assert 405 == await status_of(server.admin.address, "GET", "/-/reload")
        assert 0 == world.reloads
        assert 200 == await status_of(server.admin.address, "PUT", "/-/reload")
        world.reload_error = SettingsError("wrong", where="limits.yaml", problems=("limits[0].kind: bad",))
        assert 500 == await status_of(server.admin.address, "POST", "/-/reload")
    assert 1 == world.reloads


async def test_bodies_that_are_too_long_or_packed_are_refused() -> None:
    """No route reads a body: none is expanded, and none of unknown length is waited for."""
    gate = "/api/v1/releases/v2.0/gate"

    async def endless() -> Any:
        yield b"x"

    async with running(World()) as server:
        assert 413 == await status_of(server.address, "POST", gate, data=b"x" * (REQUEST_BYTES_MAX + 1))
        assert 411 == await status_of(server.address, "POST", gate, data=endless())
        headers = {"Content-Encoding": "gzip"}
        assert 415 == await status_of(server.address, "POST", gate, data=b"x", headers=headers)
        assert 200 == await status_of(server.address, "POST", gate, data=b"x" * REQUEST_BYTES_MAX)
        assert 400 == await status_of(server.address, "GET", "/", headers={"X-Long": "x" * 20_000})


async def test_an_answer_that_takes_too_long_is_given_up() -> None:
    async def forever(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    bounds = Bounds(request_s_max=0.05)
    listener = Listener("web.listen", "127.0.0.1:0", ("", ""), allow_insecure=False, bounds=bounds)
    await listener.start([Route("GET", "/slow", forever, Policy.READ)])
    try:
        assert 503 == await status_of(listener.address, "GET", "/slow")
    finally:
        await listener.close()


@pytest.mark.parametrize("has_tls", [False, True])
async def test_an_answer_that_is_not_taken_is_not_held(tmp_path: Path, *, has_tls: bool) -> None:
    """Its connection is cut; a client that reads gets all of it, over one connection."""
    size = 20_000_000

    async def big(_: web.Request) -> web.Response:
        return web.Response(body=bytes(size))

    file = web_file(tmp_path, {}, certified("server")) if has_tls else ""
    bounds = Bounds(request_s_max=1.0)
    listener = Listener("web.listen", "127.0.0.1:0", (file, ""), allow_insecure=False, bounds=bounds)
    await listener.start([Route("GET", "/big", big, Policy.READ)])
    host, _, port = listener.address.rpartition(":")
    trust = trusting() if has_tls else None
    _, idle = await asyncio.open_connection(host, int(port), ssl=trust, limit=1024)
    idle.write(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        await asyncio.sleep(0.3)
        assert 1 == listener.connections
        scheme = "https" if has_tls else "http"
        async with aiohttp.ClientSession(f"{scheme}://{listener.address}") as session:
            for _ in range(2):
                async with session.get("/big", ssl=trust or True) as answer:
                    assert size == len(await answer.read())
        await asyncio.sleep(1.5)
        assert 0 == listener.connections
    finally:
        idle.transport.abort()
        await listener.close()


async def test_too_many_connections_are_dropped_and_counted() -> None:
    """Those that are open go on."""
    routes = Routes(World().sources())
    listener = Listener(
        "web.listen", "127.0.0.1:0", ("", ""), allow_insecure=False, bounds=Bounds(connections_max=4)
    )
    await listener.start(routes.table())
    host, _, port = listener.address.rpartition(":")
    opened = [await asyncio.open_connection(host, int(port)) for _ in range(8)]
    for _, writer in opened:
        writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
    answered = 0
    for reader, _ in opened:
        with contextlib.suppress(ConnectionError):
            answered += (await reader.read(12)).startswith(b"HTTP/1.1 200")
    assert (4, 4) == (answered, listener.connections_refused)
    for _, writer in opened:
        writer.close()
    await listener.close()
    routes.close()


async def test_a_flood_of_passwords_is_refused() -> None:
    """Each takes a while of a processor: only so many wait."""
    login = Login(Access(users={USER: hashed(PASSWORD).encode()}))
    headers = [basic(USER, str(number)) for number in range(WAITING_MAX + 3)]

    answers = await asyncio.gather(*map(login.is_known, headers), return_exceptions=True)

    assert 3 == sum(isinstance(one, BusyError) for one in answers)
    assert WAITING_MAX == answers.count(False)
    login.close()


async def test_a_password_is_looked_at_once() -> None:
    """Bcrypt takes its time, and a scraper comes every few seconds."""
    access = Access(users={USER: hashed(PASSWORD).encode()})
    login = Login(access)
    header = basic(USER, PASSWORD)
    assert await login.is_known(header)
    login._access = access._replace(users={USER: b"unreadable, if anybody looked"})
    assert await login.is_known(header)
    login.take(access._replace(users={USER: hashed("another").encode()}))
    assert not await login.is_known(header)
    login.close()


async def test_one_password_written_in_many_ways_is_not_remembered_without_bound() -> None:
    """Each is another header."""
    login = Login(Access(users={USER: hashed(PASSWORD).encode()}))
    kind, _, given = basic(USER, PASSWORD).partition(" ")
    for blanks in range(1, REMEMBERED_MAX + 4):
        assert await login.is_known(kind + " " * blanks + given)
        assert 1 <= len(login._remembered) <= REMEMBERED_MAX
    login.close()


async def test_a_request_that_is_no_http_leaves_nothing_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """What strangers send may be anything, also what looks like a line of the log."""
    secret = "+4915223456789"
    async with running(World()) as server:
        host, _, port = server.address.rpartition(":")
        for text in (
            secret,
            f"GET /{secret} NONSENSE",
            "GET / HTTP/1.1\r\nBad Header: x",
            f"GET / HTTP/1.1\r\n{secret}\x00: y",
            f"GET /\x1b[31m{secret} HTTP/1.1",
        ):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(f"{text}\r\n\r\n".encode())
            answer = await reader.read(65536)
            assert secret.encode() not in answer.split(b"\r\n\r\n")[0]
            writer.close()
    assert secret not in caplog.text
    assert os.linesep + "level=" not in caplog.text


async def test_a_handler_that_fails_costs_one_answer_and_tells_no_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()

    async def failing(request: web.Request) -> web.Response:
        raise ValueError(f"of {request.query_string}")

    listener = Listener("web.listen", "127.0.0.1:0", ("", ""), allow_insecure=False)
    await listener.start([Route("GET", "/failing", failing, Policy.READ)])
    try:
        async with (
            aiohttp.ClientSession(f"http://{listener.address}") as session,
            session.get("/failing?planted-secret") as answer,
        ):
            assert (500, "callgauge failed to answer\n") == (answer.status, await answer.text())
    finally:
        await listener.close()
    assert "ValueError" in caplog.text
    assert "planted-secret" not in caplog.text
    assert 0 == world.reloads


async def test_an_address_in_use_closes_the_other_listener() -> None:
    """Neither is left behind when the second one fails."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        admin = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(DeliveryError, match=r"web\.admin_listen.*in use"):
            async with running(World(), admin_listen=admin):
                pass
