"""What every benchmark shares: sizes, rows beside budgets, repeats in turns, the machine, the report.

A benchmark is a module with `BENCHMARK`: a name, a question and a function from a size to a result. It prints
its seed and a hash of what it computed, so that two runs can be seen to have done the same work. What is
compared is run in turns and compared turn by turn: neighbours on the machine come and go, and a ratio within
one turn hardly notices them. Times of computing are processor time; times that people wait are real time.
Rejected: one run of each, one after the other; asserting on times, which fails on other people's machines.
"""

from __future__ import annotations

import hashlib
import os
import platform
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

TINY, SMOKE, FULL = "tiny", "smoke", "full"
SIZES = (TINY, SMOKE, FULL)  # inside the tests; the budgets in five minutes; with more repeats
FEW = 2.0  # times: below, a tenth is much
MET, MISSED, FOR_INFORMATION = "met", "MISSED", ""
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numba", "numpy", "msgspec", "orjson", "aiokafka")


class Row(NamedTuple):
    """One figure beside its budget."""

    what: str
    measured: str
    budget: str = ""
    verdict: str = FOR_INFORMATION


class Result(NamedTuple):
    """What a benchmark found. `digest` is of what it computed, never of how long that took."""

    rows: tuple[Row, ...]
    seed: int
    digest: str
    notes: tuple[str, ...] = ()


class Benchmark(NamedTuple):
    """A question and how to answer it at a size."""

    name: str
    question: str
    run: Callable[[str], Result]


def at_most(what: str, value: float, budget: float, unit: str, *, measured: str = "") -> Row:
    """Put a figure beside the most that it may be; `measured` may say more than the value alone."""
    shown = measured or f"{value:.2f} {unit}"
    return Row(what, shown, f"at most {budget:g} {unit}", MET if value <= budget else MISSED)


def at_least(what: str, value: float, budget: float, unit: str, *, measured: str = "") -> Row:
    """Put a figure beside the least that it must be."""
    shown = measured or f"{value:,.0f} {unit}"
    return Row(what, shown, f"at least {budget:,.0f} {unit}", MET if value >= budget else MISSED)


def least_ratio(what: str, values: list[float], budget: float) -> Row:
    """Put the median of ratios beside the least that it must be; 0: there is no budget."""
    shown = spread(values, "x", 1 if statistics.median(values) >= FEW else 2)
    if not budget:
        return Row(what, shown)
    return Row(what, shown, f"at least {budget:g} x", MET if statistics.median(values) >= budget else MISSED)


def spread(values: Iterable[float], unit: str, digits: int = 2) -> str:
    """Write median, minimum and maximum."""
    ordered = sorted(values)
    low, middle, high = ordered[0], statistics.median(ordered), ordered[-1]
    return f"{middle:.{digits}f} {unit} ({low:.{digits}f} to {high:.{digits}f}, {len(ordered)} times)"


def in_turns(ways: Mapping[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Run every way once a turn, in an order that turns as well; give the processor seconds of each turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(turns):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            begin = time.process_time()
            ways[name]()
            seconds[name].append(time.process_time() - begin)
    return seconds


def ratios(seconds: Mapping[str, list[float]], of: str, to: str) -> list[float]:
    """Give, turn by turn, how many times as long one way took as another."""
    return [one / other for one, other in zip(seconds[of], seconds[to], strict=True)]


def digest_of(*parts: object) -> str:
    """Hash what was computed."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:12]


def machine() -> str:
    """Describe where and what was measured, in one line."""
    packages = " ".join(f"{name} {version(name)}" for name in PACKAGES)
    python = f"Python {platform.python_version()}"
    return f"{_processor()}, {os.cpu_count()} cores; {python}; {packages}; {_commit()}"


def table(rows: Iterable[Row]) -> str:
    """Lay rows out as a table of Markdown that reads well as plain text."""
    lines = [("what", "measured", "budget", "verdict"), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    ruled = [lines[0], tuple("-" * width for width in widths), *lines[1:]]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in ruled
    )


def report(benchmark: Benchmark, result: Result, size: str) -> str:
    """Write a result as Markdown."""
    notes = "".join(f"\n- {note}" for note in result.notes)
    return (
        f"# {benchmark.name}\n\n{benchmark.question}\n\n{table(result.rows)}\n{notes}\n\n"
        f"size {size}, seed {result.seed}, result {result.digest}\n{machine()}\n"
    )


def write_result(name: str, text: str, folder: Path = RESULTS) -> Path:
    """Keep a report as <name>.md; a half-written one is never seen under that name."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.md"
    partial = path.with_suffix(".tmp")
    partial.write_text(text, "utf-8")
    partial.replace(path)
    return path


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "engine", "detectors", "bench")
    except (OSError, subprocess.CalledProcessError):
        return "no commit"
    return f"commit {commit}{' and changes' if changed else ''}"


def _git(*arguments: str) -> str:
    root = Path(__file__).parent.parent
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()
