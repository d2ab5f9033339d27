"""Whatever fails, and whenever: nothing is lost, nothing counted twice, nobody paged for it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import CONTROLS, Simulation
from tests.simulator import run_everywhere, run_seed

SEEDS, SEEDS_FULL, SEEDS_SOAK = 9, 1_000, 50_000


def failures_of(first: int, last: int) -> str:
    """Say which seeds failed, and how to see one again."""
    processes = 1 if last <= SEEDS else os.cpu_count() or 1
    found = itertools.chain.from_iterable(run_everywhere(range(first, last + 1), "", processes))
    return "\n".join(f"python -m tests.simulator --seed {one.seed}\n{one.text}" for one in found)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (1, SEEDS),
        pytest.param(SEEDS + 1, SEEDS_FULL, marks=[pytest.mark.full, pytest.mark.timeout(3_600)]),
        pytest.param(SEEDS_FULL + 1, SEEDS_SOAK, marks=[pytest.mark.soak, pytest.mark.timeout(0)]),
    ],
)
def test_no_seed_finds_a_row_an_offset_or_a_page_that_is_wrong(first: int, last: int) -> None:
    """Promises P1, P2 and P7; what is checked stands in `simulation_checks.py`."""
    assert failures_of(first, last) == ""


@pytest.mark.parametrize("control", CONTROLS)
def test_a_fault_of_our_own_making_is_found(control: str) -> None:
    """A simulator that finds nothing proves nothing; few seeds end an alert between checkpoint and death."""
    seeds = (24, 248) if control == "pages of the past" else range(1, 5)
    assert any(run_seed(seed, control) for seed in seeds)


def test_the_same_seed_is_the_same_run() -> None:
    """What happened, and what is known in the end, to the nanosecond."""
    first, again = Simulation(4), Simulation(4)
    for one in (first, again):
        one.run()
    assert first.story() == again.story()
    assert first.around.alertmanager.told == again.around.alertmanager.told
    assert [one.raw.received_ns for one in first.hosts[first.owner].history] == [
        one.raw.received_ns for one in again.hosts[again.owner].history
    ]


@pytest.mark.parametrize(
    "shared",
    [
        "from tests.simulation import configured; configured(is_idle_on=False)",
        "from tests.web_world import authority; authority()",
    ],
)
def test_a_test_process_leaves_no_keys_behind(tmp_path: Path, shared: str) -> None:
    """Nor the folder that they were in, in a place that nobody tidies."""
    program = f"import os, pathlib; {shared}; print(*pathlib.Path(os.environ['TMPDIR']).glob('*/*.key'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True,
                          env=os.environ | {"TMPDIR": str(tmp_path)})  # fmt: skip
    assert done.stdout.strip().endswith(".key")
    assert not list(tmp_path.glob("*/*.key"))
