"""A report that differs from the register is said; one that agrees, is old, or stands alone is not."""

from __future__ import annotations

import pytest

from engine.judge.lifecycle import FIRING, RESOLVED
from engine.limits import Limit, Register
from tests.line_runs import run_all
from tests.line_traffic import START_NS, S, batches_of, event


def mismatches(
    declared: float | None, *reports: tuple[int, float], seconds: int = 60
) -> list[tuple[int, str]]:
    """Give (second, state) of the alert's changes; `reports` = (second, max)."""
    register = Register(limits=(Limit(name="trunk", kind="concurrency", value=declared, lives_in="portal"),))
    told = [event(START_NS + at * S, "limit.reported", limit="trunk", max=cap) for at, cap in reports]
    calls = [event(START_NS + at * S, "call.started", f"c{at}") for at in range(0, seconds, 5)]
    run = run_all(batches_of(sorted((*told, *calls), key=lambda one: one.time_ns)), register)
    named = [one for one in run.changes if dict(one.labels)["alertname"] == "CallLimitMismatch"]
    for change in named:
        assert "reports trunk at 60, the register says 80;" in dict(change.annotations)["description"]
    return [((change.time_ns - START_NS) // S, change.state) for change in named]


def test_a_report_that_differs_is_said_at_the_end_of_its_slice() -> None:
    assert mismatches(80.0, (12, 60.0)) == [(15, FIRING)]


@pytest.mark.parametrize(("declared", "reported"), [(80.0, 80.0), (None, 60.0), (80.0, 0.0)])
def test_a_report_that_agrees_or_has_nothing_to_differ_from_is_not_said(
    declared: float | None, reported: float
) -> None:
    """A register without a value says nothing that could be wrong; a max of 0 is no report of a cap."""
    assert mismatches(declared, (12, reported)) == []


def test_it_is_resolved_ten_minutes_after_the_report_agreed() -> None:
    found = mismatches(80.0, (12, 60.0), (22, 80.0), seconds=700)

    assert found == [(15, FIRING), (620, RESOLVED)]


def test_it_stands_between_reports_that_are_seldom() -> None:
    """A report is fresh for five minutes; one every twenty minutes that differs is one alert."""
    reports = [(minute * 60 + 12, 60.0) for minute in (0, 20, 40)]

    found = mismatches(80.0, *reports, (3612, 80.0), seconds=4300)

    assert found == [(15, FIRING), (4210, RESOLVED)]


def test_it_is_resolved_when_nobody_has_reported_for_two_hours() -> None:
    found = mismatches(80.0, (12, 60.0), seconds=8400)

    assert found == [(15, FIRING), (8110, RESOLVED)]
