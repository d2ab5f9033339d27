"""What becomes of each caller who gets through: how long set-up and talk take, and how it ends.

Drawn before anybody is admitted, relative to the start of the attempt, so that a caller who is turned away
and tries again, or waits in a queue, makes the same call later. Arrays have shape (callers,) unless said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.scenario.arrivals import draw_arrivals, generator
from engine.scenario.callers import HoldingChange
from engine.scenario.signals import Breakage, Dependency, Transfers
from engine.scenario.troubles import SETUP, TRANSFER, Failure, Leak, Slow, Timeout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engine.scenario.scenario import Scenario

OK, ERROR, TIMEOUT, THROTTLED = range(4)
AFTER_FAILURE_S = 0.5  # so long after its dependency failed, a call fails
AFTER_TRANSFER_S = 0.5
CALLED_WITHIN_S = 5.0  # of the answer a dependency is called


class Fate(NamedTuple):
    """How a call ends."""

    outcome: str
    code: int = 0
    reason: str = ""


COMPLETED, NO_ANSWER, TRANSFERRED, FAILED, ABANDONED = range(5)
FATES = (Fate("completed"), Fate("no_answer"), Fate("transferred"), Fate("failed", 500), Fate("abandoned"))


class DependencyCalls(NamedTuple):
    """Calls of one dependency; shape (uses,)."""

    dependency: Dependency
    caller: NDArray[np.int64]  # -1: apart from calls
    offset_s: NDArray[np.float64]  # of its end, from the start of the attempt, or of the scenario
    duration_s: NDArray[np.float64]
    outcome: NDArray[np.int64]
    fallback: NDArray[np.int64]  # row of `fallbacks`; -1: none was needed
    fallbacks: tuple[str, ...]


class TransferCalls(NamedTuple):
    """Calls that are handed on; shape (transfers,)."""

    caller: NDArray[np.int64]
    offset_s: NDArray[np.float64]  # of its start, from the start of the attempt
    dialling_s: NDArray[np.float64]
    fate: NDArray[np.int64]


class Callers(NamedTuple):
    """Everybody, in the order of their first attempt."""

    start_s: NDArray[np.float64]
    group: NDArray[np.int64]
    setup_s: NDArray[np.float64]  # from the start to the answer
    hold_s: NDArray[np.float64]  # from the start to the end; inf: never
    talk_s: NDArray[np.float64]
    is_answered: NDArray[np.bool_]
    fate: NDArray[np.int64]
    fates: tuple[Fate, ...]
    dependencies: tuple[DependencyCalls, ...]
    transfers: tuple[TransferCalls, ...]


class Draft:
    """Callers while they are being drawn: rules are applied one after the other."""

    def __init__(self, scenario: Scenario) -> None:
        """Draw arrivals, set-up and talk of everybody, as if nothing went wrong."""
        self.scenario = scenario
        self.start_s, self.group = draw_arrivals(scenario)
        count = len(self.start_s)
        self.fates = list(FATES)
        rng = generator(scenario, "setup and talk")
        drawn = rng.standard_normal((2, count)), rng.random(count)
        groups = scenario.groups
        self.setup_s = self._lognormal([one.setup_s for one in groups], [one.setup_sigma for one in groups],
                                       drawn[0][0])  # fmt: skip
        self.talk_s = self._lognormal([one.holding_s for one in groups], [one.sigma for one in groups],
                                      drawn[0][1])  # fmt: skip
        self.setup_s *= slow_factor(
            scenario, SETUP, self.start_s, self.group, [one.setup_s for one in groups]
        )
        for change in scenario.of(HoldingChange):
            weight = change.change.weight(self.start_s) * self.mask(change.group)
            self.talk_s *= 1.0 + (change.factor - 1.0) * weight
        self.is_answered = drawn[1] < np.array([one.answered_ratio for one in groups] or [0.0])[self.group]
        self.fate = np.where(self.is_answered, COMPLETED, NO_ANSWER)
        self.hold_s = self.setup_s + np.where(self.is_answered, self.talk_s, 0.0)

    def mask(self, target: str) -> NDArray[np.bool_]:
        """Say who belongs to a group."""
        return self.scenario.members(target)[self.group] if len(self.group) else np.zeros(0, np.bool_)

    def fate_row(self, fate: Fate) -> int:
        """Give the row of a fate."""
        if fate not in self.fates:
            self.fates.append(fate)
        return self.fates.index(fate)

    def _lognormal(
        self, means: Sequence[float], sigmas: Sequence[float], drawn: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        mean, sigma = np.array(means or [1.0])[self.group], np.array(sigmas or [0.0])[self.group]
        return np.asarray(mean * np.exp(drawn * sigma - 0.5 * sigma * sigma), np.float64)

    def end_before_answer(self, who: NDArray[np.bool_], hold_s: NDArray[np.float64], fate: Fate) -> None:
        """Let some end without an answer."""
        self.is_answered &= ~who
        self.hold_s = np.where(who, hold_s, self.hold_s)
        self.talk_s = np.where(who, 0.0, self.talk_s)
        self.fate = np.where(who, self.fate_row(fate), self.fate)


def slow_factor(
    scenario: Scenario,
    stage: str,
    at_s: NDArray[np.float64],
    group: NDArray[np.int64],
    means_s: Sequence[float],
    in_flight: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Give by how much a stage takes longer at some times, in calls of some groups; `means_s` by group."""
    factor = np.ones(len(at_s))
    for number, slow in enumerate(scenario.of(Slow)):
        if slow.stage != stage or not len(at_s):
            continue
        weight = slow.change.weight(at_s) * scenario.members(slow.group)[group]
        if slow.tail_ratio < 1.0:
            weight *= generator(scenario, "tail", number).random(len(at_s)) < slow.tail_ratio
        if slow.in_flight and in_flight is not None:
            weight *= in_flight / slow.in_flight
        full = slow.to_s / np.array(means_s)[group] if slow.to_s else np.full(len(at_s), slow.factor)
        factor *= 1.0 + (full - 1.0) * weight
    return factor


