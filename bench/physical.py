"""What does the machine itself take? Bounds that no program for one core goes below, to see the distance.

Reading memory in a line, and from random places of a table of a million calls; finding the marks of JSON, 64
bytes at a time, and nothing else; the checksum of Kafka; taking bytes from a socket whose sender is a process
of its own. Processor time of this process alone. Other benchmarks put these figures beside their own.
"""

from __future__ import annotations

import subprocess
import sys
import time
from socket import AF_INET, SOCK_STREAM, socket
from typing import TYPE_CHECKING

import crc32c
import numpy as np

from bench.harness import FULL, SMOKE, TINY, Benchmark, Result, Row, digest_of, in_turns, spread
from engine.decode.memory import BLOCK_BYTES, signed, special
from engine.kernel import kernel
from engine.observe.calls import COLUMNS

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEED = 20_261_129
BYTES = {TINY: 1 << 20, SMOKE: 1 << 27, FULL: 1 << 28}
TURNS = {TINY: 1, SMOKE: 5, FULL: 11}
TABLE_CALLS = {TINY: 1 << 10, SMOKE: 1 << 21, FULL: 1 << 21}
JUMPS = {TINY: 1000, SMOKE: 300_000, FULL: 1_000_000}
ROW_BYTES = 290  # of a usual event; also what the other benchmarks' rows have, about
RECEIVED_BYTES = {TINY: 1 << 20, SMOKE: 1 << 28, FULL: 1 << 30}
BUFFER_BYTES = 1 << 18
MEMORY, MARKS, CHECKSUM = "reading memory in a line", "marks of JSON, 64 bytes at a time", "CRC-32C"
SENDER = (
    "import socket, sys\n"
    "with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as line:\n"
    "    sent, part = 0, bytes(1 << 18)\n"
    "    while sent < int(sys.argv[2]):\n"
    "        line.sendall(part)\n"
    "        sent += len(part)\n"
)


@kernel
def sum_words(words: NDArray[np.int64]) -> int:
    """Read every byte once."""
    total = 0
    for i in range(len(words)):
        total += words[i]
    return total


@kernel
def mark_all(address: int, blocks: int) -> int:
    """Find the special bytes of every block, as the scanner does, and do nothing about them."""
    found = 0
    for block in range(blocks):
        found ^= signed(special(address + block * BLOCK_BYTES, 1))
    return found


@kernel
def chase(table: NDArray[np.int64], jumps: int) -> int:
    """Go from entry to entry, each of which says where the next one lies."""
    at = 0
    for _ in range(jumps):
        at = table[at, 0]
    return at


@kernel
def visit(table: NDArray[np.int64], places: NDArray[np.int64]) -> int:
    """Read entries that do not depend on each other, so that the processor may wait for many at once."""
    total = 0
    for i in range(len(places)):
        total += table[places[i], 0]
    return total


def stream_ns_per_byte(size: str) -> tuple[dict[str, list[float]], int]:
    """Pass over bytes in three ways; give nanoseconds a byte of each turn, and what came of it."""
    rng = np.random.default_rng(SEED)
    data = rng.integers(32, 127, BYTES[size], dtype=np.uint8)
    words = data.view(np.int64)
    blocks = len(data) // BLOCK_BYTES
    results = sum_words(words), mark_all(data.ctypes.data, blocks), crc32c.crc32c(data.data)
    seconds = in_turns(
        {
            MEMORY: lambda: sum_words(words),
            MARKS: lambda: mark_all(data.ctypes.data, blocks),
            CHECKSUM: lambda: crc32c.crc32c(data.data),
        },
        TURNS[size],
    )
    return {name: [one / len(data) * 1e9 for one in each] for name, each in seconds.items()}, hash(results)


def random_ns(size: str) -> tuple[dict[str, list[float]], int]:
    """Read entries of a table of calls at random places; give nanoseconds an entry."""
    rng = np.random.default_rng(SEED)
    rows = TABLE_CALLS[size]
    table = np.zeros((rows, COLUMNS), np.int64)
    order = rng.permutation(rows)
    table[order, 0] = np.roll(order, -1)  # One circle through all of them.
    places = rng.integers(0, rows, JUMPS[size])
    results = chase(table, JUMPS[size]), visit(table, places)
    seconds = in_turns(
        {
            "a random entry of a table of calls, one after the other": lambda: chase(table, JUMPS[size]),
            "a random entry of a table of calls, independent ones": lambda: visit(table, places),
        },
        TURNS[size],
    )
    return {name: [one / JUMPS[size] * 1e9 for one in each] for name, each in seconds.items()}, hash(results)


def receive_ns_per_byte(amount: int) -> float:
    """Take bytes from a socket, with nothing done with them; give nanoseconds of processor time a byte."""
    with socket(AF_INET, SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        command = [sys.executable, "-c", SENDER, str(listener.getsockname()[1]), str(amount)]
        with subprocess.Popen(command), listener.accept()[0] as line:
            buffer = memoryview(bytearray(BUFFER_BYTES))
            received = 0
            begin = time.process_time()
            while count := line.recv_into(buffer):
                received += count
            return (time.process_time() - begin) / received * 1e9


def per_row(ns_per_byte: list[float]) -> str:
    """Say what that is for a row, and how many gigabytes a second."""
    middle = sorted(ns_per_byte)[len(ns_per_byte) // 2]
    return f"{spread([one * ROW_BYTES for one in ns_per_byte], 'ns a row', 1)}, {1 / middle:.1f} GB/s"


def received_row(name: str, size: str, turns: int) -> Row:
    """Say what taking a row's bytes from a socket takes, so many times."""
    return Row(name, per_row([receive_ns_per_byte(RECEIVED_BYTES[size]) for _ in range(turns)]))


def run(size: str) -> Result:
    """Measure the machine."""
    streams, streamed = stream_ns_per_byte(size)
    randoms, visited = random_ns(size)
    rows = [Row(name, per_row(each)) for name, each in streams.items()]
    rows.append(received_row("receiving from a socket", size, TURNS[size]))
    rows += [Row(name, spread(each, "ns", 1)) for name, each in randoms.items()]
    notes = (f"A row is {ROW_BYTES} bytes.",)
    return Result(tuple(rows), SEED, digest_of(streamed, visited), notes)


BENCHMARK = Benchmark("physical", "What does the machine itself take, at the least?", run)
