"""A step that does not end is said where somebody can act on it, and loop lag is measured."""

import asyncio
import gc
import logging

import pytest
from prometheus_client import CollectorRegistry

from engine.commands.collector import leave_alone_what_is_there
from engine.commands.watchdog import Watchdog
from engine.deliver.metrics import Metrics
from tests.web_world import World, running, status_of


def a_watchdog(step_s_max: float) -> tuple[Watchdog, CollectorRegistry]:
    registry = CollectorRegistry()
    return Watchdog(Metrics(registry, lambda: None, version="0"), step_s_max), registry


async def test_a_step_that_does_not_end_is_said_once_and_taken_back(caplog: pytest.LogCaptureFixture) -> None:
    """However often it is looked at; another step begins with nothing held against it, and may hang too."""
    watchdog, _ = a_watchdog(step_s_max=0.0)
    assert "" == watchdog.not_healthy_because()
    assert 0 == watchdog.step_age_s()
    watchdog.step_begins()
    with caplog.at_level(logging.WARNING):
        watching = asyncio.create_task(watchdog.run())
        await asyncio.sleep(0.3)
        assert "has not ended" in watchdog.not_healthy_because()
        assert 1 == caplog.text.count("nothing is judged any more")
        watchdog.step_ended()
        assert "" == watchdog.not_healthy_because()
        assert "has ended after all" in caplog.text
        watchdog.step_begins()
        await asyncio.sleep(0.3)
        assert 2 == caplog.text.count("nothing is judged any more")
        watchdog.step_ended()
        watchdog.step_begins()
        watchdog.step_ended()
        assert 2 == caplog.text.count("has ended after all")
        watching.cancel()


async def test_a_step_within_its_time_is_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Steps take their time; only the bound counts. How long it has been is told all the while."""
    watchdog, registry = a_watchdog(step_s_max=3600.0)
    watchdog.step_begins()
    watching = asyncio.create_task(watchdog.run())
    await asyncio.sleep(0.12)
    assert watchdog.step_age_s() > 0
    assert "" == watchdog.not_healthy_because()
    assert not caplog.text
    assert (registry.get_sample_value("callgauge_step_running_seconds") or 0) > 0
    watchdog.step_ended()
    await asyncio.sleep(0.12)
    assert 0 == registry.get_sample_value("callgauge_step_running_seconds")
    watching.cancel()


async def test_every_turn_of_the_timer_is_measured() -> None:
    """One that was held up counts with how late it came."""
    watchdog, registry = a_watchdog(step_s_max=1.0)
    watching = asyncio.create_task(watchdog.run())
    await asyncio.sleep(0.01)
    until_s = asyncio.get_running_loop().time() + 0.4
    while asyncio.get_running_loop().time() < until_s:
        pass
    await asyncio.sleep(0.01)
    watching.cancel()
    name = "callgauge_event_loop_lag_seconds"
    assert 1 == registry.get_sample_value(f"{name}_count")
    assert 0 == registry.get_sample_value(f"{name}_bucket", {"le": "0.25"})


async def test_an_orchestrator_is_asked_for_a_restart() -> None:
    """/-/healthy fails then, and only then."""
    world = World()
    async with running(world) as server:
        assert 200 == await status_of(server.address, "GET", "/-/healthy")
        world.not_healthy = "a step has not ended"
        assert 503 == await status_of(server.address, "GET", "/-/healthy")


def test_the_collector_leaves_alone_what_was_there() -> None:
    """A full collection over all that numba leaves behind would hold up the loop."""
    try:
        leave_alone_what_is_there()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