def draw_callers(scenario: Scenario) -> Callers:
    """Let every rule have its say: failures, set-up timeouts, dependencies, transfers, leaks."""
    draft = Draft(scenario)
    for number, failure in enumerate(scenario.of(Failure)):
        _fail(draft, failure, number)
    for number, timeout in enumerate(scenario.of(Timeout)):
        if timeout.stage == SETUP:
            _cut_setup(draft, timeout, number)
    dependencies = tuple(_use_dependency(draft, one) for one in scenario.of(Dependency))
    transfers = tuple(_transfer(draft, one, number) for number, one in enumerate(scenario.of(Transfers)))
    for number, leak in enumerate(scenario.of(Leak)):
        drawn = generator(scenario, "leak", number).random(len(draft.start_s))
        leaks = draft.mask(leak.group) & (drawn < leak.ratio * leak.change.weight(draft.start_s))
        draft.hold_s = np.where(leaks & draft.is_answered, np.inf, draft.hold_s)
    return Callers(
        draft.start_s, draft.group, draft.setup_s, draft.hold_s, draft.talk_s, draft.is_answered, draft.fate,
        tuple(draft.fates), dependencies, transfers,
    )  # fmt: skip


def _fail(draft: Draft, failure: Failure, number: int) -> None:
    rng = generator(draft.scenario, "fail", number)
    drawn, jitter = rng.random((2, len(draft.start_s)))
    who = draft.mask(failure.group) & (drawn < failure.ratio * failure.change.weight(draft.start_s))
    who &= (draft.fate == COMPLETED) | (draft.fate == NO_ANSWER)
    if failure.phase.every_s:
        absolute_s = draft.scenario.frame.start_ns % 86_400_000_000_000 / 1e9 + draft.start_s
        who &= (absolute_s - failure.phase.phase_s) % failure.phase.every_s < failure.phase.for_s
    fate = Fate(failure.outcome, failure.code, failure.reason)
    after_s = failure.after_s + jitter * failure.jitter_s
    if not failure.is_answered:
        draft.end_before_answer(who, after_s if failure.after_s else draft.setup_s, fate)
        return
    who &= draft.is_answered
    draft.fate = np.where(who, draft.fate_row(fate), draft.fate)
    if failure.after_s:
        draft.talk_s = np.where(who, after_s, draft.talk_s)
        draft.hold_s = np.where(who, draft.setup_s + draft.talk_s, draft.hold_s)


def _cut_setup(draft: Draft, timeout: Timeout, number: int) -> None:
    jitter = generator(draft.scenario, "timeout", number).random(len(draft.start_s)) * timeout.jitter_s
    tried_s = np.where(draft.is_answered, draft.setup_s, draft.hold_s)
    who = draft.mask(timeout.group) & (tried_s > timeout.after_s)
    who &= timeout.change.weight(draft.start_s) > 0
    draft.end_before_answer(
        who, timeout.after_s + jitter, Fate(timeout.outcome, timeout.code, timeout.reason)
    )


