"""The whole pipeline in one thread, from one seed, on a virtual clock, while everything fails that can.

    python -m tests.simulator --seed 17        one seed again, with what it did
    python -m tests.simulator --seeds 1..1000

A seed draws which faults there are and how often, so that some seeds have one alone and some have all. What
must hold is said over the whole history: the state in the end is, byte for byte, that of a line that took the
same batches without a fault; these hold every row that Kafka retained, each once; a committed offset is never
ahead of what a crash would leave; nobody is paged twice, or told of an end that was none.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import multiprocessing
import os
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation import CONTROLS, Simulation

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS_PER_PROGRESS = 30.0
SEEDS_AT_ONCE = 4


class Failed(NamedTuple):
    """A seed, and what it found."""

    seed: int
    text: str


def run_seed(seed: int, control: str = "") -> Failed | None:
    """Run one seed; give what it found, None if all is well."""
    simulation = Simulation(seed, control)
    try:
        simulation.run()
    except Exception:  # noqa: BLE001  # Whatever it raises, the seed is what is wanted.
        return Failed(seed, f"{simulation.story()}\n{traceback.format_exc()}")
    return None


def run_seeds(first: int, last: int, control: str = "") -> list[Failed]:
    """Run the seeds from first to last; the log of the engine has its say in single runs alone."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        return [one for seed in range(first, last + 1) if (one := run_seed(seed, control)) is not None]
    finally:
        logging.disable(disabled)


def run_everywhere(seeds: range, control: str, processes: int) -> Iterator[list[Failed]]:
    """Run each seed in one of so many processes; give what they found, in order."""
    if processes <= 1:
        yield from (run_seeds(seed, seed, control) for seed in seeds)
        return
    # Spawned: a fork would share the kernels' threads.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(run_seeds, seeds, seeds, itertools.repeat(control), chunksize=SEEDS_AT_ONCE)


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, help="one seed, with what it did")
    parser.add_argument("--seeds", default="1..100", metavar="A..B")
    parser.add_argument("--control", default="", choices=("", *CONTROLS), help="a fault that must be found")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    if given.seed is not None:
        simulation = Simulation(given.seed, given.control)
        try:
            simulation.run()
        finally:
            print(simulation.story())
        return 0
    first, _, last = given.seeds.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    begun_s = said_s = time.perf_counter()
    failed: list[Failed] = []
    for done, found in enumerate(run_everywhere(seeds, given.control, given.processes), 1):
        for one in found:
            failed.append(one)
            print(f"seed {one.seed} FAILED: python -m tests.simulator --seed {one.seed}\n{one.text}")
        if time.perf_counter() - said_s > SECONDS_PER_PROGRESS:
            said_s = time.perf_counter()
            print(f"{done} seeds: {said_s - begun_s:.0f} s, {len(failed)} failed", file=sys.stderr)
    print(f"{len(seeds)} seeds in {time.perf_counter() - begun_s:.1f} s, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
