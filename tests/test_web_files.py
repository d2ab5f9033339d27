"""TLS, users and tokens of the HTTP server: what it starts with, takes anew, and refuses."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from engine.check_config import check
from engine.errors import CallgaugeError, DeliveryError, SettingsError
from engine.web.listener import Listener
from engine.web.server import WebServer
from engine.web.web_file import read_access
from tests.web_world import (
    PASSWORD,
    TOKEN,
    USER,
    World,
    as_user,
    authority,
    certified,
    running,
    secret_file,
    status_of,
    trusting,
    web_file,
)


@pytest.mark.parametrize("key", ["listen", "admin_listen"])
@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "calls.example:0", "192.0.2.7:0"])
async def test_off_loopback_it_starts_only_with_tls_and_a_login(
    key: str, address: str, tmp_path: Path
) -> None:
    """All combinations of what may be missing; the file is asked for, and what is in it looked at."""
    tls = certified("server")
    given = {"listen": "127.0.0.1:0", key: address}
    prefix = "admin_" if key == "admin_listen" else ""
    for number, (has_tls, has_login) in enumerate(((False, False), (True, False), (False, True))):
        folder = tmp_path / str(number)
        folder.mkdir()
        users = {USER: PASSWORD} if has_login else {}
        files = {f"{prefix}config_file": web_file(folder, users, tls if has_tls else None)}
        with pytest.raises(DeliveryError, match="open to the network without") as raised:
            async with running(World(), **given, **files):
                pass
        assert "allow_insecure" in raised.value.hint
    with pytest.raises(DeliveryError, match="without TLS and a login"):
        async with running(World(), **given):
            pass


async def test_with_tls_and_a_login_it_faces_the_network(tmp_path: Path) -> None:
    files = {"config_file": web_file(tmp_path, {USER: PASSWORD}, certified("server"))}
    async with running(World(), listen="0.0.0.0:0", **files) as server:
        address = server.address.replace("0.0.0.0", "127.0.0.1")
        assert 401 == await status_of(address, "GET", "/metrics", trust=trusting())
        auth = as_user(USER, PASSWORD)
        assert 200 == await status_of(address, "GET", "/metrics", trust=trusting(), headers=auth)
        with pytest.raises(aiohttp.ClientError):
            await status_of(address, "GET", "/metrics")
        assert (("main", False), ("admin", False)) == server.stats().insecure


async def test_what_was_allowed_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """In the log and in a metric, as long as it runs."""
    async with running(World(), listen="0.0.0.0:0", allow_insecure=True) as server:
        assert (("main", True), ("admin", False)) == server.stats().insecure
        address = server.address.replace("0.0.0.0", "127.0.0.1")
        assert 200 == await status_of(address, "GET", "/-/healthy")
    assert "open to the network without TLS and a login" in caplog.text


async def test_tls_older_than_1_2_is_refused(tmp_path: Path) -> None:
    files = {"config_file": web_file(tmp_path, {}, {**certified("server"), "min_version": "TLS13"})}
    async with running(World(), **files) as server:
        old = trusting()
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(aiohttp.ClientError):
            await status_of(server.address, "GET", "/metrics", trust=old)
        assert 200 == await status_of(server.address, "GET", "/metrics", trust=trusting())


async def test_certificates_of_clients_are_a_login(tmp_path: Path) -> None:
    tls = {
        **certified("server"),
        "client_ca_file": str(Path(certified("server")["cert_file"]).parent / "ca.pem"),
        "client_auth_type": "RequireAndVerifyClientCert",
    }
    files = {"config_file": web_file(tmp_path, {}, tls)}
    async with running(World(), listen="0.0.0.0:0", **files) as server:
        address = server.address.replace("0.0.0.0", "127.0.0.1")
        assert 200 == await status_of(address, "GET", "/metrics", trust=trusting("client"))
        with pytest.raises((aiohttp.ClientError, OSError)):
            await status_of(address, "GET", "/metrics", trust=trusting())


async def test_a_reload_takes_new_certificates_users_and_tokens(tmp_path: Path) -> None:
    path = web_file(tmp_path, {USER: PASSWORD}, certified("server"))
    token = secret_file(tmp_path, "token", TOKEN)
    auth = as_user(USER, PASSWORD)
    async with running(World(), config_file=path, token_file=token) as server:
        assert 200 == await status_of(server.address, "GET", "/metrics", trust=trusting(), headers=auth)
        assert "server" == await _served_name(server)
        web_file(tmp_path, {USER: "another-password"}, certified("renewed"))
        secret_file(tmp_path, "token", TOKEN[::-1])
        server.reload()
        assert "renewed" == await _served_name(server)
        assert 401 == await status_of(server.address, "GET", "/metrics", trust=trusting(), headers=auth)
        for text, status in ((TOKEN, 401), (TOKEN[::-1], 200)):
            headers = {"Authorization": f"Bearer {text}"}
            assert status == await status_of(
                server.address, "GET", "/metrics", trust=trusting(), headers=headers
            )
        web_file(tmp_path, {}, {"cert_file": "missing.pem"})
        with pytest.raises(SettingsError):
            server.reload()
        auth = as_user(USER, "another-password")
        assert 200 == await status_of(server.address, "GET", "/metrics", trust=trusting(), headers=auth)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_after_a_reload_nothing_of_the_older_file_holds(
    run: Callable[[Coroutine[Any, Any, None]], None], tmp_path: Path
) -> None:
    """An authority that was taken out, an older version of TLS, certificates of clients at all."""
    run(_reloads_of_tls(tmp_path))


async def _reloads_of_tls(folder: Path) -> None:
    own = {**certified("server"), "client_auth_type": "RequireAndVerifyClientCert"}
    old = {**own, "client_ca_file": str(authority() / "ca.pem")}
    new = {**own, "client_ca_file": str(authority("another authority") / "ca.pem")}
    older = trusting("client")
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    auth = as_user(USER, PASSWORD)
    async with running(World(), config_file=web_file(folder, {}, old)) as server:

        async def status(trust: ssl.SSLContext, host: str = "127.0.0.1") -> int:
            """Ask by address, which sends no SNI, or by name, which does; 0: not let in."""
            address = server.address.replace("127.0.0.1", host)
            try:
                return await status_of(address, "GET", "/metrics", trust=trust, headers=auth)
            except (aiohttp.ClientError, OSError):
                return 0

        for host in ("127.0.0.1", "localhost"):
            web_file(folder, {}, old)
            server.reload()
            resuming = trusting("client")  # It keeps what the server gave it to come back sooner.
            assert [200, 200] == [await status(trust, host) for trust in (resuming, older)]
            web_file(folder, {}, new)
            server.reload()
            assert [0, 0] == [await status(trust, host) for trust in (resuming, older)]
            web_file(folder, {}, {**old, "min_version": "TLS13"})
            server.reload()
            assert [200, 0] == [await status(trust, host) for trust in (resuming, older)]
            web_file(folder, {USER: PASSWORD}, certified("server"))
            server.reload()
            assert [200, 200] == [await status(trust, host) for trust in (trusting(), older)]


async def test_a_reload_takes_the_files_of_both_listeners_or_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folders = tmp_path / "main", tmp_path / "admin"
    for folder in folders:
        folder.mkdir()
    main, admin = (web_file(folder, {USER: PASSWORD}) for folder in folders)
    new = as_user(USER, "another-password")
    async with running(World(), config_file=main, admin_config_file=admin) as server:
        web_file(folders[0], {USER: "another-password"})
        web_file(folders[1], {}, {"nonsense": "1"})
        with pytest.raises(SettingsError, match="nonsense"):
            server.reload()
        assert 401 == await status_of(server.address, "GET", "/metrics", headers=new)
        web_file(folders[1], {USER: "another-password"})
        server.reload()
        assert 200 == await status_of(server.address, "GET", "/metrics", headers=new)
        assert 200 == await status_of(server.admin.address, "POST", "/-/reload", headers=new)
    assert "open to the network" not in caplog.text


@pytest.mark.parametrize("has_tls", [False, True])
async def test_a_reload_does_not_switch_tls(tmp_path: Path, *, has_tls: bool) -> None:
    """The port is open as it is: whoever believes that it is encrypted now must hear that it is not."""
    tls = certified("server")
    async with running(World(), config_file=web_file(tmp_path, {}, tls if has_tls else None)) as server:
        web_file(tmp_path, {USER: PASSWORD}, None if has_tls else tls)
        with pytest.raises(DeliveryError, match="only at a start"):
            server.reload()
        trust = trusting() if has_tls else None
        assert 200 == await status_of(server.address, "GET", "/metrics", trust=trust)


async def _served_name(server: WebServer) -> str:
    host, _, port = server.address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=trusting())
    found = writer.get_extra_info("peercert")
    writer.close()
    return str(found["subject"][0][0][1])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("basic_auth_users: {a: plain-password-of-somebody}", "is not a bcrypt hash"),
        ("basic_auth_users: {a: $2b$31$" + "a" * 53 + "}", "costs more than"),
        ("tls_server_config: {cert_file: a.pem}", "key_file: is missing"),
        ("tls_server_config: {cert_file: a.pem, key_file: a.key, client_ca_file: b}", "belong together"),
        ("tls_server_config: {cert_file: a, key_file: b, min_version: TLS10}", "TLS12"),
        ("tls_server_config: {cert_file: a, key_file: b, cipher_suites: [x]}", "cipher_suites"),
        ("http_server_config: {http2: true}", "http_server_config"),
        ("a: &a [1]\nb: *a", "aliases"),
        ("basic_auth_users: [a]", "not a mapping"),
        ("plain-password-of-somebody", "the file: a text is not a mapping"),
        ("basic_auth_users: plain-password-of-somebody", "a text is not a mapping"),
        ("basic_auth_users: {a:plain-password-of-somebody}", "holds a colon"),
        ("tls_server_config: plain-password-of-somebody", "a text is not a mapping"),
    ],
)
def test_a_web_file_that_cannot_be_meant_so_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text(text)
    with pytest.raises(SettingsError) as raised:
        read_access(str(path), "", "web.token_file")
    assert complaint in str(raised.value)
    assert "plain-password" not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["tiny-one", "", "two\nlines-of-a-secret-file", "\x1b[31mred-and-long-enough", "x" * 5000]
)
def test_a_token_file_that_is_no_use_is_refused_without_its_text(text: str, tmp_path: Path) -> None:
    path = secret_file(tmp_path, "token", text)
    with pytest.raises(CallgaugeError) as raised:
        read_access("", path, "web.token_file")
    assert text == "" or text not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("listen", "setting"), [("web.listen", "web.token_file"), ("web.admin_listen", "web.admin_token_file")]
)
async def test_a_token_that_cannot_be_read_names_its_setting(listen: str, setting: str) -> None:
    listener = Listener(listen, "127.0.0.1:0", ("", "/no-such-token"), allow_insecure=False)
    with pytest.raises(DeliveryError) as raised:
        await listener.start([])
    assert raised.value.hint == f"see {setting}"


def test_a_secret_that_everybody_can_read_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = secret_file(tmp_path, "token", TOKEN)
    read_access("", path, "web.token_file")
    assert "" == caplog.text
    Path(path).chmod(0o644)
    for _ in range(2):
        read_access("", path, "web.token_file")
    assert 1 == caplog.text.count("can be read by every user")
    assert TOKEN not in caplog.text


def test_check_config_reads_the_web_files(tmp_path: Path) -> None:
    settings = tmp_path / "engine.yaml"
    settings.write_text(f"web: {{config_file: {tmp_path}/web.yml}}\n")
    web_file(tmp_path, {}, {"cert_file": "missing.pem", "key_file": "missing.key"})
    (problem,) = check(settings, environment={}).problems
    assert "certificates of the HTTP server" in problem
    web_file(tmp_path, {USER: PASSWORD}, certified("server"))
    assert () == check(settings, environment={}).problems


@pytest.mark.parametrize("key", ["listen", "admin_listen"])
def test_check_config_refuses_a_listener_that_the_start_would_refuse(key: str, tmp_path: Path) -> None:
    """A file is named, which is all that the settings ask for; what is in it leaves the port open."""
    file = web_file(tmp_path, {USER: PASSWORD})
    config_key = key.replace("listen", "config_file")
    settings = tmp_path / "engine.yaml"
    settings.write_text(f"web: {{{key}: '0.0.0.0:9811', {config_key}: {file}}}\n")
    (problem,) = check(settings, environment={}).problems
    assert problem.startswith(f"web.{key}: 0.0.0.0:9811: ")
    assert "open to the network without TLS" in problem
    settings.write_text(f"web: {{{key}: '0.0.0.0:9811', {config_key}: {file}, allow_insecure: true}}\n")
    assert () == check(settings, environment={}).problems
