"""A broker in a process of its own that serves synthetic events as record batches: `bench.kafka_log`.

Arguments: codec, bytes of a batch before it is compressed, rows, rows a second (0: all are there). It prints
its address, and ends when its standard input does. Its processor time is its own: what is measured is what
the reader costs.
"""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
import time
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import orjson
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from engine.source.synthetic import generate_rows
from engine.source.traffic import Scenario, Tenant
from tests.kafka_double import Cycle, Log, Written
from tests.kafka_double import serving as serving_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 20_261_126
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
TENANTS = 50
EVENTS_PER_S = 5000.0  # of the traffic, about: that of the soak


class Served(NamedTuple):
    """What is served, and where."""

    codec: str
    batch_bytes: int
    rows: int
    bootstrap: str


def events(rows: int) -> list[bytes]:
    """Make up so many rows of traffic."""
    tenants = tuple(
        Tenant(
            name=f"tenant-{number}", trunk=f"sip-{number % 4}", provider=f"provider-{number % 3}",
            rate_per_s=EVENTS_PER_S / 10 / TENANTS, holding_mean_s=60.0,
        )
        for number in range(TENANTS)
    )  # fmt: skip
    scenario = Scenario(duration_s=rows / EVENTS_PER_S + 300.0, tenants=tenants, turn_every_s=8.0)
    made = list(islice(generate_rows(scenario, SEED), rows))
    assert len(made) == rows, "the scenario is too short"
    return made


def batches(codec: str, batch_bytes: int, rows: list[bytes]) -> tuple[list[bytes], list[int]]:
    """Pack rows into batches, keyed by call id; give the batches and how many rows each holds."""
    made, counts = [], []
    at = 0
    while at < len(rows):
        builder = DefaultRecordBatchBuilder(
            magic=2, compression_type=CODECS[codec], is_transactional=0, producer_id=-1, producer_epoch=-1,
            base_sequence=-1, batch_size=1 << 30,
        )  # fmt: skip
        count = 0
        while at < len(rows) and builder.size() < batch_bytes:
            call_id = orjson.loads(rows[at]).get("call_id", "").encode()
            builder.append(count, int(time.time() * 1000), call_id, rows[at], [])
            count += 1
            at += 1
        made.append(bytes(builder.build()))
        counts.append(count)
    return made, counts


@contextlib.contextmanager
def serving(codec: str, batch_bytes: int, rows: int, rows_per_s: float = 0.0) -> Iterator[Served]:
    """Start a broker in a process of its own."""
    command = [sys.executable, "-m", "bench.kafka_log", codec, str(batch_bytes), str(rows), str(rows_per_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        bootstrap = process.stdout.readline().strip()
        if not bootstrap:
            raise RuntimeError("the broker of the benchmark did not start")
        yield Served(codec, batch_bytes, rows, bootstrap)
        process.stdin.close()


def main(codec: str, batch_bytes: str, rows: str, rows_per_s: str) -> None:
    """Serve until standard input ends."""
    made, counts = batches(codec, int(batch_bytes), events(int(rows)))
    log: Log = Cycle(made, counts, rows_per_s=float(rows_per_s))
    if not float(rows_per_s):
        first = [sum(counts[:each]) for each in range(len(counts))]
        whole = [(at, struct.pack(">q", at) + batch[8:]) for at, batch in zip(first, made, strict=True)]
        log = Written(whole, sum(counts))
    with serving_in_thread(log) as double:
        print(double.bootstrap, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