def _use_dependency(draft: Draft, dependency: Dependency) -> DependencyCalls:
    """Call a dependency once in some calls, or apart from calls; what fails may take its caller along."""
    scenario = draft.scenario
    rng = generator(scenario, "dependency", dependency.name)
    if dependency.group:
        drawn = rng.random(len(draft.start_s))
        caller = np.flatnonzero(draft.mask(dependency.group) & draft.is_answered & (drawn < dependency.ratio))
        moved_s = np.minimum(rng.random(len(caller)) * CALLED_WITHIN_S, 0.5 * draft.talk_s[caller])
        offset_s, at_s = draft.setup_s[caller] + moved_s, draft.start_s[caller]
        group = draft.group[caller]
    else:
        length_s = scenario.frame.length_s
        count = int(rng.poisson(dependency.rate_per_s * length_s))
        offset_s, at_s = np.sort(rng.random(count) * length_s), np.zeros(count)
        caller, group = np.full(count, -1), np.zeros(count, np.int64)
    duration_s = dependency.duration_s * np.exp(
        rng.standard_normal(len(caller)) * dependency.sigma - 0.5 * dependency.sigma**2
    )
    if scenario.groups:
        means_s = [dependency.duration_s] * len(scenario.groups)
        duration_s *= slow_factor(scenario, dependency.name, at_s + offset_s, group, means_s)
    calls = DependencyCalls(
        dependency, caller, offset_s, duration_s, np.zeros(len(caller), np.int64),
        np.full(len(caller), -1), ("none", "open", "closed"),
    )  # fmt: skip
    for number, breakage in enumerate(scenario.of(Breakage)):
        if breakage.dependency == dependency.name:
            calls = _break(draft, calls, breakage, number)
    return calls._replace(offset_s=calls.offset_s + calls.duration_s)


def _break(draft: Draft, calls: DependencyCalls, breakage: Breakage, number: int) -> DependencyCalls:
    rng = generator(draft.scenario, "breaks", number)
    is_apart = not calls.dependency.group
    at_s = calls.offset_s if is_apart else draft.start_s[calls.caller] + calls.offset_s
    drawn, jitter, fate_drawn = rng.random((3, len(at_s)))
    weight = breakage.change.weight(at_s)
    bounds = np.cumsum([breakage.errors_ratio, breakage.timeouts_ratio, breakage.throttled_ratio])
    outcome = np.select([drawn < bound * weight for bound in bounds], [ERROR, TIMEOUT, THROTTLED], OK)
    outcome = np.where(calls.outcome == OK, outcome, calls.outcome)
    broken = (outcome != OK) & (calls.outcome == OK)
    fallback = np.where(broken, calls.fallbacks.index(breakage.fallback), calls.fallback)
    cut_s = breakage.after_s + jitter * 0.02
    duration_s = np.where(broken & (outcome == TIMEOUT), cut_s, calls.duration_s)
    if not is_apart:
        fails = broken & (fate_drawn < breakage.callers_fail_ratio)
        hang_up = broken & ~fails
        hang_up &= fate_drawn < breakage.callers_fail_ratio + breakage.callers_hang_up_ratio
        for who, fate in ((fails, FAILED), (hang_up, ABANDONED)):
            caller = calls.caller[who]
            draft.fate[caller] = fate
            draft.hold_s[caller] = calls.offset_s[who] + duration_s[who] + AFTER_FAILURE_S
            draft.talk_s[caller] = draft.hold_s[caller] - draft.setup_s[caller]
    return calls._replace(outcome=outcome, fallback=fallback, duration_s=duration_s)


def _transfer(draft: Draft, transfers: Transfers, number: int) -> TransferCalls:
    """Hand some calls on at the end of their talk; a call lasts until its transfer has ended."""
    scenario = draft.scenario
    rng = generator(scenario, "transfers", number)
    drawn = rng.random(len(draft.start_s))
    wanted = transfers.ratio * transfers.change.weight(draft.start_s)
    caller = np.flatnonzero(
        draft.mask(transfers.group) & draft.is_answered & (draft.fate == COMPLETED) & (drawn < wanted)
    )
    offset_s = draft.hold_s[caller].copy()
    at_s = draft.start_s[caller] + offset_s
    dialling_s = transfers.dialling_s * np.exp(
        rng.standard_normal(len(caller)) * transfers.sigma - 0.5 * transfers.sigma**2
    )
    means_s = [transfers.dialling_s] * max(len(scenario.groups), 1)
    group = draft.group[caller]
    dialling_s *= slow_factor(scenario, TRANSFER, at_s, group, means_s)
    fate = np.where(rng.random(len(caller)) < transfers.failing_ratio, FAILED, COMPLETED)
    for rank, timeout in enumerate(scenario.of(Timeout)):
        if timeout.stage == TRANSFER:
            jitter_s = generator(scenario, "timeout", rank).random(len(caller)) * timeout.jitter_s
            cut = (dialling_s > timeout.after_s) & (timeout.change.weight(at_s) > 0)
            cut &= scenario.members(timeout.group)[group] if len(group) else cut
            dialling_s = np.where(cut, timeout.after_s + jitter_s, dialling_s)
            row = draft.fate_row(Fate(timeout.outcome, timeout.code, timeout.reason))
            fate = np.where(cut, row, fate)
    draft.fate[caller] = np.where(fate == COMPLETED, TRANSFERRED, draft.fate[caller])
    draft.hold_s[caller] = offset_s + dialling_s + AFTER_TRANSFER_S
    return TransferCalls(caller, offset_s, dialling_s, fate)
