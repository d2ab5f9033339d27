"""Compile or load every kernel before the consumer joins its group.

A compile of seconds would look like a dead member.

A throw-away line is fed a minute of made-up calls, so that whatever the real line will run has run once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from engine.app import REPLAY_HASH_KEY, build_line
from engine.limits import Limit, Register
from engine.source.contract import PLAIN_LOG_RECEIVED_NS, RawBatch

if TYPE_CHECKING:
    from engine.app import Configuration

CALLS = 40
START_S = 1_700_000_000
APART_S = 4
HOLDING_S = 20
CAP = 8.0


def warm_up(configuration: Configuration) -> None:
    """Take made-up calls through a line of the same settings; its alerts go nowhere."""
    register = Register(
        (Limit(name="warm-up", kind="concurrency", value=CAP), *configuration.register.limits)
    )
    line = build_line(configuration._replace(register=register), REPLAY_HASH_KEY)
    line.pipeline.step(_batch(_events()))
    line.pipeline.finish()
    line.publisher.publish(0)


def _events() -> list[dict[str, object]]:
    events: list[dict[str, object]] = []
    for call in range(CALLS):
        begin = START_S + call * APART_S
        of_call: dict[str, object] = {"call_id": f"warm-up-{call}", "tenant": "warm-up"}
        events.append({"time": begin, "type": "call.started"} | of_call)
        if call % CALLS == CALLS - 1:
            events.append({"time": begin + 0.1, "type": "call.declined", "code": 503} | of_call)
            continue
        answer = {"time": begin + 1, "type": "call.answered", "latency_ms": {"setup": 900}}
        events.append(answer | of_call)
        turn = {
            "time": begin + 5,
            "type": "turn.completed",
            "id": f"turn-{call}",
            "latency_ms": {"llm": [400, 500]},
        }
        events.append(turn | of_call)
        events.append({"time": begin + HOLDING_S, "type": "call.ended", "outcome": "completed"} | of_call)
    return sorted(events, key=lambda event: float(str(event["time"])))


def _batch(events: list[dict[str, object]]) -> RawBatch:
    rows = [msgspec.json.encode(event) for event in events]
    end = np.cumsum([len(row) for row in rows], dtype=np.int64)
    start = end - np.array([len(row) for row in rows], np.int64)
    offset = np.arange(len(rows), dtype=np.int64)
    return RawBatch(b"".join(rows), start, end, offset, "warm-up", 0, PLAIN_LOG_RECEIVED_NS, (0,), ())
