"""The events themselves cannot be trusted.

Clocks that run ahead, or a topic whose calls are torn over partitions.

What it catches: (1) rows whose event time lies ahead of the time they were received, so that a clock is wrong
and those rows wait in slices that are not due; (2) ends whose start was seen in another partition, so that
the topic is not keyed by call_id and calls in flight are counted wrong. Formula: the count of such rows since
the last slice is above 0, for the second time within five minutes (not in two slices in a row: when rows are
rare, several slices are judged at once, and the first has the count of all). False positives: none seen; a
clock may be ahead by less than the network takes, which does not count. False negatives: clocks that lag
behind, which look like a slow line and count as late rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.judge.detection import MINUTE_NS, WARNING, AlertPolicy, Detection, Finding

if TYPE_CHECKING:
    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance

ALERT = "CallStreamIncomplete"
SUMMARY = "Call events arrive in a form that makes counts unreliable."
AHEAD = (
    "Events carry a time ahead of the clock here, {rows} since the last look. They wait until their time has "
    "come. Check time synchronisation on the platform that sends them, and on this machine."
)
UNKEYED = (
    "Calls end in another partition than they started in, {rows} since the last look: the topic is not keyed "
    "by call_id, or its number of partitions was changed. Calls in flight are counted wrong until the "
    "producer sets the key to call_id."
)


AGAIN_NS = 5 * MINUTE_NS


class State(NamedTuple):
    """The end of the last slice with each kind of trouble; -1: none yet."""

    clock_ahead_ns: int
    unkeyed_ns: int


class StreamIncomplete:
    """One finding per kind of trouble."""

    name = "stream_incomplete"
    policies = (AlertPolicy(ALERT, WARNING),)

    def new_state(self) -> State:
        """Give the state before the first slice."""
        return State(-1, -1)

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
        seen = (
            ("clock_ahead", summary.stream.clock_ahead, state.clock_ahead_ns, AHEAD),
            ("topic_not_keyed_by_call_id", summary.stream.unkeyed_calls, state.unkeyed_ns, UNKEYED),
        )
        findings = tuple(
            Finding(
                ALERT,
                WARNING,
                ("deployment", 0),
                SUMMARY,
                text,
                labels=(("problem", problem),),
                evidence=(("rows", rows),),
            )
            for problem, rows, last_ns, text in seen
            if rows > 0 and last_ns >= 0 and summary.end_ns - last_ns <= AGAIN_NS
        )
        ends_ns = [summary.end_ns if rows > 0 else last_ns for _, rows, last_ns, _ in seen]
        return Detection(State(*ends_ns), findings)
