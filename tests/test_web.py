"""The HTTP server reads one snapshot, fails open, and does not listen where strangers are."""

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import pytest

from engine.decode.mask import LabelMask
from engine.deliver.fingerprint import fingerprint, full_labels
from engine.errors import DeliveryError
from engine.judge.snapshot import Snapshot
from engine.settings import WebSettings
from engine.web.listener import parse_listen
from engine.web.routes import SCRAPES_MAX
from engine.web.server import WebServer
from tests.snapshots import a_limit, a_snapshot, an_alert
from tests.web_world import EXTERNAL_LABELS, World

KEY = fingerprint(full_labels(an_alert().labels, EXTERNAL_LABELS))


@asynccontextmanager
async def serving(world: World, **settings: Any) -> AsyncIterator[aiohttp.ClientSession]:
    server = WebServer(WebSettings(**{"listen": "127.0.0.1:0", **settings}), world.sources())
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://{server.address}") as session:
            yield session
    finally:
        await server.close()


async def get(world: World, path: str, **headers: str) -> tuple[int, str, Mapping[str, str]]:
    async with serving(world) as session, session.get(path, headers=headers) as answer:
        return answer.status, await answer.text(), answer.headers


async def headroom(world: World, query: str = "") -> dict[str, Any]:
    async with serving(world) as session, session.get(f"/api/v1/headroom{query}") as answer:
        return cast("dict[str, Any]", await answer.json())


async def test_health_does_not_depend_on_anything() -> None:
    """A process without data or broker is alive: restarting it would mend nothing."""
    world = World()
    world.snapshot, world.not_ready = None, "no partition yet"
    async with serving(world) as session:
        for method in ("GET", "HEAD"):
            async with session.request(method, "/-/healthy") as answer:
                assert 200 == answer.status


async def test_readiness_says_what_is_missing() -> None:
    """503 with the reason, until there is none."""
    world = World()
    world.not_ready = "no partition yet"
    status, text, _ = await get(world, "/-/ready")
    assert 503 == status
    assert "no partition yet" in text
    world.not_ready = ""
    assert 200 == (await get(world, "/-/ready"))[0]


async def test_metrics_are_rendered_as_accepted() -> None:
    """The Accept header reaches the renderer, and its content type the scraper."""
    world = World()
    status, text, headers = await get(world, "/metrics", Accept="text/plain;q=0.5")
    assert (200, "callgauge_up 1\n", ["text/plain;q=0.5"]) == (status, text, world.accepted)
    assert "text/plain; version=0.0.4; charset=utf-8" == headers["Content-Type"]


async def test_a_flood_of_scrapes_is_refused_and_the_rest_goes_on() -> None:
    """Only so many wait; health still answers meanwhile, since rendering has a thread of its own."""
    world = World()
    gate = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(accept: str) -> tuple[bytes, str]:
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(20)
        return b"", "text/plain"

    server = WebServer(WebSettings(listen="127.0.0.1:0"), world.sources()._replace(render_metrics=slow))
    await server.start()
    async with aiohttp.ClientSession(f"http://{server.address}") as session:
        scrapes = [asyncio.create_task(session.get("/metrics")) for _ in range(SCRAPES_MAX + 1)]
        done, waiting = await asyncio.wait(scrapes, return_when=asyncio.FIRST_COMPLETED)
        (refused,) = [task.result() for task in done]
        assert (503, "too many scrapes at once\n") == (refused.status, await refused.text())
        async with session.get("/-/healthy") as answer:
            assert 200 == answer.status
        gate.set()
        assert {200} == {(await task).status for task in waiting}
    await server.close()


async def test_headroom_tells_clients_to_fail_open() -> None:
    """A call must never depend on us: the answer says so, and how old it is."""
    answer = await headroom(World())
    assert (True, 7.0) == (answer["fail_open"], answer["data_age_seconds"])
    first, second = answer["limits"]
    assert {"tenant": "acme"} == first["labels"]
    assert (60, 80.0, 0.25, 0.4, "warning") == tuple(
        first[name] for name in ("used", "value", "headroom_ratio", "probability", "state")
    )
    assert first["time_to_limit_seconds_high"] is None, "infinity is not JSON"
    assert second["value"] is None, "neither is NaN"


