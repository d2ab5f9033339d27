"""A web server over made-up sources, certificates for it, and requests to it."""

import base64
import contextlib
import functools
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt

from engine.decode.mask import PLAIN_MASK
from engine.judge.snapshot import Snapshot
from engine.settings import WebSettings
from engine.web.routes import Sources
from engine.web.server import WebServer
from tests.integration.servers import tool
from tests.process_folder import process_folder
from tests.snapshots import NS, WATERMARK_NS, a_snapshot

EXTERNAL_LABELS = {"cluster": "eu"}
USER, PASSWORD = "prometheus", "a-password-of-the-test"
TOKEN = "a-token-of-the-test-long-enough"


class World:
    """What the server is given; tests change it as they go."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = a_snapshot()
        self.not_ready = ""
        self.not_healthy = ""
        self.reloads = 0
        self.reload_error: Exception | None = None
        self.accepted: list[str] = []
        self.mask = PLAIN_MASK

    async def reload(self) -> None:
        if self.reload_error:
            raise self.reload_error
        self.reloads += 1

    def render(self, accept: str) -> tuple[bytes, str]:
        self.accepted.append(accept)
        return b"callgauge_up 1\n", "text/plain; version=0.0.4; charset=utf-8"

    def sources(self) -> Sources:
        return Sources(
            lambda: self.snapshot,
            self.render,
            lambda: self.not_ready,
            self.reload,
            EXTERNAL_LABELS,
            lambda: WATERMARK_NS + 7 * NS,
            lambda: self.not_healthy,
            self.mask.shown,
        )


@asynccontextmanager
async def running(world: World, **settings: Any) -> AsyncIterator[WebServer]:
    """Run a server with both listeners on free ports, unless `settings` say otherwise."""
    given = {"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", **settings}
    server = WebServer(WebSettings(**given), world.sources())
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def status_of(
    address: str, method: str, path: str, *, trust: ssl.SSLContext | None = None, **request: Any
) -> int:
    """Send one request over a connection of its own."""
    scheme = "https" if trust else "http"
    async with (
        aiohttp.ClientSession(f"{scheme}://{address}") as session,
        session.request(method, path, ssl=trust or True, **request) as answer,
    ):
        await answer.read()
        return answer.status


def basic(user: str, password: str) -> str:
    """Give an Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def as_user(user: str, password: str) -> dict[str, str]:
    """Give the headers of a user."""
    return {"Authorization": basic(user, password)}


def hashed(password: str) -> str:
    """Give the hash that a web file has for a password, as cheap as bcrypt goes."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def web_file(folder: Path, users: Mapping[str, str], tls: Mapping[str, str] | None = None) -> str:
    """Write a file of TLS and users; JSON is YAML."""
    path = folder / "web.yml"
    content: dict[str, object] = {"basic_auth_users": {name: hashed(text) for name, text in users.items()}}
    if tls is not None:
        content["tls_server_config"] = dict(tls)
    path.write_text(json.dumps(content), "utf-8")
    return str(path)


def secret_file(folder: Path, name: str, text: str) -> str:
    """Write a secret that only we may read."""
    path = folder / name
    path.write_text(f"{text}\n", "utf-8")
    path.chmod(0o600)
    return str(path)


@functools.cache
def authority(name: str = "test authority") -> Path:
    """Make a folder with an authority, `ca.pem`, and certificates signed by it: see `certified`."""
    folder = process_folder("callgauge-test-ca-")
    openssl(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
            "2", "-subj", f"/CN={name}", "-keyout", "ca.key", "-out", "ca.pem")  # fmt: skip
    return folder


@functools.cache
def certified(name: str) -> dict[str, str]:
    """Make a key and a certificate for loopback; give their files as a web file names them."""
    folder = authority()
    openssl(folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
    names = folder / "names.txt"
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-extfile", names.name, "-out", f"{name}.pem")  # fmt: skip
    return {"cert_file": str(folder / f"{name}.pem"), "key_file": str(folder / f"{name}.key")}


def trusting(client: str = "") -> ssl.SSLContext:
    """Make a client's context that trusts the authority, with a certificate of its own if it has a name."""
    context = ssl.create_default_context(cafile=str(authority() / "ca.pem"))
    if client:
        files = certified(client)
        context.load_cert_chain(files["cert_file"], files["key_file"])
    return context


def openssl(folder: Path, *arguments: str) -> None:
    """Run openssl in a folder."""
    command = tool("openssl", package="openssl")
    done = subprocess.run(
        [command, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    with contextlib.suppress(FileNotFoundError):
        for key in folder.glob("*.key"):
            key.chmod(0o600)
