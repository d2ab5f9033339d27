"""What calls tell: from callers and attempts to blocks of events of one kind each.

A block knows when its events happen and which attempts they belong to; what they say is written when they are
read, so that a million events cost no memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from engine.scenario.admission import ADMITTED, DECLINE_AFTER_S
from engine.scenario.arrivals import generator
from engine.scenario.calls import ERROR, OK, THROTTLED, TIMEOUT, slow_factor
from engine.scenario.caps import DECLINED, FAILED, QUEUED, SILENT, Cap
from engine.scenario.signals import Agents, Drift, Repeated, Scores, Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from engine.scenario.admission import Attempts
    from engine.scenario.calls import Callers, DependencyCalls, Fate, TransferCalls
    from engine.scenario.scenario import Scenario

NO_CALL = -1
OUTCOMES = {OK: "ok", ERROR: "error", TIMEOUT: "timeout", THROTTLED: "throttled"}
SCORED_WITHIN_S = 5.0  # of the call's end


class Block(NamedTuple):
    """Events of one type; arrays have shape (events,)."""

    type: str
    at_s: NDArray[np.float64]
    attempt: NDArray[np.int64]  # NO_CALL: of no call
    said: Callable[[NDArray[np.int64]], list[str]]  # the rest of the object, for some of its events
    labels: str = ""  # of events of no call, as the rest of an object
    is_numbered: bool = True  # they have ids of their own, so that one sent twice counts once


class Played(NamedTuple):
    """What happened. Arrays have shape (attempts,); times of attempts that were let in."""

    scenario: Scenario
    callers: Callers
    attempts: Attempts
    entered_s: NDArray[np.float64]
    answered_s: NDArray[np.float64]
    ended_s: NDArray[np.float64]
    is_admitted: NDArray[np.bool_]
    is_answered: NDArray[np.bool_]
    group: NDArray[np.int64]

    def of(self, target: str) -> NDArray[np.bool_]:
        """Say which attempts are of a group."""
        return self.scenario.members(target)[self.group] if len(self.group) else np.zeros(0, np.bool_)

    def in_flight(self, who: NDArray[np.bool_], at_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Count the calls of some attempts that are up at some times."""
        who = who & self.is_admitted
        begun, ended = np.sort(self.entered_s[who]), np.sort(self.ended_s[who])
        return np.searchsorted(begun, at_s, "right") - np.searchsorted(ended, at_s, "right")


def play(scenario: Scenario, callers: Callers, attempts: Attempts) -> Played:
    """Put attempts and what becomes of their callers together."""
    caller = attempts.caller
    is_admitted = attempts.refused_by == ADMITTED
    entered_s = attempts.start_s + attempts.wait_s
    return Played(
        scenario, callers, attempts, entered_s, entered_s + callers.setup_s[caller],
        entered_s + callers.hold_s[caller], is_admitted, is_admitted & callers.is_answered[caller],
        callers.group[caller],
    )  # fmt: skip


def call_blocks(played: Played) -> list[Block]:
    """Give everything that calls tell, started first."""
    scenario, callers, attempts = played.scenario, played.callers, played.attempts
    answered = np.flatnonzero(played.is_answered)
    setup_ms = (callers.setup_s[attempts.caller] + attempts.wait_s) * 1000
    blocks = [
        *_refusals(played),
        Block(
            "call.answered", played.answered_s[answered], answered,
            lambda rows: [f',"latency_ms":{{"setup":{ms:.3f}}}' for ms in setup_ms[answered[rows]].tolist()],
        ),
    ]  # fmt: skip
    blocks += [_agents(played, agents) for agents in scenario.of(Agents)]
    blocks += [_turns(played, turns, number) for number, turns in enumerate(scenario.of(Turns))]
    attempt_of = _attempt_of_caller(played)
    for transfers in callers.transfers:
        blocks += _transfers(played, transfers, attempt_of)
    for calls in callers.dependencies:
        blocks.append(_dependency_calls(played, calls, attempt_of))
    for repeated in scenario.of(Repeated):
        if repeated.word == "heartbeats":
            call, at_s = _every(played, repeated.group, repeated.every_s, played.ended_s, None)
            kept = repeated.change.weight(at_s) > 0
            blocks.append(Block("call.heartbeat", at_s[kept], call[kept], _nothing))
    blocks.append(_ends(played))
    blocks += [_scores(played, scores, number) for number, scores in enumerate(scenario.of(Scores))]
    return blocks


def _nothing(rows: NDArray[np.int64]) -> list[str]:
    return [""] * len(rows)


def text(value: object) -> str:
    """Write a value as JSON."""
    return msgspec.json.encode(value).decode()


