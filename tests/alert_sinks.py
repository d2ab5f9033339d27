"""An alert, and a sink for it with a clock that stands, for the tests of delivery."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from engine.deliver.alertmanager import AlertmanagerSink
from engine.deliver.peer import PeerStats
from engine.judge.lifecycle import FIRING, RESOLVED, Alert
from engine.settings import AlertmanagerSettings

S = 1_000_000_000
NOW = 1_800_000_000 * S
EXTERNAL_URL = "http://callgauge.example:9810"


def an_alert(name: str = "CallLimitApproaching", state: str = FIRING, **labels: str) -> Alert:
    """Make an alert that fires for a minute, or ended five seconds ago."""
    pairs = tuple(sorted({"alertname": name, "severity": "critical", **labels}.items()))
    resolved_ns = NOW - 5 * S if state == RESOLVED else -1
    return Alert(
        pairs, (("summary", "The trunk fills up."),), state, NOW - 90 * S, NOW - 60 * S, NOW, resolved_ns
    )


@asynccontextmanager
async def running(
    peers: AlertmanagerSettings,
    clock_ns: Callable[[], int] = lambda: NOW,
    waited_s: Callable[[], float] = time.monotonic,
) -> AsyncIterator[AlertmanagerSink]:
    """Run a sink, and end it without waiting."""
    sink = AlertmanagerSink(peers, EXTERNAL_URL, clock_ns, waited_s)
    await sink.start()
    try:
        yield sink
    finally:
        await sink.drain(asyncio.get_running_loop().time())


async def drained(sink: AlertmanagerSink, seconds: float = 20.0) -> tuple[PeerStats, ...]:
    """End a sink in order, and give the counters."""
    await sink.drain(asyncio.get_running_loop().time() + seconds)
    return sink.stats()


async def until_failed(sink: AlertmanagerSink, batches: int) -> PeerStats:
    """Wait until the only peer failed so many batches."""
    async with asyncio.timeout(20):
        while True:
            (peer,) = sink.stats()
            if sum(count for _, count in peer.batches_failed_by_reason) >= batches:
                return peer
            await asyncio.sleep(0)


async def until_sent(sink: AlertmanagerSink, alerts: int) -> PeerStats:
    """Wait until the only peer took so many alerts."""
    async with asyncio.timeout(20):
        while True:
            (peer,) = sink.stats()
            if peer.alerts_sent >= alerts:
                return peer
            await asyncio.sleep(0)
