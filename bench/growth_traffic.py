"""The traffic of bench/growth.py: so many series, calls, partitions and limits, as batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from engine.limits import Limit, Register
from engine.source.contract import RawBatch

if TYPE_CHECKING:
    from collections.abc import Iterator

START_MS = 1_795_358_400_000
FILL_S = 100  # of event time, in which all calls start
EVENTS_PER_S = 2_000  # of event time, from then on
BATCH_ROWS = 4096
TENANTS_MAX = 1_000
CAP = 5_000.0
RECEIVED_LATER_MS = 100


class Point(NamedTuple):
    """What there is to keep."""

    series: int = 1_000
    calls: int = 10_000
    partitions: int = 4
    limits: int = 10


class Event(NamedTuple):
    """One row and where it goes."""

    time_ms: int
    partition: int
    row: bytes


def register_of(point: Point) -> Register:
    """Give so many concurrency limits, of a tenant each."""
    return Register(
        tuple(
            Limit(name=f"cap-{at}", kind="concurrency", value=CAP, applies_to={"tenant": (f"t-{at}",)})
            for at in range(point.limits)
        )
    )


class Traffic:
    """Calls that start, talk and end."""

    def __init__(self, point: Point, seed: int) -> None:
        """Begin without calls."""
        self._point = point
        self._rng = np.random.default_rng(seed)
        self._tenants = min(point.series, TENANTS_MAX)
        self._started = 0
        self._ended = 0

    def fill(self) -> Iterator[Event]:
        """Start all calls; each series has at least one."""
        count = max(self._point.calls, self._point.series)
        for at in range(count):
            yield self._start(START_MS + at * FILL_S * 1000 // count)

    def steady(self, events: int) -> Iterator[Event]:
        """Let any call have a turn; start as many as end."""
        kinds = self._rng.integers(0, 10, events).tolist()
        spots = self._rng.random(events).tolist()
        for at, (kind, spot) in enumerate(zip(kinds, spots, strict=True)):
            time_ms = START_MS + FILL_S * 1000 + at * 1000 // EVENTS_PER_S
            if kind in (0, 1):
                yield self._start(time_ms)
            elif kind in (2, 3):
                self._ended += 1
                yield self._event(time_ms, self._ended - 1, "call.ended", outcome="completed")
            else:
                call = self._ended + int(spot * (self._started - self._ended))
                latency = {"stt": 90 + 20 * spot, "llm": 300 + 500 * spot, "tts": 120 + 80 * spot}
                yield self._event(time_ms, call, "turn.completed", latency_ms=latency)

    def _start(self, time_ms: int) -> Event:
        self._started += 1
        return self._event(time_ms, self._started - 1, "call.started")

    def _event(self, time_ms: int, call: int, kind: str, **fields: object) -> Event:
        series = call % self._point.series
        row: dict[str, object] = {
            "time": time_ms, "type": kind, "call_id": f"call-{call:08d}",
            "tenant": f"t-{series % self._tenants}", "trunk": f"sip-{series // self._tenants}", **fields,
        }  # fmt: skip
        return Event(time_ms, call % self._point.partitions, msgspec.json.encode(row))


class Batches:
    """Events as batches, a read after the other; offsets go on from one call to the next."""

    def __init__(self, partitions: int) -> None:
        """Begin at offset 0 everywhere."""
        self._offsets = [0] * partitions

    def of(self, events: Iterator[Event]) -> Iterator[RawBatch]:
        """Give batches: what a read would bring, partition by partition."""
        held: list[Event] = []
        for event in events:
            held.append(event)
            if len(held) == BATCH_ROWS:
                yield from self._read(held)
                held = []
        yield from self._read(held)

    def _read(self, events: list[Event]) -> Iterator[RawBatch]:
        everything = tuple(range(len(self._offsets)))
        for partition in everything:
            rows = [event.row for event in events if event.partition == partition]
            if not rows:
                continue
            end = np.cumsum([len(row) + 1 for row in rows], dtype=np.int64) - 1
            start = end - np.array([len(row) for row in rows], np.int64)
            first = self._offsets[partition]
            self._offsets[partition] += len(rows)
            offset = np.arange(first, first + len(rows), dtype=np.int64)
            received_ns = (events[-1].time_ms + RECEIVED_LATER_MS) * 10**6
            data = b"\n".join(rows) + b"\n"
            yield RawBatch(data, start, end, offset, "growth", partition, received_ns, everything, ())