def _attempt_of_caller(played: Played) -> NDArray[np.int64]:
    """Give the attempt with which each caller got through; NO_CALL: with none."""
    found = np.full(len(played.callers.start_s), NO_CALL, np.int64)
    admitted = np.flatnonzero(played.is_admitted)
    found[played.attempts.caller[admitted]] = admitted
    return found


def _refusals(played: Played) -> list[Block]:
    """Give starts, and what is told of those who were turned away or waited."""
    attempts, caps = played.attempts, played.scenario.of(Cap)
    shown = np.array([*(cap.shown_as for cap in caps), "admitted"])[attempts.refused_by]
    waits = np.flatnonzero((shown == QUEUED) | (played.is_admitted & (attempts.wait_s > 0)))
    starts = np.flatnonzero((shown != SILENT) & (shown != QUEUED))
    blocks = [
        Block("call.queued", attempts.start_s[waits], waits, _nothing),
        Block("call.started", played.entered_s[starts], starts, _nothing),
    ]
    causes = [
        f',"code":{cap.code}' * bool(cap.code) + f',"reason":{text(cap.reason)}' * bool(cap.reason)
        for cap in caps
    ]
    for way, kind, said in (
        (DECLINED, "call.declined", ""),
        (FAILED, "call.ended", f',"outcome":"failed","duration_ms":{DECLINE_AFTER_S * 1000:.0f}'),
    ):
        turned = np.flatnonzero(shown == way)
        bodies = [said + causes[row] for row in attempts.refused_by[turned].tolist()]
        at_s = attempts.start_s[turned] + DECLINE_AFTER_S
        blocks.append(Block(kind, at_s, turned, _from(bodies)))
    gave_up = np.flatnonzero(shown == QUEUED)
    blocks.append(
        Block(
            "call.ended", played.entered_s[gave_up], gave_up, _from([',"outcome":"abandoned"'] * len(gave_up))
        )
    )
    return blocks


def _from(bodies: list[str]) -> Callable[[NDArray[np.int64]], list[str]]:
    return lambda rows: [bodies[row] for row in rows.tolist()]


def _agents(played: Played, agents: Agents) -> Block:
    rng = generator(played.scenario, "agents", agents.group)
    drawn, spread = rng.random((2, len(played.group)))
    joins = np.flatnonzero(played.is_answered & played.of(agents.group) & (drawn < agents.ratio))
    after_s = agents.after_s * (0.5 + spread[joins])
    talk_s = played.ended_s[joins] - played.answered_s[joins]
    return Block(
        "agent.joined", played.answered_s[joins] + np.minimum(after_s, 0.9 * talk_s), joins, _nothing
    )


