"""A limit in the register that nobody has confirmed: its value is a guess until someone looks in the panel.

What it catches: limits without `confirmed_on`. It is information, not a page. Formula: `confirmed_on` is
absent. False positives: none. False negatives: a limit that was changed since it was confirmed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.judge.detection import INFO, AlertPolicy, Detection, Finding

if TYPE_CHECKING:
    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

ALERT = "CallLimitUnconfirmed"
SUMMARY = "A limit in the register has never been confirmed."
DESCRIPTION = (
    "{limit} is set to {limit_value}, and nobody has confirmed that this is what is in force. Look in "
    "{lives_in}, then set confirmed_on in limits.yaml."
)


class State(NamedTuple):
    """Nothing is carried."""


class LimitUnconfirmed:
    """One finding per instance of an unconfirmed limit, for as long as it is in the register."""

    name = "limit_unconfirmed"
    policies = (AlertPolicy(ALERT, INFO, keep_ns=0),)

    def new_state(self) -> State:
        """Give the state before the first slice."""
        return State()

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
        findings = tuple(
            Finding(ALERT, INFO, ("limit", instance.index), SUMMARY, DESCRIPTION)
            for instance in limits
            if instance.limit.confirmed_on is None and not instance.limit.is_implicit
        )
        return Detection(state, findings)
