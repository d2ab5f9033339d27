"""What does the table of calls in flight cost? Against a Python dict that does the same.

Both are filled with so many calls, growing as they do in use, and then each step takes up a new call, looks
one up that is there and takes one out, so that their number stays. Ours is the kernels of `observe/calls.py`,
by the 64-bit hash that the decoder has made, called once for a batch and asking for entries ahead, both as in
the engine, where each of the three is a row of its own; an entry has eight columns. The longest pause is the
slowest batch while the table is filled: nothing else is done meanwhile. The dict has what a script would
keep: call id -> start, series, answer, newest heartbeat. At ten million calls its keys are the same hashes,
since ids in text would not fit beside them.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bench.harness import (
    FULL,
    SMOKE,
    TINY,
    Benchmark,
    Result,
    Row,
    digest_of,
    in_turns,
    least_ratio,
    ratios,
    spread,
)
from engine.kernel import kernel
from engine.memory import memory_of
from engine.observe.absorb import AHEAD
from engine.observe.calls import (
    IN_FLIGHT,
    SERIES,
    SINCE_NS,
    STATE,
    TOTALS,
    USED,
    ask_for,
    find,
    grown_calls,
    insert,
    must_grow,
    new_calls,
    remove,
)
from tests.memory_use import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from engine.observe.calls import Calls

SEED = 20_261_128
CALLS = {TINY: (1_000,), SMOKE: (100_000, 1_000_000), FULL: (100_000, 1_000_000, 10_000_000)}
STEPS = {TINY: 500, SMOKE: 100_000, FULL: 300_000}  # each: one call in, one looked up, one out
OPERATIONS = 3
STEPS_AHEAD = AHEAD // OPERATIONS
BATCH_ROWS = 4096
TURNS = {TINY: 1, SMOKE: 5, FULL: 9}
TEXT_KEYS_MAX = 1_000_000
TIMES_AT_LEAST = {1_000_000: 20.0}
TABLE, DICT, DICT_OF_HASHES = "ours", "a dict by call id", "a dict by the same hashes"

Halves = tuple[Any, Any]


@kernel
def fill(calls: Calls, keys: NDArray[np.int64], first: int) -> int:
    """Take calls up until the table must grow; give how many of `keys` are in."""
    for i in range(first, len(keys)):
        if must_grow(calls):
            return i
        if i + AHEAD < len(keys):
            ask_for(calls, keys[i + AHEAD])
        slot = insert(calls, keys[i])
        calls[slot, SINCE_NS] = i
        calls[slot, SERIES] = i & 1023
        calls[slot, STATE] = IN_FLIGHT
    return len(keys)


@kernel
def turn_over(
    calls: Calls, fresh: NDArray[np.int64], asked: NDArray[np.int64], ended: NDArray[np.int64]
) -> int:
    """Take up, look up and take out; give the sum of what was looked up. Asks ahead as `absorb_rows` does."""
    found = 0
    for i in range(len(fresh)):
        ahead = i + STEPS_AHEAD
        if ahead < len(fresh):
            for key in (fresh[ahead], asked[ahead], ended[ahead]):
                ask_for(calls, key)
        if find(calls, fresh[i]) < 0:
            slot = insert(calls, fresh[i])
            calls[slot, SINCE_NS] = i
            calls[slot, SERIES] = i & 1023
            calls[slot, STATE] = IN_FLIGHT
        slot = find(calls, asked[i])
        if slot >= 0:
            found += calls[slot, SERIES]
        slot = find(calls, ended[i])
        if slot >= 0:
            remove(calls, slot)
    return found


def turn_over_dict(
    calls: dict[object, list[int]], fresh: list[object], asked: list[object], ended: list[object]
) -> int:
    """Do the same with a dict."""
    found = 0
    get, pop = calls.get, calls.pop
    for i, key in enumerate(fresh):
        if key not in calls:
            calls[key] = [i, i & 1023, -1, -1]
        entry = get(asked[i])
        if entry is not None:
            found += entry[1]
        pop(ended[i], None)
    return found


def call_ids(keys: NDArray[np.int64]) -> list[object]:
    """Write keys as the ids that platforms give to calls."""
    texts = (f"{key & (2**64 - 1):016x}{key >> 3 & (2**64 - 1):016x}" for key in keys.tolist())
    return [f"{one[:8]}-{one[8:12]}-{one[12:16]}-{one[16:20]}-{one[20:]}" for one in texts]


class Work:
    """The calls of a comparison: those that stay, those that come and go, those that are looked up.

    One half of what moves is in the table; each turn takes the other half in and this one out, so that every
    turn finds as many calls as the one before, and does as much.
    """

    def __init__(self, count: int, steps: int) -> None:
        """Draw hashes."""
        rng = np.random.default_rng(SEED)
        keys = rng.integers(1, 2**62, count + 2 * steps)
        self.standing = keys[:count]
        self.halves = (keys[count : count + steps], keys[count + steps :])
        self.asked = rng.integers(0, count, steps)


class Contestant(Protocol):
    """What is compared."""

    fill_s: float
    bytes_a_call: float
    sums: list[int]  # what each turn looked up

    def turn(self) -> None:
        """Do all steps once."""


class Table:
    """Our table, filled."""

    def __init__(self, work: Work) -> None:
        """Fill it as partitions do: it grows when it must."""
        self.sums: list[int] = []
        self.calls = new_calls()
        self.longest_growing_s = self.longest_pause_s = 0.0
        begin = time.process_time()
        self._fill(work.standing)
        self.fill_s = time.process_time() - begin
        self.bytes_a_call = self.calls.nbytes / len(work.standing)
        self._fill(work.halves[1])
        self._halves = work.halves
        self._asked = work.standing[work.asked]

    def _fill(self, keys: NDArray[np.int64]) -> None:
        """Take calls up in batches."""
        for first in range(0, len(keys), BATCH_ROWS):
            begin = time.process_time()
            batch = keys[first : first + BATCH_ROWS]
            done = 0
            while (done := fill(self.calls, batch, done)) < len(batch):
                growing = time.process_time()
                self._grow()
                self.longest_growing_s = max(self.longest_growing_s, time.process_time() - growing)
            self.longest_pause_s = max(self.longest_pause_s, time.process_time() - begin)

    def _grow(self) -> None:
        """Grow as a partition does: whoever holds the table lets go of it."""
        if must_grow(self.calls):
            memory, rows = memory_of(self.calls), len(self.calls)
            del self.calls
            self.calls = grown_calls(memory, rows)

    def turn(self) -> None:
        """Do all steps in batches."""
        fresh, ended = self._halves
        found = 0
        for first in range(0, len(fresh), BATCH_ROWS):
            part = slice(first, first + BATCH_ROWS)
            self._grow()
            found += turn_over(self.calls, fresh[part], self._asked[part], ended[part])
        self.sums.append(found)
        self._halves = ended, fresh


class Dict:
    """A dict, filled."""

    def __init__(self, work: Work, keys_of: Callable[[NDArray[np.int64]], list[object]]) -> None:
        """Fill it."""
        gc.collect()
        self.sums: list[int] = []
        before = resident_bytes()
        keys = keys_of(work.standing)
        begin = time.process_time()
        self.calls: dict[object, list[int]] = {key: [i, i & 1023, -1, -1] for i, key in enumerate(keys)}
        self.fill_s = time.process_time() - begin
        self.bytes_a_call = (resident_bytes() - before) / len(keys)
        self._halves: Halves = (keys_of(work.halves[0]), keys_of(work.halves[1]))
        self._asked = keys_of(work.standing[work.asked])  # Fresh objects, as parsing makes them.
        self.calls |= {key: [0, 0, -1, -1] for key in self._halves[1]}

    def turn(self) -> None:
        """Do all steps."""
        fresh, ended = self._halves
        self.sums.append(turn_over_dict(self.calls, fresh, self._asked, ended))
        self._halves = ended, fresh


def compare(count: int, size: str) -> tuple[list[Row], list[int]]:
    """Let table and dicts of `count` calls do the same steps in turns."""
    steps = STEPS[size]
    work = Work(count, steps)
    table = Table(work)
    contestants: dict[str, Contestant] = {TABLE: table}
    if count <= TEXT_KEYS_MAX:
        contestants[DICT] = Dict(work, call_ids)
    contestants[DICT_OF_HASHES] = Dict(work, lambda keys: keys.tolist())
    what = f"{count:,} calls"
    rows = []
    for name, one in contestants.items():
        each_ns = one.fill_s / count * 1e9
        rows.append(Row(f"{what}, {name}: memory of a call", f"{one.bytes_a_call:.0f} bytes"))
        rows.append(Row(f"{what}, {name}: taking up, from empty", f"{each_ns:.0f} ns a call"))
    rows.append(Row(f"{what}, {TABLE}: longest growing", f"{table.longest_growing_s * 1000:.1f} ms"))
    pause = f"{table.longest_pause_s * 1000:.1f} ms a batch of {BATCH_ROWS:,}"
    rows.append(Row(f"{what}, {TABLE}: longest pause while growing to them", pause))
    gc.collect()
    gc.freeze()  # Millions of lists are no reason to look for cycles while others are timed.
    times = in_turns({name: one.turn for name, one in contestants.items()}, TURNS[size])
    gc.unfreeze()
    assert all(one.sums == table.sums for one in contestants.values()), "table and dict differ"
    assert int(table.calls[TOTALS, USED]) == count + steps, "calls were lost"
    for name, seconds in times.items():
        each = [one / steps / OPERATIONS * 1e9 for one in seconds]
        rows.append(Row(f"{what}, {name}: one in, one looked up, one out", spread(each, "ns each", 1)))
    for name in contestants:
        if name != TABLE:
            budget = TIMES_AT_LEAST.get(count, 0.0) if name == DICT else 0.0
            rows.append(
                least_ratio(f"{what}: ours is faster than {name}", ratios(times, name, TABLE), budget)
            )
    return rows, table.sums


def run(size: str) -> Result:
    """Compare at every size of the table."""
    Table(Work(100, 100)).turn()  # Compiled before the clock starts.
    rows: list[Row] = []
    sums: list[int] = []
    for count in CALLS[size]:
        found, looked_up = compare(count, size)
        rows += found
        sums += looked_up[:1]
    notes = ("Ours is given hashes; making them is in the figures of `decode`.",)
    return Result(tuple(rows), SEED, digest_of(*sums), notes)


BENCHMARK = Benchmark("call_table", "What does the table of calls in flight cost?", run)
