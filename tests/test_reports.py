"""What platforms say of their own limits."""

from __future__ import annotations

import math

from engine.decode.events import EventType, Note
from engine.judge.reports import FRESH_NS, REPORTS_MAX, Reports
from engine.limits import Limit, Register
from tests.summaries import S, note

TRUNK = Limit(name="trunk", kind="concurrency")
TENANT = Limit(name="tenant", kind="concurrency", split_by=("tenant",))
THE_TRUNK = ("trunk", ())
ACME = ("tenant", ("acme",))


def reported(time_s: int = 0, tenant: str = "", **fields: object) -> Note:
    """Make a report of the trunk, or with a tenant of the tenant's limit."""
    name = "tenant" if tenant else "trunk"
    labels = [("tenant", tenant)] if tenant else []
    return note(EventType.LIMIT_REPORTED, time_s * S, labels, limit=name, **fields)


def new_reports() -> Reports:
    """Make reports that know both limits."""
    reports = Reports()
    reports.know(Register(limits=(TRUNK, TENANT)))
    return reports


def test_the_newest_report_counts_whatever_the_order_they_come_in() -> None:
    reports = new_reports()

    reports.take((reported(10, used=5.0, max=80.0), reported(5, used=9.0, max=60.0)))

    found = reports.fresh(10 * S).get(THE_TRUNK)
    assert found is not None
    assert (found.used, found.max) == (5.0, 80.0)


def test_a_report_is_forgotten_after_five_minutes() -> None:
    reports = new_reports()
    reports.take((reported(0, max=80.0),))

    assert reports.fresh(FRESH_NS).get(THE_TRUNK) is not None
    assert reports.fresh(FRESH_NS + 1).get(THE_TRUNK) is None


def test_what_a_report_does_not_say_is_unknown_and_a_cap_of_zero_says_nothing() -> None:
    reports = new_reports()

    reports.take((reported(0, max=0.0),))

    found = reports.fresh(0).get(THE_TRUNK)
    assert found is not None
    assert math.isnan(found.used)
    assert math.isnan(found.max)


def test_what_a_report_does_not_say_it_does_not_take_back() -> None:
    """Two collectors, one of which knows how much is used and the other the cap, on one limit."""
    reports = new_reports()

    reports.take((reported(10, used=5.0, max=80.0), reported(20, max=60.0), reported(30, used=9.0)))
    reports.take((reported(15, used=7.0, max=70.0), reported(40, used="many", max=0.0)))

    found = reports.fresh(40 * S).get(THE_TRUNK)
    assert found is not None
    assert (found.used, found.max) == (9.0, 60.0)


def test_what_is_used_and_the_cap_are_forgotten_each_five_minutes_after_it_was_said() -> None:
    reports = new_reports()
    reports.take((reported(0, used=5.0, max=80.0), reported(100, max=60.0)))

    found = reports.fresh(FRESH_NS + 1).get(THE_TRUNK)
    assert found is not None
    assert math.isnan(found.used)
    assert found.max == 60.0

    reports.take((reported(500, used=6.0),))
    found = reports.fresh(500 * S).get(THE_TRUNK)
    assert found is not None
    assert found.used == 6.0
    assert math.isnan(found.max)


def test_reports_of_a_split_limit_are_kept_by_its_values() -> None:
    reports = new_reports()

    reports.take((reported(0, "acme", max=20.0), reported(0, "globex", max=30.0)))

    found = reports.fresh(0).get(ACME)
    assert found is not None
    assert found.max == 20.0


def test_reports_of_unknown_limits_and_other_notes_are_not_kept() -> None:
    reports = new_reports()

    other = note(EventType.CHANGE_MADE, limit="trunk", max=1.0)
    reports.take((note(EventType.LIMIT_REPORTED, limit="nobody's", max=1.0), other))

    assert reports._newest == {}


def test_stale_reports_make_room_and_fresh_ones_do_not() -> None:
    """Tenants come and go: a place that was taken once is not taken for good."""
    reports = new_reports()
    reports.take(tuple(reported(0, f"t{number}", max=1.0) for number in range(REPORTS_MAX - 1)))
    reports.take((reported(200, "globex", max=30.0),))

    reports.take((reported(300, "acme", max=20.0),))
    assert reports.refused == 1

    reports.take((reported(301, "acme", max=20.0),))
    assert reports.refused == 1
    assert len(reports._newest) == 2
    assert ("tenant", ("acme",)) in reports._newest


def test_a_new_register_keeps_the_reports_of_its_limits_alone() -> None:
    reports = new_reports()
    reports.take((reported(0, max=80.0), reported(0, "acme", max=20.0)))

    reports.know(Register(limits=(TRUNK,)))

    assert reports.fresh(0).get(THE_TRUNK) is not None
    assert reports.fresh(0).get(ACME) is None


def test_reports_are_bounded_and_those_known_go_on() -> None:
    reports = new_reports()
    reports.take(tuple(reported(0, f"t{number}", max=1.0) for number in range(REPORTS_MAX)))

    reports.take((reported(0, "acme", max=20.0), reported(1, "t7", max=2.0)))

    assert len(reports._newest) == REPORTS_MAX
    assert reports.fresh(0).get(ACME) is None
    known = reports.fresh(S).get(("tenant", ("t7",)))
    assert known is not None
    assert known.max == 2.0
