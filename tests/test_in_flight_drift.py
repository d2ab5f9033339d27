"""Reports that say another level than is counted, and lists that take calls out, are said if they persist."""

from __future__ import annotations

import time

import pytest

from detectors.reported import reported
from engine.decode.events import EventType
from engine.limits import Limit, LimitInstance, Register
from tests.line_runs import run_all
from tests.line_traffic import START_NS, Event, S, batches_of, event
from tests.summaries import note

REGISTER = Register(
    limits=(
        Limit(name="trunk", kind="concurrency", value=80.0, confirmed_on="2026-01-01"),
        Limit(name="cps", kind="rate", value=5.0, per_ns=S, confirmed_on="2026-01-01"),
    )
)


def calls(many: int, seconds: int) -> list[Event]:
    """Let so many calls start at once, and something happen in every slice."""
    starts = [event(START_NS + number, "call.started", f"c{number}") for number in range(many)]
    return starts + [event(START_NS + at * S, "call.queued", f"q{at}") for at in range(1, seconds, 5)]


def changes(events: list[Event]) -> list[tuple[int, str]]:
    """Give (second, state) of the alert's changes."""
    run = run_all(batches_of(sorted(events, key=lambda one: one.time_ns)), REGISTER)
    named = [one for one in run.changes if dict(one.labels)["alertname"] == "CallsInFlightDrift"]
    return [((one.time_ns - START_NS) // S, one.state) for one in named]


def drifts(events: list[Event], register: Register = REGISTER) -> list[tuple[int, dict[str, str]]]:
    """Give (second, labels and annotations) of what fires."""
    run = run_all(batches_of(sorted(events, key=lambda one: one.time_ns)), register)
    return [
        ((one.time_ns - START_NS) // S, dict(one.labels) | dict(one.annotations))
        for one in run.changes
        if dict(one.labels)["alertname"] == "CallsInFlightDrift" and one.state == "firing"
    ]


@pytest.mark.parametrize(
    ("used", "problem", "words"),
    [
        (70, "more_than_counted", "reports 70 in use, 20 are counted here, for 3 reports. The 50 others"),
        (0, "less_than_counted", "reports 0 in use, 20 are counted here, for 3 reports. 20 calls held"),
    ],
)
def test_three_reports_in_a_row_that_differ_are_said(used: float, problem: str, words: str) -> None:
    reports = [event(START_NS + at * S, "limit.reported", limit="trunk", used=used) for at in (10, 40, 70)]

    found = drifts(calls(20, 120) + reports)

    assert [(at, one["problem"], one["limit"]) for at, one in found] == [(75, problem, "trunk")]
    assert words in found[0][1]["description"]


@pytest.mark.parametrize("used", [[70, 20, 70, 70], [26, 26, 26, 26], [70, 70]])
def test_reports_that_agree_in_between_or_differ_a_little_are_not_said(used: list[float]) -> None:
    """One that agrees begins the count anew; six calls of twenty may be the lag of a report."""
    reports = [
        event(START_NS + (10 + 30 * number) * S, "limit.reported", limit="trunk", used=one)
        for number, one in enumerate(used)
    ]

    assert drifts(calls(20, 150) + reports) == []


def test_reports_of_a_rate_or_of_no_limit_say_nothing_of_the_level() -> None:
    reports = [
        event(START_NS + at * S, "limit.reported", limit=name, used=99)
        for at in (10, 40, 70, 100)
        for name in ("cps", "another")
    ]

    assert drifts(calls(20, 150) + reports) == []


def test_a_difference_stands_between_reports_that_are_seldom() -> None:
    """One alert for as long as it stands; fifteen minutes after a report that agrees it is resolved."""
    told = [(minute * 60 + 10, 70) for minute in (0, 20, 40, 60, 80)]
    reports = [
        event(START_NS + at * S, "limit.reported", limit="trunk", used=used)
        for at, used in (*told, (6010, 20))
    ]

    assert changes(calls(20, 7200) + reports) == [(2415, "firing"), (6910, "resolved")]


def test_a_difference_is_forgotten_when_nobody_has_reported_for_two_hours() -> None:
    reports = [event(START_NS + at * S, "limit.reported", limit="trunk", used=70) for at in (10, 40, 70)]

    assert changes(calls(20, 8400) + reports) == [(75, "firing"), (75 + 7200 + 900, "resolved")]


def test_reports_of_a_split_limit_are_of_the_value_that_their_labels_say() -> None:
    """What is reported of one that nobody calls for is held against none."""
    limit = Limit(name="tenant", kind="concurrency", value=80.0, split_by=("tenant",))
    starts = [
        event(START_NS + number, "call.started", f"c{number}", tenant=("acme", "globex")[number % 2])
        for number in range(40)
    ]
    told = (("globex", 70), ("acme", 20), ("initech", 99))
    reports = [
        event(START_NS + at * S, "limit.reported", limit="tenant", used=used, tenant=tenant)
        for at in (10, 40, 70)
        for tenant, used in told
    ]

    found = drifts(starts + calls(0, 120) + reports, Register(limits=(limit,)))

    assert [(at, one["tenant"]) for at, one in found] == [(75, "globex")]
    assert "reports 70 in use, 20 are counted here" in found[0][1]["description"]


def test_many_reports_of_many_limits_cost_no_look_at_each_limit_for_each() -> None:
    """Half a thousand of a thousand tenants in one slice, in less than a tenth of a second."""
    limit = Limit(name="tenant", kind="concurrency", value=20.0, split_by=("tenant",))
    limits = tuple(LimitInstance(row, limit, (("tenant", f"t{row}"),)) for row in range(1000))
    told = tuple(
        note(EventType.LIMIT_REPORTED, START_NS, [("tenant", f"t{row}")], limit="tenant", used=float(row))
        for row in range(0, 1000, 2)
    )
    began_s = time.process_time()

    found = list(reported(told, limits, "used"))

    assert time.process_time() - began_s < 0.1
    assert found == [(row, float(row)) for row in range(0, 1000, 2)]


def test_lists_that_take_out_calls_twice_are_said() -> None:
    """The first list may find what was lost before we came."""
    more = [event(START_NS + 200 * S + number, "call.started", f"d{number}") for number in range(30)]
    lists = [
        event(START_NS + at * S, "calls.listed", calls=[f"c{number}" for number in range(5)])
        for at in (100, 300)
    ]

    found = drifts(calls(40, 400) + more + lists)

    assert [one["problem"] for _, one in found] == ["list_differs"]
    assert "does not have 30 of the 35 calls" in found[0][1]["description"]
