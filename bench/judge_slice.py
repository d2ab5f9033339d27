"""What does one judged slice cost? 1,000 series, and 200 limit instances that are forecast.

Judge alone is timed (`Judge.take`: roll, detect, update), in processor time, on batches so small that none
closes two slices. The first slices, in which series and sketches appear, are left out; those in which the
forecast is evaluated, every third one, are shown apart from the others.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from bench.harness import FULL, SMOKE, TINY, Benchmark, Result, Row, at_most, digest_of, spread
from engine.app import REPLAY_HASH_KEY, build_line, load_configuration
from engine.commands.warmup import warm_up
from engine.deliver.jsonl import alert_change_line
from engine.judge.roll import StreamCounters
from engine.limits import Limit, Register
from engine.source.synthetic import SyntheticSource
from engine.source.traffic import Scenario, Tenant

if TYPE_CHECKING:
    from engine.judge.lifecycle import AlertChange

SEED = 20_260_602
BUDGET_MS = 50.0
WARM_SLICES = 25
SERIES = {TINY: 20, SMOKE: 1000, FULL: 1000}
LIMITS = {TINY: 4, SMOKE: 200, FULL: 200}
DURATION_S = {TINY: 200.0, SMOKE: 400.0, FULL: 1200.0}
CALLS_PER_S = 50.0
BATCH_ROWS = {TINY: 8, SMOKE: 256, FULL: 256}
CAP = 40.0


class Timed(NamedTuple):
    """Processor time of single slices, by whether the forecast was evaluated in them."""

    with_forecast_ms: list[float]
    without_ms: list[float]
    publish_ms: list[float]
    events: int
    changes: bytes


def scenario(size: str) -> Scenario:
    """Give traffic in which every limit, one per tenant, is half full and every tenant has several series."""
    limits = LIMITS[size]
    tenants = tuple(
        Tenant(
            name=f"tenant-{number % limits}", trunk=f"sip-{number // limits}",
            rate_per_s=CALLS_PER_S * limits / LIMITS[SMOKE] / SERIES[size], holding_mean_s=60.0,
        )
        for number in range(SERIES[size])
    )  # fmt: skip
    return Scenario(duration_s=DURATION_S[size], tenants=tenants, turn_every_s=10.0)


def time_slices(size: str) -> Timed:
    """Take the traffic through a line, and time judge and publisher."""
    limit = Limit(name="tenant-calls", kind="concurrency", value=CAP, split_by=("tenant",))
    configuration = load_configuration(None, None, None)._replace(register=Register((limit,)))
    warm_up(configuration)
    line = build_line(configuration, REPLAY_HASH_KEY)
    decoder, observer, judge = line.pipeline.decoder, line.pipeline.observer, line.pipeline.judge
    source = SyntheticSource(scenario(size), SEED, batch_rows=BATCH_ROWS[size])
    evaluate_ns = configuration.settings.headroom.evaluate_ns
    timed: tuple[list[float], list[float], list[float]] = ([], [], [])
    changes: list[AlertChange] = []

    async def play() -> None:
        await source.start()
        while (raw := await source.read()) is not None:
            observer.absorb(raw, decoder.decode(raw))
            summaries = observer.close()
            begin = time.process_time()
            judged = judge.take(summaries, observer.watermark_ns, StreamCounters())
            took_ms = (time.process_time() - begin) * 1000
            changes.extend(judged.changes)
            if judged.slices != 1 or judge.roller.slices_closed <= WARM_SLICES:
                continue
            timed[0 if judge.roller.next_ns % evaluate_ns == 0 else 1].append(took_ms)
            begin = time.process_time()
            line.publisher.publish(raw.received_ns)
            timed[2].append((time.process_time() - begin) * 1000)

    asyncio.run(play())
    return Timed(*timed, decoder.rows_read, b"".join(map(alert_change_line, changes)))


def run(size: str) -> Result:
    """Time slices."""
    timed = time_slices(size)
    what = f"one judged slice, {SERIES[size]:,} series, {LIMITS[size]} limits"
    worst = sorted(timed.with_forecast_ms)[len(timed.with_forecast_ms) // 2]
    rows = (
        at_most(
            f"{what}, forecast of all evaluated",
            worst,
            BUDGET_MS,
            "ms",
            measured=spread(timed.with_forecast_ms, "ms", 1),
        ),
        Row(f"{what}, without", spread(timed.without_ms, "ms", 1)),
        Row("its snapshot for HTTP and metrics", spread(timed.publish_ms, "ms", 1)),
    )
    return Result(rows, SEED, digest_of(timed.events, timed.changes))


BENCHMARK = Benchmark("judge_slice", "What does one judged slice cost?", run)
