"""The parts of the benchmark, each in a process of its own.

Apart from `__main__`, which a process that was not forked cannot import.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from bench.leadtime import real
from bench.leadtime.cold import cold_table
from bench.leadtime.contest import Job, run_job, say
from bench.leadtime.many import many_section
from bench.leadtime.rate_limit import rate_section
from bench.leadtime.sizes import SIZES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def call(job: tuple[Callable[..., Any], tuple[Any, ...]]) -> object:
    """Run one part, in a process of its own."""
    function, arguments = job
    found: object = function(*arguments)
    say(f"{function.__name__} done")
    return found


def parts_of(size_name: str, seed: int, path: Path) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """List what is to be run, the longest first."""
    size = SIZES[size_name]
    jobs: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
    for cap, effort in size.contests.items():
        jobs[f"cap {cap:.0f}"] = run_job, (Job(cap, effort, seed),)
        if len(jobs) == 2:  # The long ones are under way; those in between fill the gaps.
            jobs["many"] = many_section, (size.many, seed)
    jobs.setdefault("many", (many_section, (size.many, seed)))
    jobs["rate"] = rate_section, (*size.rate, seed)
    if size.real_draws:
        jobs["real"] = real.real_section, (path, tuple(range(size.real_draws)))
        jobs["real, as in the research"] = real.real_section, (path, real.SEEDS)
    if size.cold_repeats:
        jobs["cold"] = cold_table, (size.cold_repeats, seed)
    return jobs


def run_parts(size_name: str, seed: int, workers: int, path: Path) -> dict[str, Any]:
    """Run all parts."""
    jobs = parts_of(size_name, seed, path)
    if workers == 1:
        return {name: call(job) for name, job in jobs.items()}
    # Not forked: a forked child would inherit locks of numba's.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return dict(zip(jobs, pool.map(call, jobs.values()), strict=True))
