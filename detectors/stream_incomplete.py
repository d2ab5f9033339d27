"""The events themselves cannot be trusted: some are missing, or their form makes counts unreliable.

What it catches: (1) event times ahead of their receipt; (2) ends whose start was seen in another partition,
so that the topic is not keyed by call_id; shares of calls that are too high: (3) ends that never came, (4)
ends without a start, (5) answered calls without a single turn, (6) or without an agent.
Formula: 1 and 2: above 0 twice within five minutes. 3 to 6: a restarted e-value of the share against the
platform's own usual share (half-life a day, not learned while in doubt), at least a floor, at odds x2 or x8.
False positives: the first hour of a busy platform (4 waits for it), a change of what a platform sends.
False negatives: 5 and 6 where turns or agents were never seen; clocks that lag look like a slow line.
Reference: Shin, Ramdas and Rinaldo, E-detectors (NEJSDS 2024).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.sequential import (
    log_alarm_level,
    log_e_bernoulli_once,
    log_mixture_from,
    log_mixture_once,
    restarted_once,
)
from engine.judge.detection import MINUTE_NS, NS, WARNING, AlertPolicy, Detection, Finding
from engine.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.windows import StreamUse, WindowSummary
    from engine.limits import LimitInstance

ALERT = "CallStreamIncomplete"
SUMMARY = "Call events arrive in a form that makes counts unreliable."
AHEAD = (
    "Events carry a time ahead of the clock here, {rows} since the last look. They wait until their time has "
    "come. Check time synchronisation on the platform that sends them, and on this machine."
)
UNKEYED = (
    "Calls end in another partition than they started in, {rows} since the last look: the topic is not keyed "
    "by call_id, or its number of partitions was changed. Calls in flight are counted wrong until the "
    "producer sets the key to call_id."
)
ENDS_MISSING = (
    "{share_percent} % of the calls that left flight did so without an end ({rows} of {calls} since "
    "{minutes} min; usual is {usual_percent} %): they stopped sending heartbeats, or passed their "
    "time-to-live. Either call.ended events are lost, or calls never end: they hold capacity until they are "
    "given up."
)
STARTS_MISSING = (
    "{share_percent} % of the calls that ended had never been seen to start ({rows} of {calls} since "
    "{minutes} min; usual is {usual_percent} %). Calls in flight and arrivals are counted too low: look for "
    "lost call.started events, or for an agent of the platform that no longer sends them."
)
NO_TURN = (
    "{share_percent} % of the answered calls ended without a single turn ({rows} of {calls} since "
    "{minutes} min; usual is {usual_percent} %). Callers may be listening to silence: look at the pipeline "
    "between the answer and the first turn, or turn.completed events are lost."
)
NO_AGENT = (
    "{share_percent} % of the answered calls ended without an agent ({rows} of {calls} since {minutes} min; "
    "usual is {usual_percent} %). Look at the dispatch of agents to calls, or agent.joined events are lost."
)
AGAIN_NS = 5 * MINUTE_NS
KINDS = ("ends_missing", "starts_missing", "answered_without_turn", "answered_without_agent")
TEXTS = (ENDS_MISSING, STARTS_MISSING, NO_TURN, NO_AGENT)
SHARES = len(KINDS)


class Params(NamedTuple):
    """Constants."""

    floor: tuple[float, ...] = (0.02, 0.02, 0.05, 0.05)  # a smaller usual share is taken as this
    usual_max: float = 0.5  # where this is usual, the events in question are not of this platform
    effect: float = 1.5  # a share of so many times the usual one is no trouble yet
    odds: tuple[float, ...] = (2.0, 8.0)
    calls_min: float = 20.0  # good ones, before bad ones can be missed; and bad ones in an alarm
    half_life_s: float = 86_400.0
    doubt: float = 3.0  # ln of evidence from which on nothing is learned
    doubt_ns: int = 24 * 60 * MINUTE_NS  # after this a new share is the usual one
    beyond: float = 3.0  # evidence above the alarm level is not kept, so that the end is seen soon
    attach_ns: int = 60 * MINUTE_NS  # ends without a start are usual for so long after the first event
    keep_ns: int = 10 * MINUTE_NS


class State(NamedTuple):
    """The end of the last slice with each kind of trouble (-1: none yet); by share, (SHARES,)."""

    clock_ahead_ns: int
    unkeyed_ns: int
    bad: NDArray[np.float64]  # decayed, of the usual
    all: NDArray[np.float64]
    log_m: NDArray[np.float64]  # (SHARES, alternatives)
    new_bad: NDArray[np.float64]  # since the evidence began to grow
    new_all: NDArray[np.float64]
    since_ns: NDArray[np.int64]


class Shares(NamedTuple):
    """What of the state is by share."""

    bad: NDArray[np.float64]
    all: NDArray[np.float64]
    log_m: NDArray[np.float64]
    new_bad: NDArray[np.float64]
    new_all: NDArray[np.float64]
    since_ns: NDArray[np.int64]


class Rule(NamedTuple):
    """What depends on the length of a slice."""

    log_m_max: float
    keep: float  # of the usual


class StreamIncomplete:
    """One finding per kind of trouble."""

    name = "stream_incomplete"
    policies = (AlertPolicy(ALERT, WARNING),)

    def __init__(self, pages_per_week: float = 1.0, params: Params | None = None) -> None:
        self.params = params or Params()
        self.pages_per_week = pages_per_week

    def new_state(self) -> State:
        """Give the state before the first slice."""
        zeros = np.zeros(SHARES)
        log_m = np.full((SHARES, len(self.params.odds)), -np.inf)
        return State(-1, -1, zeros, zeros, log_m, zeros, zeros, np.full(SHARES, -1, np.int64))

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
        ahead_ns, unkeyed_ns, findings = self._forms(state, summary)
        state = self._weigh(state._replace(clock_ahead_ns=ahead_ns, unkeyed_ns=unkeyed_ns), summary)
        return Detection(state, (*findings, *self._shares(state, summary)))

    def _forms(self, state: State, summary: WindowSummary) -> tuple[int, int, list[Finding]]:
        """Look for rows of a wrong form; one is not enough."""
        seen = (
            ("clock_ahead", summary.stream.clock_ahead, state.clock_ahead_ns, AHEAD),
            ("topic_not_keyed_by_call_id", summary.stream.unkeyed_calls, state.unkeyed_ns, UNKEYED),
        )
        findings = [
            _finding(problem, text, (("rows", rows),))
            for problem, rows, last_ns, text in seen
            if rows > 0 and last_ns >= 0 and summary.end_ns - last_ns <= AGAIN_NS
        ]
        ends_ns = [summary.end_ns if rows > 0 else last_ns for _, rows, last_ns, _ in seen]
        return ends_ns[0], ends_ns[1], findings

    def _weigh(self, state: State, summary: WindowSummary) -> State:
        """Add the slice to the evidence, and to what is usual where nothing is in doubt."""
        params = self.params
        bad, total = counts_of(summary.stream)
        if summary.is_partial or summary.end_ns - summary.first_ns < params.attach_ns:
            bad[1] = total[1] = 0.0
        slice_s = (summary.end_ns - summary.start_ns) / NS
        now = Shares(*(getattr(state, name).copy() for name in Shares._fields))
        span_ns = summary.start_ns, summary.end_ns
        rule = Rule(self._level(summary) + params.beyond, 0.5 ** (slice_s / params.half_life_s))
        assert now.log_m.shape[-1] == len(params.odds), "one column an alternative"
        weigh_shares(now, bad, total, span_ns, rule, params)
        return state._replace(**now._asdict())

    def _level(self, summary: WindowSummary) -> float:
        return log_alarm_level(SHARES, (summary.end_ns - summary.start_ns) / NS, self.pages_per_week)

    def _shares(self, state: State, summary: WindowSummary) -> list[Finding]:
        if not (state.since_ns >= 0).any():
            return []  # Nothing is in doubt.
        level = self._level(summary)
        is_high = (log_mixture_from(state.log_m, level) >= level) & (state.new_bad >= self.params.calls_min)
        if not is_high.any():
            return []
        usual = state.bad / np.maximum(state.all, 1.0)
        return [
            _finding(
                KINDS[kind],
                TEXTS[kind],
                (
                    ("rows", int(state.new_bad[kind])),
                    ("calls", int(state.new_all[kind])),
                    ("share_percent", round(100 * state.new_bad[kind] / state.new_all[kind], 1)),
                    ("usual_percent", round(100 * usual[kind], 1)),
                    ("minutes", max(round((summary.end_ns - state.since_ns[kind]) / MINUTE_NS), 1)),
                ),
            )
            for kind in np.flatnonzero(is_high).tolist()
        ]


def counts_of(stream: StreamUse) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give what is bad of what there is, by share."""
    lost = stream.healed_heartbeat + stream.healed_ttl
    bad = (lost, stream.ended_unknown, stream.ended_without_turn, stream.ended_without_agent)
    total = (lost + stream.ended, stream.ended, stream.ended_answered, stream.ended_answered)
    return np.array(bad, np.float64), np.array(total, np.float64)


