"""What does callgauge add to a call when it hangs? A platform places calls; the sidecar runs, and is frozen.

The platform is a process of its own that tells Kafka of its calls by a bounded queue and measures each call
itself. The sidecar is stopped by SIGSTOP and goes on by SIGCONT, in turns, so that neighbours on the machine
meet both alike. The figure is the difference between the p99 of the calls of both kinds of turns.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import numpy as np

from bench.harness import FULL, SMOKE, TINY, Benchmark, Result, Row, at_most, digest_of
from bench.live import TOPIC, Service, load_kernels, stack
from tests.integration.platform_stub import placed, placing

if TYPE_CHECKING:
    from numpy.typing import NDArray

TURNS = {TINY: 1, SMOKE: 6, FULL: 20}
TURN_S = {TINY: 1.0, SMOKE: 4.0, FULL: 8.0}
CALLS_PER_S = {TINY: 50.0, SMOKE: 300.0, FULL: 300.0}
BEFORE_S = 2.0  # the platform connects
ADDED_MS = 1.0


def run(size: str) -> Result:
    """Freeze and thaw the sidecar while calls are placed."""
    length_s = BEFORE_S + 2 * TURNS[size] * TURN_S[size]
    spans: dict[str, list[tuple[float, float]]] = {"running": [], "frozen": []}
    with stack() as over:
        load_kernels(over)
        result = over.folder / "placed.json"
        with Service(over, "sidecar", []) as service:
            service.wait_for(service.is_ready, "it is ready")
            with placing(over.kafka.bootstrap, TOPIC, length_s, CALLS_PER_S[size], result):
                time.sleep(BEFORE_S)
                for _ in range(TURNS[size]):
                    for name, number in (("frozen", signal.SIGSTOP), ("running", signal.SIGCONT)):
                        service.send(number)
                        begin_s = time.time()
                        time.sleep(TURN_S[size])
                        spans[name].append((begin_s, time.time()))
        found = placed(result)
    took = {name: found.took_between(some) for name, some in spans.items()}
    p99_ms = {name: float(np.quantile(one, 0.99)) for name, one in took.items()}
    rows = (
        at_most("errors of calls", float(found.call_errors), 0.0, "calls"),
        at_most("events left out by the platform", float(found.events_left_out), 0.0, "events"),
        Row("a call beside a running sidecar", _shown(took["running"])),
        Row("a call beside a frozen sidecar", _shown(took["frozen"])),
        at_most("added at p99 by freezing it", p99_ms["frozen"] - p99_ms["running"], ADDED_MS, "ms"),
    )
    return Result(rows, 0, digest_of(len(found.at_s), found.events_told))


def _shown(took_ms: NDArray[np.float64]) -> str:
    middle, high = np.quantile(took_ms, (0.5, 0.99)).tolist()
    return f"{middle:.3f} ms at the median, {high:.3f} ms at p99 of {len(took_ms)}"


BENCHMARK = Benchmark("frozen_sidecar", "What does callgauge add to a call when it hangs?", run)
