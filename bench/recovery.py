"""How long until a service that was killed is right again? The largest state of the design, on a real Kafka.

1,000 (series, stage) sketches, 100,000 calls in flight, 4 partitions. First the checkpoint: how long the line
stands still while it is taken, and how long it takes to be on the disk, each as the service says itself. Then
the process alone: from exec until a new line has restored it and published as many calls as were in flight.
Then the service: it is killed with -9 and started again at once under its member id, until it is ready and
says the same. Last the group: another member takes over (`bench/takeover.py`), which has to wait until the
session of the dead one times out: the shortest that brokers take as they come, and the one that we ship.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from bench.harness import FULL, SMOKE, TINY, Benchmark, Result, Row, at_most, digest_of, spread
from bench.live import PARTITIONS, Service, kernel_cache, load_kernels, stack
from bench.memory import LIMITS, SEED, SERIES, produce_counted, wait_until_counted
from bench.takeover import Group, Takeover
from engine.settings import KafkaSettings

TAKE_MS, PROCESS_S, GROUP_S, BEYOND_SESSION_S = 50.0, 5.0, 15.0, 5.0
TAKES = {TINY: 2, SMOKE: 10, FULL: 30}
STARTS = {TINY: 1, SMOKE: 5, FULL: 15}
SHORT_S, SHIPPED_S = 6, KafkaSettings().session_timeout_ns // 1_000_000_000
TAKEOVERS = {TINY: {SHORT_S: 1}, SMOKE: {SHORT_S: 3, SHIPPED_S: 1}, FULL: {SHORT_S: 10, SHIPPED_S: 5}}
PERIOD_S = 2.0
P99 = 0.99
NAME = "recovery"
# A start without Kafka: what `run` does until its first step, and the step.
RESTORED = """
import sys, time
from engine.app import OwnedLine, load_configuration
from engine.commands.checkpoints import Checkpoints
from engine.commands.warmup import warm_up
from engine.source.contract import tick
configuration = load_configuration(sys.argv[1], sys.argv[2], None)
checkpoints = Checkpoints(configuration)
key = checkpoints.open(configuration)
warm_up(configuration)
line = OwnedLine(configuration, key)
begin = time.perf_counter()
line.adopt(checkpoints.resume(configuration).line)
restored = time.perf_counter() - begin
line.step(tick(configuration.settings.kafka.topic, time.time_ns(), tuple(range(int(sys.argv[3]))), ()))
print(restored, line.publish(time.time_ns()).calls_in_flight)
"""


def p99(values: list[float]) -> float:
    """Give the 99th percentile; of few values that is the largest."""
    return sorted(values)[min(int(P99 * len(values)), len(values) - 1)]


def _with_p99(values: list[float], unit: str) -> str:
    return f"{p99(values):.2f} {unit}; median {spread(values, unit)}"


def checkpoints_of(service: Service, count: int) -> dict[str, list[float]]:
    """Watch so many checkpoints, and give what the service says of each."""
    names = "take_seconds", "write_seconds", "size_bytes"
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(count):
        seen = service.metric("callgauge_checkpoints_total")
        service.wait_for(partial(_is_above, service, seen), "a checkpoint", 0.2)
        for name in names:
            found[name].append(service.metric(f"callgauge_checkpoint_{name}"))
    return found


def _is_above(service: Service, seen: float) -> bool:
    return service.metric("callgauge_checkpoints_total") > seen


def restored_s(folder: Path, in_flight: float) -> tuple[float, float]:
    """Start the line alone in a fresh process; give seconds since exec, and those of the restore alone."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(kernel_cache())}
    files = [str(folder / f"{NAME}.{what}.yaml") for what in ("engine", "limits")]
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", RESTORED, *files, str(PARTITIONS)],
        cwd=Path(__file__).parent.parent, env=environment, capture_output=True, check=True,
    )  # fmt: skip
    took = time.perf_counter() - begin
    alone, found = map(float, done.stdout.split())
    assert found == in_flight, f"{found} calls were restored, not {in_flight}"
    return took, alone


def run(size: str) -> Result:
    """Fill a service, watch its checkpoints, and kill it again and again."""
    with contextlib.ExitStack() as running:
        over = running.enter_context(stack())
        load_kernels(over)
        state = {"folder": str(over.folder / "state"), "period": f"{PERIOD_S:g}s"}
        service = Service(over, NAME, LIMITS, state=state)
        rows = produce_counted(over, size)
        again_s: list[float] = []
        with service:
            wait_until_counted(service, rows)
            in_flight = service.metric("callgauge_calls_in_flight")
            found = checkpoints_of(service, TAKES[size])
            service.kill()
        for _ in range(STARTS[size]):
            with service:
                again_s.append(service.wait_for(partial(_is_right, service, in_flight), "it is right again"))
                service.kill()
        starts = [restored_s(over.folder, in_flight) for _ in range(STARTS[size])]
        taken_over: dict[int, list[Takeover]] = {}
        for session_s, count in TAKEOVERS[size].items():
            with Group(over, f"{session_s}s", rows) as group:
                taken_over[session_s] = [group.take_over(size) for _ in range(count)]
                rows = group.rows
    process_s, alone_s = ([one[part] for one in starts] for part in range(2))
    take_ms = [1000 * one for one in found["take_seconds"]]
    what = f"{PARTITIONS} partitions, {in_flight:,.0f} calls in flight, {4 * SERIES[size]:,} turn sketches"
    megabytes = [one / 1e6 for one in found["size_bytes"]]
    return Result(
        (
            at_most(f"recovery of the process, p99, {what}", p99(process_s), PROCESS_S, "s",
                    measured=_with_p99(process_s, "s")),
            at_most("started again at once after kill -9, p99", p99(again_s), GROUP_S, "s",
                    measured=_with_p99(again_s, "s")),
            *itertools.chain.from_iterable(_of_group(*each) for each in taken_over.items()),
            at_most("the line stands still for a checkpoint, p99", p99(take_ms), TAKE_MS, "ms",
                    measured=_with_p99(take_ms, "ms")),
            Row("a checkpoint is on the disk", spread(found["write_seconds"], "s")),
            Row("size of a checkpoint", spread(megabytes, "MB", 1)),
            Row("restore alone", spread(alone_s, "s")),
        ),
        SEED,
        digest_of(rows, in_flight),
        (f"One that is killed is waited for: {GROUP_S:g} s need a kafka.session_timeout below that.",),
    )  # fmt: skip


def _of_group(session_s: int, found: list[Takeover]) -> tuple[Row, ...]:
    """Put what a takeover took beside what it may take, in all and on top of the session time-out."""
    right_s, assigned_s = [one.right_s for one in found], [one.assigned_s for one in found]
    beyond_s = [one - session_s for one in assigned_s]
    what = f"another member takes over after kill -9, session time-out {session_s} s"
    return (
        at_most(f"{what}, p99", p99(right_s), GROUP_S, "s", measured=_with_p99(right_s, "s")),
        at_most("of it until it reads, less the session time-out, p99", p99(beyond_s), BEYOND_SESSION_S, "s",
                measured=_with_p99(beyond_s, "s")),
        Row("of it until it has caught up, once it reads",
            spread([one.right_s - one.assigned_s for one in found], "s")),
    )  # fmt: skip


def _is_right(service: Service, in_flight: float) -> bool:
    return service.is_ready() and service.metric("callgauge_calls_in_flight") == in_flight


BENCHMARK = Benchmark(NAME, "How long until a killed service is right again?", run)
