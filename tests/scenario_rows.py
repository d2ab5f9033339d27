"""Rows of scenarios for their tests: a short text in, events out."""

from __future__ import annotations

import json
from typing import Any

from engine.scenario.scenario import parse_scenario
from engine.scenario.stream import Stream, make_stream

S = 1_000_000_000
FRAME = "seed 7\nlength 1h\n"
WEB = FRAME + "calls web rate=60/min holding=1m tenant=acme trunk=sip-1\n"
Row = dict[str, Any]


def stream(text: str) -> Stream:
    return make_stream(parse_scenario(text, "x.scenario"))


def rows(text: str) -> list[Row]:
    """Give the events, with `at` in seconds from the start, in the order of arrival."""
    made = stream(text)
    events = [json.loads(row) for row in made.rows(0, made.events)]
    start_ns = made.scenario.frame.start_ns
    return [{**event, "at": (event["time"] - start_ns) / S} for event in events]


def of(events: list[Row], kind: str, **fields: object) -> list[Row]:
    return [one for one in events if one["type"] == kind and all(one.get(k) == v for k, v in fields.items())]


def starts(text: str, from_s: float, until_s: float) -> int:
    return sum(from_s <= one["at"] < until_s for one in of(rows(text), "call.started"))
