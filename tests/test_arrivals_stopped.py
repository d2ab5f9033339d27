"""Calls stop: an outage is told at any time, an evening only until evenings are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from detectors.arrivals_stopped import ArrivalsStopped
from detectors.usual_arrivals import ROWS_MAX, nothing_usual, with_rows, with_slice
from tests.slices_by_hand import Did, Slices

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTE_NS = 60 * 1_000_000_000
DAY = 1440
MONDAY_NS = 1_795_392_000_000_000_000  # 2026-11-23 00:00 UTC
SIP = (("trunk", "sip-1"),)
HOURS = range(8 * 60, 18 * 60)
RATES = (2, 6, 12, 20, 60)  # calls a minute


def told(calls: Callable[[int], int], minutes: int, offset_ns: int = 0) -> dict[int, set[int]]:
    """Give by minute the rows that were found quiet; the total is row 0, the trunk row 1."""
    detector = ArrivalsStopped(((0, offset_ns),))
    state, found = detector.new_state(), {}
    template = Slices().write({SIP: Did(arrivals=1)})
    history = np.zeros(60, np.int64)
    for minute in range(minutes):
        history = np.roll(history, -1)
        history[-1] = calls(minute)
        windows = np.array([history[-1], history[-5:].sum(), history.sum()])
        now = np.full(2, history[-1])
        at_ns = MONDAY_NS + minute * MINUTE_NS
        view = template.windows._replace(arrivals_in_slice=now, arrivals=np.stack([windows, windows]))
        summary = template._replace(
            start_ns=at_ns, end_ns=at_ns + MINUTE_NS, first_ns=MONDAY_NS - DAY * MINUTE_NS, windows=view,
            stream=template.stream._replace(events=int(history[-1])),
        )  # fmt: skip
        detection = detector.detect(state, summary, ())
        state = detection.state
        if detection.findings:
            found[minute] = {one.subject[1] for one in detection.findings}
    return found


def in_office_hours(minute: int, per_minute: int = 6) -> int:
    """Give the calls of a minute, on working days and at the weekend alike."""
    return per_minute if minute % DAY in HOURS else 0


@pytest.mark.parametrize("per_minute", RATES)
def test_the_first_evenings_look_like_outages_and_later_ones_do_not(per_minute: int) -> None:
    found = told(lambda minute: in_office_hours(minute, per_minute), 10 * DAY)

    assert found[18 * 60 + 12] == {0, 1}
    assert not [minute for minute in found if minute >= 4 * DAY]


def test_nobody_closes_to_the_minute() -> None:
    """On some days the last call comes four minutes earlier."""

    def calls(minute: int) -> int:
        early = 4 if minute // DAY % 3 == 2 else 0
        return 20 if 8 * 60 <= minute % DAY < 18 * 60 - early else 0

    assert not [minute for minute in told(calls, 10 * DAY) if minute >= 5 * DAY]


def test_an_outage_by_day_is_told_as_soon_as_before() -> None:
    """Twenty calls that did not come, at six a minute."""
    stops = 6 * DAY + 11 * 60
    found = told(lambda minute: 0 if stops <= minute < stops + 30 else in_office_hours(minute), 7 * DAY)
    late = [minute for minute in found if minute >= 5 * DAY]

    assert late[0] - stops in {3, 4}
    assert late[-1] == stops + 29


def test_evenings_are_those_of_local_time() -> None:
    """Where it is three hours later the same hours end at 21:00: known all the same."""
    found = told(in_office_hours, 8 * DAY, 3 * 60 * MINUTE_NS)

    assert not [minute for minute in found if minute >= 5 * DAY]


def test_rows_beyond_the_bound_have_no_table() -> None:
    usual = with_rows(nothing_usual(), 100, list(range(100)))
    usual = with_slice(usual, (0, MINUTE_NS), np.ones(100, np.int64), ((0, 0),))

    assert len(usual.rows) == len(usual.calls) == len(usual.baseline.calls) == ROWS_MAX
    assert usual.usual_rows_refused == 100 - ROWS_MAX
    assert np.isinf(usual.rate_per_s).all()
