"""What does a latency sketch cost, and how wrong is it? Against the sketches that others would use.

All sketches get the same values. `a value at a time` is what a loop over events does; ours gets arrays, since
its kernel is what a batch meets. Errors are relative, against the exact nearest-rank quantile: of a million
values, and the worst of many small samples, since a quiet tenant's window holds a few hundred. A window of
ours is a running sum that slices enter and leave; others merge the slices that a window holds at each query.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.harness import (
    FULL,
    MET,
    MISSED,
    SMOKE,
    TINY,
    Benchmark,
    Result,
    Row,
    digest_of,
    in_turns,
    ratios,
    spread,
)
from bench.sketch_peers import OURS, Sketch, missing, sketches
from engine.judge.quantiles import quantiles_of_rows
from engine.judge.sketch_pages import SketchPages
from engine.judge.sparse import SumTable, summed_up
from engine.judge.spread import SeriesFacts, added_up
from engine.judge.stage_rows import StageRows
from engine.judge.windows import RollingSums
from engine.observe.latency import OCTAVES, PER_OCTAVE, add_values, new_sketch
from tests.memory_use import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SEED = 20_261_127
INSERTS = {TINY: 2_000, SMOKE: 200_000, FULL: 1_000_000}
VALUES = {TINY: 5_000, SMOKE: 300_000, FULL: 1_000_000}
SMALL, SMALL_SAMPLES = 300, {TINY: 5, SMOKE: 100, FULL: 300}
TURNS = {TINY: 1, SMOKE: 5, FULL: 9}
MEMORY_SKETCHES = {TINY: 50, SMOKE: 500, FULL: 1_000}
ITSELF = np.arange(2), np.zeros(1, np.int32)  # a series that counts in its own row alone
PER_SLICE = 50  # values of one series in a slice
SLICE_NS = 5_000_000_000
WINDOW_SLICES = {"1m": 12, "5m": 60, "1h": 720}
WINDOW_PLACES = {"1m": 0, "5m": 1, "1h": 2}
QUERIES = {TINY: 3, SMOKE: 200, FULL: 1000}
RANKS = (0.50, 0.99)
TIMES_FASTER = 10.0  # rows of others are shortened so that a turn stays short
ROUNDING = 1e-9


def distributions(size: int, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Draw latencies in seconds: usual ones, two ways to answer, a heavy tail, and a cut at 15 s."""
    is_slow = rng.random(size) < 0.3
    quick, slow = rng.normal(0.3, 0.03, size).clip(0.1), rng.normal(4.0, 0.4, size).clip(2.0)
    is_cut = rng.random(size) < 0.02
    usual = rng.lognormal(-0.9, 0.5, size)
    return {
        "lognormal": usual,
        "bimodal": np.where(is_slow, slow, quick),
        "Pareto": (0.1 * (1.0 + rng.pareto(1.2, size))).clip(max=4000.0),
        "step": np.where(is_cut, 15.0, usual.clip(max=2.0)),
    }  # fmt: skip


def exact(values: NDArray[np.float64], q: float) -> float:
    """Give the smallest value that has at least q * n values at or below it."""
    rank = max(math.ceil(q * len(values)), 1)
    return float(np.partition(values, rank - 1)[rank - 1])


def error(sketch: Sketch, values: NDArray[np.float64], q: float) -> float:
    """Give how far off a fresh sketch of these values is, relative to the truth."""
    made = sketch.make()
    sketch.add(made, values)
    truth = exact(values, q)
    return abs(sketch.quantile(made, q) / truth - 1.0)


def inserts(known: dict[str, Sketch], size: str) -> list[Row]:
    """Time the inserting of one value, in turns."""
    rng = np.random.default_rng(SEED)
    values = distributions(INSERTS[size], rng)["lognormal"]
    shares = {
        name: values[: max(int(len(values) / TIMES_FASTER), 1)] if one.is_python_loop else values
        for name, one in known.items()
    }
    add_values(new_sketch(), values[:10])  # Compiled before the clock starts.

    def way(name: str) -> Callable[[], None]:
        one, share = known[name], shares[name]
        return lambda: one.add(one.make(), share)

    seconds = in_turns({name: way(name) for name in known}, TURNS[size])
    each = {name: [one / len(shares[name]) for one in times] for name, times in seconds.items()}
    rows = [
        Row(f"insert: {name}", spread([one * 1e9 for one in times], "ns", 1)) for name, times in each.items()
    ]
    rows += [
        Row(f"insert: ours is faster than {name}", spread(ratios(each, name, OURS), "x", 1))
        for name in known
        if name != OURS
    ]
    return rows


def judged(what: str, large: float, worst: float, sketch: Sketch) -> Row:
    """Put errors beside what the sketch promises."""
    shown = f"{100 * large:.3f} %, worst small {100 * worst:.3f} %"
    if math.isnan(sketch.error_max):
        return Row(what, shown, "nothing is promised of values")
    is_kept = max(large, worst) <= sketch.error_max + ROUNDING
    return Row(what, shown, f"at most {100 * sketch.error_max:.2f} %", MET if is_kept else MISSED)