async def test_an_answer_that_a_login_may_guard_is_kept_by_no_proxy() -> None:
    """`public` would let a shared cache give it to those who have none."""
    _, _, headers = await get(World(), "/api/v1/headroom")
    assert "private, max-age=5" == headers["Cache-Control"]


async def test_headroom_answers_before_the_first_event() -> None:
    """No data is an answer, not an error."""
    world = World()
    world.snapshot = None
    answer = await headroom(world)
    assert (True, None, []) == (answer["fail_open"], answer["data_age_seconds"], answer["limits"])


@pytest.mark.parametrize(
    ("query", "limits"),
    [
        ("?limit=sip-trunk", ["sip-trunk"]),
        ("?limit=sip-trunk&limit=unknown", ["sip-trunk", "unknown"]),
        ("?tenant=acme", ["sip-trunk", "unknown"]),
        ("?tenant=other", ["unknown"]),
        ("?limit=unknown&tenant=acme", ["unknown"]),
        ("?limit=nobody", []),
    ],
)
async def test_headroom_can_be_asked_for_one_limit(query: str, limits: list[str]) -> None:
    """By name, and by labels of a call: a limit that is not split by them applies to it as well."""
    assert limits == [limit["limit"] for limit in (await headroom(World(), query))["limits"]]


@pytest.mark.parametrize(
    ("query", "limits"),
    [
        ("?trunk=sip-1", ["one-trunk", "every-call"]),
        ("?trunk=sip-2&tenant=acme", ["every-call"]),
        ("?trunk=sip-1&tenant=other", ["one-trunk"]),
    ],
)
async def test_a_limit_is_hidden_only_from_calls_that_it_cannot_count(query: str, limits: list[str]) -> None:
    """Its own labels and those it is split by decide; labels that it says nothing of do not."""
    world = World()
    of_trunk = a_limit(limit="one-trunk", split=(), applies_to=(("trunk", ("sip-1", "sip-9")),))
    world.snapshot = a_snapshot(limits=(of_trunk, a_limit(limit="every-call")))
    assert limits == [limit["limit"] for limit in (await headroom(world, query))["limits"]]


@pytest.mark.parametrize(("key", "limits_of_another"), [(b"", ["hidden"]), (bytes(16), [])])
async def test_a_number_is_asked_for_as_it_is_and_found_under_what_stands_for_it(
    key: bytes, limits_of_another: list[str]
) -> None:
    """Without a key that is one word for all numbers, so the call may count there."""
    world = World()
    world.mask = LabelMask(key)
    split = (("trunk", world.mask.shown("trunk", "4930111222333")),)
    world.snapshot = a_snapshot(limits=(a_limit(limit="hidden", split=split),))
    for number, limits in (("4930111222333", ["hidden"]), ("4930111222334", limits_of_another)):
        answer = await headroom(world, f"?trunk={number}")
        assert limits == [limit["limit"] for limit in answer["limits"]]


async def test_headroom_refuses_a_parameter_it_does_not_know() -> None:
    """A misspelt filter must not look like "no such limit"."""
    status, text, _ = await get(World(), "/api/v1/headroom?tennant=acme")
    assert 400 == status
    assert "tennant" in text


async def test_alerts_carry_what_alertmanager_was_sent() -> None:
    """Same labels and fingerprint, so that the two can be joined."""
    async with serving(World()) as session, session.get("/api/v1/alerts") as answer:
        (alert,) = (await answer.json())["alerts"]
    assert (KEY, "firing", "eu") == (alert["fingerprint"], alert["state"], alert["labels"]["cluster"])
    assert "2027-01-15T07:59:00.000000Z" == alert["fired_at"]
    assert alert["resolved_at"] is None


