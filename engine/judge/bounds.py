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
BOUNDS = (
    "window_rows_max", "limit_instances_max", "hidden_cap_instances_max", "reports_max", "dependencies_max",
    "detector_rows_max",
)  # fmt: skip


def bounds_met(judge: Judge) -> tuple[tuple[str, int], ...]:
    """Give (bound, how often something did not fit) since the start; of detectors, the rows without room."""
    roller = judge.roller
    met: Counter[str] = Counter(roller.index.met)
    met["reports_max"] = roller.reports.refused
    met["dependencies_max"] = roller.facts.dependencies_refused
    met["detector_rows_max"] = sum(rows_without_room(state) for state in judge.bank.states())
    return tuple((name, met[name]) for name in BOUNDS)


def rows_without_room(state: Any) -> int:
    """Count the rows that a detector's state has no room for."""
    found = 0
    for name, value in zip(getattr(state, "_fields", ()), state, strict=False):
        if name in SLOTS and isinstance(value, np.ndarray):
            found += int(np.count_nonzero(value == NO_ROOM))
        elif isinstance(value, tuple):
            found += rows_without_room(value)
    return found
