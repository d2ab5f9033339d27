"""Who is let in: attempts in order of time, through every cap that counts them; exact, attempt by attempt.

Caps of calls at a time make a loss system (or, queued, one with patience), caps of calls per second look at
any second and not at those of the clock, quotas count what was let in since their reset. Who is turned away
may try again. The truth is kept beside: no one is told when a cap first turned somebody away.
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.scenario.arrivals import generator
from engine.scenario.callers import Retry
from engine.scenario.caps import CONCURRENCY, QUEUED, RATE, SILENT, Cap, Move
from engine.scenario.zones import SECONDS_PER_DAY, periods

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.scenario.calls import Callers
    from engine.scenario.scenario import Scenario

DECLINE_AFTER_S = 0.02
ADMITTED = -1
RATE_PERIOD_S = 1.0
MINUTE_S = 60.0


class Attempts(NamedTuple):
    """Every attempt, in order of its start; arrays have shape (attempts,)."""

    caller: NDArray[np.int64]
    start_s: NDArray[np.float64]
    wait_s: NDArray[np.float64]  # in a queue, before it is let in or gives up
    refused_by: NDArray[np.int64]  # row of the caps; ADMITTED


class Truth(NamedTuple):
    """When each cap first turned somebody away (s), and how often it did."""

    first_decline_s: dict[str, float]
    declined: dict[str, int]


class _Gate:
    """One cap, or its instance for one value of a label."""

    def __init__(self, scenario: Scenario, row: int, cap: Cap) -> None:
        self.row = row
        self.cap = cap
        moves = sorted((move.from_s, move.value) for move in scenario.of(Move) if move.cap == cap.name)
        self._from_s = [-math.inf, *(from_s for from_s, _ in moves)]
        self._values = [cap.value, *(value for _, value in moves)]
        self._ends: list[float] = []  # a heap: when each place becomes free
        self._taken: deque[float] = deque()  # within the last second
        self._resets_s = _resets(scenario, cap)
        self._period, self._counted = -1, 0

    def value(self, at_s: float) -> int:
        return self._values[bisect.bisect_right(self._from_s, at_s) - 1]

    def is_full(self, at_s: float) -> bool:
        """Say whether it turns an attempt away now; a queue never does at once."""
        if self.cap.kind == CONCURRENCY:
            while self._ends and self._ends[0] <= at_s:
                heapq.heappop(self._ends)
            return self.cap.shown_as != QUEUED and len(self._ends) >= self.value(at_s)
        if self.cap.kind == RATE:
            while self._taken and self._taken[0] <= at_s - RATE_PERIOD_S:
                self._taken.popleft()
            return len(self._taken) >= self.value(at_s)
        period = bisect.bisect_right(self._resets_s, at_s)
        if period != self._period:
            self._period, self._counted = period, 0
        return self._counted >= self.value(at_s)

    def wait(self, at_s: float) -> float:
        """Take a place in the queue: give how long until it is this attempt's turn."""
        if self.cap.shown_as != QUEUED or len(self._ends) < self.value(at_s):
            return 0.0
        free_s = heapq.heappop(self._ends)
        if free_s - at_s > self.cap.patience_s:
            heapq.heappush(self._ends, free_s)
            return math.inf
        return free_s - at_s

    def take(self, at_s: float, end_s: float) -> None:
        if self.cap.kind == CONCURRENCY:
            heapq.heappush(self._ends, end_s)
        elif self.cap.kind == RATE:
            self._taken.append(at_s)
        else:
            self._counted += 1


def _resets(scenario: Scenario, cap: Cap) -> list[float]:
    """Give when a quota begins anew, in seconds from the start."""
    length_s = scenario.frame.length_s
    if cap.reset is None:
        return [float(at_s) for at_s in np.arange(cap.period_s, length_s, cap.period_s)]
    at_s = np.arange(0.0, length_s + MINUTE_S, MINUTE_S)
    days = max(round(cap.period_s / SECONDS_PER_DAY), 1)
    period = periods(scenario.frame.start_ns, at_s, cap.reset) // days
    return [float(one) for one in at_s[np.flatnonzero(np.diff(period)) + 1]]


