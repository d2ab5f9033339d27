"""A real Prometheus scrapes our metrics, and its quantiles agree with the sketch."""

import asyncio
import math
import time
import urllib.parse
from collections.abc import AsyncIterator
from typing import Any, cast

import numpy as np
import pytest
import yaml
from prometheus_client import CollectorRegistry

from engine.config_files import config_path
from engine.deliver.histograms import NAME
from engine.deliver.metrics import Metrics
from engine.judge.snapshot import Snapshot
from engine.observe.latency import RELATIVE_ERROR_MAX, add_values, new_sketch, quantile
from engine.settings import WebSettings
from engine.web.routes import Sources
from engine.web.server import WebServer
from tests.integration.conftest import StartWeb
from tests.integration.servers import Web
from tests.snapshots import LABELS, a_snapshot, family_of

STAGES = {"llm": (-0.9, 0.5), "tts": (-1.8, 0.3), "setup": (0.4, 1.1)}  # mean and spread of the logarithm
CALLS = 20_000


def latencies() -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    generator = np.random.default_rng(20260301)
    return {stage: np.sort(generator.lognormal(*shape, CALLS)) for stage, shape in STAGES.items()}


def sketches_of(values: dict[str, np.ndarray[Any, np.dtype[np.float64]]]) -> np.ndarray[Any, Any]:
    sketches = []
    for each in values.values():
        sketch = new_sketch()
        add_values(sketch, each)
        sketches.append(sketch)
    return np.array(sketches)


def snapshot_of(values: dict[str, np.ndarray[Any, np.dtype[np.float64]]]) -> Snapshot:
    rows = tuple(("acme", "sip-1", "carrier", "r1", stage) for stage in values)
    sums_us = np.array([round(float(each.sum()) * 1e6) for each in values.values()])
    return a_snapshot(latency=family_of(LABELS, rows, sketches_of(values), sums_us))


@pytest.fixture
async def served() -> AsyncIterator[tuple[str, Snapshot]]:
    """Serve a snapshot of known latencies, and give its address."""
    snapshot = snapshot_of(latencies())
    metrics = Metrics(CollectorRegistry(), lambda: snapshot, version="0")
    metrics.step_took(0.01)

    async def reload() -> None:
        return

    sources = Sources(lambda: snapshot, metrics.render, lambda: "", reload, {}, time.time_ns)
    server = WebServer(WebSettings(listen="127.0.0.1:0"), sources)
    await server.start()
    yield server.address, snapshot
    await server.close()


def scrape(address: str) -> dict[str, object]:
    job = {"job_name": "callgauge", "static_configs": [{"targets": [address]}]}
    return {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}


async def query(server: Web, expression: str, results: int) -> list[dict[str, Any]]:
    """Ask until there are that many results."""
    path = "/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    async with asyncio.timeout(60):
        while True:
            answer = cast("dict[str, Any]", await asyncio.to_thread(server.get_json, path))
            found = cast("list[dict[str, Any]]", answer["data"]["result"])
            if len(found) >= results:
                assert results == len(found)
                return found
            await asyncio.sleep(0.1)


async def test_quantiles_of_native_histograms_agree_with_the_sketch(
    prometheus: StartWeb, served: tuple[str, Snapshot]
) -> None:
    """`histogram_quantile` is within the sketch's stated error of the true value, for every stage."""
    address, snapshot = served
    server = await asyncio.to_thread(
        prometheus, scrape(address), None, ("--enable-feature=native-histograms",)
    )
    for q in (0.5, 0.99):
        found = await query(server, f"histogram_quantile({q}, {NAME})", len(STAGES))
        by_stage = {result["metric"]["stage"]: float(result["value"][1]) for result in found}
        sketches = sketches_of(latencies())
        for row, (stage, values) in enumerate(latencies().items()):
            truth = values[math.ceil(q * CALLS) - 1]
            ours = quantile(sketches[row], q)
            assert abs(ours - truth) <= RELATIVE_ERROR_MAX * truth
            # PromQL interpolates inside the bucket whose midpoint we give.
            assert abs(by_stage[stage] - ours) <= 0.011 * ours
    (total,) = await query(server, f"histogram_sum(sum({NAME}))", 1)
    assert float(snapshot.latency.sum_us.sum()) / 1e6 == pytest.approx(float(total["value"][1]))
    for expression, value in (("callgauge_rows_read_total", 10.0), ("callgauge_step_seconds_count", 1.0)):
        (result,) = await query(server, expression, 1)
        assert value == float(result["value"][1]), "the other families come in protobuf too"


async def test_classic_histograms_are_scraped_without_the_feature(
    prometheus: StartWeb, served: tuple[str, Snapshot]
) -> None:
    """The buckets are coarse, but their counts are exact: bounds and quantile fit the true values."""
    address, _ = served
    server = await asyncio.to_thread(prometheus, scrape(address))
    found = await query(server, f'{NAME}_bucket{{le="0.5"}}', len(STAGES))
    counts = {result["metric"]["stage"]: float(result["value"][1]) for result in found}
    assert {stage: float((values <= 0.5).sum()) for stage, values in latencies().items()} == counts
    found = await query(server, f"histogram_quantile(0.99, {NAME}_bucket)", len(STAGES))
    for result in found:
        truth = latencies()[result["metric"]["stage"]][math.ceil(0.99 * CALLS) - 1]
        assert truth / 2 <= float(result["value"][1]) <= truth * 2


@pytest.mark.parametrize("flags", [(), ("--enable-feature=native-histograms",)])
async def test_the_shipped_quantile_is_recorded_of_either_kind_of_histogram(
    prometheus: StartWeb, served: tuple[str, Snapshot], flags: tuple[str, ...]
) -> None:
    """Where native ones are scraped, there are no buckets to record it from."""
    address, _ = served
    rules = yaml.safe_load(config_path("prometheus/callgauge.rules.yml").read_text("utf-8"))
    (expression,) = (
        rule["expr"] for rule in rules["groups"][0]["rules"] if rule["record"].endswith(":p99_5m")
    )
    server = await asyncio.to_thread(prometheus, scrape(address), None, flags)
    found = await query(server, expression, len(STAGES))
    assert {("callgauge", stage) for stage in STAGES} == {
        (result["metric"]["job"], result["metric"]["stage"]) for result in found
    }


async def test_no_sample_is_refused(prometheus: StartWeb, served: tuple[str, Snapshot]) -> None:
    """Prometheus takes all that it is given: no duplicates, nothing out of order, no parse error."""
    address, _ = served
    server = await asyncio.to_thread(prometheus, scrape(address))
    (up,) = await query(server, "up", 1)
    assert "1" == up["value"][1]
    (scraped,) = await query(server, "scrape_samples_scraped", 1)
    (kept,) = await query(server, "count({job='callgauge', __name__!~'up|scrape_.*'})", 1)
    assert scraped["value"][1] == kept["value"][1]
