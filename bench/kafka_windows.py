"""What does a row from Kafka cost one core? Against what one would write instead, on the same batches.

A broker in a process of its own serves synthetic events, packed beforehand; every way reads the same rows
from the first one on, in turns, and only the reader's processor time counts. `to rows` is the bytes of the
socket to rows that a decoder can take; `to windows` is the engine behind it without detectors: calls in
flight, limits, windows and quantiles; `to alerts` is all of it. What it is compared with keeps counts, sums
and a ddsketch for each stage, by minute and tenant; without sketches it has no quantiles. Real brokers,
groups and transactions: tests/integration.
"""

from __future__ import annotations

import importlib.util
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

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
from bench.kafka_log import SEED, Served, serving
from bench.loaded import loaded_configuration
from bench.physical import received_row
from engine.app import REPLAY_HASH_KEY, build_line
from engine.commands.allocator import return_freed_memory
from engine.settings import KafkaSettings
from engine.source.contract import RawBatch
from engine.source.intake import Intake
from engine.source.kafka import CHUNKS_PER_POLL_MAX
from engine.source.raw_fetch import make_raw_consumer
from tests.kafka_double import TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.app import Configuration
    from engine.judge.detection import Detector
    from engine.source.rows import Rows

PARTITION = TopicPartition(TOPIC, 0)
SETTINGS = KafkaSettings()
MINUTE_NS = 60_000_000_000
KB = 1000
ROWS = {TINY: 3000, SMOKE: 200_000, FULL: 400_000}
TURNS = {TINY: 1, SMOKE: 3, FULL: 5}
CASES = {
    TINY: (("none", 16 * KB), ("zstd", 300 * KB)),
    SMOKE: (("none", 16 * KB), ("none", 300 * KB), ("lz4", 300 * KB), ("zstd", 300 * KB)),
    FULL: tuple((codec, size * KB) for codec in ("none", "lz4", "zstd") for size in (16, 300)),
}
PLAIN, RECORDS, BATCHES = "getmany + orjson + dict", "record by record, to rows", "whole batches, to rows"
ASYNC_FOR, SKETCHES = "async for + orjson + dict", "getmany + orjson + dict + ddsketch"
ENGINE, ALERTS = "whole batches, to windows", "whole batches, to alerts"
CONFLUENT = "confluent-kafka consume, bytes only"
AT_LEAST = {16 * KB: 10.0, 300 * KB: 12.0}
RELATIVE_ERROR = 0.01


class Standing:
    """A consumer of one partition, assigned by hand."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        """Stand in partition 0."""
        self.consumer = consumer
        self.placed = {0}

    def log_end(self, partition: int) -> int:
        """Ask the consumer."""
        return int(self.consumer.highwater(TopicPartition(TOPIC, partition)))


class Way:
    """One way to read, with a loop and a consumer of its own that stay open from turn to turn."""

    def __init__(self, served: Served, *, is_raw: bool) -> None:
        """Connect."""
        self.loop = uvloop.new_event_loop()
        self._rows = served.rows
        self._is_raw = is_raw
        self._consumer = self.loop.run_until_complete(self._connected(served))

    async def _connected(self, served: Served) -> AIOKafkaConsumer:
        options: dict[str, Any] = {
            "bootstrap_servers": served.bootstrap, "auto_offset_reset": "none", "enable_auto_commit": False,
            "fetch_max_bytes": SETTINGS.fetch_bytes_max,
            "max_partition_fetch_bytes": SETTINGS.fetch_bytes_max,
        }  # fmt: skip
        consumer = make_raw_consumer(SETTINGS, **options) if self._is_raw else AIOKafkaConsumer(**options)
        await consumer.start()
        consumer.assign([PARTITION])
        return consumer

    def read(self, take: Callable[[list[Any]], int]) -> int:
        """Read all rows from the first one on; `take` takes what came and gives how many rows that is."""
        return self.loop.run_until_complete(self._read(take))

    def read_one_by_one(self, take: Callable[[list[Any]], int]) -> int:
        """Read all rows with `async for`."""
        return self.loop.run_until_complete(self._read_one_by_one(take))

    async def _read_one_by_one(self, take: Callable[[list[Any]], int]) -> int:
        self._consumer.seek(PARTITION, 0)
        rows = 0
        async for record in self._consumer:
            rows += take([record])
            if rows == self._rows:
                break
        return rows

    async def _read(self, take: Callable[[list[Any]], int]) -> int:
        self._consumer.seek(PARTITION, 0)
        rows_max = CHUNKS_PER_POLL_MAX if self._is_raw else SETTINGS.batch_rows_max
        rows = 0
        while rows < self._rows:
            for given in (await self._consumer.getmany(timeout_ms=1000, max_records=rows_max)).values():
                rows += take(given)
        return rows

    def read_rows(self, take: Callable[[Rows], None]) -> int:
        """Read all rows as the engine's source does."""
        intake = Intake({0: 0})
        standing = Standing(self._consumer)

        def taken(given: list[Any]) -> int:
            found = intake.take({PARTITION: given}, standing)
            for _, rows in found:
                take(rows)
            return sum(len(rows.offset) for _, rows in found)

        return self.read(taken)

    def close(self) -> None:
        """Disconnect."""
        self.loop.run_until_complete(self._consumer.stop())
        self.loop.close()


