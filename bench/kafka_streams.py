"""What do other stream processors take for a row from Kafka? bytewax and quixstreams, and ours, in turns.

A real Kafka serves the same rows to all. bytewax keeps counts and ddsketches by minute and tenant;
quixstreams counts, sums and largest values, on a topic keyed by tenant, since what it groups itself goes to
Kafka once more; ours to windows are calls in flight, limits, windows and quantiles of a minute, five and an
hour by every label, second by second, and to alerts are the detectors too. Processor time of the reader
alone, without its start. Both pin versions that ours do not have, so they live in an environment of their
own (`make .venv-streams`); where it is missing, the page says so.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import orjson

from bench.harness import (
    FULL,
    SMOKE,
    TINY,
    Benchmark,
    Result,
    Row,
    digest_of,
    in_turns,
    least_ratio,
    spread,
)
from bench.kafka_log import SEED, Served, events
from bench.kafka_windows import Way
from bench.loaded import loaded_configuration
from engine.app import REPLAY_HASH_KEY, build_line
from engine.source.contract import RawBatch
from tests.integration.kafka_broker import Kafka
from tests.kafka_double import TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.judge.detection import Detector
    from engine.source.rows import Rows

ROWS = {TINY: 3_000, SMOKE: 200_000, FULL: 400_000}
TURNS = {TINY: 1, SMOKE: 3, FULL: 7}
TIMES_AT_LEAST = 40.0
BY_TENANT = "calls-by-tenant"
OURS, ALERTS = "ours, to windows", "ours, to alerts"
FOLDER = Path(__file__).parent
INTERPRETER = FOLDER.parent / ".venv-streams" / "bin" / "python"
PROGRAMS = {"bytewax": ("bytewax_windows.py", TOPIC), "quixstreams": ("quix_windows.py", BY_TENANT)}
PATIENCE_S = 300


class Program:
    """Another stream processor; `seconds` has its processor time of each run."""

    def __init__(self, name: str, bootstrap: str, rows: int) -> None:
        """Say what to run."""
        program, topic = PROGRAMS[name]
        self._command = [str(INTERPRETER), str(FOLDER / "streams" / program), bootstrap, topic, str(rows)]
        self._rows = rows
        self.seconds: list[float] = []

    def run(self) -> None:
        """Read all rows."""
        done = subprocess.run(self._command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{self._command[1]} failed: {done.stderr[-1000:]}")
        said = msgspec.json.decode(done.stdout, type=dict[str, float])
        assert said["rows"] == self._rows, "rows are missing"
        assert said["counted"] > 0, "no window was closed"
        self.seconds.append(said["seconds"])


def tenant_of(row: bytes) -> bytes:
    """Give the key of the topic that is grouped beforehand."""
    return str(orjson.loads(row).get("tenant", "")).encode()


def engine_readers(served: Served) -> tuple[Way, dict[str, Callable[[], None]]]:
    """Give our way to read, and the readers that take it to windows and to alerts."""
    way = Way(served, is_raw=True)
    configuration = loaded_configuration()

    def read(detectors: tuple[Detector, ...] | None) -> None:
        pipeline = build_line(configuration, REPLAY_HASH_KEY, detectors=detectors).pipeline

        def step(rows: Rows) -> None:
            pipeline.step(RawBatch(*rows, TOPIC, 0, time.time_ns(), (0,), ()))

        way.read_rows(step)
        assert pipeline.decoder.rows_read == served.rows, "rows are missing"

    return way, {OURS: lambda: read(()), ALERTS: lambda: read(None)}


def run(size: str, interpreter: Path = INTERPRETER) -> Result:
    """Start Kafka, let all read the same rows in turns."""
    if not interpreter.exists():
        names = " and ".join(PROGRAMS)
        missing = f"skipped, not installed: {names} (make .venv-streams)"
        return Result((Row("other stream processors", "not measured", "", missing),), SEED, "-")
    count = ROWS[size]
    rows = events(count)
    with tempfile.TemporaryDirectory(prefix="callgauge-bench-") as folder:
        kafka = Kafka(Path(folder))
        kafka.start()
        try:
            for topic in (TOPIC, BY_TENANT):
                kafka.create_topic(topic, 1)
            kafka.produce(TOPIC, rows)
            kafka.produce(BY_TENANT, rows, key_of=tenant_of)
            seconds = measure(kafka.bootstrap, count, TURNS[size])
        finally:
            kafka.stop()
    found = [
        Row(name, spread([one / count * 1e9 for one in each], "ns a row", 0))
        for name, each in seconds.items()
    ]
    for name in PROGRAMS:
        for way, at_least in ((OURS, TIMES_AT_LEAST), (ALERTS, 0.0)):
            times = [slow / fast for slow, fast in zip(seconds[name], seconds[way], strict=True)]
            found.append(least_ratio(f"{name} / {way}", times, at_least))
    return Result(tuple(found), SEED, digest_of(count))


def measure(bootstrap: str, rows: int, turns: int) -> dict[str, list[float]]:
    """Let all read in turns; give processor seconds by turn."""
    way, readers = engine_readers(Served("none", 0, rows, bootstrap))
    programs = {name: Program(name, bootstrap, rows) for name in PROGRAMS}
    for read in readers.values():
        read()  # Warm: connections, kernels.
    ours = in_turns({**readers, **{name: one.run for name, one in programs.items()}}, turns)
    way.close()
    return {name: ours[name] for name in readers} | {name: one.seconds for name, one in programs.items()}


BENCHMARK = Benchmark("kafka_streams", "What do other stream processors take for a row from Kafka?", run)
