"""No bytes crash, slow or grow the decoder: coverage-guided by atheris, and mutated by a seed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.decode.fast_decoder import CAN_SCAN
from tests.fuzz_decoder import SEED, Fuzz, resident_mb, seeds
from tests.integration.servers import ServerMissing, without

pytestmark = pytest.mark.skipif(not CAN_SCAN, reason="addresses need compiled kernels, little-endian")
GROWN_MB_MAX = 32.0


def mutated(rng: np.random.Generator, corpus: list[bytes]) -> bytes:
    """Damage one seed: bits, bytes, ranges doubled, cut, moved, or parts of another seed put in."""
    data = bytearray(corpus[int(rng.integers(len(corpus)))])
    for _ in range(int(rng.integers(1, 8))):
        at, to = sorted(int(one) for one in rng.integers(0, len(data) + 1, 2))
        kind = int(rng.integers(6))
        if kind == 0 and at < len(data):
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at:at] = rng.integers(0, 256, int(rng.integers(1, 9)), np.uint8).tobytes()
        elif kind == 2:
            data[at:at] = data[at:to] * int(rng.integers(1, 4))
        elif kind == 3:
            del data[at:to]
        elif kind == 4:
            other = corpus[int(rng.integers(len(corpus)))]
            data[at:to] = other[: int(rng.integers(len(other) + 1))]
        else:
            data[at:at] = (b"[", b'{"a":', b'"', b"\\u", b"1e", b"\xf0", b"\x00", b"-")[
                int(rng.integers(8))
            ] * 40
        del data[8192:]
    return bytes(data)


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
