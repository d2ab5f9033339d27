"""Observe with notes and lists of calls whose rows are lost: they take up no room and take no effect."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import LossReason
from engine.observe.watermark import NO_JUMP_NS
from engine.settings import EngineSettings
from tests import oracle_observe as oracle
from tests.observe_driver import Driver
from tests.observe_events import Event, S, T
from tests.observe_facts import facts_of
from tests.oracle_clock import Rules

T0 = 1_800_000_000 * S
AHEAD_S = 400  # beyond clock_ahead, which is 300 s


def started(at_s: int, call: int) -> Event:
    return Event(T0 + at_s * S, T.CALL_STARTED, call, series=("acme",))


def listed(at_s: int, *calls: int, received_s: int = -1) -> Event:
    received_ns = T0 + received_s * S if received_s >= 0 else -1
    return Event(
        T0 + at_s * S,
        T.CALLS_LISTED,
        series=("acme",),
        labels=(("tenant", "acme"),),
        listed=calls,
        received_ns=received_ns,
    )


def changed(at_s: int, number: int, received_s: int = -1) -> Event:
    received_ns = T0 + received_s * S if received_s >= 0 else -1
    return Event(T0 + at_s * S, T.CHANGE_MADE, event_id=number, received_ns=received_ns)


LOST_LISTS = {
    LossReason.LATE: listed(300),
    LossReason.TIME_AHEAD: listed(400 + AHEAD_S, received_s=400),
}


@pytest.mark.parametrize("reason", LOST_LISTS)
def test_a_list_that_is_lost_heals_nothing(reason: LossReason) -> None:
    """It lists no call, so it would take out every call that is older than it."""
    driver = Driver(is_live=True)
    events = [started(200, 1), started(400, 2), LOST_LISTS[reason], started(420, 3), started(700, 4)]
    for one in events:
        driver.feed([one])
    driver.finish()
    assert driver.observer.losses[reason] == 1
    assert driver.observer.healed["listed"] == 0
    if reason == LossReason.LATE:
        assert facts_of(driver.summaries) == oracle.observe(events, Rules(jump_ns=NO_JUMP_NS))[0]


@pytest.mark.parametrize("reason", LOST_LISTS)
@pytest.mark.parametrize("batch", [1, 9])
def test_lists_that_are_lost_leave_room_for_others(reason: LossReason, batch: int) -> None:
    """Neither their number nor their calls count against the bounds."""
    driver = Driver(EngineSettings(notes_max=2, calls_max=6), is_live=True)
    lost = LOST_LISTS[reason]._replace(listed=(7, 8, 9, 10))
    events = [started(380, 1), started(400, 2), lost, lost, lost, listed(401, 2), started(450, 3)]
    for at in range(0, len(events), batch):
        driver.feed(events[at : at + batch])
    driver.finish()
    assert driver.observer.losses[reason] == 3
    assert driver.observer.losses[LossReason.HELD_ROWS_FULL] == 0
    assert driver.observer.healed["listed"] == 1


@pytest.mark.parametrize("settings", [EngineSettings(calls_max=6), EngineSettings(notes_max=2)])
def test_lists_that_wait_are_bounded_in_number_and_in_calls(settings: EngineSettings) -> None:
    """Each may lie in a slice of its own; the one for which there is no room is lost and counted."""
    driver = Driver(settings)
    driver.feed([started(0, 1), listed(10, 1, 2, 3), listed(16, 1, 2, 3), listed(22, 1)])
    driver.finish()
    assert driver.observer.losses[LossReason.HELD_ROWS_FULL] == 1


@pytest.mark.parametrize("batch", [1, 9])
def test_notes_that_are_lost_leave_room_for_others(batch: int) -> None:
    """A slice's notes are counted when they are held, not when they are seen from far in the future."""
    driver = Driver(EngineSettings(notes_max=2))
    early = [changed(AHEAD_S, number, received_s=0) for number in range(1, 5)]
    events = [started(0, 1), *early, changed(AHEAD_S, 5), changed(AHEAD_S, 6), changed(AHEAD_S, 7)]
    for at in range(0, len(events), batch):
        driver.feed(events[at : at + batch])
    driver.finish()
    assert driver.observer.losses[LossReason.TIME_AHEAD] == 4
    assert driver.observer.losses[LossReason.HELD_ROWS_FULL] == 1
    assert [len(one.notes) for one in driver.summaries if one.notes] == [2]


def test_a_note_that_is_refused_leaves_its_neighbours_as_they_were() -> None:
    """Its row is taken out of those that are held, and only that."""
    turn = Event(T0 + S, T.TURN_COMPLETED, 1, series=("acme",), latencies=(("llm", 5.0), ("tts", 7.0)))
    rows = [started(0, 1), changed(1, 1), turn, changed(1, 2), changed(1, 3), turn, started(2, 2)]
    driver = Driver(EngineSettings(notes_max=1))
    driver.feed(rows)
    assert driver.observer.rows_held == 5
    driver.finish()
    expected, _ = oracle.observe([one for one in rows if one.event_id <= 1])
    assert facts_of(driver.summaries) == expected


def test_a_list_that_is_redelivered_is_a_duplicate_and_takes_no_room() -> None:
    """Offsets that were read before change nothing, whatever is in the row."""
    driver = Driver(EngineSettings(notes_max=2))
    rows = [started(0, 1), listed(10, 1)]
    for _ in range(3):
        driver.batch(rows, np.array([0, 1]), -1)
    driver.batch([listed(11, 1)], np.array([2]), -1)
    driver.finish()
    assert driver.observer.losses[LossReason.DUPLICATE] == 4
    assert driver.observer.losses[LossReason.HELD_ROWS_FULL] == 0