class PlainWindows:
    """What an afternoon's script would keep: counts, sums and the largest latency by minute and tenant.

    With ddsketch, `new_sketch` makes one for each stage as well.
    """

    def __init__(self, new_sketch: Callable[[], Any] | None = None) -> None:
        """Nothing yet."""
        self.cells: dict[tuple[int, str], list[float]] = {}
        self.sketches: dict[tuple[int, str, str], Any] = {}
        self._new_sketch = new_sketch

    def take(self, records: list[Any]) -> int:
        """Count records."""
        for record in records:
            event = orjson.loads(record.value)
            key = (record.timestamp // 60_000, event.get("tenant", ""))
            cell = self.cells.get(key)
            if cell is None:
                cell = self.cells[key] = [0.0, 0.0, 0.0]
            cell[0] += 1
            for stage, value in event.get("latency_ms", {}).items():
                cell[1] += value
                cell[2] = max(cell[2], value)
                if self._new_sketch is not None:
                    self._add((*key, stage), value)
        return len(records)

    def _add(self, key: tuple[int, str, str], value: float) -> None:
        assert self._new_sketch is not None, "asked for"
        sketch = self.sketches.get(key)
        if sketch is None:
            sketch = self.sketches[key] = self._new_sketch()
        sketch.add(value)


def ddsketch_maker() -> Callable[[], Any] | None:
    """Give what makes a sketch, if ddsketch is installed."""
    if importlib.util.find_spec("ddsketch") is None:
        return None
    from ddsketch import DDSketch

    return lambda: DDSketch(RELATIVE_ERROR)


def confluent_reader(served: Served) -> tuple[Callable[[], int], Callable[[], None]]:
    """Read with librdkafka: bytes, and nothing done with them; a reader and how to close it."""
    from confluent_kafka import Consumer
    from confluent_kafka import TopicPartition as Place

    consumer = Consumer(
        {
            "bootstrap.servers": served.bootstrap, "group.id": "bench", "enable.auto.commit": False,
            "check.crcs": True, "queued.max.messages.kbytes": 4096,
        }
    )  # fmt: skip
    consumer.assign([Place(TOPIC, 0, 0)])

    def read() -> int:
        consumer.assign([Place(TOPIC, 0, 0)])
        rows = 0
        give_up_s = time.monotonic() + 60
        while rows < served.rows:
            assert time.monotonic() < give_up_s, "librdkafka gets nothing"
            rows += len([message.value() for message in consumer.consume(10_000, 0.2)])
        return rows

    return read, consumer.close


class Figures(NamedTuple):
    """Processor seconds per row of each way, turn by turn, and what was computed."""

    seconds: dict[str, list[float]]
    digest: str


def compare(served: Served, configuration: Configuration, turns: int) -> Figures:
    """Read the same rows every way, in turns."""
    counted: dict[str, list[int]] = {}
    computed: dict[str, object] = {}
    plain, raw = Way(served, is_raw=False), Way(served, is_raw=True)
    confluent, close = confluent_reader(served)

    def plain_windows() -> int:
        windows = PlainWindows()
        rows = plain.read(windows.take)
        computed[PLAIN] = sorted(
            (tenant, cell[0], round(cell[1])) for (_, tenant), cell in windows.cells.items()
        )
        return rows

    def to_rows(way: Way, name: str) -> int:
        sizes: list[int] = []
        rows = way.read_rows(lambda given: sizes.append(int((given.end - given.start).sum())))
        computed[name] = sum(sizes)
        return rows

    def through(name: str, detectors: tuple[Detector, ...] | None) -> int:
        pipeline = build_line(configuration, REPLAY_HASH_KEY, detectors=detectors).pipeline

        def step(rows: Rows) -> None:
            pipeline.step(RawBatch(*rows, TOPIC, 0, time.time_ns(), (0,), ()))

        rows = raw.read_rows(step)
        computed[name] = pipeline.decoder.rows_read
        return rows

    ways: dict[str, Callable[[], int]] = {
        PLAIN: plain_windows,
        ASYNC_FOR: lambda: plain.read_one_by_one(PlainWindows().take),
        RECORDS: lambda: to_rows(plain, RECORDS),
        BATCHES: lambda: to_rows(raw, BATCHES),
        ENGINE: lambda: through(ENGINE, ()),
        ALERTS: lambda: through(ALERTS, None),
        CONFLUENT: confluent,
    }
    if new_sketch := ddsketch_maker():
        ways[SKETCHES] = lambda: plain.read(PlainWindows(new_sketch).take)

    def counting(name: str) -> Callable[[], None]:
        return lambda: counted.setdefault(name, []).append(ways[name]())

    for name in ways:
        counting(name)()  # Warm: connections, kernels, the broker's answers.
    counted.clear()
    seconds = in_turns({name: counting(name) for name in ways}, turns)
    plain.close()
    raw.close()
    close()
    assert computed[RECORDS] == computed[BATCHES], "the two paths gave other bytes"
    per_row = {
        name: [one / rows for one, rows in zip(seconds[name], counted[name], strict=True)] for name in ways
    }
    return Figures(per_row, digest_of(*(computed[name] for name in (PLAIN, BATCHES, ENGINE))))


def figures(served: Served, found: Figures) -> list[Row]:
    """Put the figures of one log in rows."""
    log = f"{served.codec}, {served.batch_bytes // KB} KB"

    def times(one: str, other: str) -> list[float]:
        pairs = zip(found.seconds[one], found.seconds[other], strict=True)
        return [slow / fast for slow, fast in pairs]

    rows = [
        Row(f"{log}: {name}", spread([one * 1e9 for one in seconds], "ns a row", 0))
        for name, seconds in found.seconds.items()
    ]
    rows.append(Row(f"{log}: rows, {RECORDS[:16]} / whole batches", spread(times(RECORDS, BATCHES), "x", 1)))
    rows.append(
        Row(f"{log}: {CONFLUENT} / whole batches, to rows", spread(times(CONFLUENT, BATCHES), "x", 1))
    )
    budget = AT_LEAST[served.batch_bytes] if served.codec == "none" else 0.0
    if SKETCHES in found.seconds:
        rows.append(least_ratio(f"{log}: {SKETCHES} / {ENGINE}", times(SKETCHES, ENGINE), budget))
        rows.append(Row(f"{log}: {SKETCHES} / {ALERTS}", spread(times(SKETCHES, ALERTS), "x", 1)))
    elif budget:
        rows.append(
            Row(f"{log}: {SKETCHES} / {ENGINE}", "not measured", f"at least {budget:g} x", "needs ddsketch")
        )
    rows.append(Row(f"{log}: {PLAIN} / {ENGINE}", spread(times(PLAIN, ENGINE), "x", 1)))
    rows.append(Row(f"{log}: {PLAIN} / {BATCHES}", spread(times(PLAIN, BATCHES), "x", 1)))
    rows.append(Row(f"{log}: {ASYNC_FOR} / {ENGINE}", spread(times(ASYNC_FOR, ENGINE), "x", 1)))
    return rows


def run(size: str) -> Result:
    """Read every log every way."""
    return_freed_memory()  # As the service does: it has its price for whoever reads large answers.
    configuration = loaded_configuration()
    rows: list[Row] = []
    digests: list[str] = []
    for codec, batch_bytes in CASES[size]:
        with serving(codec, batch_bytes, ROWS[size]) as served:
            found = compare(served, configuration, TURNS[size])
        rows += figures(served, found)
        digests.append(found.digest)
    rows.append(received_row("bound: receiving from a socket", size, TURNS[size]))
    notes = () if ddsketch_maker() else ("skipped, not installed: ddsketch",)
    return Result(tuple(rows), SEED, digest_of(*digests), notes)


BENCHMARK = Benchmark("kafka_windows", "What does a row from Kafka cost?", run)
