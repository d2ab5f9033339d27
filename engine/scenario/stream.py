"""A scenario as a stream of rows: in the order of their arrival, with what is lost, late, twice or ahead.

The same text gives the same rows, byte for byte. Rows are written as they are read.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.scenario.admission import admit
from engine.scenario.arrivals import generator
from engine.scenario.calls import draw_callers
from engine.scenario.events import NO_CALL, Block, Played, call_blocks, play, text
from engine.scenario.platform import platform_blocks
from engine.scenario.troubles import Clock, Loss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.scenario.admission import Truth
    from engine.scenario.scenario import Scenario

NS_PER_S = 1_000_000_000
TWICE_WITHIN_S = 1.0  # a duplicate comes within this time, or within the disorder


class Stream(NamedTuple):
    """Every event, in the order of arrival; arrays have shape (events,). Times are ns since the epoch."""

    scenario: Scenario
    truth: Truth
    blocks: tuple[Block, ...]
    attempt_labels: tuple[str, ...]  # by group, as the rest of an object
    group: NDArray[np.int64]  # shape (attempts,)
    arrival_ns: NDArray[np.int64]
    time_ns: NDArray[np.int64]
    block: NDArray[np.int64]
    row: NDArray[np.int64]  # in its block
    attempt: NDArray[np.int64]
    partition: NDArray[np.int64]

    @property
    def events(self) -> int:
        """How many there are, duplicates included."""
        return len(self.time_ns)

    def call_id(self, attempt: int) -> str:
        """Give the id of an attempt, different for each seed."""
        return call_id(self.scenario.frame.seed, attempt)

    def rows(self, first: int, stop: int) -> list[bytes]:
        """Write the events of a range."""
        part = slice(first, stop)
        blocks, rows = self.block[part], self.row[part]
        said = [""] * len(blocks)
        for number in np.unique(blocks).tolist():
            places = np.flatnonzero(blocks == number)
            for place, body in zip(places.tolist(), self.blocks[number].said(rows[places]), strict=True):
                said[place] = body
        times, attempts = self.time_ns[part].tolist(), self.attempt[part].tolist()
        return [
            self._row(time_ns, number, row, (attempt, body))
            for time_ns, number, row, attempt, body in zip(
                times, blocks.tolist(), rows.tolist(), attempts, said, strict=True
            )
        ]

    def _row(self, time_ns: int, number: int, row: int, told: tuple[int, str]) -> bytes:
        block, (attempt, body) = self.blocks[number], told
        is_call = block.type.startswith("call.")  # These are told apart by their call.
        head = f'{{"time":{time_ns},"type":"{block.type}"'
        if block.is_numbered and not is_call:
            head += f',"id":"{number}-{row}"'
        if attempt == NO_CALL:
            return f"{head}{body}{block.labels}}}".encode()
        labels = self.attempt_labels[self.group[attempt]]
        return f'{head},"call_id":"{self.call_id(attempt)}"{body}{labels}}}'.encode()


def call_id(seed: int, attempt: int) -> str:
    """Give the id of an attempt."""
    return f"s{seed}-{attempt}"


def make_stream(scenario: Scenario) -> Stream:
    """Let it happen."""
    callers = draw_callers(scenario)
    attempts, truth = admit(scenario, callers)
    played = play(scenario, callers, attempts)
    seed = scenario.frame.seed
    blocks = call_blocks(played) + platform_blocks(played, lambda attempt: call_id(seed, attempt))
    block = np.repeat(np.arange(len(blocks)), [len(one.at_s) for one in blocks])
    row = np.concatenate([np.arange(len(one.at_s)) for one in blocks])
    at_s = np.concatenate([one.at_s for one in blocks])
    attempt = np.concatenate([one.attempt for one in blocks])
    kept = np.flatnonzero(_is_sent(played, blocks, block, at_s, attempt))
    time_s = at_s + _ahead_s(played, at_s, attempt)
    arrival_s, picked = _arrivals(scenario, at_s[kept], kept)
    order = np.argsort(arrival_s, kind="stable")
    order = order[arrival_s[order] < scenario.frame.length_s]
    picked = picked[order]
    return Stream(
        scenario=scenario,
        truth=truth,
        blocks=tuple(blocks),
        attempt_labels=tuple(
            "".join(f',"{label}":{text(value)}' for label, value in group.labels.items())
            for group in scenario.groups
        ),
        group=played.group,
        arrival_ns=_to_ns(scenario, arrival_s[order]),
        time_ns=_to_ns(scenario, time_s[picked]),
        block=block[picked],
        row=row[picked],
        attempt=attempt[picked],
        partition=_partitions(scenario, picked, attempt),
    )


def _to_ns(scenario: Scenario, at_s: NDArray[np.float64]) -> NDArray[np.int64]:
    return scenario.frame.start_ns + np.round(at_s * NS_PER_S).astype(np.int64)


def _is_sent(
    played: Played,
    blocks: list[Block],
    block: NDArray[np.int64],
    at_s: NDArray[np.float64],
    attempt: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Say which events are sent: those within the scenario, but for what is lost."""
    sent = (at_s >= 0) & (at_s < played.scenario.frame.length_s)
    types = np.array([one.type for one in blocks])[block]
    for number, loss in enumerate(played.scenario.of(Loss)):
        drawn = generator(played.scenario, "lose", number).random(len(at_s))
        lost = (types == loss.event) & (drawn < loss.ratio * loss.change.weight(at_s))
        sent &= ~(lost & _is_of(played, loss.group, attempt))
    return sent


def _is_of(played: Played, target: str, attempt: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which events are of calls of a group."""
    if not len(played.group):
        return np.zeros(len(attempt), np.bool_)
    return np.asarray((attempt != NO_CALL) & played.of(target)[attempt], np.bool_)


def _ahead_s(played: Played, at_s: NDArray[np.float64], attempt: NDArray[np.int64]) -> NDArray[np.float64]:
    ahead_s = np.zeros(len(at_s))
    for clock in played.scenario.of(Clock):
        ahead_s += clock.ahead_s * clock.change.weight(at_s) * _is_of(played, clock.group, attempt)
    return ahead_s


def _arrivals(
    scenario: Scenario, at_s: NDArray[np.float64], picked: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give when events arrive, and which they are: late by up to the disorder, some of them twice."""
    frame = scenario.frame
    rng = generator(scenario, "arrival")
    late, twice, again = rng.random((3, len(at_s)))
    arrival_s = at_s + late * frame.disorder_s
    doubled = np.flatnonzero(twice < frame.duplicates_ratio)
    again_s = arrival_s[doubled] + again[doubled] * max(frame.disorder_s, TWICE_WITHIN_S)
    return np.concatenate((arrival_s, again_s)), np.concatenate((picked, picked[doubled]))


def _partitions(
    scenario: Scenario, picked: NDArray[np.int64], attempt: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Give the partition of each event: by its call, or any; an event of no call may lie in any."""
    count = scenario.frame.partitions
    spread = generator(scenario, "partition").integers(0, count, len(picked))
    if count == 1 or not scenario.frame.is_keyed:
        return spread
    own = attempt[picked]
    calls = int(own.max(initial=-1)) + 1
    by_call = np.array(
        [zlib.crc32(call_id(scenario.frame.seed, number).encode()) % count for number in range(calls)] or [0]
    )
    return np.where(own == NO_CALL, spread, by_call[np.maximum(own, 0)])
