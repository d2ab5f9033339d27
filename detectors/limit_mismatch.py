"""The platform reports another cap than the register says: somebody changed one of them and not the other.

What it catches: a fresh `limit.reported` whose `max` is not the value of the register. Forecasts go by the
report already; what is wrong is what people read. Formula: value in force != declared value, both known.
False positives: a platform whose `max` is a cap of another scope than the entry. False negatives: platforms
that never report, and a limit whose value the register does not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.judge.detection import MINUTE_NS, WARNING, AlertPolicy, Detection, Finding

if TYPE_CHECKING:
    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

ALERT = "CallLimitMismatch"
SUMMARY = "A limit is not what the register says."
DESCRIPTION = (
    "The platform reports {limit} at {limit_value}, the register says {declared}; the report counts. "
    "If the change was meant, write it into limits.yaml, else set it back in {lives_in}."
)


class State(NamedTuple):
    """Nothing is carried."""


class LimitMismatch:
    """One finding per instance whose fresh report differs from the register."""

    name = "limit_mismatch"
    # A report is fresh for five minutes; one every ten minutes must not make the alert come and go.
    policies = (AlertPolicy(ALERT, WARNING, keep_ns=10 * MINUTE_NS),)

    def new_state(self) -> State:
        """Give the state before the first slice."""
        return State()

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
        del limits  # Names and owners are put in by the engine.
        value, declared = summary.limits.value, summary.limits.declared
        differs = (value < declared) | (value > declared)  # NaN is neither: not known.
        findings = tuple(
            Finding(
                ALERT,
                WARNING,
                ("limit", int(row)),
                SUMMARY,
                DESCRIPTION,
                evidence=(("declared", float(declared[row])),),
            )
            for row in np.flatnonzero(differs)
        )
        return Detection(state, findings)
