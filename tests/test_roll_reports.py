"""What a platform reports of a limit, in the slices that follow: its value, and use that is not seen here."""

from __future__ import annotations

import numpy as np

from engine.decode.events import EventType
from engine.limits import Limit
from engine.observe.summary import Count
from tests.summaries import calls_started, note, summary
from tests.test_roll import TRUNK, at, ended, judge, new_roller, reload


def test_a_fresh_report_sets_the_value_and_shows_use_that_we_do_not_see() -> None:
    roller = new_roller()
    reported = note(EventType.LIMIT_REPORTED, at(0), limit="trunk", used=10.0, max=60.0)

    rolled = judge(roller, 63, calls_started(at(0), 4)._replace(notes=(reported,)))

    values = [float(one.summary.limits.value[0]) for one in rolled]
    assert values[0] == values[59] == 60.0
    assert values[61] == 80.0
    assert rolled[0].summary.limits.unseen_use.tolist() == [6.0]
    assert rolled[61].summary.limits.unseen_use.tolist() == [0.0]
    assert rolled[0].summary.limits.reported_use.tolist() == [10.0]
    assert np.isnan(rolled[61].summary.limits.reported_use).all()


def test_use_that_we_do_not_see_is_that_of_the_reports_moment() -> None:
    """Calls that start or end here afterwards are seen: they make it neither smaller nor larger."""
    begun = calls_started(at(0), 4)
    first, second = (
        summary(at(time), ())._replace(
            notes=(note(EventType.LIMIT_REPORTED, at(time), limit="trunk", used=used),)
        )
        for time, used in ((62, 10.0), (66, 3.0))
    )

    rolled = judge(new_roller(), 67, begun, first, ended(63, 0, 4), calls_started(at(64), 9), second)[62:]

    assert [int(one.summary.limits.level[0]) for one in rolled] == [4, 0, 9, 9, 9]
    assert [float(one.summary.limits.unseen_use[0]) for one in rolled] == [6.0, 6.0, 6.0, 6.0, 0.0]


def test_a_report_of_the_cap_alone_leaves_use_that_we_do_not_see_as_it_was() -> None:
    """It stands for five minutes from when `used` was said, whatever is said of the cap meanwhile."""
    told = (
        note(EventType.LIMIT_REPORTED, at(62), limit="trunk", used=10.0),
        note(EventType.LIMIT_REPORTED, at(64), limit="trunk", max=60.0),
    )
    notes = [summary(one.time_ns, ())._replace(notes=(one,)) for one in told]

    rolled = judge(new_roller(), 125, calls_started(at(0), 4), *notes, ended(63, 0, 4))

    limits = {number: one.summary.limits for number, one in enumerate(rolled)}
    assert [float(limits[at].value[0]) for at in (63, 64, 123)] == [80.0, 60.0, 60.0]
    assert [float(limits[at].unseen_use[0]) for at in (62, 63, 64, 121, 122)] == [6.0, 6.0, 6.0, 6.0, 0.0]
    assert np.isnan(limits[122].reported_use).all()


def test_while_calls_are_still_being_found_use_that_we_do_not_see_shrinks() -> None:
    """Those that were up before the stream began are in the report as well."""
    reported = note(EventType.LIMIT_REPORTED, at(0), limit="trunk", used=10.0)
    found = summary(at(2), counts=[{Count.OPENED_UNKNOWN: 1}], bins=[(0, 0, 0, 5, 0, 0)])

    rolled = judge(new_roller(), 3, calls_started(at(0), 4)._replace(notes=(reported,)), found)

    assert [float(one.summary.limits.unseen_use[0]) for one in rolled] == [6.0, 6.0, 1.0]


def test_a_report_is_of_the_instance_in_force_and_not_of_one_that_has_retired() -> None:
    """Both have the same name: what the retired one does not hold is not use of others."""
    roller = new_roller(TRUNK)
    judge(roller, 70, calls_started(at(0), 4))
    reload(roller, Limit(name="trunk", kind="concurrency", value=80.0, applies_to={"trunk": ("sip-1",)}))
    reported = note(EventType.LIMIT_REPORTED, at(70), limit="trunk", used=4.0)

    (last,) = judge(roller, 71, summary(at(70), ())._replace(notes=(reported,)))

    (row,) = roller.index.counting()
    assert row == 1
    assert int(last.summary.limits.level[row]) == 4
    assert float(last.summary.limits.unseen_use[row]) == 0.0


def test_reports_outlive_a_reload() -> None:
    roller = new_roller()
    reported = note(EventType.LIMIT_REPORTED, at(0), limit="trunk", max=60.0)
    judge(roller, 1, calls_started(at(0))._replace(notes=(reported,)))

    reload(roller, TRUNK)

    assert judge(roller, 2)[0].summary.limits.value.tolist() == [60.0]
