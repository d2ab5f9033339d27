"""The twin of engine/observe/course.py: what happens in a call, and what its end tells of that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from engine.decode.events import GOOD_OUTCOMES
from engine.observe.summary import Count
from tests.observe_events import Event, T

if TYPE_CHECKING:
    from engine.decode.events import Cause
    from tests.oracle_entry import Entry
    from tests.oracle_observe import Twin


def fails(cause: Cause | None) -> bool:
    """Say whether a cause is not a good outcome."""
    return cause is not None and not cause.declined and cause.outcome not in GOOD_OUTCOMES


def duration_bin(seconds: float) -> int:
    """Give the bin of 10 ms, the last one for all that is longer."""
    return min(int(seconds * 100 + 1e-9), (1 << 14) - 1)


def said_ns(event: Event) -> float:
    """Give the duration that an event states; NaN: none."""
    return event.duration_ms * 1e6


def add_side(twin: Twin, series: tuple[str, ...], cause: Cause) -> None:
    """Count the end of a transfer or of a dependency's call."""
    twin.facts["side", twin.own_ns, series, cause] += 1


def add_caller(twin: Twin, series: tuple[str, ...], trouble: Cause, end: Cause) -> None:
    """Count how a call ended that a dependency had failed."""
    twin.facts["caller", twin.own_ns, series, trouble, end] += 1


def add_score(twin: Twin, series: tuple[str, ...], metric: str, hundredths: int) -> None:
    """Count one score."""
    twin.facts["score", twin.own_ns, series, metric, hundredths] += 1


def score(twin: Twin, series: tuple[str, ...], metric: str, value: float) -> None:
    """Count a score from 0 to 1."""
    if 0 <= value <= 1:
        add_score(twin, series, metric, round(100 * value))


def slot_in_flight(twin: Twin, event: Event) -> Entry | None:
    """Give the call in flight that an event happened in."""
    entry = twin.calls.get(event.call)
    if entry is None or not entry.flying or twin.is_of_earlier_attempt(entry, event.time_ns):
        return None
    return entry


def happen(twin: Twin, event: Event) -> None:
    """Leave the marks of turns, agents and failed dependencies (mark, on_side)."""
    entry = slot_in_flight(twin, event)
    if event.type_id in (T.TRANSFER_ENDED, T.DEPENDENCY_CALLED) and event.cause is not None:
        add_side(twin, event.series, event.cause)
        if fails(event.cause):
            if not math.isnan(said_ns(event)):
                add_failure(twin, event.series, event.cause, "no", said_ns(event) / 1e9)
            if entry is not None:
                entry.trouble = event.cause
    if entry is not None and event.type_id == T.TURN_COMPLETED:
        entry.had_turn = True
    if entry is not None and event.type_id == T.AGENT_JOINED:
        entry.had_agent = True


def add_failure(twin: Twin, series: tuple[str, ...], cause: Cause, answered: str, seconds: float) -> None:
    """Count how long something had lasted that did not go well."""
    twin.facts["failure", twin.own_ns, series, cause, answered, duration_bin(seconds)] += 1


def tell(twin: Twin, entry: Entry, event: Event) -> None:
    """Count what a call had been through, as it ends (tell_course, tell_duration)."""
    answered = entry.answer_ns is not None or entry.was_answered
    if fails(event.cause):
        assert event.cause is not None
        if not math.isnan(said_ns(event)):
            seconds = said_ns(event) / 1e9
        elif entry.flying and entry.answer_ns is not None and not entry.is_revived:
            seconds = (event.time_ns - entry.answer_ns) / 1e9
        elif entry.flying and not entry.age_unknown:
            seconds = (event.time_ns - entry.since_ns) / 1e9
        else:
            seconds = math.nan
        if not math.isnan(seconds):
            add_failure(twin, entry.series, event.cause, "yes" if answered else "no", seconds)
    if not entry.flying:
        return
    if answered and not entry.age_unknown:
        twin.add_count(twin.own_ns, entry.series, Count.ENDED_ANSWERED)
        if not entry.had_turn:
            twin.add_count(twin.own_ns, entry.series, Count.ENDED_WITHOUT_TURN)
        if not entry.had_agent:
            twin.add_count(twin.own_ns, entry.series, Count.ENDED_WITHOUT_AGENT)
    if entry.trouble is not None and event.cause is not None:
        add_caller(twin, entry.series, entry.trouble, event.cause)
