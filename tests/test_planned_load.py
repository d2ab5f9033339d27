"""Announced load: warned of at once if it does not fit, paged shortly before, and taken back."""

from collections.abc import Sequence

import numpy as np
import pytest

from bench.leadtime.feed import Feed, slices
from bench.leadtime.traffic import start_flat
from detectors.headroom import Headroom
from detectors.planned_load import PLANS_MAX, Plan, is_checked, most_together, with_plans
from engine.decode.events import EventType, Note
from engine.judge.detection import CRITICAL, WARNING, Finding
from engine.limits import Limit, LimitInstance
from engine.settings import HeadroomSettings

ORIGIN_S = 1_767_225_600
NS = 1_000_000_000
HOUR_NS = 3600 * NS
LIMIT = Limit(name="sip-1", kind="concurrency", value=80.0, applies_to={"trunk": ("a", "b")})
START_S = 7200


def plan(expected: float, labels: Sequence[tuple[str, str]] = (), **fields: object) -> Note:
    given = {"limit": "sip-1", "from_ns": (ORIGIN_S + START_S) * NS} | fields
    pairs = tuple((name, value) for name, value in given.items() if value is not None)
    return Note(ORIGIN_S * NS, EventType.LOAD_PLANNED, tuple(labels), (("expected", expected), *pairs))


def said(
    notes: dict[int, tuple[Note, ...]], stop_s: float = 7500.0, limit: Limit = LIMIT, evaluate_s: int = 15
) -> dict[int, tuple[Finding, ...]]:
    """Give the findings of a platform that holds about 30 calls, by second; `notes` by second as well."""
    calls = start_flat(0.375, 80.0, 60.0, stop_s, np.random.default_rng(31))
    detector = Headroom(HeadroomSettings(evaluate_ns=evaluate_s * NS))
    state, found = detector.new_state(), {}
    limits = (LimitInstance(0, limit, tuple((label, "acme") for label in limit.split_by)),)
    for summary in slices(Feed((calls,), np.array([80.0]), stop_s, 15, ORIGIN_S)):
        at_s = summary.end_ns // NS - ORIGIN_S
        detection = detector.detect(state, summary._replace(notes=notes.get(at_s, ())), limits)
        state = detection.state
        found[at_s] = detection.findings
    return found


def severities(found: tuple[Finding, ...]) -> set[str]:
    return {one.severity for one in found}


def test_a_plan_that_does_not_fit_is_warned_of_at_once_and_paged_before_it_begins() -> None:
    found = said({1500: (plan(70.0),)})

    assert severities(found[1485]) == set()
    assert severities(found[1500]) == {WARNING}
    assert severities(found[START_S - 615]) == {WARNING}
    assert severities(found[START_S - 600]) == {WARNING, CRITICAL}
    assert severities(found[START_S + 45]) == {WARNING, CRITICAL}
    assert severities(found[START_S + 60]) == set()
    text = found[1500][0].description.format(limit="sip-1", **dict(found[1500][0].evidence))
    assert "This is a plan" in text
    assert "70 calls at once are announced" in text
    assert "beginning in 95 min, for 60 min" in text
    assert "are in use now" in text
    assert "{" not in text


@pytest.mark.parametrize(
    "note",
    [
        plan(30.0),
        plan(70.0, limit="another"),
        plan(70.0, limit=None),
        plan(70.0, labels=(("trunk", "c"),), limit=None),
        plan(0.0),
        Note(ORIGIN_S * NS, EventType.LOAD_PLANNED, (), (("limit", "sip-1"),)),
        Note(ORIGIN_S * NS, EventType.CHANGE_MADE, (), (("expected", 70.0), ("limit", "sip-1"))),
        plan(70.0, until_ns=(ORIGIN_S + 60) * NS),
    ],
)
def test_what_fits_or_is_about_something_else_says_nothing(note: Note) -> None:
    assert not any(said({1500: (note,)}, 2000.0).values())


def test_labels_mean_the_limits_that_look_at_them() -> None:
    found = said({1500: (plan(70.0, labels=(("trunk", "b"), ("tenant", "acme")), limit=None),)}, 1600.0)

    assert severities(found[1500]) == {WARNING}


@pytest.mark.parametrize(("tenant", "speaks"), [("acme", True), ("globex", False)])
def test_a_plan_for_one_value_of_a_split_limit_is_for_that_instance(tenant: str, speaks: bool) -> None:
    split = Limit(name="sip-1", kind="concurrency", value=80.0, split_by=("tenant",))
    found = said({1500: (plan(70.0, labels=(("tenant", tenant),)),)}, 1600.0, split)

    assert bool(found[1500]) is speaks


def test_a_plan_without_a_beginning_begins_at_once() -> None:
    found = said({1500: (plan(70.0, from_ns=None),)}, 1600.0)

    assert severities(found[1500]) == {WARNING, CRITICAL}
    assert severities(found[1560]) == set()


@pytest.mark.parametrize("evaluate_s", [15, 30, 60])
def test_a_plan_that_begins_at_once_is_found_as_often_in_a_row_as_a_page_needs(evaluate_s: int) -> None:
    (needed,) = {policy.evaluations for policy in Headroom.policies}
    found = said({1515: (plan(70.0, from_ns=None),)}, 1700.0, evaluate_s=evaluate_s)

    told = [severities(one) for one in found.values() if one]
    assert len(told) >= needed
    assert all(one == {WARNING, CRITICAL} for one in told)


def test_plans_for_the_same_time_add_up_and_can_be_taken_back() -> None:
    first, second = plan(30.0), plan(30.0, labels=(("tenant", "acme"),))
    found = said({1500: (first,), 1800: (second,), 2100: (first._replace(fields=plan(0.0).fields),)}, 2200.0)

    assert severities(found[1500]) == set()
    assert severities(found[1800]) == {WARNING}
    assert dict(found[1800][0].evidence)["planned_calls"] == 60
    assert severities(found[2100]) == set()


def test_plans_that_never_meet_do_not_add_up() -> None:
    """All day long 100; at its beginning and at its end 100 more, which is never 300 at once."""
    day, morning, evening = (
        Plan("sip-1", (), begin * HOUR_NS, end * HOUR_NS, 100.0, 0)
        for begin, end in ((9, 17), (9, 10), (16, 17))
    )
    every = [day, morning, evening]

    assert [most_together(one, every) for one in every] == [200.0, 200.0, 200.0]
    assert most_together(day, [day]) == 100.0


def test_a_plan_is_kept_while_it_runs_and_speaks_no_more() -> None:
    running = Plan("sip-1", (), 9 * HOUR_NS, 17 * HOUR_NS, 100.0, 0)

    assert with_plans((running,), (), 12 * HOUR_NS) == ((running,), 0)
    assert not is_checked(running, 12 * HOUR_NS, 15 * NS)
    assert with_plans((running,), (), 17 * HOUR_NS) == ((), 0)


def test_plans_are_bounded_and_leave_when_they_are_over() -> None:
    notes = tuple(plan(1.0, from_ns=(ORIGIN_S + 100 + k) * NS) for k in range(PLANS_MAX + 5))
    plans, refused = with_plans((), notes, ORIGIN_S * NS)

    assert (len(plans), refused) == (PLANS_MAX, 5)
    assert with_plans(plans, (), (ORIGIN_S + 10_000) * NS) == ((), 0)
    assert with_plans(plans, (), ORIGIN_S * NS)[0] is plans
