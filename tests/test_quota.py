"""Periods of quotas by local time, and pages hours before one is used up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from detectors.quota import Quota
from detectors.quota_state import empty_between, slot_at
from engine.decode.events import EventType
from engine.limits import Limit, LimitInstance
from engine.zones import utc_offsets
from tests.slices_by_hand import Slices, no_limits
from tests.summaries import note

NS = 1_000_000_000
DAY_NS = 86_400 * NS
HOUR_NS = 3600 * NS
BERLIN = "Europe/Berlin"
SLICE_S = 60
# Calls a minute by hour.
RISE = [0.5, 1.0, 2.0, 5.0] + [15.0] * 4 + [20.0] * 10 + [12.0, 6.0, 3.0, 1.0, 1.0, 0.5]
STEADY = [20.0] * 24
NO_REPORTS: Mapping[int, float] = MappingProxyType({})


def ns(text: str, zone: str = BERLIN) -> int:
    """Give a local time in ns."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * NS


def daily(value: float = 1000.0, **more: Any) -> Limit:
    """Make a quota of a day that resets at midnight in Berlin."""
    given: dict[str, Any] = {
        "name": "daily", "kind": "quota", "value": value, "per_ns": DAY_NS, "resets": f"00:00 {BERLIN}",
        "utc_offsets": utc_offsets(BERLIN),
    }  # fmt: skip
    return Limit(**(given | more))


@pytest.mark.parametrize(
    ("at", "start", "hours"),
    [
        ("2026-06-10T13:00", "2026-06-10T00:00", 24),
        ("2026-03-29T13:00", "2026-03-29T00:00", 23),
        ("2026-10-25T23:59", "2026-10-25T00:00", 25),
        ("2026-10-25T00:00", "2026-10-25T00:00", 25),
    ],
)
def test_a_day_is_a_local_day_of_23_24_or_25_hours(at: str, start: str, hours: int) -> None:
    start_ns, end_ns = daily().period_at(ns(at))

    assert (start_ns, end_ns - start_ns) == (ns(start), hours * HOUR_NS)


def test_periods_of_hours_begin_with_the_reset_and_weeks_with_a_day() -> None:
    hourly = daily(per_ns=HOUR_NS, resets_at_ns=30 * 60 * NS)
    assert hourly.period_at(ns("2026-06-10T13:10"))[0] == ns("2026-06-10T12:30")

    weekly = daily(per_ns=7 * DAY_NS)
    start_ns, end_ns = weekly.period_at(ns("2026-06-10T13:10"))
    assert end_ns - start_ns == 7 * DAY_NS
    assert start_ns <= ns("2026-06-10T13:10") < end_ns
    assert slot_at(daily(), ns("2026-06-10T12:00")) == 144


def test_a_ring_forgets_what_a_period_has_passed_over() -> None:
    ring = np.ones(288)
    empty_between(ring, 10, 12)
    assert np.flatnonzero(ring == 0).tolist() == [11, 12]
    empty_between(ring, 12, 400)
    assert ring.sum() == 0


