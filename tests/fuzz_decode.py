"""Scanner and framing against the plain decoder and plain aiokafka, for as long as you like.

`python -m tests.fuzz_decode --minutes 30`: each round has a seed of its own, which is printed when it fails;
`--seed N --minutes 0` does that one round again. `make test` has a bounded part: fences, and the properties
of `tests/test_scan_decoder.py` and `tests/test_record_batches.py`, which get other seeds here.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from hypothesis import seed as seeded

import tests.conftest  # noqa: F401 - without time limits and a database, here as under pytest
from engine.decode import scan_frame
from engine.decode.events import LABELS
from engine.decode.fast_decoder import FastDecoder
from engine.decode.scan_text import READ_BEYOND_BYTES
from engine.limits import LimitLabel
from engine.settings import EngineSettings
from engine.source.contract import RawBatch
from tests.decoder_pairs import Pair
from tests.event_rows import KEY, RECEIVED_NS, raw_batch
from tests.fenced import Fenced, FencedArray
from tests.scan_rows import Writer

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS: list[dict[str, Any]] = [
    {},
    {"series_labels": ("tenant", "trunk", "provider", "release")},
    {"series_max": 3, "causes_max": 16, "stages_max": 2},
    {"series_max": 40, "causes_max": 40, "series_labels": ("tenant",)},
    {"measures_max": 2, "row_bytes_max": 300},
]
LIMITS: tuple[dict[str, LimitLabel], ...] = (
    {},
    {"trunk": LimitLabel(frozenset({"sip-1"}))},
    {"tenant": LimitLabel(is_split=True)},
)
WRITERS, ROWS = 5, 150


class Taken(NamedTuple):
    """How many rows were read, and how many of them the scanner took."""

    read: int
    taken: int


def fuzz_decoder(seed: int, writers: int = WRITERS, rows: int = ROWS) -> Taken:
    """Let writers write batches for a pair of decoders each."""
    rng = np.random.default_rng(seed)
    read = taken = 0
    for number in range(writers):
        limits = LIMITS[number % len(LIMITS)]
        pair = Pair(limits, has_vectors=number % 2 == 0, **SETTINGS[number % len(SETTINGS)])
        writer = Writer(rng)
        for count in (rows, 1, rows, 3, rows):
            texts = writer.rows(count)
            raw = raw_batch(texts, pair.fast.rows_read, RECEIVED_NS if number % 3 else -1)
            pair.decode(raw if count != 3 else side_by_side(texts))
        read += pair.fast.rows_read
        taken += pair.fast.rows_scanned
    return Taken(read, taken)


def side_by_side(texts: list[bytes]) -> RawBatch:
    """Lay rows in a buffer without a byte between them."""
    end = np.cumsum([len(text) for text in texts], dtype=np.int64)
    start = end - np.array([len(text) for text in texts], np.int64)
    data = b"".join(texts)
    offset = np.arange(len(texts), dtype=np.int64)
    return RawBatch(data, start, end, offset, "calls", 0, RECEIVED_NS, (0,), ())


def fuzz_fences(seed: int, rounds: int = 40) -> None:
    """Scan buffers between pages that cannot be read, into arrays with known bytes round them."""
    rng = np.random.default_rng(seed)
    for has_vectors in (True, False):
        decoder = FastDecoder(EngineSettings(series_labels=LABELS), KEY, {}, has_vectors=has_vectors)
        writer = Writer(rng)
        for number in range(rounds):
            texts = writer.rows(int(rng.integers(1, 12)))
            raw = side_by_side(texts)
            beyond = READ_BEYOND_BYTES if number % 4 == 0 else 0
            memory = Fenced(raw.data, beyond, is_at_start=number % 2 == 0)
            data: Any = memory.view
            scan_between_fences(decoder, dataclasses.replace(raw, data=data))


def scan_between_fences(decoder: FastDecoder, raw: RawBatch) -> None:
    """Scan one batch as `decode` does, but into arrays whose surroundings are known."""
    rows = raw.rows
    measures = int((raw.row_end - raw.row_start).sum()) // 2 + rows + 64
    status = FencedArray((rows,), np.uint8)
    columns = FencedArray((scan_frame.COLUMNS_COUNT, rows), np.int64)
    written = [FencedArray((measures,), kind) for kind in (np.int64, np.int64, np.float64)]
    decoder._measure_row, decoder._measure_stage, decoder._measure_ms = (one.array for one in written)
    decoder._status, decoder._columns = status.array, columns.array
    decoder._place_room()
    decoder._scan(raw)
    assert decoder._columns is columns.array, "the room was enough"
    for one in (status, columns, *written):
        one.check()


def fuzz_framing(seed: int) -> None:
    """Read made-up answers of brokers in whole batches and record by record, damaged ones too."""
    from tests import test_record_batches as framing

    tests: tuple[Callable[[], None], ...] = (
        framing.test_whole_batches_hold_what_plain_aiokafka_gives,
        framing.test_bytes_that_were_hurt_cost_rows_and_nothing_else,
        framing.test_any_bytes_can_be_read,
        framing.test_framing_is_the_slow_twin_and_reads_nothing_beside,
    )
    for test in tests:
        seeded(seed)(test)()


def one_round(seed: int) -> Taken:
    """Do all of it with one seed."""
    taken = fuzz_decoder(seed)
    fuzz_fences(seed)
    fuzz_framing(seed)
    return taken


def main() -> None:
    """Go on until the time is up."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz_decode")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=None, help="of the first round; default: a new one")
    given = parser.parse_args()
    first = time.time_ns() % 10**9 if given.seed is None else given.seed
    begin = time.monotonic()
    rounds = read = taken = 0
    while not rounds or time.monotonic() - begin < given.minutes * 60:
        seed = first + rounds
        try:
            found = one_round(seed)
        except BaseException:
            sys.stderr.write(f"\nseed {seed} failed: python -m tests.fuzz_decode --minutes 0 --seed {seed}\n")
            raise
        rounds, read, taken = rounds + 1, read + found.read, taken + found.taken
    share = 100 * taken / read
    sys.stdout.write(f"{rounds} rounds from seed {first}: {read:,} rows, {share:.0f} % of them scanned\n")


if __name__ == "__main__":
    main()
