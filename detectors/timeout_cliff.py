"""A timeout cuts calls: they fail at one exact duration, or their latency is on its way to a wall.

What it catches: (critical) failures at one duration, such as transfers at 15.0 s, and failures that come at
the same moment of every minute, five minutes or hour; (warning) latency of a stage that creeps toward a
timeout before the first call is cut, and successes that end at a wall beyond which some used to be.
Formula: an atom's share in [T - 20 ms, T + 100 ms) of the failures within 2 s against 3 %, a mixture e-value
with most of its weight at usual defaults (atom_evidence.py); expected calls beyond the wall within the hour,
from the tail and the slope of its logarithm, at least 3, with a restarted e-value for the movement
(creeping_latency.py); cycles in which the same part stands out (failure_phase.py).
False positives: failures that all last exactly as long for a reason of their own (a script, a SIP timer);
durations rounded to minutes while all are one minute; a usual default that does not stand in the path; for a
day, calls that are quicker for good. False negatives: timeouts below 1 s, beyond 160 s, with jitter above
100 ms, or under 2 % of failures; durations rounded to seconds need forty failures, to five seconds all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from detectors import creeping_latency, failure_atoms, failure_phase
from detectors.atom_evidence import LESS_USUAL_S, USUAL_S, AtomParams, log_weights
from detectors.cliff_pages import (
    ALERT,
    Cliff,
    atom_findings,
    creep_finding,
    cut_finding,
    phase_finding,
)
from detectors.creeping_latency import CreepParams, CreepState
from detectors.failure_atoms import AtomState
from detectors.failure_phase import PhaseParams, PhaseState
from detectors.latency_walls import matching, timeout_rows, timeouts_of, walls_of
from detectors.remembered import Remembered
from detectors.watched_rows import Carrier, causes
from engine.judge.detection import CRITICAL, MINUTE_NS, WARNING, AlertPolicy, Detection, Finding
from engine.judge.windows import HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

ONE_CAUSE_S = 0.25  # atoms this near to each other are one
SNAP_S = (0.03, 0.1)  # a usual timeout so far above or below where failures begin is what they begin at


class Params(NamedTuple):
    """Constants."""

    pages_share: float = 0.1  # of the false pages that all detectors may cause ...
    atom_share: float = 0.5  # ... and of these, by signature
    phase_share: float = 0.2
    creep_share: float = 0.3
    seen_max: int = 8  # atoms remembered as walls
    atoms: AtomParams = AtomParams()
    phase: PhaseParams = PhaseParams()
    creep: CreepParams = CreepParams()


class State(NamedTuple):
    """What is carried."""

    known_s: NDArray[np.float64]  # timeouts of the register
    log_weight: NDArray[np.float64]  # of each candidate, by these
    atoms: AtomState
    spoke: NDArray[np.bool_]  # (suspects,): spoke for its cause at the last slice
    seen_row: NDArray[np.int64]  # (seen_max,) timing row of atoms seen before; -1: none
    seen_s: NDArray[np.float64]
    phase: PhaseState
    creep: CreepState


class TimeoutCliff:
    """One finding per cause."""

    name = "timeout_cliff"
    policies = (
        AlertPolicy(ALERT, CRITICAL, repeat_ns=60 * MINUTE_NS),
        AlertPolicy(ALERT, WARNING, keep_ns=15 * MINUTE_NS, repeat_ns=60 * MINUTE_NS),
    )

    def __init__(self, pages_per_week: float = 1.0, params: Params | None = None) -> None:
        """Take the budget of false pages."""
        self.params = params or Params()
        self.pages_per_week = pages_per_week * self.params.pages_share
        self._timeout_rows = Remembered(timeout_rows, by_value=True)
        self._walls: Remembered[Any, tuple[NDArray[np.float64], NDArray[np.int64]]] = Remembered(
            lambda given: walls_of(*given), by_value=True
        )

    def new_state(self) -> State:
        """Give the state before the first slice."""
        params = self.params
        return State(
            np.zeros(0), log_weights(()), failure_atoms.new_atoms(params.atoms),
            np.zeros(params.atoms.suspects_max, np.bool_), np.full(params.seen_max, -1, np.int64),
            np.full(params.seen_max, np.nan), failure_phase.new_phase(),
            creeping_latency.new_creep(params.creep),
        )  # fmt: skip

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
        params = self.params
        timeouts = timeouts_of(self._timeout_rows(limits), summary)
        known_s = sorted({value for _, value in timeouts})
        if known_s != state.known_s.tolist():
            state = state._replace(known_s=np.array(known_s), log_weight=log_weights(known_s))
        state = state._replace(
            atoms=failure_atoms.take_slice(
                state.atoms, summary, state.log_weight, self.pages_per_week * params.atom_share, params.atoms
            ),
            phase=failure_phase.take_slice(
                state.phase, summary, self.pages_per_week * params.phase_share, params.phase
            ),
        )
        state = self._creep(state, summary, timeouts)
        state, atoms = self._atoms(state, summary, timeouts)
        found = [*atoms, *_phases(state.phase, summary), *_creeps(state.creep, summary, timeouts)]
        return Detection(state, tuple(_each_once(found)))

    def _creep(
        self, state: State, summary: WindowSummary, timeouts: list[tuple[LimitInstance, float]]
    ) -> State:
        """Add the latencies of the slice; when a minute is over, look."""
        creep = creeping_latency.take_up(state.creep, summary, self.params.creep)
        minute = summary.start_ns // MINUTE_NS
        if creep.minute not in (-1, minute):
            labels = summary.windows.labels
            rows = [(stage, labels[row]) for row, stage in _latency_rows(creep, summary)]
            operation = summary.facts.failures.operation
            seen = [
                (operation[row], value)
                for row, value in zip(state.seen_row.tolist(), state.seen_s.tolist(), strict=True)
                if row >= 0
            ]
            creep = creeping_latency.look(
                creep, minute - creep.minute, self._walls((rows, timeouts, seen)),
                self.pages_per_week * self.params.creep_share, self.params.creep,
            )  # fmt: skip
        creep = creeping_latency.add_slice(creep._replace(minute=minute), summary)
        return state._replace(creep=creep)

    def _atoms(
        self, state: State, summary: WindowSummary, timeouts: list[tuple[LimitInstance, float]]
    ) -> tuple[State, list[Finding]]:
        """Say which atoms there are, one row speaking for each, and remember them as walls."""
        suspects = state.atoms.suspects
        spoke = np.zeros_like(state.spoke)
        numbers = np.flatnonzero(suspects.is_atom)
        if not len(numbers):
            return state._replace(spoke=spoke), []
        timing = np.flatnonzero(state.atoms.slot >= 0)[suspects.slot[numbers]]
        facts = summary.facts.failures
        groups: list[tuple[str, float, dict[int, int]]] = []  # operation, where, window row -> suspect
        for number, row in sorted(zip(numbers.tolist(), timing.tolist(), strict=True)):
            begins_s = failure_atoms.duration_s(suspects.bins[number], int(suspects.cell[number]))
            operation, window_row = facts.operation[row], int(facts.timing_row[row])
            group = next(
                (one for one in groups if one[0] == operation and abs(one[1] - begins_s) <= ONE_CAUSE_S), None
            )
            if group is None:
                group = (operation, begins_s, {})
                groups.append(group)
            other = group[2].get(window_row)
            if other is None or suspects.log_e[other] < suspects.log_e[number]:
                group[2][window_row] = number
            state = self._remembered(state, row, begins_s, summary)
        cliffs: list[Cliff] = []
        for operation, _, by_row in groups:
            spoken = next((row for row, number in by_row.items() if state.spoke[number]), -1)
            wrong = {row: float(suspects.hits[number]) for row, number in by_row.items()}
            for row in _speakers(wrong, summary, spoken):
                number = by_row[row]
                spoke[number] = True
                begins_s = failure_atoms.duration_s(suspects.bins[number], int(suspects.cell[number]))
                labels = summary.windows.labels[row]
                matches = matching(timeouts, operation, labels, begins_s)
                cliff = Cliff(
                    operation, row, matches, snapped_s(begins_s, [value for _, value in matches]),
                    int(suspects.hits[number]), int(suspects.failures[number]),
                    int(summary.end_ns - suspects.since_ns[number]),
                )  # fmt: skip
                cliffs.append(cliff)
        return state._replace(spoke=spoke), atom_findings(cliffs)

    def _remembered(self, state: State, row: int, begins_s: float, summary: WindowSummary) -> State:
        """Remember an atom as a wall of its stage."""
        operation = summary.facts.failures.operation
        known = [
            abs(value - begins_s) <= ONE_CAUSE_S and operation[seen] == operation[row]
            for seen, value in zip(state.seen_row.tolist(), state.seen_s.tolist(), strict=True)
            if seen >= 0
        ]
        if any(known):
            return state
        # The oldest gives way.
        return state._replace(
            seen_row=np.append(state.seen_row[1:], row), seen_s=np.append(state.seen_s[1:], begins_s)
        )


def snapped_s(begins_s: float, declared: list[float]) -> float:
    """Give the timeout that failures beginning at `begins_s` tell of: a declared or usual one if near."""
    below, above = SNAP_S
    near = [
        one
        for among in (declared, (*USUAL_S, *LESS_USUAL_S))
        for one in sorted(among, key=lambda value: abs(value - begins_s))
        if one - below <= begins_s <= one + above
    ]
    return float(near[0]) if near else begins_s


def _latency_rows(creep: CreepState, summary: WindowSummary) -> list[tuple[int, str]]:
    """Give (window row, stage) of the watched latency rows, in the order of their slots."""
    windows = summary.windows
    rows = np.flatnonzero(creep.slot >= 0).tolist()
    return [(int(windows.latency_row[row]), windows.latency_stage[row]) for row in rows]


def _speakers(wrong: dict[int, float], summary: WindowSummary, spoken: int = -1) -> list[int]:
    """Pick the window rows that speak for rows that are wrong in the same way."""
    labels, ended = summary.windows.labels, summary.windows.ended[:, HOUR]
    carriers = [
        Carrier(row, labels[row][0][0] if labels[row] else "", much, float(ended[row]))
        for row, much in sorted(wrong.items())
    ]
    return [one.row for one in causes(carriers, spoken)]


def _phases(state: PhaseState, summary: WindowSummary) -> list[Finding]:
    """Say which rows fail on phase: by the shortest cycle that tells it."""
    slots, cycles = np.nonzero(state.part >= 0)
    if not len(slots):
        return []
    rows = np.flatnonzero(state.slot >= 0)
    errors = summary.windows.errors[:, HOUR]
    findings = []
    told: set[int] = set()
    for cycle in sorted(set(cycles.tolist())):
        on = {int(rows[slot]): slot for slot in slots[cycles == cycle].tolist()}
        wrong = {row: float(errors[row]) for row in on if row not in told}
        told |= set(on)
        for row in _speakers(wrong, summary):
            part = int(state.part[on[row], cycle])
            column = failure_phase.FIRST[cycle] + part
            hits, of = int(state.hits[on[row], column]), int(state.cycles[on[row], cycle])
            findings.append(phase_finding(row, cycle, failure_phase.moment(cycle, part, summary), (hits, of)))
    return findings


def _creeps(
    state: CreepState, summary: WindowSummary, timeouts: list[tuple[LimitInstance, float]]
) -> list[Finding]:
    """Say which stages creep toward a wall, or have met one in silence."""
    outlook = state.outlook
    if not np.isfinite(outlook.wall_s).any() and not np.isfinite(outlook.cut_s).any():
        return []
    rows = _latency_rows(state, summary)
    findings = []
    for values, worth, word in (
        (outlook.wall_s, outlook.expected, creep_finding), (outlook.cut_s, outlook.missed, cut_finding),
    ):  # fmt: skip
        by_stage: dict[str, dict[int, int]] = {}
        for slot in np.flatnonzero(np.isfinite(values)).tolist():
            row, stage = rows[slot]
            by_stage.setdefault(stage, {})[row] = slot
        for stage, slots in sorted(by_stage.items()):
            for row in _speakers({row: float(worth[slot]) for row, slot in slots.items()}, summary):
                wall_s = float(values[slots[row]])
                matches = matching(timeouts, stage, summary.windows.labels[row], wall_s)
                findings.append(word((row, stage), matches, outlook, slots[row]))
    return findings


def _each_once(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out what has the identity of an earlier finding."""
    seen: set[tuple[object, ...]] = set()
    kept = []
    for one in findings:
        identity = (one.severity, one.subject, one.labels)
        if identity not in seen:
            seen.add(identity)
            kept.append(one)
    return kept
