"""How long from exec to the first event? `callgauge run` on a Kafka that has rows waiting.

Measured until `/metrics` says that rows were read: the first batch is through the whole line by then. Warm:
the kernels are in the cache, as at every start but the first after an installation or an update. Cold: they
are not, and are compiled first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bench.harness import FULL, SMOKE, TINY, Benchmark, Result, Row, at_most, digest_of, spread
from bench.live import TOPIC, Service, Stack, kernel_cache, stack
from engine.source.synthetic import generate_rows
from engine.source.traffic import NS_PER_S, Scenario, Tenant

SEED = 20_260_603
BUDGET_S = 3.0
AFTER_IMPORTS_S = 1.0
# Kernels are loaded and a first event has gone through the line of `run`.
AFTER_IMPORTS = """
import time, engine.commands.run, engine.source.kafka
from engine.app import REPLAY_HASH_KEY, OwnedLine, load_configuration
from engine.commands.warmup import _batch, _event, warm_up
from engine.source.raw_fetch import load_framing
begin = time.perf_counter()
configuration = load_configuration(None, None, None)
warm_up(configuration)
load_framing()
line = OwnedLine(configuration, REPLAY_HASH_KEY)
line.step(_batch(0, [_event(1_700_000_000.0, "call.started", "call-1")]))
line.publish(0)
print(time.perf_counter() - begin)
"""
STARTS = {TINY: 1, SMOKE: 5, FULL: 15}
HISTORY_S = 60.0
LIMITS: list[dict[str, object]] = [{"name": "trunk", "kind": "concurrency", "value": 100, "owner": "bench"}]


def first_event_s(over: Stack, name: str) -> float:
    """Start, wait for the first event, stop."""
    with Service(over, name, LIMITS) as service:
        return service.wait_for(lambda: service.metric("callgauge_rows_read_total") > 0, "rows are read")


def after_imports_s(starts: int) -> list[float]:
    """Start the line alone in fresh processes; the first one, which may compile, does not count."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(kernel_cache())}
    command = [sys.executable, "-c", AFTER_IMPORTS]
    root = Path(__file__).parent.parent
    times = [
        float(subprocess.run(command, cwd=root, env=environment, capture_output=True, check=True).stdout)
        for _ in range(starts + 1)
    ]
    return times[1:]


def run(size: str) -> Result:
    """Start the line alone, then the service with an empty kernel cache, then with a full one."""
    line_s = after_imports_s(STARTS[size])
    with stack() as over:
        start_ns = time.time_ns() - int(HISTORY_S * NS_PER_S)
        tenants = (Tenant(name="acme", rate_per_s=1.0, holding_mean_s=20.0),)
        scenario = Scenario(duration_s=HISTORY_S, tenants=tenants, start_ns=start_ns)
        rows = list(generate_rows(scenario, SEED))
        over.kafka.produce(TOPIC, rows)
        for cached in kernel_cache().iterdir():
            shutil.rmtree(cached)
        cold_s = first_event_s(over, "cold")
        warm_s = [first_event_s(over, f"warm-{number}") for number in range(STARTS[size])]
    middle_s = sorted(warm_s)[len(warm_s) // 2]
    return Result(
        (
            at_most(
                "start to first event, warm kernel cache",
                middle_s,
                BUDGET_S,
                "s",
                measured=spread(warm_s, "s"),
            ),
            at_most(
                "imports done to first event through the line, warm kernel cache",
                sorted(line_s)[len(line_s) // 2],
                AFTER_IMPORTS_S,
                "s",
                measured=spread(line_s, "s"),
            ),
            Row("start to first event, empty kernel cache", f"{cold_s:.1f} s"),
        ),
        SEED,
        digest_of(len(rows)),
    )


BENCHMARK = Benchmark("start", "How long from exec to the first event?", run)
