"""A check of our own failed, and calls were let through without it.

What it catches: a `dependency.called` that failed or was throttled with `fallback: open`. By what the
register says of a guardrail of that name: `on_check_error: open` works as it was decided, and its owner must
know that what it guards is not guarded now; `closed` should have let nothing through; a name that is not
there fell open by a decision that nobody wrote down. Formula: opened > 0; no statistics, one call is enough.
It is resolved ten minutes after the last one. False positives: a lookup that calls can do without and that
reports its default answer as `open`: give it a line in the register. False negatives: a check that fails open
and sends no event. Reference: none but the register (config/limits.yaml, `guardrails`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.rows import grown
from engine.judge.detection import MINUTE_NS, WARNING, AlertPolicy, Detection, Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.facts import DependencyUse
    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

ALERT = "FailOpenEngaged"
UNKNOWN, OPEN, CLOSED = 0, 1, 2  # as in DependencyUse.policy
KEEP_NS = 10 * MINUTE_NS
STATES = {UNKNOWN: "not in the register", OPEN: "open, as decided", CLOSED: "open, must be closed"}
SUMMARIES = {
    UNKNOWN: "{dependency} failed and calls were let through, by a rule that nobody wrote down.",
    OPEN: "{dependency} failed and calls are let through without it, as decided.",
    CLOSED: "{dependency} MUST fail closed and has let calls through.",
}
COUNTED = "{opened_text} let through since {dependency} began to fail {since_text}"
DESCRIPTIONS = {
    UNKNOWN: COUNTED
    + ". It is not among the guardrails of the register: decide whether it may fail open, and write it into "
    "limits.yaml with an owner and a reason.",
    OPEN: COUNTED
    + ". That is its policy ({because}). Until it works again nothing holds what it guards: its owner should "
    "know, and mend the check.",
    CLOSED: COUNTED
    + ". The register says `on_check_error: closed` ({because}): the boundary is not kept. Close it by hand "
    "where that can be done, then find out why its fallback is open.",
}


class State(NamedTuple):
    """By dependency: the calls let through in a row of such slices."""

    opened: NDArray[np.int64]
    began_ns: NDArray[np.int64]  # -1: none lately
    last_ns: NDArray[np.int64]


class FailOpenEngaged:
    """One finding per dependency that let calls through in this slice."""

    name = "fail_open_engaged"
    policies = (AlertPolicy(ALERT, WARNING, keep_ns=KEEP_NS),)

    def new_state(self) -> State:
        """Give the state before the first slice."""
        none = np.zeros(0, np.int64)
        return State(none, none, none)

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
        del limits
        use, end_ns = summary.facts.dependencies, summary.end_ns
        rows = len(use.name)
        if not rows:
            return Detection(state, ())
        last_ns, began_ns = grown(state.last_ns, rows, -1), grown(state.began_ns, rows, -1)
        is_over = (last_ns >= 0) & (end_ns - last_ns > KEEP_NS)
        is_open = use.opened > 0
        began_ns = np.where(is_over, -1, began_ns)
        began_ns = np.where(is_open & (began_ns < 0), summary.start_ns, began_ns)
        opened = np.where(is_over, 0, grown(state.opened, rows, 0)) + use.opened
        state = State(opened, began_ns, np.where(is_open, end_ns, np.where(is_over, -1, last_ns)))
        findings = tuple(_finding(state, use, int(row), end_ns) for row in np.flatnonzero(is_open))
        return Detection(state, findings)


def _finding(state: State, use: DependencyUse, row: int, end_ns: int) -> Finding:
    opened, policy = int(state.opened[row]), int(use.policy[row])
    minutes = round((end_ns - state.began_ns[row]) / MINUTE_NS)
    return Finding(
        ALERT,
        WARNING,
        ("dependency", row),
        SUMMARIES[policy],
        DESCRIPTIONS[policy],
        evidence=(
            ("opened", opened),
            ("opened_text", "1 call was" if opened == 1 else f"{opened} calls were"),
            ("since_text", "just now" if minutes < 1 else f"{minutes} min ago"),
            ("state", STATES[policy]),
        ),
    )