def told(
    limit: Limit,
    rates: list[float],
    *,
    start: str = "2026-06-08T00:00",
    level: int = 0,
    seed: int = 1,
    reports: Mapping[int, float] = NO_REPORTS,
    fresh_min: int = 1,
) -> list[tuple[float, dict[str, Any]]]:
    """Give (hour, evidence) of what is found; calls a minute by hour, `reports` of the platform by minute."""
    rng = np.random.default_rng(seed)
    slices = Slices(ns(start))
    instance = LimitInstance(0, limit)
    detector = Quota()
    state, found = detector.new_state(), []
    blank = no_limits()
    empty = {name: np.zeros((1, *getattr(blank, name).shape[1:])) for name in blank._fields}
    for minute in range(60 * len(rates)):
        summary = slices.write()
        summary = summary._replace(end_ns=summary.start_ns + SLICE_S * NS)
        slices.next_ns = summary.end_ns
        calls = int(rng.poisson(rates[minute // 60]))
        summary = summary._replace(stream=summary.stream._replace(events=calls, arrivals=calls))
        if minute in reports:
            said = note(EventType.LIMIT_REPORTED, summary.start_ns, limit=limit.name, used=reports[minute])
            summary = summary._replace(notes=(said,))
        fresh = [reports[one] for one in range(minute, minute - fresh_min, -1) if one in reports]
        use = blank._replace(**empty)._replace(
            value=np.array([float(limit.value or np.nan)]),
            arrivals=np.array([calls]),
            level=np.array([level]),
            reported_use=np.array([fresh[0] if fresh else np.nan]),
        )
        detection = detector.detect(state, summary._replace(limits=use), (instance,))
        state = detection.state
        found += [(minute / 60, dict(one.evidence)) for one in detection.findings]
    return found


def test_a_day_that_takes_more_than_usual_is_told_hours_before() -> None:
    usual = [0.2] * 8 + [1.5] * 10 + [0.3] * 6  # About 1,100 calls a day.
    busy = [1.5 * rate for rate in usual]
    found = told(daily(1400.0), usual * 4 + busy)

    first, evidence = found[0]
    used_up = next(hour for hour, one in found if one["used"] >= 1400.0)
    assert 96 < first < used_up - 2
    assert evidence["baseline"] == "past periods"
    assert evidence["forecast"] > 1400
    assert evidence["time_to_limit_seconds"] / 3600 == pytest.approx(used_up - first, abs=2.0)


def test_a_day_with_an_outage_of_the_stream_is_not_what_is_usual() -> None:
    """After half a day without an event, a day of 1,440 calls is told as on a first day."""
    found = told(daily(1000.0), [1.0] * 12 + [0.0] * 12 + [1.0] * 24)

    first, evidence = found[0]
    assert first < 24.0 + 16.0
    assert evidence["used"] < 1000.0
    assert evidence["baseline"] == "the last hour"


def test_days_of_which_the_nights_are_silent_are_usual() -> None:
    usual = [0.0] * 8 + [2.0] * 10 + [0.0] * 6
    found = told(daily(1400.0), usual * 3 + [1.5 * rate for rate in usual])

    first, evidence = found[0]
    assert 72.0 < first < 72.0 + 14.0
    assert evidence["baseline"] == "past periods"


def test_days_as_usual_are_not_told() -> None:
    usual = [0.2] * 8 + [1.5] * 10 + [0.3] * 6

    assert told(daily(1400.0), usual * 6) == []


def test_the_first_day_goes_by_the_rate_of_the_last_hour_and_says_so() -> None:
    found = told(daily(1000.0), [2.0] * 12)

    assert found[0][1]["baseline"] == "the last hour"
    assert found[0][0] < 8


@pytest.mark.parametrize(("days", "start", "value"), [(7, "2026-06-11", 5000.0), (30, "2026-06-06", 20000.0)])
def test_a_long_quota_that_burns_within_hours_is_told_hours_before(
    days: int, start: str, value: float
) -> None:
    """720 calls an hour from the first hour of a first period on: it lasts for 7 h, or for 28 h."""
    limit = daily(value, per_ns=days * DAY_NS)
    assert limit.period_at(ns(start))[0] == ns(start)
    found = told(limit, [12.0] * 8, start=start)

    first, evidence = found[0]
    assert 1.0 <= first < 0.2 * value / 720 + 0.2
    assert evidence["time_to_limit_seconds"] / 3600 == pytest.approx(value / 720 - first, rel=0.1)


def test_a_long_quota_is_not_told_for_a_busy_first_hour() -> None:
    """Of 5,000 a week, 700 come in the first hour, and 20 in each one after it."""
    limit = daily(5000.0, per_ns=7 * DAY_NS)

    assert told(limit, [12.0] + [0.35] * 40, start="2026-06-11") == []


@pytest.mark.parametrize(
    ("limit", "rates"),
    [
        (daily(1000.0), [2.0] * 10),
        (daily(1400.0), [1.0] * 48 + [2.0] * 14),
        (daily(1500.0, per_ns=HOUR_NS, resets="rolling"), [20.0] * 2 + [30.0] * 2),
    ],
)
def test_no_time_is_left_of_a_quota_that_is_used_up(limit: Limit, rates: list[float]) -> None:
    """On the first day, after days that are usual, and of any hour."""
    found = [one for _, one in told(limit, rates) if one["used"] >= limit.value]

    assert found
    assert {one["time_to_limit_seconds"] for one in found} == {0}


def test_what_the_platform_counted_before_we_came_is_used_as_well() -> None:
    """We come at 14:00, with 900 of 1,000 used: an hour and a half is left at a call a minute."""
    found = told(daily(1000.0), [1.0] * 3, start="2026-06-08T14:00", reports={5: 900.0})

    assert told(daily(1000.0), [1.0] * 3, start="2026-06-08T14:00") == []
    assert found[0][0] < 0.5
    assert found[0][1]["used"] == pytest.approx(910, abs=15)


def test_what_was_reported_is_of_its_period() -> None:
    found = told(daily(100.0, per_ns=6 * HOUR_NS), [0.05] * 12, reports={60: 99.0})

    assert found
    assert max(hour for hour, _ in found) < 6.0


@pytest.mark.parametrize(
    ("late", "is_told"), [((851.0, 852.0, 2.0), False), ((3.0, 851.0), False), ((3.0, 849.0), True)]
)
def test_a_report_just_after_the_reset_may_still_be_of_before_it(
    late: tuple[float, ...], is_told: bool
) -> None:
    """Reports of midnight, 00:01 and so on, after one of 850 of 800 at 23:50."""
    reports = {1430: 850.0} | {1440 + minute: used for minute, used in enumerate(late)}
    found = told(daily(800.0), [0.1] * 26, reports=reports)

    assert any(hour >= 24.0 for hour, _ in found) == is_told


def test_a_report_of_minutes_after_the_reset_is_of_today() -> None:
    found = told(daily(1000.0), [0.1] * 25, reports={1430: 850.0, 1440: 851.0, 1446: 1000.0})

    assert round(60 * found[0][0]) == 1446


def test_a_new_period_begins_with_nothing_used() -> None:
    found = told(daily(100.0, per_ns=6 * HOUR_NS), [1.0] * 6 + [0.05] * 6)

    assert max(hour for hour, _ in found) < 6.0
    assert found[-1][1]["used"] >= 100.0


def test_a_rolling_quota_forgets_what_is_a_period_old() -> None:
    found = told(daily(300.0, per_ns=6 * HOUR_NS, resets="rolling"), [0.5] * 8 + [2.0] * 4 + [0.2] * 12)

    assert 8.0 < found[0][0] < 10.5
    assert max(hour for hour, _ in found) < 18.5


def rolling(value: float, **more: Any) -> Limit:
    """Make a quota of any hour."""
    return daily(value, **({"per_ns": HOUR_NS, "resets": "rolling"} | more))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_rolling_quota_is_told_before_it_is_used_up(seed: int) -> None:
    """It takes 30 min from 1,200 of an hour to 1,500, with ten a minute more coming than leaving."""
    found = told(rolling(1500.0), [20.0] * 2 + [30.0] * 2, seed=seed)

    first, evidence = found[0]
    used_up = next(hour for hour, one in found if one["used"] >= 1500.0)
    assert 2.0 < first < used_up - 4 / 60
    assert evidence["time_to_limit_seconds"] / 3600 == pytest.approx(used_up - first, abs=0.2)
    assert evidence["period"] == "60 min"


def test_what_the_platform_reports_of_a_rolling_quota_is_used_while_the_report_is_fresh() -> None:
    """Others use it too: we count 60 of 1,000 within an hour, and it is full."""
    found = told(rolling(1000.0), [1.0] * 4, reports=dict.fromkeys(range(150, 155), 1000.0))

    assert [round(60 * hour) for hour, _ in found] == [150, 151, 152, 153, 154]
    assert {one["used"] for _, one in found} == {1000.0}


def test_what_comes_after_a_report_of_a_rolling_quota_is_used_as_well() -> None:
    """950 of 1,000 are reported; ten calls a minute come on top before the next report."""
    found = told(rolling(1000.0), [1.0] * 2 + [10.0] * 2, reports={150: 950.0}, fresh_min=5)

    at = {round(60 * hour): one["used"] for hour, one in found if 150 <= round(60 * hour) < 155}
    assert at[154] > at[151] > 950.0


def test_a_rolling_quota_that_others_nearly_use_up_is_told_when_more_comes_than_leaves() -> None:
    reports = {minute: 900.0 + 3 * max(minute - 180, 0) for minute in range(240)}
    found = told(rolling(1000.0), [1.0] * 3 + [4.0] * 1, reports=reports)

    first, evidence = found[0]
    used_up = next(hour for hour, one in found if one["used"] >= 1000.0)
    assert 3.0 < first < used_up - 10 / 60
    assert evidence["time_to_limit_seconds"] / 3600 == pytest.approx(used_up - first, abs=0.2)


@pytest.mark.parametrize(("rate", "reported"), [(15.0, 900.0), (1.0, 900.0)])
def test_a_rolling_quota_that_is_reported_as_steady_is_not_told(rate: float, reported: float) -> None:
    """All of it is ours, and we counted none of it before we came; or nearly all is of others."""
    assert told(rolling(1000.0), [rate] * 4, reports=dict.fromkeys(range(240), reported)) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("rates", "share"), [(STEADY, 0.86), (RISE, 0.85), (RISE, 0.9)])
def test_a_rolling_quota_that_is_nearly_used_all_day_is_not_told(
    seed: int, rates: list[float], share: float
) -> None:
    assert told(rolling(1200.0 / share), rates, seed=seed) == []


def test_a_rolling_quota_of_a_day_is_not_told_for_its_ordinary_peak() -> None:
    usual = [0.2] * 8 + [1.5] * 10 + [0.3] * 6  # About 1,100 calls a day.
    limit = rolling(1250.0, per_ns=DAY_NS)

    assert told(limit, usual * 3) == []


def test_minutes_are_calls_in_flight_times_time() -> None:
    found = told(daily(1000.0, counts="minutes"), [0.0] * 20, level=2)

    assert found[-1][1]["used"] >= 1000.0
    assert found[-1][1]["counts"] == "minutes"
    assert told(daily(1000.0, counts="tokens"), [5.0] * 20) == []
