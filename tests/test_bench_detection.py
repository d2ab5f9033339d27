"""Every benchmark of a detector runs, tiny: the same each time, and complete."""

from __future__ import annotations

import pytest

from bench.detection import benchmarks
from bench.harness import TINY, Benchmark

# Two that take a minute even when tiny.
SLOW = ("latency_shift", "quality_drift")


@pytest.mark.parametrize(
    "benchmark",
    [
        pytest.param(one, id=one.name, marks=[pytest.mark.full] if one.name in SLOW else [])
        for one in benchmarks()
    ],
)
def test_a_benchmark_computes_the_same_in_every_run(benchmark: Benchmark) -> None:
    first, second = benchmark.run(TINY), benchmark.run(TINY)

    assert (first.seed, first.digest) == (second.seed, second.digest)
    assert [row.what for row in first.rows] == [row.what for row in second.rows]
    assert all(row.measured for row in first.rows)
    assert any(row.budget for row in first.rows)
