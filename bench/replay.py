"""How fast does one core replay a log? Against what one would use instead, on the same events, in turns.

One log of a busy platform, as lines, in zstd and as Parquet: the full engine (slices, order, calls in flight
as a set, windows, limits, forecasts, every detector) beside DuckDB and Polars, which are asked for a few
windows of it, and beside a plain loop. The engine's numbers are compared with DuckDB's exact ones.
The plain loop is what one would write in an afternoon: orjson, dicts, a set of calls in flight, and a sketch
with logarithmic buckets. It has no slices, no order, no windows, no limits, no forecast and no alerts: it
says what parsing and counting alone cost in Python. It is also run on quieter logs, where few rows share the
price of a slice, and on the bundled recording of a real server. Kernels are loaded before the clock starts.
"""

from __future__ import annotations

import asyncio
import math
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from bench.harness import (
    FULL,
    SMOKE,
    TINY,
    Benchmark,
    Result,
    Row,
    at_least,
    at_most,
    digest_of,
    in_turns,
    least_ratio,
    ratios,
    spread,
)
from bench.replay_cells import GUARANTEE_RATIO, cells_of, compared
from bench.replay_logs import write_formats
from bench.replay_peers import PEERS, installed
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
    from collections.abc import Callable, Iterator

    from engine.app import Configuration
    from engine.decode.decoder import Decoder
    from engine.judge.lifecycle import AlertChange

SEED = 20_260_601
BUDGET_PER_S = 1_000_000.0
LOG_GAMMA = math.log(1.02)
RECORDING = "demo/sip-go-live.events.jsonl.zst"
DURATION_S = {TINY: 60.0, SMOKE: 1200.0, FULL: 3600.0}
TURNS = {TINY: 1, SMOKE: 3, FULL: 7}
LOG_TURNS = {TINY: 1, SMOKE: 3, FULL: 3}
SERIES = (10, 1000)
CALLS_PER_S = 16.0
BUSY_CALLS_PER_S = 320.0
BUSY_SERIES = 20
EVENTS = {TINY: 5_000, SMOKE: 500_000, FULL: 5_000_000}
EVENTS_PER_S_LEAST = 1500.0  # of the busy log, its slow beginning included
NOTES = (
    "Times are processor time, of all threads together.",
    (
        "Peers are asked, by minute and labels, for attempts, ends, failures, p50 and p99 of each stage and"
        " the most calls in flight. The engine answers that, and does what else it does: order, repeated"
        " events, calls by id, limits, forecasts, every detector."
    ),
    (
        "What reading and decoding do not take is holding rows, closing slices and judging them; a slice has"
        " a price of its own, which quiet logs share among few rows."
    ),
)
FASTER_THAN_DUCKDB = {"jsonl": 4.0, "zst": 0.0, "parquet": 3.0}


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


def read_log(path: Path, decoder: Decoder | None = None) -> int:
    """Read a log, decode it if there is a decoder, and no more; give its rows."""

    async def read() -> int:
        source = FileSource((str(path),))
        rows = 0
        await source.start()
        while (raw := await source.read()) is not None:
            rows += raw.rows
            if decoder is not None:
                decoder.decode(raw)
        await source.close()
        return rows

    return asyncio.run(read())


def decode_log(path: Path, configuration: Configuration) -> int:
    """Read and decode a log, and no more; give its rows."""
    return read_log(path, build_line(configuration, REPLAY_HASH_KEY).pipeline.decoder)


def lines_of(path: Path) -> Iterator[bytes]:
    """Give the lines of a log."""
    if path.suffix == ".jsonl":
        with path.open("rb") as file:
            yield from file
        return
    reader = LogReader(str(path))
    pieces = []
    while (piece := reader.read()) is not None:
        pieces.append(piece)
    reader.close()
    yield from b"".join(pieces).splitlines()


def plain_loop(path: Path) -> tuple[int, int]:
    """Count what an afternoon's script would count; give the rows and the most calls in flight at a time."""
    counts: dict[tuple[str, str, str], int] = Counter()
    sketches: dict[tuple[str, str, str], dict[int, int]] = {}
    in_flight: set[str] = set()
    peak = rows = 0
    for line in lines_of(path):
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