def errors(known: dict[str, Sketch], size: str) -> list[Row]:
    """Compare with the truth: one large sample, and the worst of small ones."""
    rng = np.random.default_rng(SEED + 1)
    large = distributions(VALUES[size], rng)
    small = [distributions(SMALL, rng) for _ in range(SMALL_SAMPLES[size])]
    rows = []
    told = {name: one for name, one in known.items() if "arrays" not in name}
    for distribution, values in large.items():
        for q in RANKS:
            cell = f"{distribution} p{100 * q:.0f}"
            for name, one in told.items():
                worst = max(error(one, sample[distribution], q) for sample in small)
                rows.append(judged(f"error, {cell}: {name}", error(one, values, q), worst, one))
    return rows


def windows(known: dict[str, Sketch], size: str) -> list[Row]:
    """Time p50 and p99 of a window: asked of a running sum, and of slices merged."""
    rng = np.random.default_rng(SEED + 2)
    slices = rng.lognormal(-0.9, 0.5, (WINDOW_SLICES["1h"], PER_SLICE))
    sums, pages, known_rows = RollingSums(PER_OCTAVE, SLICE_NS), SketchPages(), StageRows()
    table = SumTable()
    began = time.process_time()
    for number, values in enumerate(slices):
        counts = new_sketch()
        add_values(counts, values)
        buckets = np.flatnonzero(counts)
        stage = np.zeros(len(buckets), np.int16)
        facts = SeriesFacts(stage.astype(np.int32), stage, buckets.astype(np.int16), counts[buckets])
        added = added_up(facts, ITSELF, known_rows, ("turn",), pages, table)
        sums.grow(pages.many)
        sums.advance((number + 1) * SLICE_NS, summed_up(number * SLICE_NS, added))
    rolled_us = (time.process_time() - began) / len(slices) * 1e6
    rows = [Row("window: a slice of one series enters and leaves three windows", f"{rolled_us:.1f} us")]
    for window, count in WINDOW_SLICES.items():
        ways: dict[str, Callable[[], object]] = {
            f"window {window}: ours": _asking(sums.table(WINDOW_PLACES[window]), pages)
        }
        for name, one in known.items():
            if "arrays" not in name:
                ways[f"window {window}: {name}, {count} slices merged"] = _merging(one, slices[-count:])
        for what, ask in ways.items():
            times = QUERIES[size] if what.endswith("ours") else 3
            ask()
            begin = time.process_time()
            for _ in range(times):
                ask()
            rows.append(Row(f"{what}: p50 and p99", f"{(time.process_time() - begin) / times * 1e6:,.1f} us"))
    return rows


def _asking(table: NDArray[np.int32], pages: SketchPages) -> Callable[[], object]:
    """Give a query of running sums, by the kernel that the engine asks with."""
    rows = np.zeros(1, np.int32)
    into, counted = np.zeros((len(RANKS), 1)), np.zeros(1, np.int64)
    octaves = np.empty(OCTAVES, np.int64)
    return lambda: quantiles_of_rows(table, pages.page_of, rows, np.array(RANKS), into, counted, octaves)


def _merging(sketch: Sketch, slices: NDArray[np.float64]) -> Callable[[], list[float]]:
    """Give a query that merges the slices of a window."""
    made = []
    for values in slices:
        one = sketch.make()
        sketch.add(one, values)
        made.append(one)

    def ask() -> list[float]:
        merged = sketch.make()
        for one in made:
            sketch.merge(merged, one)
        return [sketch.quantile(merged, q) for q in RANKS]

    return ask


def memory(size: str) -> list[Row]:
    """Measure what a sketch of a busy series takes, in a process of its own for each kind."""
    rows = []
    for name in (one for one in sketches() if "arrays" not in one and (size != TINY or one == OURS)):
        program = f"from bench.sketch import *; print(bytes_of({name!r}, {MEMORY_SKETCHES[size]}))"
        command = [sys.executable, "-c", program]
        root = Path(__file__).parent.parent
        done = subprocess.run(
            command, cwd=root, env=dict(os.environ), capture_output=True, text=True, check=True
        )
        rows.append(Row(f"memory of a sketch with 5,000 values: {name}", f"{float(done.stdout):,.0f} bytes"))
    each = f"{4 * PER_OCTAVE:,} bytes, and {4 * OCTAVES:,} for their places"
    rows.append(Row("memory of a window of ours: 32 bits a bucket, by octave that has any", each))
    return rows


def bytes_of(name: str, count: int) -> float:
    """Give by how much each of so many sketches makes this process grow."""
    one = sketches()[name]
    values = np.random.default_rng(SEED).lognormal(-0.9, 0.5, (2, 5_000))
    kept = [one.make()]
    one.add(kept[0], values[0])
    before = resident_bytes()
    for _ in range(count):
        made = one.make()
        one.add(made, values[1])
        kept.append(made)
    return (resident_bytes() - before) / count


def run(size: str) -> Result:
    """Answer all four: time, error, windows, memory."""
    known = sketches()
    wrong = errors(known, size)
    rows = [*inserts(known, size), *wrong, *windows(known, size), *memory(size)]
    ours = [row for row in wrong if row.what.endswith(f": {OURS}")]
    samples = f"one sample of {VALUES[size]:,} values, and the worst of {SMALL_SAMPLES[size]} of {SMALL}"
    notes = [
        f"Errors: of {samples}, against the nearest rank. HdrHistogram counts whole microseconds.",
        "A bound that another sketch misses may be its own definition of a quantile, not its buckets.",
    ]
    if absent := missing():
        notes.append(f"skipped, not installed: {', '.join(absent)}")
    return Result(tuple(rows), SEED, digest_of(*ours), tuple(notes))


BENCHMARK = Benchmark("sketch", "What does a latency sketch cost, and how wrong is it?", run)
