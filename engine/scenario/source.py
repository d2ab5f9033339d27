"""A scenario as a live source gives it: batches with their receipt, and ticks while nothing arrives.

Live in its own time, and as fast as it goes: `received_ns` is when the last row of a batch arrived in the
scenario, and every partition is caught up when its rows are handed over. No clock is read.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from engine.scenario.stream import NS_PER_S, make_stream
from engine.source.contract import RawBatch, tick

if TYPE_CHECKING:
    from engine.scenario.scenario import Scenario
    from engine.scenario.stream import Stream

TOPIC = "scenario"
BATCH_ROWS = 4096
BATCH_NS = NS_PER_S  # rows of so long are read together, at most
TICK_NS = 5 * NS_PER_S  # how far ticks are apart while nothing arrives


class ScenarioSource:
    """Rows of a scenario, over its partitions."""

    def __init__(self, scenario: Scenario) -> None:
        """Let nothing happen yet."""
        self._scenario = scenario
        self._assigned = tuple(range(scenario.frame.partitions))
        self._offsets = [0] * scenario.frame.partitions
        self._ready: deque[RawBatch] = deque()
        self._next = 0
        self._now_ns = scenario.frame.start_ns
        self.stream: Stream | None = None

    async def start(self) -> None:
        """Let it happen."""
        self.stream = make_stream(self._scenario)

    async def read(self) -> RawBatch | None:
        """Give the next batch or tick; None at the end and after `close`."""
        return self.next_batch()

    def next_batch(self) -> RawBatch | None:
        """Give what `read` does; nothing here ever waits."""
        if not self._ready and self.stream is not None:
            self._advance(self.stream)
        return self._ready.popleft() if self._ready else None

    async def close(self) -> None:
        """Drop what was not read; closing twice is fine."""
        self._ready.clear()
        self.stream = None

    def _advance(self, stream: Stream) -> None:
        """Hand over what arrives next: the rows of a moment, or a tick within a silence, up to the end."""
        frame = self._scenario.frame
        end_ns = frame.start_ns + round(frame.length_s * NS_PER_S)
        is_over = self._next >= stream.events
        next_ns = end_ns if is_over else int(stream.arrival_ns[self._next])
        if next_ns - self._now_ns > TICK_NS or (is_over and self._now_ns < end_ns):
            self._now_ns = min(self._now_ns + TICK_NS, next_ns)
            self._ready.append(tick(TOPIC, self._now_ns, self._assigned, self._assigned))
            return
        if is_over:
            return
        arrival_ns = stream.arrival_ns[self._next : self._next + BATCH_ROWS]
        stop = self._next + int(np.searchsorted(arrival_ns, next_ns + BATCH_NS))
        self._now_ns = int(stream.arrival_ns[stop - 1])
        self._hand_over(stream, stop)

    def _hand_over(self, stream: Stream, stop: int) -> None:
        """Make a batch for each partition; one with rows still to come is not caught up."""
        rows: dict[int, list[bytes]] = {}
        partitions = stream.partition[self._next : stop].tolist()
        for partition, row in zip(partitions, stream.rows(self._next, stop), strict=True):
            rows.setdefault(partition, []).append(row)
        self._next = stop
        coming = set(rows)
        for partition, some in sorted(rows.items()):
            coming.discard(partition)
            end = np.cumsum([len(row) for row in some], dtype=np.int64)
            start = end - np.array([len(row) for row in some], np.int64)
            first = self._offsets[partition]
            offset = np.arange(first, first + len(some), dtype=np.int64)
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
