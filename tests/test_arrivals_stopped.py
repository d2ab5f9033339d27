"""Calls stop: an outage is told at any time, an evening only until evenings are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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


def nothing(_minute: int) -> int:
    """Give no calls and no further events."""
    return 0


class Told(NamedTuple):
    """What was found in one minute."""

    rows: set[int]  # the total is row 0, the trunk row 1
    texts: dict[int, str]  # by row


def findings(
    calls: Callable[[int], int],
    minutes: int,
    *,
    others: Callable[[int], int] = nothing,
    events: Callable[[int], int] = nothing,
    offset_ns: int = 0,
    watched_min: int = DAY,
) -> dict[int, Told]:
    """Give what was found by minute, with `calls` on the trunk, calls of `others` and further events."""
    detector = ArrivalsStopped(((0, offset_ns),))
    state, found = detector.new_state(), {}
    template = Slices().write({SIP: Did(arrivals=1)})
    history = np.zeros((2, 60), np.int64)
    for minute in range(minutes):
        history = np.roll(history, -1, axis=1)
        history[:, -1] = calls(minute) + others(minute), calls(minute)
        now = history[:, -1].copy()
        windows = np.stack([now, history[:, -5:].sum(axis=1), history.sum(axis=1)], axis=1)
        at_ns = MONDAY_NS + minute * MINUTE_NS
        summary = template._replace(
            start_ns=at_ns,
            end_ns=at_ns + MINUTE_NS,
            first_ns=MONDAY_NS - watched_min * MINUTE_NS,
            windows=template.windows._replace(arrivals_in_slice=now, arrivals=windows),
            stream=template.stream._replace(events=int(now[0]) + events(minute)),
        )
        detection = detector.detect(state, summary, ())
        state = detection.state
        if detection.findings:
            texts = {
                one.subject[1]: one.description.format(**dict(one.evidence)) for one in detection.findings
            }
            found[minute] = Told(set(texts), texts)
    return found


def told(calls: Callable[[int], int], minutes: int, offset_ns: int = 0) -> dict[int, set[int]]:
    """Give by minute the rows that were found quiet, where all calls are on the trunk."""
    return {minute: one.rows for minute, one in findings(calls, minutes, offset_ns=offset_ns).items()}


def in_office_hours(minute: int, per_minute: int = 6) -> int:
    """Give the calls of a minute, on working days and at the weekend alike."""
    return per_minute if minute % DAY in HOURS else 0


@pytest.mark.parametrize("per_minute", RATES)
def test_the_first_evenings_look_like_outages_and_later_ones_do_not(per_minute: int) -> None:
    found = told(lambda minute: in_office_hours(minute, per_minute), 10 * DAY)

    assert found[18 * 60 + 12] == {0, 1}
    assert not [minute for minute in found if minute >= 4 * DAY]


def test_the_first_weekend_looks_like_an_outage_and_the_second_does_not() -> None:
    """One Saturday that was watched has faded for a week, and is enough."""
    found = told(lambda minute: in_office_hours(minute) if minute // DAY % 7 < 5 else 0, 14 * DAY)

    assert 5 * DAY + 12 * 60 in found
    assert not [minute for minute in found if minute >= 7 * DAY + 8 * 60]


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


@pytest.mark.parametrize("first", [1, 3, 10])
def test_a_few_calls_at_the_start_do_not_say_how_the_day_goes(first: int) -> None:
    """A slow hour, or a test of the line before it is opened half an hour later."""
    assert not findings(lambda minute: first if minute == 0 else 0, 30, watched_min=0)


def test_slow_traffic_may_be_quiet_at_a_start() -> None:
    """Twelve an hour, not evenly: the first gaps are as long as any."""
    came = {0, 1, 30, 41, 43, 44, 69}

    assert not findings(lambda minute: int(minute in came), 90, watched_min=0)


def test_one_call_alone_is_never_missed() -> None:
    assert not told(lambda minute: int(minute == 0), DAY)


def test_an_outage_soon_after_the_start_is_told() -> None:
    found = findings(lambda minute: 60 if minute < 8 else 0, 12, watched_min=0)

    assert min(found) == 8


def test_slow_traffic_that_is_known_is_missed_in_time() -> None:
    """Thirty an hour: within the first hour of quiet. Twelve: after hours, but not never."""
    half = told(lambda minute: int(minute < 120 and minute % 2 == 0), 240)
    slow = told(lambda minute: int(minute < 120 and minute % 5 == 0), 540)

    assert 118 + 40 <= min(half) <= 118 + 60
    assert 115 + 120 <= min(slow) <= 115 + 300


@pytest.mark.parametrize("every", [3, 5, 15, 60])
def test_a_dialler_that_calls_in_batches_is_known_after_two_hours_and_missed_when_it_stops(
    every: int,
) -> None:
    """The batch that does not come is missed once a second one would have been due."""
    stops = 600
    found = told(lambda minute: 60 if minute % every == 0 and minute < stops else 0, stops + 3 * every)

    assert max((minute for minute in found if minute < stops), default=0) < 120
    assert stops < min(minute for minute in found if minute >= stops) <= stops + every + 1


def test_batches_that_come_when_they_like_are_told_seldom() -> None:
    """Three to seven minutes apart, all day."""
    rng = np.random.default_rng(1)
    starts = set(np.cumsum(rng.integers(3, 8, DAY)).tolist())
    found = told(lambda minute: 60 * (minute in starts), DAY)

    assert len(found) < 20


def test_one_outage_does_not_hide_the_next() -> None:
    def calls(minute: int) -> int:
        return 0 if 120 <= minute < 150 or 170 <= minute < 200 else 6

    found = told(calls, 220)

    assert min(found) in {123, 124}
    assert min(minute for minute in found if minute >= 170) - 170 < 8


def test_a_night_does_not_hide_an_outage_in_the_morning() -> None:
    stops = DAY + 9 * 60
    found = told(lambda minute: 0 if stops <= minute else in_office_hours(minute), stops + 20)

    assert min(minute for minute in found if minute >= stops) - stops in {3, 4}


def test_a_silent_stream_is_told_with_its_own_time() -> None:
    """The last calls end two minutes after the last start; then nothing comes."""
    found = findings(lambda minute: 6 if minute < 60 else 0, 80, events=lambda minute: int(minute < 62))

    assert set(found[70].texts) == {0, 1}
    for text in found[70].texts.values():
        assert text.startswith("No event of any kind has come for 540.0 s, and no call for 660.0 s, where ")


def test_events_that_go_on_are_told_with_their_time() -> None:
    found = findings(lambda minute: 6 if minute < 60 else 0, 90, events=lambda minute: int(minute % 5 == 0))

    assert "The last event of any kind came 180.0 s ago" in found[78].texts[0]
    assert found[78].texts[0].startswith("No call has been attempted for 1140.0 s")


def test_one_trunk_is_no_silent_stream_while_others_work() -> None:
    """Others have a call every fifteen minutes, so for minutes no event comes at all."""
    found = findings(
        lambda minute: 30 if minute < 60 else 0, 150, others=lambda minute: int(minute % 15 == 0)
    )
    later = [one for minute, one in found.items() if minute >= 76]

    assert len(later) == 150 - 76
    assert all(text.startswith("No call") for one in later for row, text in one.texts.items() if row == 1)


def test_a_trunk_whose_calls_moved_away_is_let_go_after_a_day() -> None:
    moved = 60
    found = findings(
        lambda minute: 3 if minute < moved else 0, moved + 2 * DAY, others=lambda _: 3, watched_min=DAY
    )

    assert {row for one in found.values() for row in one.rows} == {1}
    assert max(found) == moved + DAY - 2
    assert len(found) > DAY - 30


def test_a_whole_deployment_without_calls_is_told_for_days() -> None:
    found = told(lambda minute: 3 if minute < 60 else 0, 60 + 2 * DAY)

    assert found[60 + 2 * DAY - 1] == {0, 1}


def test_a_trunk_that_was_let_go_is_looked_at_again_once_it_has_calls() -> None:
    back, stops = 2 * DAY, 2 * DAY + 60
    found = findings(
        lambda minute: 3 if minute < 60 or back <= minute < stops else 0, stops + 20, others=lambda _: 3
    )

    assert not [minute for minute in found if back - 30 <= minute < stops]
    assert found[stops + 15].rows == {1}
