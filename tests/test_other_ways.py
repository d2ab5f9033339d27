"""The same tests on other ways: without the fast path, without compiling, and with bounds checks.

Each way is a process of its own, since it is chosen when numba and the engine are imported. `make test` takes
some tests each way; `make test-full` takes many. What a way cannot do skips itself: the scanner takes
addresses, which plain Python has no use for and which nothing checks.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WAYS = {
    "without the fast path": {"CALLGAUGE_FAST_PATH": "off"},
    "without compiling": {"NUMBA_DISABLE_JIT": "1", "NUMBA_BOUNDSCHECK": "0"},
    "with bounds checks": {"NUMBA_BOUNDSCHECK": "1"},
}
SOME = {
    "without the fast path": ("test_decoder.py", "test_early_exit.py", "test_intake.py"),
    "without compiling": (
        "test_latency.py", "test_siphash.py", "test_observe_kernels.py", "test_measures.py",
    ),
    "with bounds checks": ("test_latency.py", "test_siphash.py", "test_erlang.py", "test_measures.py"),
}  # fmt: skip
MANY = {
    "without the fast path": (
        "test_line.py", "test_observe.py", "test_planned_load.py",
        "test_recording.py", "test_source_contract.py", "test_stream_incomplete.py",
    ),
    "without compiling": (
        "test_windows.py", "test_decoder.py", "test_holding_time.py", "test_statistics.py",
        "test_evidence.py", "test_occupancy.py", "test_sparse.py", "test_fact_rows.py",
    ),
    "with bounds checks": (
        "test_observe_kernels.py", "test_observe.py", "test_windows.py", "test_record_batches.py",
        "test_evidence.py", "test_occupancy.py", "test_sparse.py",
    ),
}  # fmt: skip


def run(way: str, files: tuple[str, ...]) -> None:
    """Run test files another way, and fail with what they say."""
    command = [
        sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:randomly", "-m", "not full and not soak",
        *(f"tests/{file}" for file in files),
    ]  # fmt: skip
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTEST_ADDOPTS": ""} | WAYS[way],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("way", WAYS)
def test_some_tests_pass_the_other_ways_too(way: str) -> None:
    """Enough to see that a way is open."""
    run(way, SOME[way])


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("way", WAYS)
def test_many_tests_pass_the_other_ways_too(way: str) -> None:
    """Those that reach most kernels."""
    run(way, MANY[way])
