"""Quotas: what is counted, when a period begins and ends, and when a page comes and goes."""

from __future__ import annotations

import copy
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from bench.detection.labelled_slices import LabelledSlices
from detectors.quota import Quota
from engine.limits import QUOTA, Limit, LimitInstance
from engine.zones import utc_offsets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from detectors.quota_state import State
    from engine.judge.detection import Detection, Finding

S = 1_000_000_000
HOUR_NS = 3600 * S
DAY_NS = 24 * HOUR_NS
SLICE_NS = 60 * S
BERLIN = ZoneInfo("Europe/Berlin")


class Told(NamedTuple):
    """What came of a run."""

    at_ns: list[int]  # ends of slices
    findings: list[tuple[Finding, ...]]
    state: State

    def first_ns(self) -> int:
        """Give when something is said first; -1: never."""
        return next((at for at, found in zip(self.at_ns, self.findings, strict=True) if found), -1)


def local_ns(text: str) -> int:
    """Give a time in Berlin."""
    return int(datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()) * S


def quota(value: float = 1000.0, per_ns: int = DAY_NS, **fields: Any) -> LimitInstance:
    """Make a quota with its zone looked up."""
    named = {"name": "daily", "resets": "00:00 Europe/Berlin", **fields}
    if named["resets"] != "rolling":
        at, _, zone = named["resets"].partition(" ")
        hours, minutes = at.split(":")
        named["utc_offsets"] = utc_offsets(zone)
        named["resets_at_ns"] = (int(hours) * 60 + int(minutes)) * 60 * S
    limit = Limit(kind=QUOTA, value=value, per_ns=per_ns, **named)
    return LimitInstance(0, limit)


def watch(
    limit: LimitInstance,
    span: tuple[int, int],
    calls: Callable[[int], int],
    state: State | None = None,
    slice_ns: int = SLICE_NS,
) -> Told:
    """Show slices of [begin, end) in which `calls(start_ns)` arrive, or are in flight if minutes count."""
    return shown((limit,), [(at, [calls(at)]) for at in range(*span, slice_ns)], state, slice_ns)


def shown(
    limits: tuple[LimitInstance, ...],
    slices: Iterable[tuple[int, list[int]]],
    state: State | None = None,
    slice_ns: int = SLICE_NS,
) -> Told:
    """Show (start_ns, counts of the instances that are known by then)."""
    detector = Quota()
    told = Told([], [], detector.new_state() if state is None else state)
    blanks = {n: LabelledSlices([()], limits=limits[:n]).write() for n in range(len(limits) + 1)}
    for start_ns, counts in slices:
        blank = blanks[len(counts)]
        given = np.array(counts, np.int64)
        summary = blank._replace(
            start_ns=start_ns,
            end_ns=start_ns + slice_ns,
            stream=blank.stream._replace(events=sum(counts), arrivals=sum(counts)),
            limits=blank.limits._replace(arrivals=given, level=given),
        )
        detection: Detection = detector.detect(told.state, summary, limits)
        told.at_ns.append(summary.end_ns)
        told.findings.append(detection.findings)
        told = told._replace(state=detection.state)
    return told


def evidence(found: Finding) -> dict[str, float | int | str]:
    return dict(found.evidence)


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-28", 24), ("2026-03-29", 23), ("2026-03-30", 24), ("2026-10-25", 25)]
)
def test_a_day_has_the_hours_that_its_clock_gives_it(day: str, hours: int) -> None:
    begin_ns = local_ns(f"{day}T00:00")

    for at in (begin_ns, begin_ns + hours * HOUR_NS - 1):
        assert quota().limit.period_at(at) == (begin_ns, begin_ns + hours * HOUR_NS)
    assert quota().limit.period_at(begin_ns - 1)[1] == begin_ns
    assert quota().limit.period_at(begin_ns + hours * HOUR_NS)[0] == begin_ns + hours * HOUR_NS


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
@pytest.mark.parametrize("per_ns", [HOUR_NS, 2 * HOUR_NS, 6 * HOUR_NS])
def test_every_moment_of_a_day_of_changed_clocks_lies_in_its_period(day: str, per_ns: int) -> None:
    limit = quota(per_ns=per_ns).limit
    begin_ns = local_ns(f"{day}T00:00")
    for at in range(begin_ns, begin_ns + 26 * HOUR_NS, 600 * S):
        start_ns, end_ns = limit.period_at(at)
        assert start_ns <= at < end_ns


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Europe/Berlin", "2026-03-29"),
        ("Europe/Berlin", "2026-10-25"),
        ("America/Santiago", "2026-09-06"),  # its midnight is left out
        ("America/New_York", "2027-03-14"),
        ("Australia/Lord_Howe", "2026-10-04"),  # by half an hour
    ],
)
@pytest.mark.parametrize("reset", ["00:00", "02:00", "02:30", "03:00"])
def test_a_reset_that_the_clock_leaves_out_or_shows_twice_still_parts_two_periods(
    zone: str, day: str, reset: str
) -> None:
    middle_ns = int(datetime.fromisoformat(f"{day}T12:00Z").timestamp()) * S
    for per_ns in (HOUR_NS, 6 * HOUR_NS, 24 * HOUR_NS):
        limit = quota(per_ns=per_ns, resets=f"{reset} {zone}").limit
        end_ns = -1
        for at in range(middle_ns - 36 * HOUR_NS, middle_ns + 36 * HOUR_NS, 600 * S):
            period = limit.period_at(at)
            assert period[0] <= at < period[1]
            assert end_ns in (-1, period[0], period[1]), "the next one begins where the last one ended"
            end_ns = period[1]


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25", "2026-06-10"])
def test_counts_start_anew_with_the_reset_and_the_page_of_yesterday_ends(day: str) -> None:
    """Ten calls a minute for the last two hours of a day; its quota is gone, that of the next is not."""
    reset_ns = local_ns(f"{day}T00:00") + {"2026-03-29": 23, "2026-10-25": 25}.get(day, 24) * HOUR_NS
    told = watch(quota(), (reset_ns - 2 * HOUR_NS, reset_ns + 600 * S), lambda at: 10 if at < reset_ns else 0)

    said = dict(zip(told.at_ns, told.findings, strict=True))
    assert evidence(said[reset_ns][0])["used"] == 1200
    assert not any(found for at, found in said.items() if at > reset_ns)
    assert told.state.used.sum() == 0


