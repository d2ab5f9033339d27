"""A snapshot is a picture: later steps do not change it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from engine.judge.snapshot import Snapshot
from engine.limits import Register
from engine.publish import Publisher
from engine.settings import EngineSettings, Settings
from tests.line_runs import Run, run_all
from tests.line_traffic import REGISTER, START_NS, S, Traffic, batches_of, event, make_story

EVENTS = make_story(Traffic(2)).events


def is_same(one: Any, other: Any) -> bool:
    """Compare nested tuples of arrays, numbers and texts; NaN equals NaN."""
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, float) and one != one:  # noqa: PLR0124 - NaN is not equal to itself.
        return bool(other != other)  # noqa: PLR0124 - as above.
    return bool(one == other)


def test_later_steps_and_reloads_do_not_change_an_earlier_snapshot() -> None:
    run = Run(REGISTER)
    taken: list[tuple[Snapshot, Snapshot]] = []
    for place, raw in enumerate(batches_of(EVENTS, rows_max=60)):
        run.step(raw)
        snapshot = run.publisher.publish(place)
        taken.append((snapshot, copy.deepcopy(snapshot)))
        if place == 20:
            run.judge.reload(Register(limits=REGISTER.limits[:1]), ())
    run.finish()

    assert len(taken) > 30
    assert all(is_same(snapshot, kept) for snapshot, kept in taken)
    assert not is_same(taken[0][0], taken[-1][0])


def test_what_is_made_once_is_made_anew_when_there_is_more() -> None:
    """One that has published after every step says what one that begins now says."""
    run = Run(REGISTER)
    for place, raw in enumerate(batches_of(EVENTS, rows_max=60)):
        run.step(raw)
        found = run.publisher.publish(place)
        if place % 10 == 0:
            assert is_same(found, Publisher(run.publisher.pipeline).publish(place))
    assert len(found.arrivals_total) > 1


def test_no_array_of_a_snapshot_belongs_to_the_engine() -> None:
    """Writing to all of them changes nothing that is published next."""
    run, twin = Run(REGISTER), Run(REGISTER)
    for raw in batches_of(EVENTS[:1500], rows_max=100):
        run.step(raw)
        twin.step(raw)
    spoiled = run.publisher.publish(0)
    for part in (spoiled.windows, spoiled.latency):
        for array in part:
            if isinstance(array, np.ndarray) and array.flags.writeable:
                array.fill(77)
    for _, counter in spoiled.counters:
        counter.fill(77)
    for raw in batches_of(EVENTS[1500:], rows_max=100):
        later = raw.offset + 1500
        for one in (run, twin):
            one.step(type(raw)(**{name: getattr(raw, name) for name in raw.__slots__} | {"offset": later}))

    assert is_same(twin.publisher.publish(0), run.publisher.publish(0))
    assert twin.lines() == run.lines()


def test_a_snapshot_says_where_every_row_is_and_how_far_the_engine_has_come() -> None:
    run = run_all(batches_of(EVENTS), REGISTER)

    snapshot = run.publisher.publish(123)

    assert snapshot.rows_read == snapshot.rows_absorbed == len(EVENTS)
    assert sum(count for _, count in snapshot.rows_lost) == 0
    assert snapshot.received_ns == 123
    assert snapshot.watermark_ns == run.recorder.summaries[-1].end_ns
    assert snapshot.slices_closed == len(run.recorder.summaries)
    assert [status.limit for status in snapshot.limits] == ["trunk-cap", "tenant-cap", "tenant-cap"]
    assert {alert.state for alert in snapshot.alerts} >= {"firing"}


def test_counters_are_those_of_all_calls() -> None:
    story = make_story(Traffic(2))
    snapshot = run_all(batches_of(story.events), REGISTER).publisher.publish(0)
    ends = [call for call in story.calls if call.end_ns >= 0]

    totals = {name: int(values.sum()) for name, values in snapshot.counters}

    assert totals == {
        "calls_started": len(story.calls),
        "calls_answered": sum(call.answer_ns >= 0 for call in story.calls),
        "calls_ended": sum(not call.is_declined for call in ends),
        "calls_declined": sum(call.is_declined for call in ends),
        "call_errors": sum(call.is_error for call in ends),
    }
    assert len(snapshot.arrivals_total) == snapshot.series == 4
    measured = sum(len(call.latencies) for call in story.calls)
    assert int(snapshot.latency.pages.sum()) == measured
    held = [call for call in story.calls if call.end_ns < 0]
    assert snapshot.calls_in_flight == len(held)


def test_what_only_changes_with_a_slice_is_copied_only_then() -> None:
    run = Run(REGISTER)
    batches = list(batches_of([one for one in EVENTS if one.time_ns < START_NS + 60 * S], rows_max=1))
    same = 0
    for raw in batches:
        before, slices = run.publisher.publish(0), run.judge.roller.slices_closed
        run.step(raw)
        after = run.publisher.publish(0)
        if run.judge.roller.slices_closed == slices:
            same += after.windows is before.windows
            assert after.windows is before.windows
        assert after.rows_read == before.rows_read + 1
    assert same > len(batches) // 2


def test_an_engine_that_has_seen_nothing_has_a_snapshot() -> None:
    snapshot = Run(REGISTER).publisher.publish(5)

    assert snapshot.watermark_ns == -1
    assert snapshot.limits == ()
    assert snapshot.alerts == ()
    assert snapshot.windows.labels == ((),)


def test_bounds_that_were_met_are_published() -> None:
    """One stage too many, a cause without room for its reason, a bad value, and one alert too many."""
    settings = Settings(engine=EngineSettings(stages_max=1, causes_max=1, alerts_max=1))
    calls = [
        event(START_NS, "call.started", "a"),
        event(START_NS, "call.declined", "a", code=503, reason="full"),
        event(START_NS + S, "turn.completed", "b", latency_ms={"llm": 5}),
        event(START_NS + S, "call.ended", "b", outcome="completed", duration_ms="long"),
    ]
    snapshot = run_all(batches_of(calls), Register(), settings).publisher.publish(0)

    assert snapshot.causes_collapsed >= 1
    assert snapshot.measures_collapsed == 1
    assert dict(snapshot.fields_ignored)["duration_ms"] == 1
    assert len(snapshot.alerts) == 1
    assert snapshot.alerts_refused >= 1
