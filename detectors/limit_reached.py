"""Calls are being declined by a limit.

The page that comes too late for the first caller and in time for the rest.

What it catches: attempts that ended in a decline of class capacity, rate, quota or unknown
(config/declines.yaml), put down to the limit that the event names, or else to the fullest limit that matches
the call. Declines that match no limit of the register page too, as `limit="unregistered"`, and so do those
that name one which is not in it while all that match have room: that is a cap nobody has written down.
Formula: declined > 0 in a slice. It fires at the end of the slice and is resolved five minutes after the
last decline. False positives: a decline code that means "busy" on this platform and is not in the rules.
False negatives: declines that are never sent as events, and disguised ones that no rule knows: nothing here
finds those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.judge.detection import CRITICAL, MINUTE_NS, NS, AlertPolicy, Detection, Finding

if TYPE_CHECKING:
    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

ALERT = "CallLimitReached"
SUMMARY = "Calls are being declined by a limit."
# Who drives the load, where the limit lives and what to do are annotations of their own.
DESCRIPTION = (
    "{limit} has declined {declined} in the last {slice_seconds} s, {declined_so_far} so far ({causes}). "
    "In use: {in_use}."
)
SOME_LATE = "{declined}, some of them told late,"
UNREGISTERED = (
    "In the last {slice_seconds} s, {declined} met a limit that is not in the register and ended there "
    "({causes}). Find where it lives, and write it into limits.yaml with an owner."
)


class State(NamedTuple):
    """Nothing is carried: a slice speaks for itself."""


class LimitReached:
    """One finding per limit instance that declined calls in this slice."""

    name = "limit_reached"
    policies = (AlertPolicy(ALERT, CRITICAL, keep_ns=5 * MINUTE_NS),)

    def new_state(self) -> State:
        """Give the state before the first slice."""
        return State()

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
        declined = summary.limits.declined
        many = SOME_LATE if summary.stream.declined_late else "{declined}"
        findings = [
            Finding(
                ALERT,
                CRITICAL,
                ("limit", int(row)),
                SUMMARY,
                DESCRIPTION.replace("{declined}", many),
                evidence=evidence_of(int(declined[row]), summary),
            )
            for row in np.nonzero(declined > 0)[0]
        ]
        missed = summary.stream.declined_unattributed
        if missed > 0:
            findings.append(
                Finding(
                    ALERT,
                    CRITICAL,
                    ("deployment", 0),
                    SUMMARY,
                    UNREGISTERED.replace("{declined}", many),
                    labels=(("limit", "unregistered"),),
                    evidence=evidence_of(missed, summary),
                )
            )
        return Detection(state, tuple(findings))


def evidence_of(declined: int, summary: WindowSummary) -> tuple[tuple[str, float | int | str], ...]:
    """Give how many calls were declined, and in how long a slice."""
    return (
        ("declined", "1 call" if declined == 1 else f"{declined} calls"),
        ("slice_seconds", (summary.end_ns - summary.start_ns) / NS),
    )
