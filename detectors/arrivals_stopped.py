"""Calls have stopped coming: the decline that sends no event at all.

What it catches: no attempt for so long that many should have come, on the whole deployment or on one trunk or
provider while others go on; the page says whether other events came. Formula: n ln(1 + missing / n) >= 20 and
quiet time >= 60 s, where n = the calls of the hour before it and missing = the sum of rate x time over it.
The rate is the smallest of that of the hour and of the five minutes before (at a start as if none had come
earlier), and of what is usual at that time of the week, once that was watched (detectors/usual_arrivals.py).
For Poisson arrivals of which n calls are all that is known, the chance of such a quiet is exp(-20) = 2e-9.
Calls in bursts (a dialler's batches) are not Poisson: a quiet must miss twice as many calls as did the second
longest of the last four pauses of two hours: what came once is news, what came twice is how calls come.
False positives: business hours that end at once in the first three days; the first free weekend; a holiday,
until calls come again; first pauses of a campaign in batches, and its end; a test of 20 calls 9 minutes ago.
False negatives: fewer calls than usual but not none; under 30 an hour in the first hour of quiet; a third
outage in two hours, at first; a row without calls for a day in which others had them, until its next call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.rows import grown
from detectors.usual_arrivals import UsualArrivals, nothing_usual, with_rows, with_slice
from engine.judge.detection import CRITICAL, MINUTE_NS, NS, AlertPolicy, Detection, Finding
from engine.judge.windows import FIVE_MINUTES, HOUR, WINDOWS_NS
from engine.settings import UTC_OFFSETS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary
    from engine.limits import LimitInstance
    from engine.settings import UtcOffsets

ALERT = "CallArrivalsStopped"
SUMMARY = "Calls have stopped arriving."
NO_CALLS = (
    "No call has been attempted for {quiet_seconds} s, where {expected} were expected ({rate_per_minute} a "
    "minute before). The last event of any kind came {silent_seconds} s ago, so the stream did not stop with "
    "the calls: look at the trunk, the numbers and the platform."
)
NO_EVENTS = (
    "No event of any kind has come for {silent_seconds} s, and no call for {quiet_seconds} s, where "
    "{expected} were expected. Either the platform is silent or the stream is: look first at consumer lag, "
    "the assignment of partitions and the producer."
)
SURPRISE_MIN = 20.0  # -ln of the chance of the quiet
QUIET_NS_MIN = MINUTE_NS
PAUSE_MIN = SURPRISE_MIN / 2  # calls missing in a pause; a shorter one delays nothing
PAUSES = 4  # kept of each row
PAUSES_NS = 2 * 60 * MINUTE_NS  # before the last call
MOVED_NS = 24 * 60 * MINUTE_NS
WATCHED_LABELS = frozenset(("trunk", "provider"))


class State(NamedTuple):
    """By window row; -1 and 0 before the first arrival."""

    last_arrival_ns: NDArray[np.int64]  # (rows,) end of the last slice with an arrival
    rate_per_s: NDArray[np.float64]  # (rows,) as it was at that slice
    hour_calls: NDArray[np.int64]  # (rows,) likewise: how well the rate is known
    missing: NDArray[np.float64]  # (rows,) calls that should have come since
    pauses: NDArray[np.float64]  # (rows, PAUSES) calls missing in the last ones, the newest first
    paused_ns: NDArray[np.int64]  # (rows, PAUSES) their ends
    last_event_ns: int  # end of the last slice with any event
    usual: UsualArrivals


class ArrivalsStopped:
    """One finding per watched row that has gone quiet."""

    name = "arrivals_stopped"
    policies = (AlertPolicy(ALERT, CRITICAL, keep_ns=MINUTE_NS),)

    def __init__(self, utc_offsets: UtcOffsets = UTC_OFFSETS) -> None:
        self.utc_offsets = utc_offsets

    def new_state(self) -> State:
        """Give the state before the first slice."""
        return State(
            np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64), np.zeros(0),
            np.zeros((0, PAUSES)), np.zeros((0, PAUSES), np.int64), -1, nothing_usual(),
        )  # fmt: skip

    def detect(self, state: State, summary: WindowSummary, limits: tuple[LimitInstance, ...]) -> Detection:
        """Look at one closed slice."""
        windows, end_ns = summary.windows, summary.end_ns
        rows = len(windows.labels)
        last_ns = grown(state.last_arrival_ns, rows, -1)
        rate = grown(state.rate_per_s, rows, 0.0)
        hour_calls = grown(state.hour_calls, rows, 0)
        missing = grown(state.missing, rows, 0.0)
        short_s = WINDOWS_NS[FIVE_MINUTES] / NS
        long_s = min(max((end_ns - summary.first_ns) / NS, short_s), WINDOWS_NS[HOUR] / NS)
        arrived = windows.arrivals_in_slice > 0
        usual = self.usual(state.usual, summary)
        pauses = grown(state.pauses, rows, 0.0), grown(state.paused_ns, rows, -1)
        if arrived.any():
            pauses = _with_pauses(pauses, np.flatnonzero(arrived & (missing >= PAUSE_MIN)), missing, end_ns)
            short, long = windows.arrivals[:, FIVE_MINUTES] / short_s, windows.arrivals[:, HOUR] / long_s
            rate = np.where(arrived, np.minimum(short, long), rate)
            hour_calls = np.where(arrived, windows.arrivals[:, HOUR], hour_calls)
            last_ns = np.where(arrived, end_ns, last_ns)
        expected = rate.copy()
        expected[usual.rows] = np.minimum(rate[usual.rows], usual.rate_per_s)
        missing = np.where(arrived, 0.0, missing + expected * ((end_ns - summary.start_ns) / NS))
        last_event_ns = end_ns if summary.stream.events > 0 else state.last_event_ns
        state = State(last_ns, rate, hour_calls, missing, *pauses, last_event_ns, usual)
        return Detection(state, _findings(state, windows.labels, end_ns))

    def usual(self, usual: UsualArrivals, summary: WindowSummary) -> UsualArrivals:
        """Give the table of what is usual with one slice in it."""
        windows = summary.windows
        rows = len(windows.labels)
        if usual.looked_at < rows:
            new = [row for row in range(usual.looked_at, rows) if _is_watched(windows.labels[row])]
            usual = with_rows(usual, rows, new)
        span_ns = summary.start_ns, summary.end_ns
        return with_slice(usual, span_ns, windows.arrivals_in_slice, self.utc_offsets)


def _with_pauses(
    pauses: tuple[NDArray[np.float64], NDArray[np.int64]],
    over: NDArray[np.int64],
    missing: NDArray[np.float64],
    end_ns: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give the pauses and their ends with those of some rows that are over now."""
    if not len(over):
        return pauses
    calls, ends_ns = pauses[0].copy(), pauses[1].copy()
    calls[over, 1:], ends_ns[over, 1:] = calls[over, :-1], ends_ns[over, :-1]
    calls[over, 0], ends_ns[over, 0] = missing[over], end_ns
    return calls, ends_ns