def _every(
    played: Played, target: str, every_s: float, until_s: NDArray[np.float64],
    rng: np.random.Generator | None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:  # fmt: skip
    """Give (attempt, time) of what comes every so often in calls, at random moments if `rng` is given."""
    who = np.flatnonzero(played.is_answered & played.of(target))
    until_s = np.minimum(until_s, played.scenario.frame.length_s)
    counts = np.maximum((until_s[who] - played.answered_s[who]) / every_s, 0).astype(np.int64)
    call = np.repeat(who, counts)
    number = np.arange(len(call)) - np.repeat(np.cumsum(counts) - counts, counts)
    within = np.ones(len(call)) if rng is None else rng.random(len(call))
    return call, played.answered_s[call] + (number + within) * every_s


def _turns(played: Played, turns: Turns, number: int) -> Block:
    scenario = played.scenario
    rng = generator(scenario, "turns", number)
    talked_s = played.answered_s + played.callers.talk_s[played.attempts.caller]
    call, at_s = _every(played, turns.group, turns.every_s, np.minimum(talked_s, played.ended_s), rng)
    group = played.group[call]
    in_flight = played.in_flight(played.of(turns.group), at_s).astype(np.float64)
    stages_ms = np.empty((len(call), len(turns.stage_s)))
    for column, (stage, mean_s) in enumerate(turns.stage_s.items()):
        drawn = rng.standard_normal(len(call)) * turns.sigma - 0.5 * turns.sigma**2
        factor = slow_factor(scenario, stage, at_s, group, [mean_s] * len(scenario.groups), in_flight)
        stages_ms[:, column] = mean_s * 1000 * np.exp(drawn) * factor
    form = "".join(f'"{stage}":%.2f,' for stage in turns.stage_s)
    form = f',"latency_ms":{{{form}"e2e":%.2f}}'

    def said(rows: NDArray[np.int64]) -> list[str]:
        return [form % (*ms, sum(ms)) for ms in stages_ms[rows].tolist()]

    return Block("turn.completed", at_s, call, said)


def _transfers(played: Played, transfers: TransferCalls, attempt_of: NDArray[np.int64]) -> list[Block]:
    attempt = attempt_of[transfers.caller]
    kept = attempt != NO_CALL
    attempt, dialling_s = attempt[kept], transfers.dialling_s[kept]
    fates = [fate_text(played.callers.fates[row]) for row in transfers.fate[kept].tolist()]
    begun_s = played.entered_s[attempt] + transfers.offset_s[kept]

    def said(rows: NDArray[np.int64]) -> list[str]:
        return [
            f'{fates[row]},"duration_ms":{ms:.3f}'
            for row, ms in zip(rows.tolist(), (dialling_s[rows] * 1000).tolist(), strict=True)
        ]

    return [
        Block("transfer.started", begun_s, attempt, _nothing),
        Block("transfer.ended", begun_s + dialling_s, attempt, said),
    ]


def fate_text(fate: Fate) -> str:
    """Write how something ended."""
    return (
        f',"outcome":"{fate.outcome}"'
        + f',"code":{fate.code}' * bool(fate.code)
        + f',"reason":{text(fate.reason)}' * bool(fate.reason)
    )


def _dependency_calls(played: Played, calls: DependencyCalls, attempt_of: NDArray[np.int64]) -> Block:
    name = f',"dependency":{text(calls.dependency.name)}'
    if calls.dependency.group:
        attempt = attempt_of[calls.caller]
        kept = np.flatnonzero(attempt != NO_CALL)
        attempt = attempt[kept]
        at_s = np.minimum(played.entered_s[attempt] + calls.offset_s[kept], played.ended_s[attempt] - 0.001)
    else:
        kept, attempt, at_s = np.arange(len(calls.caller)), calls.caller, calls.offset_s
    said_of = [
        f'{name},"outcome":"{OUTCOMES[outcome]}","duration_ms":{ms:.3f}'
        + (f',"fallback":"{calls.fallbacks[fallback]}"' if fallback >= 0 else "")
        for outcome, ms, fallback in zip(
            calls.outcome[kept].tolist(), (calls.duration_s[kept] * 1000).tolist(),
            calls.fallback[kept].tolist(), strict=True,
        )
    ]  # fmt: skip
    labels = "".join(f',"{label}":{text(value)}' for label, value in calls.dependency.labels.items())
    return Block("dependency.called", at_s, attempt, _from(said_of), labels)


def _ends(played: Played) -> Block:
    callers = played.callers
    ends = np.flatnonzero(played.is_admitted & np.isfinite(played.ended_s))
    caller = played.attempts.caller[ends]
    fates = [fate_text(fate) for fate in callers.fates]
    lasted_ms = np.where(
        callers.is_answered[caller], callers.hold_s[caller] - callers.setup_s[caller], callers.hold_s[caller]
    ) * 1000  # fmt: skip

    def said(rows: NDArray[np.int64]) -> list[str]:
        rows_fate = callers.fate[caller[rows]].tolist()
        return [
            f'{fates[fate]},"duration_ms":{ms:.3f}'
            for fate, ms in zip(rows_fate, lasted_ms[rows].tolist(), strict=True)
        ]

    return Block("call.ended", played.ended_s[ends], ends, said)


def _scores(played: Played, scores: Scores, number: int) -> Block:
    scenario = played.scenario
    rng = generator(scenario, "scores", number)
    is_scored = played.is_answered & np.isfinite(played.ended_s) & played.of(scores.group)
    who = np.flatnonzero(is_scored & (rng.random(len(is_scored)) < scores.ratio))
    ended_s = played.ended_s[who]
    mean, sd = np.full(len(who), scores.mean), np.full(len(who), scores.sd)
    for drift in scenario.of(Drift):
        if drift.metric == scores.metric:
            weight = drift.change.weight(ended_s) * played.of(drift.group)[who]
            mean += (drift.mean - mean) * weight
            sd += ((drift.sd or scores.sd) - sd) * weight
    # A beta distribution of this mean and spread.
    weight_of_both = np.maximum(mean * (1 - mean) / (sd * sd) - 1, 1e-3)
    value = rng.beta(mean * weight_of_both, (1 - mean) * weight_of_both)
    metric = text(scores.metric)

    def said(rows: NDArray[np.int64]) -> list[str]:
        return [f',"metric":{metric},"score":{score:.4f}' for score in value[rows].tolist()]

    return Block("quality.scored", ended_s + rng.random(len(who)) * SCORED_WITHIN_S, who, said)
