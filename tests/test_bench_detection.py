"""Every benchmark of a detector runs, tiny: the same each time, and complete."""

from __future__ import annotations

import pytest

from bench.detection import benchmarks
from bench.harness import TINY, Benchmark


@pytest.mark.parametrize("benchmark", benchmarks(), ids=lambda one: one.name)
def test_a_benchmark_computes_the_same_in_every_run(benchmark: Benchmark) -> None:
    first, second = benchmark.run(TINY), benchmark.run(TINY)

    assert (first.seed, first.digest) == (second.seed, second.digest)
    assert [row.what for row in first.rows] == [row.what for row in second.rows]
    assert all(row.measured for row in first.rows)
    assert any(row.budget for row in first.rows)
