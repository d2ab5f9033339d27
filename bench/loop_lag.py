"""How late does the event loop run at full load? Service and Kafka are real.

Heartbeats, scrapes and deliveries wait for the loop. A backlog lies in Kafka, and the service reads it
with checkpoints on, scraped all the while (`lag_probe.py`). A timer of one millisecond tells how late the
loop is. A block of 40 ms holds up one timer, and whoever comes at any moment of it: so every lag also counts
as those that timers within it would have had. Only the time from the first row to the last counts. What the
machine alone costs shows a process beside it, with such a timer and nothing else to do.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from bench.harness import FULL, SMOKE, TINY, Benchmark, Result, Row, at_most, digest_of
from bench.lag_probe import PROBE_S
from bench.live import TOPIC, Service, alongside, load_kernels, stack
from engine.source.synthetic import generate_rows
from engine.source.traffic import NS_PER_S, Scenario, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SEED = 20_261_127
ROWS = {TINY: 3_000, SMOKE: 600_000, FULL: 3_000_000}
BUDGET_MS = 50.0
TENANTS, EVENTS_PER_S = 50, 800.0
SCRAPE_S = 0.5
MS_PER_S = 1000.0
QUANTILES = (0.5, 0.99, 0.999)
LIMITS: list[dict[str, object]] = [
    {"name": "trunk", "kind": "concurrency", "value": 10_000, "split_by": ["trunk"], "owner": "bench"}
]


def backlog(rows: int) -> Iterator[bytes]:
    """Make up calls that end about now."""
    duration_s = rows / EVENTS_PER_S + 300.0
    tenants = tuple(
        Tenant(
            name=f"tenant-{number}", trunk=f"sip-{number % 4}", provider=f"provider-{number % 3}",
            rate_per_s=80.0 / TENANTS, holding_mean_s=60.0,
        )
        for number in range(TENANTS)
    )  # fmt: skip
    start_ns = time.time_ns() - int(duration_s * NS_PER_S)
    scenario = Scenario(duration_s=duration_s, tenants=tenants, turn_every_s=8.0, start_ns=start_ns)
    return islice(generate_rows(scenario, SEED), rows)


def as_it_would_be_met(lag_s: NDArray[np.float64], every_s: float) -> NDArray[np.float64]:
    """Add to each lag those that timers due within it would have had."""
    steps = np.floor(lag_s / every_s).astype(np.int64) + 1
    ends = np.cumsum(steps)
    place = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - steps, steps)
    met: NDArray[np.float64] = np.repeat(lag_s, steps) - place * every_s
    return met


def quantiles(lag_s: NDArray[np.float64]) -> tuple[float, str]:
    """Give p99.9 in ms, and all quantiles in words."""
    met_ms = as_it_would_be_met(lag_s, PROBE_S) * MS_PER_S
    p50, p99, p999 = np.quantile(met_ms, QUANTILES).tolist() if len(met_ms) else (0.0, 0.0, 0.0)
    most_ms = float(met_ms.max(initial=0.0))
    return p999, f"{p999:.1f} ms (p50 {p50:.2f}, p99 {p99:.1f}, most {most_ms:.1f})"


class Idle:
    """Does nothing but look how late it wakes, in a thread; `lag_s` is what it found."""

    def __init__(self) -> None:
        """Start without a look."""
        self.lag_s: list[float] = []

    def look(self, over: threading.Event) -> None:
        """Look until it is over."""
        while not over.is_set():
            due_s = time.monotonic() + PROBE_S
            time.sleep(PROBE_S)
            self.lag_s.append(max(time.monotonic() - due_s, 0.0))


def run(size: str) -> Result:
    """Let a service read the backlog, and look at how late its loop was."""
    with contextlib.ExitStack() as running:
        over = running.enter_context(stack())
        load_kernels(over)
        over.kafka.produce(TOPIC, backlog(ROWS[size]))
        out = over.folder / "lag.npy"
        command = [sys.executable, "-m", "bench.lag_probe", str(out)]
        state = {"folder": str(over.folder / "state"), "period": "1s"}
        idle = Idle()
        service = Service(over, "lag", LIMITS, command=command, state=state)
        with alongside(idle.look, "idle"), service:
            service.wait_for(
                lambda: service.metric("callgauge_rows_absorbed_total") >= ROWS[size], "all is read", SCRAPE_S
            )
        lag_s, rows = np.load(out)
    is_busy = (rows > 0) & (rows < ROWS[size])
    busy_s = is_busy.sum() * PROBE_S + lag_s[is_busy].sum()
    p999, shown = quantiles(lag_s[is_busy])
    speed = ROWS[size] / busy_s if busy_s else 0.0
    what = f"lag of the event loop at full load, p99.9 of {busy_s:.1f} s"
    return Result(
        (
            at_most(what, p999, BUDGET_MS, "ms", measured=shown),
            Row("lag of a process beside it that does nothing", quantiles(np.array(idle.lag_s))[1]),
            Row("rows a second meanwhile, Kafka on the same machine", f"{speed:,.0f}"),
        ),
        SEED,
        digest_of(ROWS[size]),
    )


BENCHMARK = Benchmark("loop_lag", "How late does the event loop run at full load?", run)
