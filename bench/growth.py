"""How speed and memory change with what there is to keep: series, calls, partitions and limits.

Each point is the line of `run` in a process of its own. As many calls start as the point asks for; then a
steady mix is timed: of ten events six are turns with three latencies, two are starts and two ends, 2,000 a
second of event time, uniform over series, which is the worst for a slice. Each series has at least one call.
State is what can be reached from the line, arrays and objects; resident memory also has what the allocator
keeps, and lacks pages that were never written. What takes too long is stopped, and judged by what was done.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bench.growth_figure import Line, Panel, figure
from bench.growth_traffic import Batches, Point, Traffic, register_of
from bench.harness import FULL, RESULTS, SMOKE, TINY, Benchmark, Result, Row, digest_of
from bench.reach import Reached
from engine.app import REPLAY_HASH_KEY, build_line, load_configuration
from engine.commands.allocator import return_freed_memory
from engine.commands.warmup import warm_up
from tests.memory_use import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

SEED = 20_261_130
EVENTS = {TINY: 30_000, SMOKE: 60_000, FULL: 200_000}
SECONDS_MAX = {TINY: 60.0, SMOKE: 20.0, FULL: 120.0}
BASE = {TINY: Point(10, 100, 2, 2), SMOKE: Point(), FULL: Point()}
AXES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    TINY: {"series": (1,)},
    SMOKE: {"series": (10, 10_000), "calls": (100_000,), "partitions": (1, 16), "limits": (0, 200)},
    FULL: {
        "series": (1, 10, 100, 10_000, 100_000),
        "calls": (1_000, 100_000, 1_000_000),
        "partitions": (1, 16, 64),
        "limits": (0, 100, 1_000),
    },
}
NAMES = {"series": "series", "calls": "calls in flight", "partitions": "partitions", "limits": "limits"}
BOUNDS_MAX = 1 << 22  # bounds that would cut a point off are moved out of the way
MB = 1e6


class Found(NamedTuple):
    """What one point costs. `is_whole`: all events were taken, not only those that time was left for."""

    events_per_s: float
    live_events_per_s: float  # with a snapshot after each batch, as `run` makes them
    slices: int
    resident_mb: float  # grown by
    array_mb: float
    object_mb: float
    absorbed: int
    is_whole: bool


def measure(point: Point, events: int, seconds_max: float) -> Found:
    """Fill a line, then time the steady mix."""
    return_freed_memory()
    configuration = load_configuration(None, None, None)
    engine = msgspec.structs.replace(
        configuration.settings.engine, series_max=BOUNDS_MAX, window_rows_max=BOUNDS_MAX, calls_max=BOUNDS_MAX
    )
    settings = msgspec.structs.replace(configuration.settings, engine=engine)
    configuration = configuration._replace(settings=settings, register=register_of(point))
    warm_up(configuration)
    gc.collect()
    before_bytes = resident_bytes()
    line = build_line(configuration, REPLAY_HASH_KEY)
    traffic, batches = Traffic(point, SEED), Batches(point.partitions)
    for raw in batches.of(traffic.fill()):
        line.pipeline.step(raw)
    absorbed, slices = line.pipeline.decoder.rows_read, line.pipeline.judge.roller.slices_closed
    line.publisher.publish(0)
    stepping = publishing = 0.0
    is_whole = True
    for raw in batches.of(traffic.steady(events)):
        if stepping + publishing > seconds_max:
            is_whole = False
            break
        begin = time.process_time()
        line.pipeline.step(raw)
        stepped = time.process_time()
        line.publisher.publish(raw.received_ns)
        stepping += stepped - begin
        publishing += time.process_time() - stepped
    taken = line.pipeline.decoder.rows_read - absorbed
    gc.collect()
    grown_mb = (resident_bytes() - before_bytes) / MB
    reached = Reached(line)
    return Found(
        taken / stepping, taken / (stepping + publishing), line.pipeline.judge.roller.slices_closed - slices,
        grown_mb, reached.array_bytes / MB, reached.object_bytes / MB, absorbed + taken, is_whole,
    )  # fmt: skip


def measure_apart(point: Point, size: str) -> Found:
    """Measure in a process of its own, whose memory holds nothing else."""
    command = [sys.executable, "-m", "bench.growth", size, *map(str, point)]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return msgspec.json.decode(done.stdout, type=Found)


def rows_of(what: str, found: Found) -> list[Row]:
    """Put one point in rows."""
    stopped = "" if found.is_whole else f", stopped after {found.slices} slices"
    speed = f"{found.events_per_s:,.0f} events/s, {found.live_events_per_s:,.0f} with snapshots{stopped}"
    state = f"{found.array_mb + found.object_mb:.1f} MB, of it arrays {found.array_mb:.1f} MB"
    return [
        Row(f"{what}: speed", speed),
        Row(f"{what}: state", f"{state}; resident memory grew by {found.resident_mb:.0f} MB"),
    ]


def run(size: str) -> Result:
    """Measure all points; draw the curves, but for the tests."""
    base = BASE[size]
    apart = measure_apart if size != TINY else _in_this_process
    at_base = apart(base, size)
    rows = rows_of("the point where the axes meet", at_base)
    digests = [at_base.absorbed]
    curves: dict[str, list[tuple[int, Found]]] = {}
    for axis, values in AXES[size].items():
        points = [(value, base._replace(**{axis: value})) for value in values]
        curve = [(value, apart(point, size)) for value, point in points]
        curve.append((getattr(base, axis), at_base))
        curves[NAMES[axis]] = sorted(curve, key=lambda one: one[0])
        for value, found in curves[NAMES[axis]]:
            if value != getattr(base, axis):
                rows += rows_of(f"{value:,} {NAMES[axis]}", found)
                digests.append(found.absorbed if found.is_whole else -1)
    meeting = ", ".join(f"{getattr(base, axis):,} {name}" for axis, name in NAMES.items())
    notes = [f"The axes meet at {meeting}. Snapshots: one after each batch, as `run` makes them."]
    if size == FULL:
        drawn = figure([panels_of(name, curve) for name, curve in curves.items()])
        (RESULTS / "growth.svg").write_text(drawn, "utf-8")
        notes.append("The curves: growth.svg.")
    return Result(tuple(rows), SEED, digest_of(*digests), tuple(notes))


def panels_of(axis: str, curve: list[tuple[int, Found]]) -> tuple[Panel, Panel]:
    """Give speed and memory along one axis."""
    return (
        Panel(
            "events/s on one core",
            axis,
            (
                Line("line", tuple((value, one.events_per_s) for value, one in curve)),
                Line("with snapshots", tuple((value, one.live_events_per_s) for value, one in curve)),
            ),
        ),
        Panel(
            "MB",
            axis,
            (
                Line("state", tuple((value, one.array_mb + one.object_mb) for value, one in curve)),
                Line("resident", tuple((value, max(one.resident_mb, 1.0)) for value, one in curve)),
            ),
        ),
    )


def _in_this_process(point: Point, size: str) -> Found:
    return measure(point, EVENTS[size], SECONDS_MAX[size])


def main(size: str, *point: str) -> None:
    """Measure one point and print it."""
    found = measure(Point(*map(int, point)), EVENTS[size], SECONDS_MAX[size])
    print(msgspec.json.encode(found).decode())


BENCHMARK = Benchmark("growth", "How do speed and memory change with what there is to keep?", run)

if __name__ == "__main__":
    main(*sys.argv[1:])
