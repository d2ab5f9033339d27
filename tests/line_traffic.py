"""Made-up traffic of a small voice platform: what happened, the events that tell it, and ways they can come.

Two tenants on two trunks; the first trunk declines calls above a cap. Calls are answered or canceled, have
turns with latencies, end well or badly, and some ends are lost. Everything follows from one seed.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine.limits import Limit, Register
from engine.source.contract import PLAIN_LOG_RECEIVED_NS, RawBatch
from tests.oracle_judge import OneCall

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MS = 1_000_000
S = 1_000_000_000
START_NS = 1_795_358_400 * S  # a whole minute
CAP = 40
TOPIC = "calls"
CAPPED_TRUNK = "sip-1"

REGISTER = Register(
    limits=(
        Limit(
            name="trunk-cap",
            kind="concurrency",
            value=float(CAP),
            applies_to={"trunk": (CAPPED_TRUNK,)},
            owner="voice",
            lives_in="portal",
            action="raise it",
            confirmed_on="2026-06-01",
        ),
        Limit(
            name="tenant-cap",
            kind="concurrency",
            values={"acme": 45.0},
            split_by=("tenant",),
            counts_from="answered",
            owner="sales",
        ),
    )
)


class Traffic(NamedTuple):
    """How much happens; rates in calls a second at the beginning and the end."""

    seed: int = 1
    duration_s: int = 360
    rate_first: float = 0.5
    rate_last: float = 3.0
    holding_s: float = 18.0
    lost_ratio: float = 0.01


class Event(NamedTuple):
    """One row of a log, and what it is sorted and routed by."""

    time_ns: int
    key: str  # the call, or what stands in for it
    row: bytes


class Story(NamedTuple):
    """What happened, and the events that tell it, in order of time."""

    calls: tuple[OneCall, ...]
    events: tuple[Event, ...]


def event(time_ns: int, type_: str, call_id: str = "", **fields: Any) -> Event:
    """Write one event; a name that Python has taken is given with `_` behind it."""
    given = {"call_id": call_id} if call_id else {}
    named = {name.rstrip("_"): value for name, value in fields.items()}
    text = json.dumps({"time": time_ns, "type": type_, **given, **named})
    return Event(time_ns, call_id or text, text.encode())


def make_story(traffic: Traffic, start_ns: int = START_NS) -> Story:
    """Let it happen."""
    generator = np.random.default_rng(traffic.seed)
    calls: list[OneCall] = []
    events: list[Event] = []
    up: list[int] = []  # ends of calls that hold capacity of the capped trunk; lost ones hold it for ever
    time_ns = start_ns
    while True:
        through = (time_ns - start_ns) / S / traffic.duration_s
        rate = traffic.rate_first + (traffic.rate_last - traffic.rate_first) * through
        time_ns += max(int(generator.exponential(1 / rate) * 1000), 1) * MS
        if time_ns >= start_ns + traffic.duration_s * S:
            break
        labels = {
            "tenant": "acme" if generator.random() < 0.6 else "globex",
            "trunk": CAPPED_TRUNK if generator.random() < 0.9 else "sip-2",
        }
        up = [end for end in up if end > time_ns]
        is_full = labels["trunk"] == CAPPED_TRUNK and len(up) >= CAP
        name = f"call-{len(calls)}"
        call, told = (_declined if is_full else _admitted)(generator, traffic, time_ns, name, labels)
        if labels["trunk"] == CAPPED_TRUNK and not is_full:
            up.append(call.end_ns if call.end_ns >= 0 else time_ns + 10**15)
        end_ns = start_ns + traffic.duration_s * S
        calls.append(_until(call, end_ns))
        events += [one for one in told if one.time_ns < end_ns]
    for minute in range(1, traffic.duration_s // 60):
        at_ns = start_ns + minute * 60 * S + 7 * MS
        change: dict[str, Any] = {"from_": minute, "to": minute + 1, "tenant": "acme"}
        events.append(event(at_ns, "change.made", what="deploy", by="ci", id=f"change-{minute}", **change))
    return Story(tuple(calls), tuple(sorted(events)))


def _declined(
    generator: np.random.Generator, _: Traffic, time_ns: int, name: str, labels: dict[str, str]
) -> tuple[OneCall, list[Event]]:
    """Decline it: mostly at once, sometimes after a second, which may be in another slice."""
    end_ns = time_ns + int(generator.choice([40, 90, 1500])) * MS
    told = [
        event(time_ns, "call.started", name, **labels),
        event(end_ns, "call.declined", name, code=503, reason="Service Unavailable", **labels),
    ]
    return OneCall(time_ns, -1, end_ns, is_declined=True, labels=tuple(labels.items())), told


def _admitted(
    generator: np.random.Generator, traffic: Traffic, time_ns: int, name: str, labels: dict[str, str]
) -> tuple[OneCall, list[Event]]:
    """Let it be answered, talk, and end; or be canceled first, or its end be lost."""
    holding_ns = max(int(generator.lognormal(np.log(traffic.holding_s), 0.5) * 1000), 50) * MS
    end_ns, answer_ns = time_ns + holding_ns, time_ns + int(generator.integers(300, 1500)) * MS
    is_answered = answer_ns < end_ns and generator.random() < 0.95
    is_error = generator.random() < 0.03
    told = [event(time_ns, "call.started", name, **labels)]
    latencies: list[tuple[int, str, float]] = []

    def measured(at_ns: int, stage: str) -> dict[str, float]:
        milliseconds = float(int(generator.lognormal(6.0, 0.6)))
        latencies.append((at_ns, stage, milliseconds / 1000))
        return {stage: milliseconds}

    if is_answered:
        told.append(
            event(answer_ns, "call.answered", name, latency_ms=measured(answer_ns, "setup"), **labels)
        )
        for number, at_ns in enumerate(range(answer_ns + 4 * S, end_ns, 9 * S)):
            latency = measured(at_ns, "llm")
            turn = event(at_ns, "turn.completed", name, id=f"{name}-{number}", latency_ms=latency, **labels)
            told.append(turn)
    if generator.random() < traffic.lost_ratio:
        end_ns, is_error = -1, False
    else:
        outcome = "failed" if is_error else "completed" if is_answered else "canceled"
        told.append(event(end_ns, "call.ended", name, outcome=outcome, **labels))
    call = OneCall(
        time_ns, answer_ns if is_answered else -1, end_ns, False, tuple(labels.items()), is_error,
        tuple(latencies),
    )  # fmt: skip
    return call, told


def _until(call: OneCall, end_ns: int) -> OneCall:
    """Forget what happens after the recording stops."""
    return call._replace(
        answer_ns=call.answer_ns if call.answer_ns < end_ns else -1,
        end_ns=call.end_ns if call.end_ns < end_ns else -1,
        is_error=call.is_error and call.end_ns < end_ns,
        latencies=tuple(one for one in call.latencies if one[0] < end_ns),
    )


def disordered(events: Sequence[Event], bound_ns: int, seed: int) -> list[Event]:
    """Delay every event by less than the bound."""
    delays = np.random.default_rng(seed).integers(0, bound_ns, len(events)).tolist()
    return [
        one for _, one in sorted(zip(delays, events, strict=True), key=lambda pair: pair[0] + pair[1].time_ns)
    ]


def with_duplicates(events: Sequence[Event], seed: int, ratio: float = 0.1) -> list[Event]:
    """Send some events again, right away or a few rows later."""
    generator = np.random.default_rng(seed)
    again: dict[int, list[Event]] = {}
    found: list[Event] = []
    for place, one in enumerate(events):
        found.append(one)
        if generator.random() < ratio:
            again.setdefault(place + int(generator.integers(0, 5)), []).append(one)
        found += again.pop(place, [])
    return found + [one for late in again.values() for one in late]


def batches_of(
    events: Iterable[Event], partitions: int = 1, rows_max: int = 500, seed: int | None = None
) -> Iterator[RawBatch]:
    """Spread events over partitions by call, and take batches of them in turn; a seed varies the sizes."""
    generator = np.random.default_rng(seed)
    lanes: list[list[bytes]] = [[] for _ in range(partitions)]
    for one in events:
        lanes[zlib.crc32(one.key.encode()) % partitions].append(one.row)
    done = [0] * partitions
    while any(place < len(lane) for place, lane in zip(done, lanes, strict=True)):
        for number, lane in enumerate(lanes):
            rows = rows_max if seed is None else int(generator.integers(1, rows_max + 1))
            taken = lane[done[number] : done[number] + rows]
            if taken:
                yield raw_batch(taken, number, done[number], partitions)
            done[number] += rows


def raw_batch(rows: Sequence[bytes], partition: int, first_offset: int, partitions: int) -> RawBatch:
    """Lay rows side by side."""
    end = np.cumsum([len(row) for row in rows], dtype=np.int64)
    start = end - np.array([len(row) for row in rows], np.int64)
    offset = np.arange(first_offset, first_offset + len(rows), dtype=np.int64)
    every = tuple(range(partitions))
    return RawBatch(b"".join(rows), start, end, offset, TOPIC, partition, PLAIN_LOG_RECEIVED_NS, every, ())
