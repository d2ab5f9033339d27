"""Compile or load every kernel before the consumer joins its group: a compile would look like a dead member.

A throw-away line is fed some minutes of made-up calls of every type, late and repeated ones too, so that
whatever the real line will run has run once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from engine.app import REPLAY_HASH_KEY, OwnedLine
from engine.kernel import BAKED
from engine.kernel_cache import cache_folder
from engine.limits import Limit, Register
from engine.source.columns import SPARE_BYTES, Numbers, RowColumns, Texts, Words
from engine.source.contract import NO_ROWS, RawBatch

if TYPE_CHECKING:
    from engine.app import Configuration

START_S = 1_700_002_700  # 100 s before an hour begins, for what is looked up anew with each
CALLS = 640
APART_S = 0.25
HOLDING_S = 40
LATE_S = 30
HEARTBEAT_S = 10
CAP = 8.0
FIRST_START = "the kernels are compiled, which takes a while at the first start only"

Event = dict[str, object]


def start_note() -> str:
    """Say that the kernels still have to be compiled, and why, which is worth a word to who waits; or ""."""
    if BAKED.why_not:
        return f"baked kernels are not used, {BAKED.why_not}; {FIRST_START}"
    folder = cache_folder()
    # Importing kernels has made the folders of their files; compiling makes the files.
    is_there = BAKED.folder is not None or (folder is not None and any(folder.glob("*/*.nbi")))
    return "" if is_there else FIRST_START


def warm_up(configuration: Configuration) -> None:
    """Take made-up calls through a line of the same settings; its alerts go nowhere."""
    register = Register(
        (Limit(name="warm-up", kind="concurrency", value=CAP), *configuration.register.limits)
    )
    configuration = configuration._replace(register=register)
    line = OwnedLine(configuration, REPLAY_HASH_KEY)
    batches = [
        _batch(0, _calls()),
        # A list of live calls takes effect when it is complete; an end in the wrong partition; late rows.
        _batch(0, [_event(_end_s(), "calls.listed", calls=["call-1", "unheard"])], CALLS * 10),
        _batch(1, [_event(_end_s() + 1, "call.ended", f"call-{CALLS - 1}", outcome="failed")]),
        _batch(0, [_event(_end_s() + 60, "call.started", "after")], CALLS * 20),
        _batch(1, [_event(_end_s() + 60, "call.started", "elsewhere")], CALLS),
        _batch(0, _late_calls(), CALLS * 30),
        _columns(_end_s() + 61, CALLS * 40),
    ]
    for batch in batches:
        line.step(batch)
    line.reload(configuration)
    line.step(_batch(0, [_event(_end_s() + 120, "call.heartbeat", "after")], CALLS * 50, assigned=(0,)))
    line.line.pipeline.finish()
    line.publish(0)


def _end_s() -> float:
    return START_S + CALLS * APART_S


def _event(time_s: float, kind: str, call: str = "", **fields: object) -> Event:
    """Make an event; slices with one tenant and with two lie differently in memory, and both are met."""
    tenant = "other" if call and time_s > START_S + CALLS * APART_S / 2 and call[-1] in "13579" else "warm-up"
    identity: Event = {"call_id": call} if call else {}
    return {"time": time_s, "type": kind, "tenant": tenant} | identity | fields


def _calls() -> list[Event]:
    """Make calls of every kind; one in twenty is declined, one in seven never ends."""
    events = []
    for number in range(CALLS):
        call, begin_s = f"call-{number}", START_S + number * APART_S
        events.append(_event(begin_s, "call.started", call))
        if number % 20 == 0:
            events.append(_event(begin_s + 0.1, "call.declined", call, code=503))
            continue
        events.append(_event(begin_s + 1, "call.answered", call, latency_ms={"setup": 900}))
        turn = {"id": f"turn-{number}", "latency_ms": {"llm": [400, 500]}}
        events += [_event(begin_s + 5, "turn.completed", call, **turn) for _ in range(2)]
        events += [_event(begin_s + beat, "call.heartbeat", call) for beat in range(6, 36, HEARTBEAT_S)]
        if number % 7:
            outcome = "failed" if number % 3 else "completed"
            events.append(_event(begin_s + HOLDING_S, "call.ended", call, outcome=outcome))
    return sorted(events, key=lambda event: float(str(event["time"])))


def _late_calls() -> list[Event]:
    """Make calls that happened a while ago: rows behind the watermark take a way of their own."""
    late_s = _end_s() + 60 - LATE_S
    events = [_event(late_s, "call.started", "late"), _event(late_s, "call.started", "declined late")]
    events.append(_event(late_s + 1, "call.declined", "declined late", code=503))
    events.append(_event(late_s + 1, "call.answered", "late", latency_ms={"setup": 900}))
    events.append(_event(late_s + 2, "turn.completed", "late", latency_ms={"llm": 400}))
    events.append(_event(late_s + HOLDING_S / 4, "call.ended", "late", outcome="completed"))
    events.append(_event(late_s + 3, "call.ended", "call-7", outcome="completed"))
    return events


def _columns(time_s: float, first: int) -> RawBatch:
    """Make a heartbeat that came as columns."""
    texts = Texts(
        np.zeros(len("after") + SPARE_BYTES, np.uint8), np.zeros(1, np.int64), np.full(1, 5, np.int64)
    )
    texts.data[: len("after")] = list(b"after")
    columns = RowColumns(1, {
        "time": Numbers(np.array([int(time_s)], np.int64), np.zeros(1, np.bool_)),
        "type": Words(np.zeros(1, np.int32), (b"call.heartbeat",)),
        "call_id": texts,
    })  # fmt: skip
    received_ns = int((_end_s() + 600) * 1e9)
    offset = np.array([first], np.int64)
    return RawBatch(b"", NO_ROWS, NO_ROWS, offset, "warm-up", 0, received_ns, (0, 1), (), columns)


def _batch(
    partition: int, events: list[Event], first: int = 0, assigned: tuple[int, ...] = (0, 1)
) -> RawBatch:
    """Put events into rows of one partition, received as they happened."""
    rows = [msgspec.json.encode(event) for event in events]
    end = np.cumsum([len(row) for row in rows], dtype=np.int64)
    start = end - np.array([len(row) for row in rows], np.int64)
    offset = np.arange(first, first + len(rows), dtype=np.int64)
    for array in (start, end, offset):
        array.setflags(write=False)
    received_ns = int((_end_s() + 600) * 1e9)
    return RawBatch(b"".join(rows), start, end, offset, "warm-up", partition, received_ns, assigned, ())
