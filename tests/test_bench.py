"""Every benchmark runs, tiny: what it computes is the same each time, what it prints is complete."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from bench import (
    call_table,
    decode,
    decode_peers,
    growth,
    harness,
    judge_slice,
    kafka_streams,
    kafka_windows,
    loop_lag,
    metrics_render,
    physical,
    replay,
    sketch,
    sketch_peers,
    stages,
)
from bench.harness import MET, MISSED, TINY, Benchmark, Result, Row
from bench.replay_peers import installed
from bench.smoke import BENCHMARKS

# Physics keep no budget, and small tables are not those that a budget is for.
WITHOUT_BUDGET = {"call_table", "growth", "physical", "stages"}


@pytest.mark.parametrize(
    "benchmark",
    [
        sketch.BENCHMARK,
        call_table.BENCHMARK,
        growth.BENCHMARK,
        physical.BENCHMARK,
        decode.BENCHMARK,
        judge_slice.BENCHMARK,
        metrics_render.BENCHMARK,
        replay.BENCHMARK,
        kafka_windows.BENCHMARK,
        stages.BENCHMARK,
    ],
    ids=lambda one: one.name,
)
def test_a_benchmark_computes_the_same_in_every_run(benchmark: Benchmark) -> None:
    """The digest is of what was computed, so two runs of one seed agree in it."""
    first, second = benchmark.run(TINY), benchmark.run(TINY)

    assert (first.seed, first.digest) == (second.seed, second.digest)
    assert [row.what for row in first.rows] == [row.what for row in second.rows]
    assert all(row.measured for row in first.rows)
    assert any(row.budget for row in first.rows) or benchmark.name in WITHOUT_BUDGET


def test_replay_gives_the_same_alerts_in_every_format_and_exact_numbers() -> None:
    """The latter where DuckDB is installed, which has the exact ones."""
    verdicts = {row.what: row.verdict for row in replay.run(TINY).rows}
    told = {what: verdict for what, verdict in verdicts.items() if "unlike" in what or "error of" in what}

    assert verdicts["formats whose alerts differ from those of lines"] == MET
    assert len(told) == (6 if "duckdb" in installed() else 0)
    assert set(told.values()) <= {MET}


def test_a_block_of_the_loop_counts_for_every_moment_of_it() -> None:
    """Else a loop that is blocked half of the time would have a median of nothing."""
    met = loop_lag.as_it_would_be_met(np.array([0.0, 3.0, 0.5]), 1.0)
    assert met.tolist() == [0.0, 3.0, 2.0, 1.0, 0.0, 0.5]
    assert not len(loop_lag.as_it_would_be_met(np.zeros(0), 1.0))


def test_a_figure_is_judged_by_its_budget() -> None:
    """Within the budget, the bound included, is met; beyond it is said to be missed."""
    assert harness.at_most("wait", 3.0, 3.0, "s") == Row("wait", "3.00 s", "at most 3 s", MET)
    assert harness.at_most("wait", 3.01, 3.0, "s").verdict == MISSED
    assert harness.at_least("speed", 10.0, 10.0, "events/s").verdict == MET
    assert harness.at_least("speed", 9.0, 10.0, "events/s").verdict == MISSED


def test_ways_are_run_in_turns() -> None:
    """Each way runs once a turn, and no way is always the first."""
    order: list[str] = []

    seconds = harness.in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)

    assert order == ["a", "b", "b", "a"]
    assert {name: len(each) for name, each in seconds.items()} == {"a": 2, "b": 2}
    assert harness.ratios({"a": [2.0, 6.0], "b": [1.0, 2.0]}, "a", "b") == [2.0, 3.0]


def test_a_report_names_the_seed_the_result_and_the_machine(tmp_path: Path) -> None:
    """A figure without these cannot be compared with any other."""
    result = Result((Row("wait", "1 s", "at most 3 s", MET),), 7, "0123456789ab", ("A note.",))
    text = harness.report(Benchmark("start", "How long?", lambda _: result), result, TINY)

    path = harness.write_result("start", text, tmp_path / "results")

    kept = path.read_text("utf-8")
    assert "| wait | 1 s      | at most 3 s | met     |" in kept
    assert "- A note." in kept
    assert f"size tiny, seed 7, result 0123456789ab\n{harness.machine()}" in kept
    assert [path] == list(path.parent.iterdir())


def test_ratios_without_a_budget_are_for_information() -> None:
    """The median is what is judged."""
    assert harness.least_ratio("faster", [9.0, 12.0, 15.0], 12.0).verdict == MET
    assert harness.least_ratio("faster", [9.0, 11.0, 15.0], 12.0).verdict == MISSED
    assert harness.least_ratio("faster", [1.25], 2.0).measured == "1.25 x (1.25 to 1.25, 1 times)"
    assert harness.least_ratio("faster", [9.0], 0.0) == Row("faster", "9.0 x (9.0 to 9.0, 1 times)")


def test_benchmarks_have_names_of_their_own() -> None:
    """A report is a file named after its benchmark."""
    names = [benchmark.name for benchmark in BENCHMARKS]

    assert sorted(set(names)) == sorted(names)


def test_make_knows_the_benchmarks() -> None:
    """The commands that the README names run these modules."""
    root = Path(harness.__file__).parent.parent
    done = subprocess.run(
        ["make", "--dry-run", "--old-file=.venv/installed", "bench", "bench-smoke"],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert "-m bench\n" in done.stdout
    assert "-m bench.smoke" in done.stdout


def test_other_stream_processors_that_are_missing_are_named(tmp_path: Path) -> None:
    """They live in an environment of their own, which a test run has no need of."""
    (row,) = kafka_streams.run(TINY, tmp_path / "python").rows

    assert row.verdict == "skipped, not installed: bytewax and quixstreams (make .venv-streams)"


def test_benchmarks_run_without_the_packages_that_they_compare_with(tmp_path: Path) -> None:
    """`make test` installs none of them: each is named, and ours is measured."""
    parsers, others = decode_peers.PACKAGES.values(), sketch_peers.PACKAGES.values()

    assert decode_peers.ways([b"{}"], tmp_path, parsers) == {}
    assert list(sketch_peers.sketches(others)) == [sketch_peers.OURS]
    assert decode_peers.missing(parsers) == ["simdjson", "polars", "duckdb"]
    assert sketch_peers.missing(others) == ["ddsketch", "datasketches", "hdrh", "fastdigest"]
