"""An event as the tests of observe write it."""

from __future__ import annotations

import math
import struct
import zlib
from typing import NamedTuple

from engine.decode.events import Cause, EventType

S = 1_000_000_000
MINUTE = 60 * S
T = EventType
Series = tuple[str, ...]


class Event(NamedTuple):
    """One row, with names instead of ids."""

    time_ns: int
    type_id: EventType
    call: int = 0
    event_id: int = 0
    series: Series = ("",)
    cause: Cause | None = None
    duration_ms: float = math.nan
    latencies: tuple[tuple[str, float], ...] = ()
    partition: int = 0
    listed: tuple[int, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    received_ns: int = -1  # -1: at its own time


def digest(event: Event) -> int:
    """Give a number that depends on the latencies and not on their order."""
    total = 0
    for stage, ms in event.latencies:
        total += folded(struct.unpack("<q", struct.pack("<d", ms))[0] ^ (zlib.crc32(stage.encode()) << 20))
    return total


def folded(word: int) -> int:
    """Mix both halves of a word of 64 bits."""
    halves = struct.unpack("<II", struct.pack("<q", word))
    return int((halves[0] * 0x5E3779B1) ^ (halves[1] * 0x45EBCA77)) >> 20
