"""Connections of TLS before their handshake is over: as few as any, counted, and gone however they end."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from engine.web.guard import Bounds
from engine.web.listener import Listener
from engine.web.routes import Routes
from tests.web_world import World, authority, certified, status_of, trusting, web_file

CONNECTIONS_MAX = 4
RUNS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])

Run = Callable[[Coroutine[Any, Any, None]], None]


@contextlib.asynccontextmanager
async def listening(folder: Path, handshake_s_max: float = 30.0) -> AsyncIterator[Listener]:
    """Listen with TLS, for clients with a certificate alone."""
    tls = {**certified("server"), "client_auth_type": "RequireAndVerifyClientCert",
           "client_ca_file": str(authority() / "ca.pem")}  # fmt: skip
    bounds = Bounds(CONNECTIONS_MAX, handshake_s_max=handshake_s_max)
    routes = Routes(World().sources())
    files = (web_file(folder, {}, tls), "")
    listener = Listener("web.listen", "127.0.0.1:0", files, allow_insecure=False, bounds=bounds)
    await listener.start(routes.table())
    try:
        yield listener
    finally:
        await listener.close()
        routes.close()


async def strangers(listener: Listener, number: int) -> list[socket.socket]:
    """Connect without a word, and wait until each was accepted or dropped."""
    host, _, port = listener.address.rpartition(":")
    made = [socket.create_connection((host, int(port))) for _ in range(number)]
    before = listener.connections_refused + listener.connections
    await until(lambda: before + number <= listener.connections_refused + listener.connections)
    return made


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that the listener does."""
    for _ in range(500):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def health(listener: Listener) -> int:
    return await status_of(listener.address, "GET", "/-/healthy", trust=trusting("client"))


@RUNS
def test_strangers_who_make_no_handshake_are_bounded_counted_and_lose_their_place(
    run: Run, tmp_path: Path
) -> None:
    async def flood() -> None:
        async with listening(tmp_path, handshake_s_max=1.0) as listener:
            made = await strangers(listener, 3 * CONNECTIONS_MAX)
            assert (CONNECTIONS_MAX, 2 * CONNECTIONS_MAX) == (
                listener.connections, listener.connections_refused
            )  # fmt: skip
            await until(lambda: not listener.connections)
            assert 200 == await health(listener)
            for one in made:
                one.settimeout(1.0)
                with contextlib.suppress(ConnectionError):
                    assert b"" == one.recv(1)
                one.close()

    run(flood())


def reset(one: socket.socket) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


def half_a_hello(one: socket.socket) -> None:
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        trusting().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
    one.send(hello.read()[:40])
    one.close()


@RUNS
@pytest.mark.parametrize(
    "end", [socket.socket.close, reset, half_a_hello, lambda one: one.send(b"GET / HTTP/1.1\r\n\r\n")]
)
def test_a_handshake_that_fails_gives_its_place_back(
    end: Callable[[socket.socket], object], run: Run, tmp_path: Path
) -> None:
    """Long before its time is over."""

    async def fail() -> None:
        async with listening(tmp_path) as listener:
            for _ in range(3):
                made = await strangers(listener, CONNECTIONS_MAX)
                assert CONNECTIONS_MAX == listener.connections
                for one in made:
                    end(one)
                await until(lambda: not listener.connections)
                for one in made:
                    one.close()
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await status_of(listener.address, "GET", "/-/healthy", trust=trusting())
            await until(lambda: not listener.connections)
            assert 200 == await health(listener)
            assert 0 == listener.connections_refused

    run(fail())


@RUNS
def test_a_connection_takes_one_place_while_its_handshake_ends(run: Run, tmp_path: Path) -> None:
    async def connect() -> None:
        async with listening(tmp_path) as listener:
            host, _, port = listener.address.rpartition(":")
            seen = set()

            async def watch() -> None:
                while True:
                    seen.add(listener.connections)
                    await asyncio.sleep(0)

            watching = asyncio.create_task(watch())
            _, writer = await asyncio.open_connection(host, int(port), ssl=trusting("client"))
            await asyncio.sleep(0.05)
            writer.transport.abort()
            await until(lambda: not listener.connections)
            watching.cancel()
            assert {0, 1} == seen

    run(connect())


@RUNS
def test_a_listener_that_closes_ends_the_handshakes_under_way(run: Run, tmp_path: Path) -> None:
    async def close() -> None:
        async with listening(tmp_path) as listener:
            made = await strangers(listener, CONNECTIONS_MAX)
            async with asyncio.timeout(5):
                await listener.close()
            assert 0 == listener.connections
            for one in made:
                one.settimeout(1.0)
                assert b"" == one.recv(1)
                one.close()

    run(close())
