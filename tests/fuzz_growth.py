"""Who grows under the fuzzer: the decoders, or the fuzzer? A command to find out.

`python -m tests.fuzz_growth --seconds 60` fuzzes the decoders (`tests/fuzz_decoder.py`), then a target that
does nothing, each in a process of its own, and says by how much they grew. Then it compares an array with a
number, in plain and in instrumented code: atheris keeps an object each time. Last it puts the inputs that
libFuzzer kept, and what comes of them by damage, through new decoders in this process, where nothing is
instrumented, round by round: decoders that grow do so here as well. `--corpus FOLDER` takes the inputs of an
earlier run. What counts is what malloc and Python have given out; pages stay with a process for reasons of
their own. It ends with 1 if decoders grow.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tests.fuzz_decoder import SEED, Fuzz, seeds
from tests.memory_use import MB, fill_numpy_cache, memory_use

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.memory_use import MemoryUse

WARM_ROUNDS = 3  # caches fill, and malloc finds out how large its pools must be
# A leak is something for every input, at least for those that take a certain way: one in fifty would be seen.
BYTES_PER_INPUT_MAX = 4.0
BLOCKS_PER_INPUT_MAX = 0.02
NOISE_BYTES, NOISE_BLOCKS = 65_536, 200  # of the replay itself, such as what is written down of each round


class Growth(NamedTuple):
    """What was held on top, after so many inputs."""

    inputs: int
    resident_mb: float
    malloc_bytes: int
    blocks: int

    def is_leak(self) -> bool:
        """Say whether inputs leave something behind."""
        return (
            self.malloc_bytes > NOISE_BYTES + BYTES_PER_INPUT_MAX * self.inputs
            or self.blocks > NOISE_BLOCKS + BLOCKS_PER_INPUT_MAX * self.inputs
        )


def mutated(rng: np.random.Generator, corpus: Sequence[bytes]) -> bytes:
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


def replay(
    make: Callable[[], Callable[[bytes], None]], corpus: Sequence[bytes], rounds: int
) -> list[MemoryUse]:
    """Put inputs, and as many damaged ones, through what `make` makes for each round; say what is held."""
    rng = np.random.default_rng(SEED)
    fill_numpy_cache()
    held = []
    for _ in range(rounds):
        take = make()
        for one in corpus:
            take(one)
            take(mutated(rng, corpus))  # What is kept by its value would be there already the second time.
        del take
        held.append(memory_use())
    return held


def growth(held: list[MemoryUse], corpus_size: int) -> Growth:
    """Give what came on top once it was warm: the least of the last rounds less the least of the first."""
    warm = held[WARM_ROUNDS:]
    half = len(warm) // 2
    low, high = ([min(column) for column in zip(*part, strict=True)] for part in (warm[:half], warm[half:]))
    resident_mb, malloc_bytes, blocks = (end - begin for begin, end in zip(low, high, strict=True))
    return Growth(2 * half * corpus_size, resident_mb, int(malloc_bytes), int(blocks))


def new_decoders() -> Callable[[bytes], None]:
    """Make what the fuzzer fuzzes."""
    return Fuzz().take


def guided(seconds: float, folder: Path, *targets: str) -> str:
    """Fuzz in a process of its own; give what it printed."""
    folder.mkdir()
    command = [sys.executable, "-m", "tests.fuzz_decoder", str(seconds), str(folder), *targets]
    return subprocess.run(
        command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, check=True,
    ).stdout  # fmt: skip


def kept_by_comparing(*, is_instrumented: bool, times: int = 20_000) -> int:
    """Count the blocks that stay of comparing an array with a number so often."""

    def is_three(array: np.ndarray[Any, Any]) -> Any:
        return array == 3

    if is_instrumented:
        is_three = importlib.import_module("atheris").instrument_func(is_three)
    array = np.zeros(5, np.uint8)
    before = memory_use().blocks
    for _ in range(times):
        is_three(array)
    return memory_use().blocks - before


def fuzz(seconds: float, folder: Path) -> None:
    """Print what grows under the fuzzer, and leave inputs in `folder`/decoders."""
    for target, arguments in (("decoders", ()), ("nothing", ("nothing",))):
        sys.stdout.write(f"fuzzing {target}: {guided(seconds, folder / target, *arguments)}\n")
    plain, instrumented = (kept_by_comparing(is_instrumented=each) for each in (False, True))
    sys.stdout.write(
        f"comparing an array 20,000 times leaves {plain:,} blocks of Python, instrumented {instrumented:,}\n"
    )
    sys.stdout.flush()


def main() -> int:
    """Print what each holds; 1 if the decoders grow."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz_growth")
    parser.add_argument("--seconds", type=float, default=60.0, help="of fuzzing, for each target")
    parser.add_argument("--corpus", type=Path, help="a folder with inputs, instead of fuzzing")
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="callgauge-fuzz-") as name:
        folder = given.corpus or Path(name) / "decoders"
        if given.corpus is None and importlib.util.find_spec("atheris") is not None:
            fuzz(given.seconds, Path(name))
        files = sorted(folder.iterdir()) if folder.exists() else []
        corpus = [path.read_bytes() for path in files] or seeds()
    held = replay(new_decoders, corpus, given.rounds)
    for number, one in enumerate(held, 1):
        sys.stdout.write(
            f"round {number}: {one.resident_mb:.1f} MB resident, {one.malloc_bytes / MB:.2f} MB by malloc, "
            f"{one.blocks:,} blocks of Python\n"
        )
    grown = growth(held, len(corpus))
    verdict = "GROWTH" if grown.is_leak() else "no growth"
    sys.stdout.write(
        f"decoders: {verdict}; over {grown.inputs:,} inputs {grown.malloc_bytes:+,} bytes by malloc, "
        f"{grown.blocks:+,} blocks of Python, {grown.resident_mb:+.1f} MB resident\n"
    )
    return int(grown.is_leak())


if __name__ == "__main__":
    sys.exit(main())
