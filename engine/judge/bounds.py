"""How often something of judge's did not fit within its bound, by the name of the bound.

What does not fit is left out or shares `__other__`, as ARCHITECTURE section 6 says; a bound that is met
without anybody knowing would look like a quiet limit, so each is counted and exported.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from engine.judge.judge import Judge

NO_ROOM = -2  # the slot of a row that a detector would watch if it had room
SLOTS = ("slot", "slot_of")  # fields of a detector's state that hold slots by row
COUNTED = {  # fields of a detector's state that count what had no room
    "plans_refused": "plans_max", "strata_refused": "strata_max", "comparisons_refused": "comparisons_max",
    "signals_refused": "signals_max", "rate_limits_refused": "rate_limits_max",
    "usual_rows_refused": "usual_rows_max",
}  # fmt: skip
BOUNDS = (
    "window_rows_max", "limit_instances_max", "hidden_cap_instances_max", "reports_max", "dependencies_max",
    "detector_rows_max", *COUNTED.values(),
)  # fmt: skip


def bounds_met(judge: Judge) -> tuple[tuple[str, int], ...]:
    """Give (bound, how often something did not fit) since the start; of detectors, the rows without room."""
    roller = judge.roller
    met: Counter[str] = Counter(roller.index.met)
    met["reports_max"] = roller.reports.refused
    met["dependencies_max"] = roller.facts.dependencies_refused
    for state, places in zip(judge.bank.states(), judge.bank.places, strict=True):
        for bound, path in places:
            met[bound] += without_room(at(state, path))
    return tuple((name, met[name]) for name in BOUNDS)


class Place(NamedTuple):
    """Where a detector's state says what had no room: numbers of fields, the outermost first."""

    bound: str
    path: tuple[int, ...]


def places_of(state: Any) -> tuple[Place, ...]:
    """Find them. States of one detector have the same fields, so one look is enough."""
    found: list[Place] = []
    for number, (name, value) in enumerate(zip(getattr(state, "_fields", ()), state, strict=False)):
        if name in COUNTED:
            found.append(Place(COUNTED[name], (number,)))
        elif name in SLOTS and isinstance(value, np.ndarray):
            found.append(Place("detector_rows_max", (number,)))
        elif isinstance(value, tuple):
            found += [Place(one.bound, (number, *one.path)) for one in places_of(value)]
    return tuple(found)


def at(state: Any, path: tuple[int, ...]) -> Any:
    """Give what a state holds in a place."""
    for number in path:
        state = state[number]
    return state


def without_room(held: Any) -> int:
    """Count the rows that have no slot for want of room; a number counts already."""
    return int(np.count_nonzero(held == NO_ROOM)) if isinstance(held, np.ndarray) else int(held)
