"""How often something of judge's did not fit within its bound, by the name of the bound.

What does not fit is left out or shares `__other__`, as ARCHITECTURE section 6 says; a bound that is met
without anybody knowing would look like a quiet limit, so each is counted and exported.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

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
    for state in judge.bank.states():
        met["detector_rows_max"] += rows_without_room(state)
        met.update(refused_by(state))
    return tuple((name, met[name]) for name in BOUNDS)


def refused_by(state: Any) -> Counter[str]:
    """Count what a detector's state says that it had no room for, by bound."""
    found: Counter[str] = Counter()
    for name, value in zip(getattr(state, "_fields", ()), state, strict=False):
        if name in COUNTED:
            found[COUNTED[name]] += value
        elif hasattr(value, "_fields"):
            found.update(refused_by(value))
    return found


def rows_without_room(state: Any) -> int:
    """Count the rows that a detector's state has no room for."""
    found = 0
    for name, value in zip(getattr(state, "_fields", ()), state, strict=False):
        if name in SLOTS and isinstance(value, np.ndarray):
            found += int(np.count_nonzero(value == NO_ROOM))
        elif isinstance(value, tuple):
            found += rows_without_room(value)
    return found
