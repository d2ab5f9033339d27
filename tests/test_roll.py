"""From summaries to judged slices: late and repeated ones, gaps, instances that appear, a new register."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engine.decode.events import EventType
from engine.judge.declines import Classifier, Rule
from engine.judge.roll import GAP_NS_MAX, Rolled, Roller, StreamCounters
from engine.limits import Limit, Register
from engine.observe.summary import Count, EndKind, SliceSummary
from engine.settings import EngineSettings
from tests.summaries import ACME, GLOBEX, SLICE_NS, S, calls_started, declined, note, summary

T0 = 1_795_358_400 * S
TRUNK = Limit(name="trunk", kind="concurrency", value=80.0)
TENANT = Limit(name="tenant", kind="concurrency", value=20.0, split_by=("tenant",))
ANSWERED = Limit(name="talk", kind="concurrency", value=50.0, counts_from="answered")
RULES = Classifier((Rule("capacity", codes=(503,)),))
NOTHING = StreamCounters()


def new_roller(*limits: Limit, **changes: Any) -> Roller:
    """Make a roller of some limits."""
    # What is in no register has tests of its own.
    settings = EngineSettings(hidden_cap_instances_max=0, **changes)
    return Roller(settings, Register(limits=limits or (TRUNK,)), RULES)


def at(slices: int) -> int:
    """Give the start of a slice, counted from T0."""
    return T0 + slices * SLICE_NS


def judge(roller: Roller, until: int, *summaries: SliceSummary) -> list[Rolled]:
    """Take summaries and judge every slice that starts before slice `until`."""
    roller.take(list(summaries))
    return list(roller.close_until(at(until), NOTHING))


def levels(rolled: list[Rolled], row: int = 0) -> list[int]:
    """Give the level of one instance by slice."""
    return [int(one.summary.limits.level[row]) for one in rolled]


def ended(start: int, began: int, count: int = 1) -> SliceSummary:
    """Make a summary of calls that end in a slice, and began in an earlier one."""
    bins = [(0, 3, 0, -count, 0, 0)]
    ends = [(0, at(began), -1, int(EndKind.ENDED), count)]
    return summary(at(start), counts=[{Count.ENDED: count}], bins=bins, ends=ends)


def test_nothing_is_judged_before_the_first_summary() -> None:
    assert judge(new_roller(), 100) == []


def test_a_slice_is_judged_once_the_watermark_has_passed_its_end() -> None:
    roller = new_roller()
    roller.take([calls_started(at(0))])

    assert list(roller.close_until(at(1) - 1, NOTHING)) == []
    assert len(list(roller.close_until(at(1), NOTHING))) == 1
    assert list(roller.close_until(at(1), NOTHING)) == []


def test_slices_without_events_are_judged_too() -> None:
    rolled = judge(new_roller(), 5, calls_started(at(0), 3))

    assert levels(rolled) == [3, 3, 3, 3, 3]
    assert [one.summary.start_ns for one in rolled] == [at(number) for number in range(5)]
    assert [int(one.summary.limits.alive[0, age]) for age, one in enumerate(rolled)] == [3] * 5
    assert {one.summary.first_ns for one in rolled} == {at(0)}


def test_partitions_add_up_in_whatever_order_they_come() -> None:
    here = calls_started(at(0), 3, ACME)
    there = calls_started(at(0), 4, GLOBEX)._replace(partition=1)

    one, other = (judge(new_roller(), 1, *pair)[0] for pair in ([here, there], [there, here]))

    assert levels([one]) == levels([other]) == [7]
    assert one.summary.windows.labels == other.summary.windows.labels


def test_peaks_are_taken_after_partitions_are_added() -> None:
    """Two partitions that peak at different times never hold the sum of their peaks."""
    here = summary(at(0), bins=[(0, 0, 5, 5, 0, 0), (0, 10, 0, -5, 0, 0)])
    there = summary(at(0), bins=[(0, 20, 5, 5, 0, 0), (0, 30, 0, -5, 0, 0)], partition=1)

    (rolled,) = judge(new_roller(), 1, here, there)

    assert rolled.summary.limits.level_peak.tolist() == [5]


def test_an_earlier_slice_may_still_open_the_stream() -> None:
    roller = new_roller()
    roller.take([calls_started(at(3))])
    roller.take([calls_started(at(1))._replace(partition=1)])

    assert levels(judge(roller, 4)) == [1, 1, 2]


def test_a_higher_revision_replaces_and_a_repeated_summary_adds_nothing() -> None:
    roller = new_roller()
    first, second = calls_started(at(0), 1), calls_started(at(0), 2)._replace(revision=1)

    rolled = judge(roller, 1, first, second, second, first)

    assert levels(rolled) == [2]
    assert levels(judge(roller, 2, second, first)) == [2]
    assert roller.measures.totals[0, 0] == 2


def late_start(revision: int = 1) -> SliceSummary:
    """Amend slice 0, which had two calls, by a third; its level changes elsewhere."""
    return summary(
        at(0),
        counts=[{Count.STARTED: 3, Count.ADMITTED: 3, Count.AMENDED: 1}],
        bins=[(0, 0, 2, 2, 0, 0), (0, 7, 1, 0, 0, 0)],
        revision=revision,
    )


def test_a_late_start_amends_windows_and_ages_and_its_level_changes_where_it_says() -> None:
    roller = new_roller()
    judge(roller, 4, calls_started(at(0), 2))
    level = summary(at(4), bins=[(0, 0, 0, 1, 0, 0)])

    (rolled,) = judge(roller, 5, late_start(), level)

    use, windows = rolled.summary.limits, rolled.summary.windows
    assert levels([rolled]) == [3]
    assert use.alive[0, 4] == 3
    assert use.alive[0].sum() == 3
    assert use.arrivals.tolist() == [0]
    assert windows.arrivals[0].tolist() == [3, 3, 3]
    assert windows.arrivals_in_slice[0] == 0
    assert rolled.summary.stream.amended == 1
    assert judge(roller, 6)[0].summary.stream.amended == 0


def test_a_slice_of_a_partition_that_comes_after_its_time_was_judged_counts_once() -> None:
    """A partition that was idle and speaks again: levels from now on, ages and windows at their true time."""
    roller = new_roller()
    judge(roller, 4, calls_started(at(0), 2))
    late = calls_started(at(1), 5, GLOBEX)._replace(partition=1)

    (rolled,) = judge(roller, 5, late, late)

    assert levels([rolled]) == [7]
    assert rolled.summary.limits.level_peak.tolist() == [7]
    assert (rolled.summary.limits.alive[0, 3], rolled.summary.limits.alive[0, 4]) == (5, 2)
    assert rolled.summary.windows.arrivals[0].tolist() == [7, 7, 7]


def test_what_comes_later_than_the_last_call_summary_may_still_replaces_and_never_adds() -> None:
    """A platform whose rows may come half an hour late: its slice is remembered for as long."""
    roller = new_roller(late_by_platform_ns={"slow": 1800 * S})
    judge(roller, 300, calls_started(at(0), 2))

    (rolled,) = judge(roller, 301, late_start())

    assert levels([rolled]) == [2]
    assert rolled.summary.windows.arrivals[0, 2] == 3


def test_summaries_are_remembered_for_as_long_as_they_may_be_amended_and_no_longer() -> None:
    roller = new_roller()

    judge(roller, 1000, *(calls_started(at(number)) for number in range(1000)))

    kept = (roller.settings.late_ns + SLICE_NS) // SLICE_NS
    assert len(roller._judged) == kept + 1
    assert roller._waiting == {}


def test_late_notes_are_seen_once() -> None:
    roller = new_roller()
    change = note(EventType.CHANGE_MADE, at(0), what="deploy")
    judge(roller, 2, calls_started(at(0)))

    rolled = judge(roller, 4, calls_started(at(0))._replace(revision=1, notes=(change,)))
    again = judge(roller, 6, calls_started(at(0))._replace(revision=2, notes=(change,)))

    assert [one.summary.notes for one in rolled + again] == [(change,), (), (), ()]


def test_an_end_takes_its_call_out_at_its_age() -> None:
    roller = new_roller()

    rolled = judge(roller, 4, calls_started(at(0), 2), ended(3, began=0))

    assert levels(rolled) == [2, 2, 2, 1]
    assert rolled[3].summary.limits.ended_by_age[0, 3] == 1
    assert rolled[3].summary.limits.alive[0, 3] == 1


@pytest.mark.parametrize("gap", [2, GAP_NS_MAX // SLICE_NS + 100, 3 * GAP_NS_MAX // SLICE_NS])
def test_a_gap_is_judged_slice_by_slice_or_stepped_over_and_calls_grow_old_either_way(gap: int) -> None:
    roller = new_roller()
    judge(roller, 1, calls_started(at(0), 2))

    rolled = judge(roller, gap + 1, ended(gap, began=0))

    assert len(rolled) == 2
    last = rolled[-1].summary
    assert last.start_ns == at(gap)
    assert levels(rolled) == [2, 1]
    age = min(gap, last.limits.alive.shape[1] - 1)
    assert last.limits.alive[0, age] == 1
    assert last.limits.alive[0].sum() == 1
    assert last.limits.ended_by_age[0, age] == 1
    assert last.windows.arrivals[0].tolist() == ([2, 2, 2] if gap == 2 else [0, 0, 0])


def test_a_gap_of_less_than_a_day_is_judged_slice_by_slice() -> None:
    roller = new_roller()
    judge(roller, 1, calls_started(at(0)))

    rolled = judge(roller, 2001, calls_started(at(2000)))

    assert len(rolled) == 2000


def test_an_instance_appears_with_its_first_call_and_starts_empty() -> None:
    rolled = judge(new_roller(TENANT), 3, calls_started(at(0), 2, ACME), calls_started(at(2), 3, GLOBEX))

    assert [one.summary.limits.level.tolist() for one in rolled] == [[2], [2], [2, 3]]
    assert rolled[2].summary.limits.first_ns.tolist() == [at(1), at(3)]
    assert rolled[2].summary.limits.alive[1, 0] == 3


def test_when_instances_are_full_the_rest_are_counted_together() -> None:
    roller = new_roller(TENANT, limit_instances_max=1)
    series = [(f"tenant-{number}", "sip-1", "", "") for number in range(4)]

    rolled = judge(roller, 4, *(calls_started(at(number), 1, one) for number, one in enumerate(series)))

    assert rolled[-1].summary.limits.level.tolist() == [1, 3]
    assert roller.index.instances[1].split == (("tenant", "__other__"),)


def test_declines_are_put_down_and_counted_up() -> None:
    full = summary(at(0), counts=[{Count.STARTED: 2, Count.DECLINED: 2}], causes=[(0, declined(503), 2)])

    first, second = judge(new_roller(), 2, full, full._replace(start_ns=at(1)))

    assert first.summary.limits.declined.tolist() == second.summary.limits.declined.tolist() == [2]
    assert first.declines.causes == ((0, declined(503), 2),)


def test_the_value_is_that_of_the_slices_end() -> None:
    limit = Limit(
        name="trunk",
        kind="concurrency",
        value=80.0,
        history=((T0 - S, 60.0), (at(2), 80.0)),
        confirmed_on="x",
    )

    rolled = judge(new_roller(limit), 3, calls_started(at(0)))

    assert [float(one.summary.limits.value[0]) for one in rolled] == [60.0, 80.0, 80.0]


def test_a_platform_that_was_busy_before_we_came_is_partial_until_those_calls_are_gone() -> None:
    roller = new_roller()
    opened = summary(at(0), counts=[{Count.OPENED_UNKNOWN: 1}], bins=[(0, 0, 0, 1, 0, 0)])
    end = summary(at(20), bins=[(0, 0, 0, -1, 0, 0)], ends=[(0, -1, -1, int(EndKind.ENDED), 1)])

    rolled = judge(roller, 22, opened, end)

    partial = [one.summary.is_partial for one in rolled]
    assert partial == [True] * 20 + [False, False]
    assert not any(one.summary.is_partial for one in judge(new_roller(), 22, calls_started(at(0))))


def test_counters_of_the_stream_are_differences_between_slices() -> None:
    roller = new_roller()
    roller.take([calls_started(at(0))])
    (first,) = roller.close_until(at(1), StreamCounters(3, 1))
    (second,) = roller.close_until(at(2), StreamCounters(5, 1))

    assert (first.summary.stream.clock_ahead, first.summary.stream.unkeyed_calls) == (3, 1)
    assert (second.summary.stream.clock_ahead, second.summary.stream.unkeyed_calls) == (2, 0)


def test_an_event_of_any_kind_shows_that_the_stream_lives() -> None:
    reported = note(EventType.LIMIT_REPORTED, at(1), limit="trunk", used=1.0)

    rolled = judge(new_roller(), 3, calls_started(at(0)), summary(at(1), ())._replace(notes=(reported,)))

    assert [one.summary.stream.events for one in rolled] == [1, 1, 0]


def reload(roller: Roller, *limits: Limit) -> None:
    """Take a new register."""
    roller.reload(Register(limits=limits), RULES)


def test_a_new_limit_starts_with_the_calls_in_flight_of_unknown_age() -> None:
    roller = new_roller()
    judge(roller, 2, calls_started(at(0), 3))

    reload(roller, TRUNK, TENANT)
    rolled = judge(roller, 4, calls_started(at(2), 1), ended(3, began=0))

    assert levels(rolled, row=1) == [4, 3]
    assert [int(one.summary.limits.age_unknown[1]) for one in rolled] == [3, 2]
    assert int(rolled[1].summary.limits.alive[1, 1]) == 1
    assert (rolled[1].summary.limits.alive >= 0).all()
    assert levels(rolled) == [4, 3]


def test_a_new_limit_on_answered_calls_starts_with_those_that_were_answered() -> None:
    roller = new_roller()
    talking = summary(at(0), counts=[{Count.STARTED: 3, Count.ADMITTED: 3}], bins=[(0, 0, 3, 3, 1, 1)])
    judge(roller, 1, talking)

    reload(roller, TRUNK, ANSWERED)
    answer = summary(at(1), counts=[{Count.ANSWERED: 1}], bins=[(0, 0, 0, 0, 1, 1)])
    rolled = judge(roller, 2, answer)

    assert levels(rolled, row=1) == [2]


def test_a_changed_value_leaves_level_and_ages_as_they_are() -> None:
    roller = new_roller()
    judge(roller, 2, calls_started(at(0), 3))

    reload(roller, Limit(name="trunk", kind="concurrency", value=120.0))
    (rolled,) = judge(roller, 3)

    assert rolled.summary.limits.value.tolist() == [120.0]
    assert rolled.summary.limits.alive[0, 2] == 3
    assert rolled.summary.limits.age_unknown.tolist() == [0]


def test_a_limit_that_goes_and_comes_back_counts_what_is_in_flight_then() -> None:
    roller = new_roller(TRUNK, TENANT)
    judge(roller, 1, calls_started(at(0), 3))
    reload(roller, TENANT)
    (gone,) = judge(roller, 2, ended(1, began=0, count=2))
    assert levels([gone]) == [0]
    assert np.isnan(gone.summary.limits.value[0])

    reload(roller, TRUNK, TENANT)
    (back,) = judge(roller, 3)

    assert levels([back], row=2) == levels([back], row=1) == [1]
    assert back.summary.limits.value[1:].tolist() == [20.0, 80.0]