@kernel
def weigh_shares(
    now: Shares,
    bad: NDArray[np.float64],
    total: NDArray[np.float64],
    span_ns: tuple[int, int],
    rule: Rule,
    params: Params,
) -> None:
    """Add what is bad of a slice's total, (SHARES,), to the evidence and to what is usual, in place."""
    for k in range(len(bad)):
        usual = max(now.bad[k] / max(now.all[k], 1.0), params.floor[k])
        null = usual * params.effect
        is_watched = null <= params.usual_max and now.all[k] - now.bad[k] >= params.calls_min
        for at in range(now.log_m.shape[1]):
            if is_watched and total[k] > 0.0:
                log_e = log_e_bernoulli_once(bad[k], total[k], null, params.odds[at])
                now.log_m[k, at] = restarted_once(now.log_m[k, at], log_e)
            now.log_m[k, at] = min(now.log_m[k, at], rule.log_m_max)
        if now.since_ns[k] >= 0 and span_ns[1] - now.since_ns[k] > params.doubt_ns:  # It is usual by now.
            now.log_m[k] = -np.inf
            now.bad[k], now.all[k] = now.new_bad[k], now.new_all[k]
        if log_mixture_once(now.log_m[k]) > params.doubt:
            if now.since_ns[k] < 0:
                now.since_ns[k] = span_ns[0]
            now.new_bad[k] += bad[k]
            now.new_all[k] += total[k]
        else:
            now.since_ns[k] = -1
            now.bad[k] = rule.keep * now.bad[k] + bad[k]
            now.all[k] = rule.keep * now.all[k] + total[k]
            now.new_bad[k] = now.new_all[k] = 0.0


def _finding(problem: str, text: str, evidence: tuple[tuple[str, float | int | str], ...]) -> Finding:
    return Finding(
        ALERT, WARNING, ("deployment", 0), SUMMARY, text, labels=(("problem", problem),), evidence=evidence
    )