def _gates(scenario: Scenario) -> list[list[_Gate]]:
    """Give, for each group, what it has to pass."""
    made: dict[tuple[int, str], _Gate] = {}
    gates: list[list[_Gate]] = []
    for group in scenario.groups:
        own = []
        for row, cap in enumerate(scenario.of(Cap)):
            if all(group.labels.get(label, "") == value for label, value in cap.labels.items()):
                key = (row, group.labels.get(cap.split_by, "") if cap.split_by else "")
                if key not in made:
                    made[key] = _Gate(scenario, row, cap)
                own.append(made[key])
        # Who would have to wait asks last: nobody gives up a place for another cap's sake.
        gates.append(sorted(own, key=lambda gate: gate.cap.shown_as == QUEUED))
    return gates


class _Retries:
    """Who tries again, and when; drawn beforehand, so that it does not depend on who is turned away."""

    def __init__(self, scenario: Scenario, callers: Callers) -> None:
        self._length_s = scenario.frame.length_s
        count = len(callers.start_s)
        self._tries = np.zeros(count, np.int64)
        rules = scenario.of(Retry)
        tries_max = max((rule.tries for rule in rules), default=0)
        self._is_patient = np.zeros((count, tries_max), np.bool_)
        self._wait_s = np.zeros((count, tries_max))
        for number, rule in enumerate(rules):
            rng = generator(scenario, "retry", number)
            who = scenario.members(rule.group)[callers.group]
            shape = (count, tries_max)
            self._is_patient[who] = (rng.random(shape) < rule.ratio)[who]
            self._wait_s[who] = rng.exponential(rule.after_s, shape)[who]
            self._tries[who] = rule.tries

    def again_s(self, caller: int, tried: int, declined_s: float) -> float:
        """Give when this caller tries again; inf: never."""
        if tried >= self._tries[caller] or not self._is_patient[caller, tried]:
            return math.inf
        again_s = declined_s + float(self._wait_s[caller, tried])
        return again_s if again_s < self._length_s else math.inf


def admit(scenario: Scenario, callers: Callers) -> tuple[Attempts, Truth]:
    """Let everybody try, in order of time."""
    caps = scenario.of(Cap)
    truth = Truth({}, dict.fromkeys((cap.name for cap in caps), 0))
    count = len(callers.start_s)
    if not caps:
        admitted = np.full(count, ADMITTED, np.int64)
        return Attempts(np.arange(count), callers.start_s, np.zeros(count), admitted), truth
    gates, retries = _gates(scenario), _Retries(scenario, callers)
    groups, holds_s = callers.group.tolist(), callers.hold_s.tolist()
    tried: list[tuple[float, int, float, int]] = []  # (start, caller, wait, refused by)
    coming = [(start_s, caller, 0) for caller, start_s in enumerate(callers.start_s.tolist())]
    while coming:
        start_s, caller, before = heapq.heappop(coming)
        wait_s, refused_by = _pass(gates[groups[caller]], start_s, holds_s[caller])
        tried.append((start_s, caller, wait_s, refused_by))
        if refused_by == ADMITTED:
            continue
        cap = caps[refused_by]
        declined_s = start_s + (wait_s or (0.0 if cap.shown_as == SILENT else DECLINE_AFTER_S))
        truth.declined[cap.name] += 1
        truth.first_decline_s[cap.name] = min(truth.first_decline_s.get(cap.name, math.inf), declined_s)
        again_s = retries.again_s(caller, before, declined_s)
        if again_s < math.inf:
            heapq.heappush(coming, (again_s, caller, before + 1))
    return Attempts(
        caller=np.array([one[1] for one in tried], np.int64),
        start_s=np.array([one[0] for one in tried], np.float64),
        wait_s=np.array([one[2] for one in tried], np.float64),
        refused_by=np.array([one[3] for one in tried], np.int64),
    ), truth


def _pass(gates: list[_Gate], start_s: float, hold_s: float) -> tuple[float, int]:
    """Try all gates at once: give how long it waited, and the row of the cap that turned it away."""
    for gate in gates:
        if gate.is_full(start_s):
            return 0.0, gate.row
    wait_s = 0.0
    for gate in gates:
        own_s = gate.wait(start_s)
        if own_s == math.inf:
            return gate.cap.patience_s, gate.row
        wait_s = max(wait_s, own_s)
    for gate in gates:
        gate.take(start_s, start_s + wait_s + hold_s)
    return wait_s, ADMITTED
