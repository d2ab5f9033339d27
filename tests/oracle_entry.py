"""What the slow twin of observe knows of one call, and how long it may be silent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.decode.events import Cause
    from tests.observe_events import Series
    from tests.oracle_clock import Rules


@dataclass
class Entry:
    """A call, or its tombstone."""

    since_ns: int
    series: Series
    flying: bool = False
    start_seen: bool = False
    age_unknown: bool = False
    healed: bool = False
    answer_ns: int | None = None
    was_answered: bool = False
    beats: tuple[int, ...] = ()  # times of all heartbeats that were newer than those before
    is_beating: bool = False  # one came since it entered flight
    is_revived: bool = False  # it was healed, and entered flight again
    had_turn: bool = False
    had_agent: bool = False
    trouble: Cause | None = None  # of its newest failed dependency


def beat(entry: Entry, time_ns: int) -> None:
    """Take a heartbeat (on_heartbeat)."""
    if time_ns > max(entry.beats, default=-1):
        entry.beats, entry.is_beating = (*entry.beats, time_ns), True


def silent_ns(entry: Entry, rules: Rules) -> float:
    """Give when too many heartbeats were missed, by the longest gap: from the usual one to ten times that."""
    if not entry.is_beating:
        return math.inf
    gaps = [after - before for before, after in zip(entry.beats, entry.beats[1:], strict=False)]
    interval_ns = min(max([rules.heartbeat_ns, *gaps]), 10 * rules.heartbeat_ns)
    return entry.beats[-1] + rules.missed * interval_ns
