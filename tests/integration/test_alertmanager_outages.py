"""Promise P2 against the real Alertmanager: one that is away costs no page, and brings none a second time.

The oracle is what a receiver of its notifications hears. Timers are those of a deployment, 30 times as fast,
so that half a minute stands for fifteen. A resend never comes: what is told after an outage is told by retry.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from aiohttp import ClientSession, web

from engine.deliver.alertmanager import AlertmanagerSink
from engine.judge.lifecycle import FIRING, RESOLVED, Alert
from engine.settings import AlertmanagerSettings
from tests.integration.conftest import StartWeb
from tests.integration.notified import Notified, telling
from tests.integration.servers import Web, free_ports

S = 1_000_000_000
SCALE = 30
TIMERS: dict[str, Any] = {
    "resend_ns": 30 * S // SCALE, "retry_ns": 5 * S // SCALE, "timeout_ns": 10 * S // SCALE,
    "resolved_resend_ns": 900 * S // SCALE,
}  # fmt: skip
SLOW_S = 30 / SCALE
STEP_S = 0.02
PAIR_INTERVAL_S = 10  # Between two flushes of a group; one of a pair waits two seconds for the other.
# So that a notification log survives kill -9: it is written every 15 minutes otherwise.
KEPT = ("--data.maintenance-interval=200ms",)
LONG = pytest.param(900 / SCALE, marks=pytest.mark.full)
BEFORE, DURING, OVER = "before", "during", "over"


class Front:
    """A proxy in front of an Alertmanager that can be told to answer 500, or late."""

    def __init__(self, behind: Web) -> None:
        """Pass everything on at first."""
        self.behind = behind
        self.status = 200
        self.delay_s = 0.0
        self.url = ""

    async def _post(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.status != 200:
            return web.Response(status=self.status)
        async with ClientSession() as session:
            headers = {"Content-Type": "application/json"}
            posted = session.post(self.behind.url + request.path, data=body, headers=headers)
            async with posted as answer:
                status = answer.status
        await asyncio.sleep(self.delay_s)
        return web.Response(status=status)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_post("/api/v2/alerts", self._post)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield
        finally:
            await runner.cleanup()


class World:
    """What the engine would hand over after each of its steps."""

    def __init__(self, sink: AlertmanagerSink) -> None:
        """Begin without any alert."""
        self.sink = sink
        self.alerts: dict[str, Alert] = {}
        self.fired_s: dict[str, float] = {}

    def fire(self, name: str) -> None:
        """Let an alert fire from now on."""
        now_ns = time.time_ns()
        self.fired_s[name] = time.monotonic()
        labels = (("alertname", name), ("severity", "critical"))
        self.alerts[name] = Alert(labels, (), FIRING, now_ns, now_ns, now_ns, -1)

    def resolve(self, name: str) -> None:
        """Let it end."""
        self.alerts[name] = self.alerts[name]._replace(state=RESOLVED, resolved_ns=time.time_ns())

    async def step(self) -> None:
        """Go on."""
        while True:
            self.sink.update(tuple(self.alerts.values()), time.time_ns())
            await asyncio.sleep(STEP_S)


@asynccontextmanager
async def stepping(*urls: str, ends_after_s: float = 360.0) -> AsyncIterator[World]:
    """Run a sink as an engine that steps does."""
    ends_after_ns = int(ends_after_s * S / SCALE)
    settings = AlertmanagerSettings(urls=urls, ends_after_ns=ends_after_ns, **TIMERS)
    sink = AlertmanagerSink(settings, "http://callgauge.example")
    await sink.start()
    world = World(sink)
    task = asyncio.create_task(world.step())
    try:
        yield world
    finally:
        task.cancel()
        await sink.drain(asyncio.get_running_loop().time() + 5)


async def heard(notified: Notified, name: str, *statuses: str, within_s: float = 30.0) -> None:
    """Wait until exactly this was heard of an alert; more is a failure at once."""
    async with asyncio.timeout(within_s):
        while notified.of(name, "critical") != list(statuses):
            assert len(notified.of(name, "critical")) <= len(statuses)
            await asyncio.sleep(STEP_S)


async def at_once(_: str) -> None:
    """Wait for nothing."""


async def live_through(
    world: World,
    notified: Notified,
    outage_s: float,
    begin: Callable[[], None],
    end: Callable[[], None],
    quiet_s: float = 2.5,
    may_end: Callable[[str], Awaitable[None]] = at_once,
) -> None:
    """Fire before, during, and for a part of an outage; compare what was heard, to the last word."""
    world.fire(BEFORE)
    await heard(notified, BEFORE, "firing")
    await asyncio.sleep(1.0)  # Its notification log is on the disk.
    await asyncio.to_thread(begin)
    world.fire(DURING)
    world.fire(OVER)
    await asyncio.sleep(outage_s / 2)
    world.resolve(OVER)
    await asyncio.sleep(outage_s / 2)
    await asyncio.to_thread(end)
    back_s = time.monotonic()
    await heard(notified, DURING, "firing")
    took_s = time.monotonic() - back_s
    print(f"told {took_s:.2f} s after its return; {10 / SCALE:.2f} s stand for ten")  # noqa: T201
    await heard(notified, OVER, "firing", "resolved")
    for name in (BEFORE, DURING):
        await may_end(name)
        world.resolve(name)
        await heard(notified, name, "firing", "resolved")
    await asyncio.sleep(quiet_s)  # Resends are due, and repeat nothing.
    expected = [(status, name) for name in (BEFORE, DURING, OVER) for status in ("firing", "resolved")]
    assert sorted(expected) == sorted((status, name) for status, name, _ in notified.heard)


@pytest.mark.parametrize("outage_s", [1.0, LONG])
async def test_one_that_is_killed_misses_no_page_and_repeats_none(
    alertmanager: StartWeb, notified: Notified, outage_s: float
) -> None:
    """With kill -9 it forgets every alert; its notification log says what it has told."""
    server = alertmanager(telling(notified), arguments=KEPT)
    async with stepping(server.url) as world:
        await live_through(world, notified, outage_s, server.kill, server.start)


@pytest.mark.full
@pytest.mark.parametrize(
    ("trouble", "outage_s", "ends_after_s"),
    [("500s", 300, 360), ("500s", 900, 1000), ("slow", 900, 360), ("frozen", 300, 360)],
)
async def test_one_that_answers_with_500_or_late_or_not_at_all_is_told_when_it_does(
    alertmanager: StartWeb, notified: Notified, trouble: str, outage_s: float, ends_after_s: float
) -> None:
    """A slow one takes 30 s for an answer, of which we wait ten; what lives resolves by `ends_after`."""
    server = alertmanager(telling(notified))
    front = Front(server)

    def begin() -> None:
        front.status = 500 if trouble == "500s" else 200
        front.delay_s = SLOW_S if trouble == "slow" else 0.0
        if trouble == "frozen":
            server.process.pause()

    def end() -> None:
        front.status, front.delay_s = 200, 0.0
        if trouble == "frozen":
            server.process.resume()

    async with front.running(), stepping(front.url, ends_after_s=ends_after_s) as world:
        await live_through(world, notified, outage_s / SCALE, begin, end)


@contextmanager
def a_pair(alertmanager: StartWeb, notified: Notified) -> Iterator[tuple[Web, Web]]:
    """Start two that tell each other what they told; at short intervals they would repeat what is over."""
    ports = free_ports(2)
    pair = []
    for mine, other in (ports, ports[::-1]):
        cluster = (
            f"--cluster.listen-address=127.0.0.1:{mine}", f"--cluster.peer=127.0.0.1:{other}",
            "--cluster.peer-timeout=2s", "--cluster.settle-timeout=10s",
            "--cluster.gossip-interval=50ms", "--cluster.pushpull-interval=500ms",
        )  # fmt: skip
        pair.append(alertmanager(telling(notified, PAIR_INTERVAL_S), arguments=(*KEPT, *cluster)))
    yield pair[0], pair[1]


@pytest.mark.full
@pytest.mark.parametrize("both", [False, True])
async def test_a_pair_pages_once_whether_one_is_killed_or_both(
    alertmanager: StartWeb, notified: Notified, *, both: bool
) -> None:
    """While one is dead the other is told at once; the dead one is told later, and tells nobody again.

    Alerts end between two flushes of their groups. An Alertmanager that took an alert as firing and waits for
    its peer meanwhile tells it again after the peer has told its end: prometheus/alertmanager#4008.
    """
    back_s = 0.0
    with a_pair(alertmanager, notified) as (one, other):

        def begin() -> None:
            one.kill()
            if both:
                other.kill()

        def end() -> None:
            nonlocal back_s
            one.start()
            if both:
                other.start()
            back_s = time.monotonic()

        async with stepping(one.url, other.url) as world:

            async def may_end(name: str) -> None:
                # The groups of the one that tells first are flushed at intervals since it took the alert.
                taken_s = back_s if both else world.fired_s[name]
                await asyncio.sleep((taken_s + PAIR_INTERVAL_S / 3 - time.monotonic()) % PAIR_INTERVAL_S)

            await live_through(
                world, notified, 900 / SCALE, begin, end, quiet_s=1.5 * PAIR_INTERVAL_S, may_end=may_end
            )
            of_one, of_other = world.sink.stats()
            assert of_one.batches_failed_by_reason
            assert both == bool(of_other.batches_failed_by_reason)
