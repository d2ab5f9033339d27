"""Run the benchmarks of detectors: `python -m bench.detection [tiny|smoke|full] [NAME...]`."""

from __future__ import annotations

import sys

from bench.detection import benchmarks
from bench.harness import FULL, SIZES, report, write_result

if __name__ == "__main__":
    chosen = sys.argv[1:]
    size = next((one for one in chosen if one in SIZES), FULL)
    wanted = [one for one in chosen if one not in SIZES]
    for benchmark in benchmarks():
        if not wanted or benchmark.name in wanted:
            text = report(benchmark, benchmark.run(size), size)
            write_result(benchmark.name, text)
            print(text)
