"""Every benchmark runs, tiny: what it computes is the same each time, what it prints is complete."""

from __future__ import annotations

import asyncio
import math
import subprocess
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
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
from bench.replay_cells import (
    BIN_NS,
    FAILED,
    GUARANTEE_RATIO,
    LABELS,
    MINUTE_NS,
    Cells,
    cells_of,
    compared,
)
from bench.replay_logs import write_formats
from bench.replay_peers import installed
from bench.smoke import BENCHMARKS, main
from engine.app import load_configuration
from engine.config_files import config_path

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


@pytest.fixture(scope="module")
def replay_verdicts() -> dict[str, str]:
    return {row.what: row.verdict for row in replay.run(TINY).rows}


def test_replay_gives_the_same_alerts_in_every_format(replay_verdicts: dict[str, str]) -> None:
    assert replay_verdicts["formats whose alerts differ from those of lines"] == MET


def test_replay_gives_the_numbers_of_a_plain_loop(tmp_path: Path) -> None:
    """Counts and peaks are exact, quantiles within the guarantee."""
    busy = msgspec.structs.replace(replay.scenario(4, 60.0, 100.0), failed_ratio=0.1)
    log = write_formats(tmp_path, busy, replay.SEED, 5000)["jsonl"]
    exact = exact_cells(log)
    found = asyncio.run(cells_of(log, load_configuration(None, str(config_path("demo/limits.yaml")), None)))

    assert min(len(exact.counts), len(exact.latency), len(exact.peaks)) > 0
    assert sum(failed for _, _, failed in exact.counts.values()) > 0
    assert compared(found, exact).wrong == 0
    assert compared(found, exact).error_ratio <= GUARANTEE_RATIO


def exact_cells(log: Path) -> Cells:
    """Answer as `replay_cells` says, in the slow and obvious way."""
    counts: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0])
    latency: dict[Any, list[float]] = defaultdict(list)
    changes: dict[Any, int] = Counter()
    for event in map(orjson.loads, log.read_bytes().splitlines()):
        minute, labels = event["time"] // MINUTE_NS, tuple(event[label] for label in LABELS)
        for stage, value in event.get("latency_ms", {}).items():
            latency[minute, labels, stage].append(value)
        if event["type"] in ("call.started", "call.ended"):
            is_end = event["type"] == "call.ended"
            row = counts[minute, labels]
            row[0] += not is_end
            row[1] += is_end
            row[2] += is_end and event["outcome"] in FAILED
            changes[labels, event["time"] // BIN_NS] += -1 if is_end else 1
    levels: dict[Any, int] = Counter()
    peaks: dict[Any, int] = {}
    for labels, place in sorted(changes):
        if changes[labels, place]:
            level = levels[labels] = levels[labels] + changes[labels, place]
            cell = (place * BIN_NS // MINUTE_NS, labels)
            peaks[cell] = max(peaks.get(cell, level), level)
    quantiles = {
        cell: (len(them), _quantile(them, 0.5), _quantile(them, 0.99)) for cell, them in latency.items()
    }
    return Cells({cell: (row[0], row[1], row[2]) for cell, row in counts.items()}, quantiles, peaks)


def _quantile(values: list[float], q: float) -> float:
    return sorted(values)[math.ceil(q * len(values)) - 1]


def test_replay_gives_the_numbers_of_duckdb(replay_verdicts: dict[str, str]) -> None:
    """In every format."""
    if "duckdb" not in installed():
        pytest.skip("DuckDB is not installed: make bench installs it")
    told = [verdict for what, verdict in replay_verdicts.items() if "unlike" in what or "error of" in what]

    assert told == [MET] * 6


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


def test_a_benchmark_that_is_not_there_is_an_error_which_names_those_that_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An empty table would look like a measurement."""
    with pytest.raises(SystemExit, match=r"no benchmark replays; there are start, .*\breplay,") as left:
        main(TINY, ("replays",))
    assert left.value.code != 0
    assert capsys.readouterr().out == ""


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
