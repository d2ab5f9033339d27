"""Seeded call events of a small voice platform (`traffic.py`), for demonstrations, tests and benchmarks.

Rows are rendered as they are read, so a million of them cost no memory. Their order is that in which they
arrive: up to `disorder_s` after they happened, some twice. The source is live in its own time:
`received_ns` is when the last row of a batch arrived in the scenario, there are ticks while nothing
arrives, and every partition is caught up when its rows are handed over. No clock is read unless `speed`
asks for the pace of one.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from engine.source.contract import RawBatch, tick
from engine.source.traffic import NS_PER_S, Calls, Scenario, Truth, lognormal, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

TOPIC = "synthetic"
RENDERED_ROWS = 4096
POLL_S = 0.2
TICK_NS = NS_PER_S  # how far ticks are apart while nothing arrives
SHUFFLED_S = 1.0  # a duplicate comes within this time, or within the disorder

STARTED, ANSWERED, TURN, HEARTBEAT, ENDED, DECLINED = range(6)


class Traffic(NamedTuple):
    """Events in the order in which they arrive; arrays have shape (events,). Times are ns since the epoch."""

    scenario: Scenario
    seed: int
    calls: Calls
    truth: Truth
    arrival_ns: NDArray[np.int64]
    time_ns: NDArray[np.int64]
    kind: NDArray[np.int64]
    call: NDArray[np.int64]  # row of `calls`
    turn: NDArray[np.int64]  # row of `turn_ms` for turns
    turn_ms: NDArray[np.float64]  # shape (turns, stages)

    @property
    def events(self) -> int:
        """How many events there are, duplicates included."""
        return len(self.time_ns)


def make_traffic(scenario: Scenario, seed: int) -> Traffic:
    """Simulate a scenario; the same seed gives the same rows, byte for byte."""
    rng = np.random.default_rng(seed)
    calls, truth = simulate(scenario, rng)
    call, kind, at_s, turn, turn_ms = _events(scenario, calls, rng)
    arrival_s = at_s + rng.random(len(at_s)) * scenario.disorder_s
    twice = np.flatnonzero(rng.random(len(at_s)) < scenario.duplicates_ratio)
    again_s = arrival_s[twice] + rng.random(len(twice)) * max(scenario.disorder_s, SHUFFLED_S)
    arrival_s = np.concatenate((arrival_s, again_s))
    picked = np.concatenate((np.arange(len(at_s)), twice))
    order = np.argsort(arrival_s, kind="stable")
    order = order[arrival_s[order] < scenario.duration_s]
    picked = picked[order]
    return Traffic(
        scenario=scenario,
        seed=seed,
        calls=calls,
        truth=truth,
        arrival_ns=scenario.start_ns + (arrival_s[order] * NS_PER_S).astype(np.int64),
        time_ns=scenario.start_ns + (at_s[picked] * NS_PER_S).astype(np.int64),
        kind=kind[picked],
        call=call[picked],
        turn=turn[picked],
        turn_ms=turn_ms,
    )


def generate_rows(scenario: Scenario, seed: int) -> Iterator[bytes]:
    """Give the events as rows of JSON, in the order in which they arrive."""
    traffic = make_traffic(scenario, seed)
    renderer = _Renderer(traffic)
    for first in range(0, traffic.events, RENDERED_ROWS):
        yield from renderer.rows(first, min(first + RENDERED_ROWS, traffic.events))


def generate(scenario: Scenario, seed: int) -> Iterator[dict[str, Any]]:
    """Give the events as dicts, in the order in which they arrive."""
    return (msgspec.json.decode(row, type=dict[str, Any]) for row in generate_rows(scenario, seed))


def _events(
    scenario: Scenario, calls: Calls, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Give call, kind, time, turn of each event, in no order, and the latencies of the turns."""
    every = np.arange(len(calls.start_s))
    admitted = np.flatnonzero(~calls.is_declined)
    declined = np.flatnonzero(calls.is_declined)
    answered = np.flatnonzero(~calls.is_declined & ~calls.is_failed)
    answered_s = calls.start_s + calls.setup_s
    told = admitted[np.isfinite(calls.end_s[admitted]) & ~calls.is_end_lost[admitted]]
    spoken_s = np.minimum(calls.talk_s, np.maximum(scenario.duration_s - answered_s, 0.0))
    turn_call, turn_s = _repeated(answered, answered_s, spoken_s, scenario.turn_every_s, rng)
    beat_call, beat_s = _repeated(answered, answered_s, spoken_s, scenario.heartbeat_s, None)
    parts = (
        (STARTED, every, calls.start_s),
        (DECLINED, declined, calls.end_s[declined]),
        (ANSWERED, answered, answered_s[answered]),
        (TURN, turn_call, turn_s),
        (HEARTBEAT, beat_call, beat_s),
        (ENDED, told, calls.end_s[told]),
    )
    kind = np.concatenate([np.full(len(call), number, np.int64) for number, call, _ in parts])
    turn = np.full(len(kind), -1, np.int64)
    turn[kind == TURN] = np.arange(len(turn_call))
    turn_ms = np.empty((len(turn_call), len(scenario.stages)))
    for column, stage in enumerate(scenario.stages):
        mean_ms = np.where(turn_s >= stage.slow_from_s, stage.slow_factor, 1.0) * stage.mean_ms
        turn_ms[:, column] = lognormal(rng, mean_ms, stage.sigma, len(turn_call))
    call = np.concatenate([call for _, call, _ in parts]).astype(np.int64)
    return call, kind, np.concatenate([at_s for _, _, at_s in parts]), turn, turn_ms


