"""The decoder under coverage-guided fuzzing (atheris), as a process of its own.

`python -m tests.fuzz_decoder SECONDS FOLDER` puts the bytes that libFuzzer makes up through parser and
scanner, which must agree, or through nothing (`nothing` behind it); it prints what it has done as JSON. Plain
Python is instrumented; the compiled scanner and the JSON parser give no coverage, so what is wrong there is
found by the comparison. Without atheris there are the rows that `tests/test_fuzz.py` mutates by a seed; these
are always run as well. Whether the decoders grow meanwhile is what `tests/fuzz_growth.py` finds out.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.memory_use import MB, memory_use

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.source.contract import RawBatch
    from tests.memory_use import MemoryUse

ROWS_PER_PAIR = 20_000  # then new decoders: what they learned must not hide what is new
SEED = 20_261_126


# Numba does not compile instrumented kernels: these are imported first, as they are.
KERNELS = (
    "engine.kernel", "engine.decode.siphash", "engine.decode.memory", "engine.decode.scan",
    "engine.observe.observer", "engine.source.record_batch",
)  # fmt: skip


class Fuzz:
    """What one input goes through."""

    def __init__(self) -> None:
        """Start with fresh decoders; imported here, when what is to be instrumented is known."""
        from engine.decode.mask import LabelMask
        from engine.decode.rejects import shape_of
        from tests.decoder_pairs import Pair
        from tests.event_rows import RECEIVED_NS, raw_batch

        self.inputs = self.rows = 0
        self.slowest_s = 0.0
        self._new: Callable[[], Pair] = lambda: Pair(None, LabelMask(bytes(16)), series_max=64, causes_max=64)
        self._batch_of: Callable[[list[bytes], int], RawBatch] = lambda rows, first: raw_batch(
            rows, first, RECEIVED_NS
        )
        self._shape_of = shape_of
        self._pair = self._new()

    def take(self, data: bytes) -> None:
        """Decode the lines of an input by both decoders, which must agree, and keep their accounts."""
        begin = time.perf_counter()
        rows = data.split(b"\n")
        batch = self._pair.decode(self._batch_of(rows, self._pair.plain.rows_read))
        lost = int(self._pair.plain.losses.sum())
        assert self._pair.plain.rows_read >= lost + batch.rows
        assert np.isfinite(batch.measure_ms).all()
        assert self._shape_of(data).isascii()
        self.inputs += 1
        self.rows += len(rows)
        self.slowest_s = max(self.slowest_s, time.perf_counter() - begin)
        if self._pair.plain.rows_read > ROWS_PER_PAIR:
            self.renew()

    def renew(self) -> None:
        """Go on with new decoders."""
        self._pair = self._new()


def seeds(count: int = 200) -> list[bytes]:
    """Write rows to begin with."""
    from tests.scan_rows import Writer

    writer = Writer(np.random.default_rng(SEED))
    return [b"\n".join(writer.rows(3)) for _ in range(count)]


def figures(fuzz: Fuzz, before: MemoryUse) -> dict[str, Any]:
    """Say what was done, and what the process holds on top of `before`, beside new decoders."""
    fuzz.renew()
    resident_mb, malloc_bytes, blocks = (now - then for now, then in zip(memory_use(), before, strict=True))
    return {
        "inputs": fuzz.inputs, "rows": fuzz.rows, "slowest_ms": round(fuzz.slowest_s * 1e3, 1),
        "grown_mb": round(resident_mb, 1), "malloc_mb": round(malloc_bytes / MB, 1), "blocks": int(blocks),
    }  # fmt: skip


def main(seconds: float, folder: Path, *, is_empty: bool = False) -> None:
    """Fuzz for so long; libFuzzer ends the process at the first crash."""
    atheris = importlib.import_module("atheris")
    for name in KERNELS:
        importlib.import_module(name)
    with contextlib.redirect_stdout(sys.stderr), atheris.instrument_imports(include=["engine.decode"]):
        fuzz = Fuzz()
    for number, seed in enumerate(seeds()):
        (folder / str(number)).write_bytes(seed)
        fuzz.take(seed)
    fuzz.slowest_s = 0.0
    before: MemoryUse | None = None
    end_s, warm_s = time.monotonic() + seconds, time.monotonic() + seconds / 4

    def take(data: bytes) -> None:
        nonlocal before
        if is_empty:
            fuzz.inputs += 1
        else:
            fuzz.take(data)
        now_s = time.monotonic()
        if before is None and now_s > warm_s:
            fuzz.renew()
            before = memory_use()
        if before is not None and now_s > end_s:
            sys.stdout.write(json.dumps(figures(fuzz, before)))
            sys.stdout.flush()
            os._exit(0)

    arguments = ["fuzz_decoder", "-max_len=4096", f"-seed={SEED}", "-verbosity=0", "-timeout=10",
                 "-rss_limit_mb=0", f"-artifact_prefix={folder}/crash-", str(folder)]  # fmt: skip
    atheris.Setup(arguments, take)
    atheris.Fuzz()


if __name__ == "__main__":
    main(float(sys.argv[1]), Path(sys.argv[2]), is_empty="nothing" in sys.argv[3:])