def test_the_first_day_pages_by_the_rate_of_now_and_says_so() -> None:
    begin_ns = local_ns("2026-06-10T00:00")
    told = watch(quota(5000), (begin_ns, begin_ns + 18 * HOUR_NS), lambda _: 6)

    first_ns = told.first_ns()
    gone_ns = begin_ns + 5000 // 6 * SLICE_NS
    assert begin_ns + HOUR_NS < first_ns < gone_ns - HOUR_NS
    found = told.findings[told.at_ns.index(first_ns)][0]
    said = evidence(found)
    assert said["baseline"] == "the last hour"
    assert "Europe/Berlin" in str(said["reset_text"])
    assert abs(float(said["time_to_limit_seconds"]) - (gone_ns - first_ns) / S) < 600
    assert "used up" in found.summary


def test_a_quota_that_lasts_is_silent() -> None:
    begin_ns = local_ns("2026-06-10T00:00")
    assert watch(quota(10_000), (begin_ns, begin_ns + 3 * DAY_NS), lambda _: 5).first_ns() == -1


def test_a_day_busier_than_those_before_pages_hours_ahead_and_says_how_much_busier() -> None:
    begin_ns = local_ns("2026-06-08T00:00")
    busy_ns = begin_ns + 8 * DAY_NS

    def calls(at: int) -> int:
        is_open = 8 * HOUR_NS <= (at - begin_ns) % DAY_NS < 18 * HOUR_NS
        return (80 if at >= busy_ns else 50) * is_open

    told = watch(quota(7000), (begin_ns, busy_ns + DAY_NS), calls, slice_ns=5 * SLICE_NS)

    first_ns = told.first_ns()
    gone_ns = busy_ns + 8 * HOUR_NS + 7000 // 80 * 5 * SLICE_NS
    assert busy_ns + 8 * HOUR_NS < first_ns < gone_ns - 2 * HOUR_NS
    last = next(found for found in reversed(told.findings) if found)
    assert 1.2 < float(evidence(told.findings[told.at_ns.index(first_ns)][0])["ratio"]) < 1.7
    assert last[0].description.startswith("{limit}: all")  # By then nothing is left of it.


def test_minutes_are_those_of_calls_in_flight() -> None:
    begin_ns = local_ns("2026-06-10T00:00")
    told = watch(quota(counts="minutes"), (begin_ns, begin_ns + 3 * HOUR_NS), lambda _: 4)

    assert told.state.used.sum() == pytest.approx(4 * 180)
    assert evidence(told.findings[-1][0])["counts"] == "minutes"


@pytest.mark.parametrize("counts", ["tokens", "cost"])
def test_what_events_do_not_carry_is_never_said(counts: str) -> None:
    begin_ns = local_ns("2026-06-10T00:00")
    assert watch(quota(counts=counts), (begin_ns, begin_ns + 3 * HOUR_NS), lambda _: 50).first_ns() == -1


def test_a_rolling_quota_gives_back_what_is_older_than_its_period() -> None:
    begin_ns = local_ns("2026-06-10T00:00")
    limit = quota(600, HOUR_NS, resets="rolling")
    told = watch(limit, (begin_ns, begin_ns + 4 * HOUR_NS), lambda at: 8 if at < begin_ns + HOUR_NS else 0)

    assert told.state.used.sum() == 0
    assert watch(limit, (begin_ns, begin_ns + 4 * HOUR_NS), lambda _: 5).first_ns() == -1