async def test_the_page_of_an_alert_shows_its_life_and_its_limit() -> None:
    """The one page that somebody who was woken up looks at."""
    status, html, _ = await get(World(), f"/alerts/{KEY}")
    assert 200 == status
    for text in (
        "CallLimitApproaching",
        "firing",
        "The trunk fills up.",
        "60 of 80",
        "5 min",
        "not in sight",
    ):
        assert text in html
    assert '<a href="https://runbooks.example/x"' in html


async def test_another_tenants_limit_is_not_on_the_page() -> None:
    """A limit that is split belongs to the alert with the same split values."""
    world = World()
    other = a_limit(split=(("tenant", "other"),), owner="somebody-else")
    world.snapshot = a_snapshot(limits=(other,))
    _, html, _ = await get(world, f"/alerts/{KEY}")
    assert "somebody-else" not in html


async def test_pages_escape_what_they_show() -> None:
    """Whoever can name a tenant or write a summary must not run anything in an engineer's browser."""
    world = World()
    evil = an_alert(summary="<script>alert(1)</script>", runbook_url="javascript:alert(2)")
    world.snapshot = a_snapshot(alerts=(evil,), limits=(a_limit(limit="<b>"),))
    for path in ("/", f"/alerts/{KEY}"):
        status, html, headers = await get(world, path)
        assert 200 == status
        assert "<script" not in html
        assert "<b>" not in html
        assert 'href="javascript' not in html
        assert "default-src 'none'" in headers["Content-Security-Policy"]


async def test_an_unknown_alert_has_a_page_too() -> None:
    """A link from an old page leads somewhere."""
    status, html, _ = await get(World(), "/alerts/0123456789abcdef")
    assert 404 == status
    assert "timeline" in html


async def test_the_index_lists_limits_and_alerts() -> None:
    """With and without data."""
    world = World()
    _, html, _ = await get(world, "/")
    assert "tenant=acme" in html
    assert f'href="alerts/{KEY}"' in html
    assert "No limit is in the register." in await _index(world, a_snapshot()._replace(limits=()))
    before_any = await _index(world, None)
    assert "No event has been read yet." in before_any
    assert "Limits are shown once the first event has been read." in before_any
    assert "No limit is in the register." not in before_any


async def _index(world: World, snapshot: Snapshot | None) -> str:
    world.snapshot = snapshot
    return (await get(world, "/"))[1]


async def test_a_port_in_use_is_named_with_the_mend() -> None:
    """The most likely cause is a second callgauge."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(DeliveryError) as raised:
            await WebServer(WebSettings(listen=listen), World().sources()).start()
    assert listen in str(raised.value)
    assert "in use" in str(raised.value)
    assert "another port" in raised.value.hint


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [("127.0.0.1:9810", "127.0.0.1", 9810), ("[::1]:1", "::1", 1)],
)
def test_addresses_are_split_into_host_and_port(listen: str, host: str, port: int) -> None:
    """The brackets of an IPv6 address are not part of the host."""
    assert (host, port) == parse_listen(listen, "web.listen")


@pytest.mark.parametrize(
    "listen", ["", "9810", "localhost", "::1:80", "h:", "h:-1", "h:65536", "h:x", "h:\u0661", ":80"]
)
def test_other_addresses_are_refused_with_an_example(listen: str) -> None:
    """The message shows how to write it."""
    with pytest.raises(DeliveryError) as raised:
        parse_listen(listen, "web.listen")
    assert "127.0.0.1:9810" in raised.value.hint


async def test_a_limit_that_nothing_measures_says_so_and_shows_no_use() -> None:
    """A client must be able to tell "nothing in use" from "nobody counts it"."""
    world = World()
    nothing = {"used": math.nan, "peak": math.nan, "state": "unknown"}
    world.snapshot = a_snapshot(limits=(a_limit(unseen_use=40), a_limit(kind="quota", **nothing)))
    counted, quota = (await headroom(world))["limits"]
    assert (True, 40) == (counted["measured"], counted["unseen_use"])
    assert (False, None, None, None) == tuple(
        quota[name] for name in ("measured", "used", "peak", "headroom_ratio")
    )
    assert 200 == (await get(world, "/"))[0]
