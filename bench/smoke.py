"""The budgets, as measured here, each beside what it may be: `make bench-smoke`, in about five minutes.

Kafka and Alertmanager are real ones, started for it; where they cannot be had, the table says so in place of
a figure. A missed budget is printed, and is no failure of this command: it measures, it does not judge.
"""

from __future__ import annotations

import sys
import time

from bench import (
    alert_latency,
    call_table,
    decode,
    frozen_sidecar,
    growth,
    judge_slice,
    kafka_streams,
    kafka_windows,
    loop_lag,
    memory,
    metrics_render,
    physical,
    recovery,
    replay,
    sketch,
    stages,
    start,
)
from bench.harness import SIZES, SMOKE, Benchmark, Result, Row, machine, report, table, write_result
from tests.integration.servers import ServerMissing

BENCHMARKS = (
    start.BENCHMARK,
    memory.BENCHMARK,
    recovery.BENCHMARK,
    alert_latency.BENCHMARK,
    loop_lag.BENCHMARK,
    frozen_sidecar.BENCHMARK,
    decode.BENCHMARK,
    sketch.BENCHMARK,
    call_table.BENCHMARK,
    growth.BENCHMARK,
    physical.BENCHMARK,
    replay.BENCHMARK,
    judge_slice.BENCHMARK,
    metrics_render.BENCHMARK,
    kafka_windows.BENCHMARK,
    stages.BENCHMARK,
    kafka_streams.BENCHMARK,
)


def measure(benchmark: Benchmark, size: str) -> Result:
    """Run one benchmark; a server that cannot be had becomes a row."""
    try:
        return benchmark.run(size)
    except ServerMissing as missing:
        return Result((Row(benchmark.question, "not measured", "", str(missing)),), 0, "-")


def main(size: str = SMOKE, names: tuple[str, ...] = ()) -> None:
    """Run the benchmarks of these names (default: all), keep their reports, print one table."""
    known = [benchmark.name for benchmark in BENCHMARKS]
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    rows: list[Row] = []
    notes: list[str] = []
    about: list[str] = []
    for benchmark in BENCHMARKS:
        if names and benchmark.name not in names:
            continue
        begin = time.perf_counter()
        sys.stderr.write(f"{benchmark.question} ...")
        sys.stderr.flush()
        result = measure(benchmark, size)
        sys.stderr.write(f" {time.perf_counter() - begin:.0f} s\n")
        write_result(benchmark.name, report(benchmark, result, size))
        rows += result.rows
        notes += result.notes
        about.append(f"{benchmark.name}: seed {result.seed}, result {result.digest}")
    print(table(rows))
    print("".join(f"\n- {note}" for note in notes))
    print("\n".join(["", *about, machine()]))


if __name__ == "__main__":
    chosen = sys.argv[1:]
    main(
        next((one for one in chosen if one in SIZES), SMOKE), tuple(one for one in chosen if one not in SIZES)
    )
