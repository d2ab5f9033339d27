"""The platform reports another cap than the register says: somebody changed one of them and not the other.

What it catches: a fresh `limit.reported` whose `max` is not the value of the register. Forecasts go by the
report already; what is wrong is what people read. Formula: value in force != declared value, both known. It
stands until a report or the register says otherwise, and for two hours at most: reports may be seldom.
False positives: a platform whose `max` is a cap of another scope than the entry; a cap that was set right,
until the next report. False negatives: platforms that never report, and a limit whose value the register does
not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.reported import reported
from detectors.rows import grown
from engine.judge.detection import MINUTE_NS, WARNING, AlertPolicy, Detection, Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

ALERT = "CallLimitMismatch"
SUMMARY = "A limit is not what the register says."
DESCRIPTION = (
    "The platform reports {limit} at {limit_value}, the register says {declared}; a fresh report counts. "
    "If the change was meant, write it into limits.yaml, else set it back in {lives_in}."
)
HOLD_NS = 120 * MINUTE_NS  # longer than reports are apart anywhere, or else nobody reports any more


class State(NamedTuple):
    """By limit instance (rows,)."""

    said: NDArray[np.float64]  # the cap that was reported last and differed; NaN: none
    said_ns: NDArray[np.int64]  # when that was last in force


class LimitMismatch:
    """One finding per instance of which the last report differs from the register."""

    name = "limit_mismatch"
    policies = (AlertPolicy(ALERT, WARNING, keep_ns=10 * MINUTE_NS),)

    def new_state(self) -> State:
        """Give the state before the first slice."""
        return State(np.zeros(0), np.zeros(0, np.int64))

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
        value, declared = summary.limits.value, summary.limits.declared
        rows, now_ns = len(value), summary.end_ns
        said, said_ns = grown(state.said, rows, np.nan).copy(), grown(state.said_ns, rows, 0).copy()
        told = [limits[row] for row in np.flatnonzero(~np.isnan(said)).tolist()]
        for row, cap in reported(summary.notes, told, "max"):
            if cap > 0:
                said[row] = np.nan
        fresh = (value < declared) | (value > declared)  # NaN is neither: not known.
        said[fresh], said_ns[fresh] = value[fresh], now_ns
        said[now_ns - said_ns > HOLD_NS] = np.nan
        said[[one.index for one in told if one.is_retired]] = np.nan
        differs = (said < declared) | (said > declared)
        findings = tuple(
            Finding(
                ALERT,
                WARNING,
                ("limit", int(row)),
                SUMMARY,
                DESCRIPTION,
                evidence=(("declared", float(declared[row])), ("limit_value", float(said[row]))),
            )
            for row in np.flatnonzero(differs)
        )
        return Detection(State(said, said_ns), findings)