def test_a_rolling_quota_pages_before_it_is_full() -> None:
    begin_ns = local_ns("2026-06-10T00:00")
    told = watch(
        quota(600, HOUR_NS, resets="rolling"), (begin_ns, begin_ns + HOUR_NS),
        lambda at: 4 if at < begin_ns + HOUR_NS // 2 else 30,
    )  # fmt: skip

    said = evidence(told.findings[told.at_ns.index(told.first_ns())][0])
    assert float(said["used"]) < 600
    assert said["period"] == "60 min"


def test_days_without_slices_leave_nothing_behind() -> None:
    begin_ns = local_ns("2026-06-10T00:00")
    for limit in (quota(), quota(resets="rolling")):
        before = watch(limit, (begin_ns, begin_ns + 12 * HOUR_NS), lambda _: 1)
        after_ns = begin_ns + 5 * DAY_NS
        told = watch(limit, (after_ns, after_ns + HOUR_NS), lambda _: 1, before.state)
        assert told.state.used.sum() == 60


@pytest.mark.parametrize(("hours", "days_learned"), [((0, 24), 1), ((0, 23), 1), ((0, 12), 0), ((12, 24), 0)])
def test_a_day_of_which_half_was_not_watched_is_not_a_usual_one(
    hours: tuple[int, int], days_learned: int
) -> None:
    """There are slices only within the hours: the service was down, as over a night."""
    begin_ns = local_ns("2026-06-10T00:00")
    span = (begin_ns + hours[0] * HOUR_NS, begin_ns + hours[1] * HOUR_NS)
    before = watch(quota(), (begin_ns, begin_ns + SLICE_NS), lambda _: 1)
    told = watch(quota(), span, lambda _: 1, before.state)
    told = watch(quota(), (begin_ns + DAY_NS, begin_ns + DAY_NS + HOUR_NS), lambda _: 1, told.state)

    assert told.state.periods.tolist() == [days_learned]


def test_an_outage_of_the_stream_is_not_usual_and_a_silence_of_each_week_is() -> None:
    """A week from Monday on, silent at night, on Wednesday afternoon by an outage, on Saturday as always."""
    begin_ns = local_ns("2026-06-08T00:00")

    def calls(at: int) -> int:
        day, hour_ns = divmod(at - begin_ns, DAY_NS)
        ends = {2: 13, 5: 13, 6: 0, 12: 13, 13: 0}.get(day, 18)
        return 20 * (8 * HOUR_NS <= hour_ns < ends * HOUR_NS)

    week = watch(quota(9000), (begin_ns, begin_ns + 7 * DAY_NS), calls, slice_ns=5 * SLICE_NS)
    assert week.state.totals[0].tolist() == [0, 1, 0, 1, 1, 0, 0]  # The first of all is as if by an outage.

    next_ns = begin_ns + 7 * DAY_NS
    week = watch(quota(9000), (next_ns, next_ns + 7 * DAY_NS), calls, week.state, slice_ns=5 * SLICE_NS)
    assert week.state.totals[0].tolist() == pytest.approx([1, 1.9, 1, 1.9, 1.9, 1, 0])
    assert week.state.total[0, [2, 5]].tolist() == [20 * 120, 20 * 60]


def test_an_instance_that_appears_later_counts_from_then_on() -> None:
    begin_ns = local_ns("2026-06-10T00:00")
    limits = (quota(), LimitInstance(1, quota(name="other").limit))
    slices = [(begin_ns + n * SLICE_NS, [1] if n < 60 else [1, 20]) for n in range(120)]
    told = shown(limits, slices)

    assert told.state.used.sum(axis=1).tolist() == [120, 1200]
    assert [found.subject for found in told.findings[-1]] == [("limit", 1)]


def test_nothing_is_said_without_a_value_or_a_quota() -> None:
    begin_ns = local_ns("2026-06-10T00:00")
    unknown = LimitInstance(0, quota().limit.__class__(name="x", kind=QUOTA, per_ns=DAY_NS, resets="rolling"))
    assert watch(unknown, (begin_ns, begin_ns + HOUR_NS), lambda _: 99).first_ns() == -1
    assert shown((), [(begin_ns, [])]).findings == [()]


def test_the_state_before_is_left_as_it_was() -> None:
    begin_ns = local_ns("2026-06-10T00:00")
    state = watch(quota(), (begin_ns, begin_ns + HOUR_NS), lambda _: 1).state
    copies = copy.deepcopy(state)
    watch(quota(), (begin_ns + HOUR_NS, begin_ns + 2 * DAY_NS), lambda _: 1, state)

    for before, now in zip(copies, state, strict=True):
        np.testing.assert_array_equal(before, now)
