"""How much memory does a running service take? `callgauge run` on 4 partitions, after an hour of traffic.

1,000 (series, stage) sketches: 250 series with four stages of turns each, so that their marginals and setup
times come on top. 100,000 calls start within the hour and none ends. State is what has come since the service
was ready and idle on the empty topic.
"""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING

from bench.harness import FULL, SMOKE, TINY, Benchmark, Result, Row, at_most, digest_of
from bench.live import PARTITIONS, TOPIC, Service, load_kernels, stack
from engine.source.synthetic import generate_rows
from engine.source.traffic import NS_PER_S, Scenario, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.live import Stack

SEED = 20_260_604
BUDGET_MB, STATE_BUDGET_MB = 350.0, 120.0
SERIES = {TINY: 5, SMOKE: 250, FULL: 250}
CALLS = {TINY: 300, SMOKE: 101_000, FULL: 101_000}
TURNS = {TINY: 100, SMOKE: 100_000, FULL: 400_000}
HISTORY_S = 3900.0
ENDLESS_S = 1e6
SCRAPE_S = 2.0  # a scrape renders thousands of series: asking all the time would be measured as well
LIMITS: list[dict[str, object]] = [
    {"name": "trunk", "kind": "concurrency", "value": 1_000_000, "split_by": ["trunk"], "owner": "bench"}
]


def scenario(size: str) -> Scenario:
    """Give an hour of calls that never end."""
    series = SERIES[size]
    tenants = tuple(
        Tenant(
            name=f"tenant-{number}", trunk=f"sip-{number % 4}", rate_per_s=CALLS[size] / series / HISTORY_S,
            holding_mean_s=ENDLESS_S, holding_sigma=0.1,
        )
        for number in range(series)
    )  # fmt: skip
    every_s = HISTORY_S / 2 * CALLS[size] / TURNS[size]
    start_ns = time.time_ns() - int(HISTORY_S * NS_PER_S)
    return Scenario(duration_s=HISTORY_S, tenants=tenants, turn_every_s=every_s, start_ns=start_ns)


def produce_counted(over: Stack, size: str) -> int:
    """Produce the scenario; give how many rows it has."""
    rows = 0

    def counted() -> Iterator[bytes]:
        nonlocal rows
        for row in generate_rows(scenario(size), SEED):
            rows += 1
            yield row

    over.kafka.produce(TOPIC, counted())
    return rows


def wait_until_counted(service: Service, rows: int) -> None:
    """Wait until a service has read so many rows, and absorbed them."""
    for name in ("callgauge_rows_read_total", "callgauge_rows_absorbed_total"):
        service.wait_for(partial(_has_counted, service, name, rows), f"{name} is {rows}", SCRAPE_S)


def run(size: str) -> Result:
    """Fill a service and look at its resident memory."""
    with contextlib.ExitStack() as running:
        over = running.enter_context(stack())
        load_kernels(over)
        service = running.enter_context(Service(over, "memory", LIMITS))
        service.wait_for(service.is_ready, "it is ready on an empty topic")
        empty_mb = service.resident_mb()
        rows = produce_counted(over, size)
        wait_until_counted(service, rows)
        in_flight = service.metric("callgauge_calls_in_flight")
        full_mb = service.resident_mb()
    what = f"{PARTITIONS} partitions, {in_flight:,.0f} calls in flight, {4 * SERIES[size]:,} turn sketches"
    return Result(
        (
            at_most(f"resident memory, {what}", full_mb, BUDGET_MB, "MB"),
            at_most("of it state", full_mb - empty_mb, STATE_BUDGET_MB, "MB"),
            Row("resident memory, warmed up and idle", f"{empty_mb:.2f} MB"),
        ),
        SEED,
        digest_of(rows, in_flight),
    )


def _has_counted(service: Service, name: str, rows: int) -> bool:
    return service.metric(name) >= rows


BENCHMARK = Benchmark("memory", "How much memory does a running service take?", run)
