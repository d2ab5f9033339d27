"""What the platform tells apart from calls: notices, reports of limits, and lists of live calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engine.scenario.events import NO_CALL, Block, Played, text
from engine.scenario.notices import Notice, Report
from engine.scenario.signals import Repeated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

NS_PER_S = 1_000_000_000


def platform_blocks(played: Played, call_id: Callable[[int], str]) -> list[Block]:
    """Give everything that belongs to no call."""
    scenario = played.scenario
    blocks = [_notice(played, notice) for notice in scenario.of(Notice)]
    blocks += [_reports(played, report) for report in scenario.of(Report)]
    for repeated in scenario.of(Repeated):
        if repeated.word == "lists":
            blocks += _lists(played, repeated, call_id)
    return blocks


def _of_no_call(kind: str, at_s: NDArray[np.float64], bodies: Sequence[str], labels: str = "") -> Block:
    attempt = np.full(len(at_s), NO_CALL, np.int64)
    return Block(kind, at_s, attempt, lambda rows: [bodies[row] for row in rows.tolist()], labels)


def _times(from_s: float, until_s: float, every_s: float) -> NDArray[np.float64]:
    return np.arange(from_s, until_s + 1e-9, every_s) if every_s else np.array([from_s])


def _notice(played: Played, notice: Notice) -> Block:
    at_s = _times(notice.span.from_s, notice.span.until_s, notice.every_s)
    body = "".join(f',"{name}":{text(value)}' for name, value in notice.fields)
    if notice.until_s >= 0:
        body += f',"until":{played.scenario.frame.start_ns + round(notice.until_s * NS_PER_S)}'
    is_numbered = "id" not in dict(notice.fields)
    return _of_no_call(notice.type, at_s, [body] * len(at_s))._replace(is_numbered=is_numbered)


def _reports(played: Played, report: Report) -> Block:
    groups = played.scenario.groups
    counted = np.array(
        [
            all(group.labels.get(label, "") == value for label, value in report.labels.items())
            for group in groups
        ],
        np.bool_,
    )
    until_s = min(report.change.until_s, played.scenario.frame.length_s)
    at_s = _times(report.change.from_s, until_s, report.every_s)
    who = counted[played.group] if len(played.group) else np.zeros(0, np.bool_)
    used = played.in_flight(who, at_s) + report.unseen
    limit = text(report.limit)
    bodies = [f',"limit":{limit},"used":{one},"max":{report.max}' for one in used.tolist()]
    labels = "".join(f',"{label}":{text(value)}' for label, value in report.labels.items())
    return _of_no_call("limit.reported", at_s, bodies, labels)


def _lists(played: Played, repeated: Repeated, call_id: Callable[[int], str]) -> list[Block]:
    """List live calls, one list for each tenant and platform: they are part of a call's identity."""
    until_s = min(repeated.change.until_s, played.scenario.frame.length_s)
    at_s = _times(repeated.change.from_s, until_s, repeated.every_s)
    groups = played.scenario.groups
    identity = [(group.labels.get("platform", ""), group.labels.get("tenant", "")) for group in groups]
    blocks = []
    for platform, tenant in sorted({identity[row] for row in np.unique(played.group).tolist()}):
        is_own = np.array([one == (platform, tenant) for one in identity], np.bool_)
        who = np.flatnonzero(played.of(repeated.group) & played.is_admitted & is_own[played.group])
        bodies = []
        for moment_s in at_s.tolist():
            is_up = (played.entered_s[who] <= moment_s) & (played.ended_s[who] > moment_s)
            bodies.append(f',"calls":{text([call_id(attempt) for attempt in who[is_up].tolist()])}')
        labels = "".join(
            f',"{label}":{text(value)}'
            for label, value in (("platform", platform), ("tenant", tenant))
            if value
        )
        blocks.append(_of_no_call("calls.listed", at_s, bodies, labels))
    return blocks
