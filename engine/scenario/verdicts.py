"""Were the expectations met: what was wanted beside what happened instead, with times.

Alerts are what the engine changed, in order; an alert fires from one change to the next of the same labels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from engine.judge.detection import ROUTINE
from engine.judge.lifecycle import FIRING
from engine.scenario.expectations import Firing, Lead, Moment, Never, Pattern, Soon

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.judge.lifecycle import AlertChange
    from engine.scenario.admission import Truth
    from engine.scenario.expectations import Expectation

NS_PER_S = 1_000_000_000
SHOWN_MAX = 6  # alerts in one explanation


class Fired(NamedTuple):
    """One life of an alert, in seconds from the start."""

    labels: tuple[tuple[str, str], ...]
    from_s: float
    until_s: float  # inf: it fires at the end

    def __str__(self) -> str:
        """Say what fired and when."""
        labels = dict(self.labels)
        name = labels.pop("alertname", "")
        shown = ", ".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
        until = f" until {clock(self.until_s)}" if self.until_s < math.inf else ""
        return f"{name}{{{shown}}} fired at {clock(self.from_s)}{until}"


class Breach(NamedTuple):
    """An expectation that was not met: where it stands, what it asked for, and what happened instead."""

    expectation: Expectation
    wanted: str
    got: tuple[str, ...]


def clock(at_s: float) -> str:
    """Write a time or duration as the text of a scenario does, to the millisecond: `12m30s`."""
    seconds, milliseconds = divmod(round(abs(at_s) * 1000), 1000)
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            parts.append(f"{seconds // size}{unit}")
            seconds %= size
    if milliseconds:
        parts.append(f"{seconds + milliseconds / 1000:g}s")
    elif seconds or not parts:
        parts.append(f"{seconds}s")
    return ("-" if at_s < 0 else "") + "".join(parts)


def lives(changes: Iterable[AlertChange], start_ns: int) -> list[Fired]:
    """Give every life of every alert, in the order in which they began."""
    found: list[Fired] = []
    open_at: dict[tuple[tuple[str, str], ...], int] = {}
    for change in changes:
        at_s = (change.time_ns - start_ns) / NS_PER_S
        if change.state == FIRING:
            open_at[change.labels] = len(found)
            found.append(Fired(change.labels, at_s, math.inf))
        elif change.labels in open_at:
            place = open_at.pop(change.labels)
            found[place] = found[place]._replace(until_s=at_s)
    return found


def onset_s(moment: Moment, truth: Truth) -> float:
    """Give when a moment is, in seconds from the start; inf: nobody was ever declined."""
    if moment.at_s >= 0:
        return moment.at_s
    if moment.cap:
        return truth.first_decline_s.get(moment.cap, math.inf)
    return min(truth.first_decline_s.values(), default=math.inf)


def breaches(
    expectations: Iterable[Expectation], changes: Iterable[AlertChange], start_ns: int, truth: Truth
) -> list[Breach]:
    """Give every expectation that was not met, in the order of the text."""
    fired = lives(changes, start_ns)
    found = []
    for expectation in expectations:
        breach = _judge(expectation, fired, truth)
        if breach is not None:
            found.append(breach)
    return found


def _judge(expectation: Expectation, fired: list[Fired], truth: Truth) -> Breach | None:
    wanted = expectation.wanted
    matching = [one for one in fired if wanted.pattern.matches(one.labels)]
    if isinstance(wanted, Never):
        return _judge_never(expectation, wanted, matching)
    others = _instead(wanted.pattern, fired)
    if isinstance(wanted, Firing):
        if any(one.from_s <= wanted.at_s < one.until_s for one in matching):
            return None
        return Breach(expectation, f"it is firing at {clock(wanted.at_s)}", _shown(matching) or others)
    moment_s = onset_s(wanted.onset if isinstance(wanted, Soon) else wanted.before, truth)
    if moment_s == math.inf:
        return Breach(expectation, "a first decline", ("no call was declined",))
    if isinstance(wanted, Soon):
        return _judge_soon(expectation, wanted, moment_s, matching, others)
    return _judge_lead(expectation, wanted, moment_s, matching, others)


def _judge_never(expectation: Expectation, wanted: Never, matching: list[Fired]) -> Breach | None:
    span = wanted.span
    if span is not None:
        matching = [one for one in matching if one.from_s <= span.until_s and one.until_s > span.from_s]
    if not matching:
        return None
    where = "" if span is None else f" from {clock(span.from_s)} to {clock(span.until_s)}"
    if span is not None and span.from_s == span.until_s:
        where = f" at {clock(span.from_s)}"
    return Breach(expectation, f"nothing of it fires{where}", _shown(matching))


def _judge_soon(
    expectation: Expectation, wanted: Soon, moment_s: float, matching: list[Fired], others: tuple[str, ...]
) -> Breach | None:
    is_early = any(one.from_s < moment_s < one.until_s for one in matching)
    is_met = any(moment_s <= one.from_s <= moment_s + wanted.within_s for one in matching)
    if is_met and not is_early:
        return None
    within = f"it fires between {clock(moment_s)} and {clock(moment_s + wanted.within_s)}"
    return Breach(expectation, within, _shown(matching) or others)


def _judge_lead(
    expectation: Expectation, wanted: Lead, moment_s: float, matching: list[Fired], others: tuple[str, ...]
) -> Breach | None:
    if matching and matching[0].from_s <= moment_s - wanted.lead_s:
        return None
    got = others
    if matching:
        lead_s = moment_s - matching[0].from_s
        lead = f"{clock(lead_s)} before" if lead_s >= 0 else f"{clock(-lead_s)} after"
        got = (f"{matching[0]}: {lead}", *_shown(matching[1:]))
    by = f"{clock(wanted.lead_s)} before {clock(moment_s)}"
    return Breach(expectation, f"it fires at {clock(moment_s - wanted.lead_s)} or sooner: {by}", got)


def _shown(fired: list[Fired]) -> tuple[str, ...]:
    more = len(fired) - SHOWN_MAX
    return (*map(str, fired[:SHOWN_MAX]), *([f"and {more} more"] if more > 0 else []))


def _instead(pattern: Pattern, fired: list[Fired]) -> tuple[str, ...]:
    """Say what fired instead: alerts of the same name, else all that is not routine."""
    same = [one for one in fired if dict(one.labels).get("alertname") == pattern.alertname]
    shown = same or [one for one in fired if dict(one.labels).get("alertname") not in ROUTINE]
    return ("it never fired", *_shown(shown)) if shown else ("nothing fired",)