def _repeated(
    of: NDArray[np.int64],
    from_s: NDArray[np.float64],
    for_s: NDArray[np.float64],
    every_s: float,
    rng: np.random.Generator | None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give (call, time) of what happens every so often in a call, at random moments if `rng` is given."""
    if every_s <= 0:
        return np.empty(0, np.int64), np.empty(0)
    counts = (for_s[of] / every_s).astype(np.int64)
    call = np.repeat(of, counts)
    number = np.arange(len(call)) - np.repeat(np.cumsum(counts) - counts, counts)
    within = np.ones(len(call)) if rng is None else rng.random(len(call))
    return call, from_s[call] + (number + within) * every_s


class _Renderer:
    """Writes events as rows."""

    def __init__(self, traffic: Traffic) -> None:
        """Encode once what every row of a tenant or call repeats."""
        self._traffic = traffic
        scenario, calls = traffic.scenario, traffic.calls
        reason = msgspec.json.encode(scenario.decline_reason).decode()
        self._declined = f'"type":"call.declined","code":{scenario.decline_code},"reason":{reason}'
        self._labels = [_labels(scenario, row) for row in range(len(scenario.tenants))]
        self._tenant = calls.tenant.tolist()
        self._setup_ms = (calls.setup_s * 1000).tolist()
        self._talk_ms = (calls.talk_s * 1000).tolist()
        self._is_failed = calls.is_failed.tolist()
        # One format for the latencies of a turn and their sum.
        stages = "".join(f'"{stage.name}":%.2f,' for stage in scenario.stages)
        self._turn = f'"type":"turn.completed","id":"%d","latency_ms":{{{stages}"e2e":%.2f}}'

    def call_id(self, call: int) -> str:
        """Give the id of an attempt, different for each seed."""
        return f"s{self._traffic.seed}-{call}"

    def rows(self, first: int, stop: int) -> list[bytes]:
        """Write the events of a range."""
        part = slice(first, stop)
        times, kinds = self._traffic.time_ns[part].tolist(), self._traffic.kind[part].tolist()
        calls, turns = self._traffic.call[part].tolist(), self._traffic.turn[part].tolist()
        return [
            f'{{"time":{time},"call_id":"{self.call_id(call)}",{self._said(kind, call, turn)}'
            f"{self._labels[self._tenant[call]]}}}".encode()
            for time, kind, call, turn in zip(times, kinds, calls, turns, strict=True)
        ]

    def _said(self, kind: int, call: int, turn: int) -> str:
        if kind == STARTED:
            return '"type":"call.started"'
        if kind == DECLINED:
            return self._declined
        if kind == ANSWERED:
            return f'"type":"call.answered","latency_ms":{{"setup":{self._setup_ms[call]:.3f}}}'
        if kind == HEARTBEAT:
            return '"type":"call.heartbeat"'
        if kind == TURN:
            stages = self._traffic.turn_ms[turn].tolist()
            return self._turn % (turn, *stages, sum(stages))
        if self._is_failed[call]:
            tried_ms = self._setup_ms[call]
            return f'"type":"call.ended","outcome":"failed","code":500,"duration_ms":{tried_ms:.0f}'
        return f'"type":"call.ended","outcome":"completed","duration_ms":{self._talk_ms[call]:.0f}'


def _labels(scenario: Scenario, row: int) -> str:
    """Write a tenant's labels as the tail of a row, without those that are empty."""
    tenant = scenario.tenants[row]
    labels = {
        "platform": scenario.platform, "tenant": tenant.name, "trunk": tenant.trunk, "agent": tenant.agent,
        "provider": tenant.provider, "release": tenant.release, "region": tenant.region,
    }  # fmt: skip
    return "".join(
        f',"{name}":{msgspec.json.encode(value).decode()}' for name, value in labels.items() if value
    )


class SyntheticSource:
    """Synthetic rows as a live source gives them, keyed by call id over some partitions."""

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        *,
        partitions: int = 1,
        batch_rows: int = 4096,
        speed: float | None = None,
    ) -> None:
        """Simulate nothing yet; `speed` is scenario time over real time, None: as fast as it goes."""
        self._scenario = scenario
        self._seed = seed
        self._assigned = tuple(range(partitions))
        self._batch_rows = batch_rows
        self._speed = speed
        self._offsets = [0] * partitions
        self._ready: deque[RawBatch] = deque()
        self._renderer: _Renderer | None = None
        self._next = 0
        self._now_ns = scenario.start_ns
        self._began_s = 0.0
        self.traffic: Traffic | None = None

    async def start(self) -> None:
        """Simulate the scenario."""
        self.traffic = make_traffic(self._scenario, self._seed)
        self._renderer = _Renderer(self.traffic)
        self._began_s = asyncio.get_running_loop().time()

    async def read(self) -> RawBatch | None:
        """Give the next batch or tick; None at the end and after `close`."""
        if self._speed is not None and not self._ready:
            await self._keep_pace(self._speed)
        if not self._ready:
            self._advance()
        return self._ready.popleft() if self._ready else None

    async def close(self) -> None:
        """Drop what was not read; closing twice is fine."""
        self._ready.clear()
        self._renderer = None
        self.traffic = None

    async def _keep_pace(self, speed: float) -> None:
        """Wait until the next event is due, for at most a poll interval."""
        traffic = self.traffic
        if traffic is None or self._next >= traffic.events:
            return
        loop = asyncio.get_running_loop()
        due_s = (int(traffic.arrival_ns[self._next]) - self._scenario.start_ns) / NS_PER_S / speed
        wait_s = self._began_s + due_s - loop.time()
        if wait_s > 0:
            await asyncio.sleep(min(wait_s, POLL_S))
        passed_ns = int((loop.time() - self._began_s) * speed * NS_PER_S)
        if wait_s > POLL_S:
            self._now_ns = max(self._now_ns, self._scenario.start_ns + passed_ns)
            self._ready.append(tick(TOPIC, self._now_ns, self._assigned, self._assigned))

    def _advance(self) -> None:
        """Hand over what arrives next: rows up to the next silence, or a tick within one."""
        traffic = self.traffic
        if traffic is None or self._next >= traffic.events:
            return
        arrival_ns = traffic.arrival_ns
        if arrival_ns[self._next] - self._now_ns > TICK_NS:
            self._now_ns += TICK_NS
            self._ready.append(tick(TOPIC, self._now_ns, self._assigned, self._assigned))
            return
        stop = min(self._next + self._batch_rows, traffic.events)
        silences = np.flatnonzero(np.diff(arrival_ns[self._next : stop]) > TICK_NS)
        if len(silences):
            stop = self._next + int(silences[0]) + 1
        self._now_ns = max(self._now_ns, int(arrival_ns[stop - 1]))
        self._hand_over(traffic, self._next, stop)
        self._next = stop

    def _hand_over(self, traffic: Traffic, first: int, stop: int) -> None:
        """Make a batch for each partition; a partition with rows still to come is not caught up."""
        assert self._renderer is not None, "read before start"
        rows: dict[int, list[bytes]] = {}
        calls = traffic.call[first:stop].tolist()
        for call, row in zip(calls, self._renderer.rows(first, stop), strict=True):
            key = self._renderer.call_id(call).encode()
            rows.setdefault(zlib.crc32(key) % len(self._assigned), []).append(row)
        coming = set(rows)
        for partition, some in sorted(rows.items()):
            coming.discard(partition)
            length = np.fromiter(map(len, some), np.int64, len(some))
            end = np.cumsum(length, dtype=np.int64)
            start = end - length
            offset = np.arange(self._offsets[partition], self._offsets[partition] + len(some), dtype=np.int64)
            self._offsets[partition] += len(some)
            for array in (start, end, offset):
                array.setflags(write=False)
            caught_up = tuple(each for each in self._assigned if each not in coming)
            self._ready.append(
                RawBatch(
                    b"".join(some), start, end, offset, TOPIC, partition, self._now_ns, self._assigned,
                    caught_up,
                )
            )  # fmt: skip
