"""How fast does one core replay a log? Against a plain loop over the same rows, in the same run.

The plain loop is what one would write in an afternoon: orjson, dicts, a set of calls in flight, and a sketch
with logarithmic buckets. It has no slices, no order, no windows, no limits, no forecast and no alerts: it
says what parsing and counting alone cost in Python. Logs: synthetic traffic of few and of many series, as
zst, and the bundled recording of a real server. Kernels are loaded before the clock starts.
"""

from __future__ import annotations

import asyncio
import math
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from bench.harness import (
    FULL,
    SMOKE,
    TINY,
    Benchmark,
    Result,
    Row,
    at_least,
    digest_of,
    in_turns,
    ratios,
    spread,
)
from engine.app import REPLAY_HASH_KEY, build_line, load_configuration
from engine.commands.warmup import warm_up
from engine.config_files import config_path
from engine.deliver.jsonl import alert_change_line
from engine.source.compression import LogReader
from engine.source.file import FileSource
from engine.source.synthetic import generate_rows
from engine.source.traffic import Scenario, Tenant

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.app import Configuration
    from engine.judge.lifecycle import AlertChange

SEED = 20_260_601
BUDGET_PER_S = 1_000_000.0
LOG_GAMMA = math.log(1.02)
RECORDING = "demo/sip-go-live.events.jsonl.zst"
DURATION_S = {TINY: 60.0, SMOKE: 1200.0, FULL: 3600.0}
TURNS = {TINY: 1, SMOKE: 3, FULL: 7}
SERIES = (10, 1000)
CALLS_PER_S = 16.0
BUSY_CALLS_PER_S = 320.0


def scenario(series: int, duration_s: float, calls_per_s: float = CALLS_PER_S) -> Scenario:
    """Give steady traffic of so many series; at 16 calls a second about 155 events a second."""
    tenants = tuple(
        Tenant(
            name=f"tenant-{number}", trunk=f"sip-{number % 4}", provider=f"provider-{number % 3}",
            rate_per_s=calls_per_s / series, holding_mean_s=60.0,
        )
        for number in range(series)
    )  # fmt: skip
    return Scenario(duration_s=duration_s, tenants=tenants, turn_every_s=8.0)


def write_log(path: Path, series: int, duration_s: float, calls_per_s: float = CALLS_PER_S) -> None:
    """Write synthetic traffic as one zstd frame."""
    rows = b"\n".join(generate_rows(scenario(series, duration_s, calls_per_s), SEED))
    path.write_bytes(zstd.compress(rows + b"\n", level=3))


def replay_log(path: Path, configuration: Configuration) -> tuple[int, bytes]:
    """Take a log through the line as `callgauge replay` does; give its rows and the alert changes."""

    async def replay() -> tuple[int, bytes]:
        source = FileSource((str(path),))
        pipeline = build_line(configuration, REPLAY_HASH_KEY).pipeline
        await source.start()
        changes: list[AlertChange] = []
        while (raw := await source.read()) is not None:
            changes += pipeline.step(raw).changes
        changes += pipeline.finish().changes
        await source.close()
        return pipeline.decoder.rows_read, b"".join(map(alert_change_line, changes))

    return asyncio.run(replay())


def plain_loop(path: Path) -> tuple[int, int]:
    """Count what an afternoon's script would count; give the rows and the most calls in flight at a time."""
    counts: dict[tuple[str, str, str], int] = Counter()
    sketches: dict[tuple[str, str, str], dict[int, int]] = {}
    in_flight: set[str] = set()
    peak = rows = 0
    reader = LogReader(str(path))
    pieces = []
    while (piece := reader.read()) is not None:
        pieces.append(piece)
    reader.close()
    for line in b"".join(pieces).splitlines():
        rows += 1
        event: dict[str, Any] = orjson.loads(line)
        tenant, trunk, call_id = event.get("tenant", ""), event.get("trunk", ""), event.get("call_id", "")
        counts[tenant, trunk, event["type"]] += 1
        if event["type"] == "call.started":
            in_flight.add(call_id)
            peak = max(peak, len(in_flight))
        elif event["type"] in ("call.ended", "call.declined"):
            in_flight.discard(call_id)
        for stage, value in event.get("latency_ms", {}).items():
            sketch = sketches.setdefault((tenant, trunk, stage), {})
            bucket = math.ceil(math.log(value) / LOG_GAMMA) if value > 0 else 0
            sketch[bucket] = sketch.get(bucket, 0) + 1
    return rows, peak


def compare(path: Path, what: str, configuration: Configuration, turns: int) -> tuple[list[Row], str]:
    """Replay one log both ways, in turns."""
    done: dict[str, Any] = {}

    def keep(way: str, work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            done[way] = work()

        return run

    seconds = in_turns(
        {
            "replay": keep("replay", lambda: replay_log(path, configuration)),
            "plain loop": keep("plain loop", lambda: plain_loop(path)),
        },
        turns,
    )
    rows, changes = done["replay"]
    per_s = sorted(rows / one for one in seconds["replay"])[len(seconds["replay"]) // 2]
    slower = spread(ratios(seconds, "replay", "plain loop"), "x")
    found = [
        at_least(f"replay, {what}", per_s, BUDGET_PER_S, "events/s"),
        Row(f"replay, {what}: time over that of a plain Python loop", slower),
    ]
    return found, digest_of(rows, changes, done["plain loop"])


def run(size: str) -> Result:
    """Replay few series, many series, and the recording."""
    configuration = load_configuration(None, str(config_path("demo/limits.yaml")), None)
    warm_up(configuration)
    rows: list[Row] = []
    digests = []
    with tempfile.TemporaryDirectory() as folder:
        logs = [(config_path(RECORDING), "bundled recording")]
        for series in SERIES:
            path = Path(folder) / f"{series}.jsonl.zst"
            write_log(path, series, DURATION_S[size])
            logs.append((path, f"synthetic zst, {series} series"))
        # A slice has a price of its own: what a row costs is seen where many of them share it.
        busy = Path(folder) / "busy.jsonl.zst"
        write_log(busy, SERIES[0], DURATION_S[size] / 20.0, BUSY_CALLS_PER_S)
        logs.append((busy, f"synthetic zst, {SERIES[0]} series, twenty times as busy"))
        for path, what in logs:
            found, digest = compare(path, what, configuration, TURNS[size])
            rows += found
            digests.append(digest)
    note = "Rows are scanned (engine.scan_rows); holding rows, closing slices and judging them is the rest."
    return Result(tuple(rows), SEED, digest_of(*digests), (note,))


BENCHMARK = Benchmark("replay", "How many events a second does one core replay?", run)
