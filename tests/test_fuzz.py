"""No bytes crash, slow or grow the decoder: coverage-guided by atheris, and mutated by a seed."""

import ctypes
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.decode.fast_decoder import CAN_SCAN
from tests.fuzz_decoder import SEED, Fuzz, seeds
from tests.fuzz_growth import growth, mutated, new_decoders, replay
from tests.integration.servers import ServerMissing, without
from tests.memory_use import resident_mb

pytestmark = pytest.mark.skipif(not CAN_SCAN, reason="addresses need compiled kernels, little-endian")
GROWN_MB_MAX = 32.0


def fuzz_by_seed(inputs: int, seed: int) -> tuple[Fuzz, float]:
    """Take so many mutated inputs; give the growth of memory behind the first quarter."""
    rng, fuzz, corpus, before_mb = np.random.default_rng(seed), Fuzz(), seeds(), 0.0
    for number in range(inputs):
        fuzz.take(mutated(rng, corpus))
        if number == inputs // 4:
            before_mb = resident_mb()
    return fuzz, resident_mb() - before_mb


def test_mutated_rows_are_decoded_alike_or_lost() -> None:
    """By a seeded generator of our own: both decoders agree on each of them."""
    fuzz, grown_mb = fuzz_by_seed(3_000, SEED)
    assert fuzz.rows > 3_000
    assert grown_mb < GROWN_MB_MAX


@pytest.mark.full
@pytest.mark.timeout(600)
def test_more_mutated_rows() -> None:
    fuzz, grown_mb = fuzz_by_seed(60_000, SEED + 1)
    assert fuzz.rows > 60_000
    assert grown_mb < GROWN_MB_MAX


def leaking(keep: Callable[[], object]) -> Callable[[], Callable[[bytes], None]]:
    """Make decoders that keep a little for every input."""

    def make() -> Callable[[bytes], None]:
        take = new_decoders()

        def take_and_keep(data: bytes) -> None:
            take(data)
            keep()

        return take_and_keep

    return make


def test_decoders_leave_nothing_behind_and_a_leak_would_be_seen() -> None:
    """New decoders for new inputs, round by round: nothing stays, in Python or beside it."""
    rounds, corpus = 11, seeds(50)
    grown = growth(replay(new_decoders, corpus, rounds), len(corpus))
    assert not grown.is_leak(), grown
    kept: list[object] = []
    malloc = ctypes.CDLL(None).malloc
    for keep in (lambda: kept.append([1.0]), lambda: malloc(1000)):
        grown = growth(replay(leaking(keep), corpus, rounds), len(corpus))
        assert grown.is_leak(), grown


def guided(seconds: int, folder: Path) -> dict[str, Any]:
    """Run atheris in a process of its own; libFuzzer's end at a crash is not 0."""
    if importlib.util.find_spec("atheris") is None:
        without(ServerMissing("atheris is not installed here (Linux on x86-64 only)"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz_decoder", str(seconds), str(folder)],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=seconds + 240, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr[-3000:]
    return dict(json.loads(done.stdout))


def check(seconds: int, folder: Path) -> None:
    found = guided(seconds, folder)
    assert found["inputs"] > 200  # It has begun to mutate.
    assert found["grown_mb"] < GROWN_MB_MAX, found


def test_atheris_finds_nothing_in_a_few_seconds(tmp_path: Path) -> None:
    check(5, tmp_path)


@pytest.mark.full
@pytest.mark.timeout(360)
def test_atheris_finds_nothing_in_a_minute(tmp_path: Path) -> None:
    check(60, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(4500)
def test_atheris_finds_nothing_in_an_hour(tmp_path: Path) -> None:
    check(3600, tmp_path)