def timed(ways: dict[str, Callable[[], object]], turns: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Run ways in turns; give the seconds of each, and what each came to."""
    done: dict[str, Any] = {}

    def keep(way: str) -> Callable[[], None]:
        def run() -> None:
            done[way] = ways[way]()

        return run

    return in_turns({way: keep(way) for way in ways}, turns), done


def compare(path: Path, what: str, configuration: Configuration, turns: int) -> tuple[list[Row], str]:
    """Replay one log both ways, in turns."""
    seconds, done = timed(
        {"replay": lambda: replay_log(path, configuration), "plain loop": lambda: plain_loop(path)}, turns
    )
    rows, changes = done["replay"]
    slower = spread(ratios(seconds, "replay", "plain loop"), "x")
    found = [
        at_least(f"replay, {what}", median_per_s(rows, seconds["replay"]), BUDGET_PER_S, "events/s"),
        Row(f"replay, {what}: time over that of a plain Python loop", slower),
    ]
    return found, digest_of(rows, changes, done["plain loop"])


def median_per_s(rows: int, seconds: list[float]) -> float:
    """Give the median of the speeds."""
    return sorted(rows / one for one in seconds)[len(seconds) // 2]


def compare_format(
    path: Path, name: str, configuration: Configuration, turns: int
) -> tuple[list[Row], str]:  # fmt: skip
    """Put one log of the busy platform to the engine and to its peers, in turns."""
    ways: dict[str, Callable[[], object]] = {
        "engine": lambda: replay_log(path, configuration), "decode": lambda: decode_log(path, configuration),
        "read": lambda: read_log(path),
    }  # fmt: skip
    peers = installed()
    for peer in peers:
        ways[peer] = lambda ask=PEERS[peer]: ask(path)  # type: ignore[misc]
    if name == "jsonl":
        ways["plain loop"] = lambda: plain_loop(path)
    seconds, done = timed(ways, turns)
    events, changes = done["engine"]
    rows = [
        at_least(f"{name}: full engine", median_per_s(events, seconds["engine"]), BUDGET_PER_S, "events/s"),
        Row(f"{name}: reading and decoding", f"{median_per_s(events, seconds['decode']):,.0f} events/s"),
        Row(f"{name}: reading and decoding, part of it", spread(ratios(seconds, "decode", "engine"), "x")),
        Row(f"{name}: reading alone, part of it", spread(ratios(seconds, "read", "engine"), "x")),
    ]
    for peer in ways:
        if peer not in ("engine", "decode", "read"):
            budget = FASTER_THAN_DUCKDB[name] if peer == "duckdb" else 0.0
            rows.append(
                least_ratio(f"{name}: time of {peer} over ours", ratios(seconds, peer, "engine"), budget)
            )
    digest = digest_of(events, changes)
    if "duckdb" in peers:
        bound = ratios(seconds, "duckdb", "decode")
        rows.append(least_ratio(f"{name}: time of duckdb over our reading and decoding alone", bound, 0.0))
        cells = compared(asyncio.run(cells_of(path, configuration)), done["duckdb"])
        rows += [
            at_most(f"{name}: cells unlike the exact ones, of {cells.cells:,}", cells.wrong, 0, ""),
            at_most(
                f"{name}: largest error of a p50 or p99", 100 * cells.error_ratio, 100 * GUARANTEE_RATIO, "%"
            ),
        ]
    return rows, digest


def compare_peers(folder: Path, configuration: Configuration, size: str) -> tuple[list[Row], list[str]]:
    """Compare over all formats; the same events give the same alerts in each."""
    duration_s = EVENTS[size] / EVENTS_PER_S_LEAST + 60.0
    busy = msgspec.structs.replace(scenario(BUSY_SERIES, duration_s, BUSY_CALLS_PER_S), failed_ratio=0.02)
    rows: list[Row] = []
    digests = []
    for name, path in write_formats(folder, busy, SEED, EVENTS[size]).items():
        found, digest = compare_format(path, name, configuration, LOG_TURNS[size])
        rows += found
        digests.append(digest)
        path.unlink()
    same = len(set(digests)) - 1
    rows.append(at_most("formats whose alerts differ from those of lines", same, 0, ""))
    return rows, digests


def run(size: str) -> Result:
    """Replay the busy log in every format, then few series, many series, and the recording."""
    configuration = load_configuration(None, str(config_path("demo/limits.yaml")), None)
    warm_up(configuration)
    peers = installed()
    missing = [
        f"{name} is not installed: skipped (pip install 'callgauge[bench]')"
        for name in PEERS
        if name not in peers
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, digests = compare_peers(folder, configuration, size)
        logs = [(config_path(RECORDING), "bundled recording")]
        for series in SERIES:
            path = folder / f"{series}.jsonl.zst"
            write_log(path, series, DURATION_S[size])
            logs.append((path, f"synthetic zst, {series} series"))
        for path, what in logs:
            found, digest = compare(path, what, configuration, TURNS[size])
            rows += found
            digests.append(digest)
    versions = ", ".join(f"{peer} {peers[peer]}" for peer in peers) or "none"
    log = (
        f"{EVENTS[size]:,} events, {BUSY_CALLS_PER_S:g} calls a second, {BUSY_SERIES} combinations of labels"
    )
    notes = (f"The log of every format: {log}.", f"Peers, one thread each: {versions}.", *missing, *NOTES)
    return Result(tuple(rows), SEED, digest_of(*digests), notes)


BENCHMARK = Benchmark("replay", "How many events a second does one core replay?", run)