def _usual_pause(state: State, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give how many calls are missing in pauses that some rows had twice of late."""
    is_late = state.last_arrival_ns[rows, None] - state.paused_ns[rows] <= PAUSES_NS
    return np.sort(np.where(is_late, state.pauses[rows], 0.0), axis=1)[:, -2]


def _findings(
    state: State, labels: tuple[tuple[tuple[str, str], ...], ...], end_ns: int
) -> tuple[Finding, ...]:
    """Give a finding for each watched row that is quiet against all odds."""
    quiet_ns, silent_ns = end_ns - state.last_arrival_ns, end_ns - state.last_event_ns
    known = np.maximum(state.hour_calls, 1)
    surprise = known * np.log1p(state.missing / known)
    # Row 0 is the total: while it has calls, a row without any for a day is one that nobody calls any more.
    has_moved = state.last_arrival_ns[:1] - state.last_arrival_ns >= MOVED_NS
    found = np.flatnonzero((surprise >= SURPRISE_MIN) & (quiet_ns >= QUIET_NS_MIN) & ~has_moved)
    found = found[state.missing[found] >= 2 * _usual_pause(state, found)]
    # A call's end may come after the last start: the stream stopped with the calls if it did so soon after.
    is_silent = (0 in found) & (silent_ns >= QUIET_NS_MIN) & (2 * silent_ns >= quiet_ns)
    return tuple(
        Finding(
            ALERT,
            CRITICAL,
            ("window", int(row)),
            SUMMARY,
            NO_EVENTS if is_silent[row] else NO_CALLS,
            evidence=(
                ("quiet_seconds", float(quiet_ns[row] / NS)),
                ("silent_seconds", float(silent_ns / NS)),
                ("expected", float(state.missing[row])),
                ("rate_per_minute", float(60 * state.rate_per_s[row])),
                ("kind", "no_events" if is_silent[row] else "no_calls"),
            ),
        )
        for row in found
        if _is_watched(labels[row])
    )


def _is_watched(labels: tuple[tuple[str, str], ...]) -> bool:
    """Say whether this row is the whole deployment.

    Or one value of a label that names a way calls come in.
    """
    return not labels or (len(labels) == 1 and labels[0][0] in WATCHED_LABELS)
