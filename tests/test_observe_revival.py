"""Observe with calls that were healed and live on: a sign of life or a list brings them back as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decode.events import Cause
from engine.observe.summary import Count
from tests import oracle_observe as oracle
from tests.observe_driver import Driver
from tests.observe_events import Event, S, T
from tests.observe_facts import facts_of
from tests.test_observe import START, an_event, by_time, run

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED = Cause(declined=False, outcome="failed", platform="", code=0, reason="", limit="")
A_CALL = 1


def one(at_s: float, type_id: T = T.CALL_QUEUED, call: int = A_CALL, **what: object) -> Event:
    """Give an event of one tenant."""
    return Event(START + int(at_s * S), type_id, call, series=("acme",), **what)  # type: ignore[arg-type]


def listed(at_s: float, *calls: int) -> Event:
    """Give a list of all live calls."""
    return one(at_s, T.CALLS_LISTED, 0, listed=calls, labels=(("tenant", "acme"),))


def ticks(until_s: int) -> list[Event]:
    """Give events that only say what time it is."""
    return [one(at_s, call=99) for at_s in range(0, until_s, 5)]


def observed(events: Sequence[Event]) -> Driver:
    """Observe events in order of time; the twin must say the same."""
    events = by_time(events)
    driver = run(events)
    assert facts_of(driver.summaries) == oracle.observe(events)[0]
    return driver


def levels(driver: Driver, what: str = "level") -> dict[int, int]:
    """Give the level after each slice that changed it, by the second of its start."""
    changes: dict[int, int] = {}
    for key, amount in facts_of(driver.summaries).items():
        if key[0] == "bin" and key[-1] == what:
            at_s = (int(str(key[1])) - START) // S
            changes[at_s] = changes.get(at_s, 0) + amount
    level, found = 0, {}
    for at_s in sorted(changes):
        level += changes[at_s]
        found[at_s] = level
    return found


@pytest.mark.parametrize("partitions", [1, 2])
def test_a_call_that_a_bad_list_took_out_is_back_with_the_next_one(partitions: int) -> None:
    """In the partition where it was, so that its end finds it."""
    events = [one(1, T.CALL_STARTED), listed(30), listed(90, A_CALL), one(130, T.CALL_ENDED), *ticks(150)]
    if partitions == 2:
        events = [two._replace(partition=two.call % 2) for two in events]
        events += [two._replace(partition=1) for two in ticks(150)]
        events += [two._replace(partition=0) for two in ticks(150)]
    driver = observed(events)
    assert levels(driver) == {0: 1, 45: 0, 105: 1, 130: 0}
    assert driver.observer.calls_in_flight == 0


def test_a_list_brings_back_no_call_that_was_healed_after_it_or_has_ended() -> None:
    """What is newer than the list wins."""
    events = [
        one(1, T.CALL_STARTED), one(1, T.CALL_HEARTBEAT), one(2, T.CALL_STARTED, 2),
        one(110, T.CALL_ENDED, 2), listed(119, A_CALL, 2), *ticks(150),
    ]  # fmt: skip
    assert levels(observed(events)) == {0: 2, 110: 1, 120: 0}


def test_a_pause_of_heartbeats_is_healed_by_a_list() -> None:
    """Who comes back by a list is missed only when heartbeats come again and stop again."""
    events = [
        one(1, T.CALL_STARTED), one(1, T.CALL_HEARTBEAT), one(31, T.CALL_HEARTBEAT), listed(160, A_CALL),
        *ticks(1000),
    ]  # fmt: skip
    assert levels(observed(events)) == {0: 1, 180: 0}
    assert levels(observed([*events, listed(200, A_CALL)])) == {0: 1, 180: 0, 215: 1}


def test_a_call_that_comes_back_is_answered_as_before() -> None:
    """It has one answer: told again, it does not count again; when it was is not known."""
    beats = [one(at_s, T.CALL_HEARTBEAT) for at_s in (1, 31, 200, 230, 260)]
    events = [
        one(1, T.CALL_STARTED), one(2, T.CALL_ANSWERED), *beats, one(205, T.CALL_ANSWERED),
        one(290, T.CALL_ENDED, cause=FAILED), *ticks(350),
    ]  # fmt: skip
    driver = observed(events)
    assert levels(driver, "answered_level") == {0: 1, 180: 0, 200: 1, 290: 0} == levels(driver)
    facts = facts_of(driver.summaries)
    assert sum(amount for key, amount in facts.items() if key[-1] == Count.ANSWERED.name) == 1
    assert not [key for key in facts if key[0] == "failure"]


@pytest.mark.parametrize("with_turns", [False, True])
@pytest.mark.parametrize("period_s", [120, 300, 400])
def test_the_interval_of_slow_heartbeats_is_learned_once(period_s: int, *, with_turns: bool) -> None:
    """Before the second one they seem to have stopped; then never again."""
    beats = [one(at_s, T.CALL_HEARTBEAT) for at_s in range(1, 3600, period_s)]
    turns = [one(at_s, T.TURN_COMPLETED) for at_s in range(7, 3600, 20)] if with_turns else []
    driver = observed([one(1, T.CALL_STARTED), *beats, *turns, *ticks(3600)])
    assert driver.observer.healed["heartbeat"] == 1
    assert driver.observer.calls_in_flight == 1


def test_a_first_heartbeat_with_the_start_is_no_short_interval() -> None:
    """The second comes when a timer of the whole process is due: soon, and then every 30 s."""
    beats = [one(at_s, T.CALL_HEARTBEAT) for at_s in (28, *range(30, 600, 30))]
    driver = observed([one(28, T.CALL_STARTED), *beats, *ticks(600)])
    assert driver.observer.healed["heartbeat"] == 0


def test_after_a_pause_of_heartbeats_a_call_is_missed_within_a_quarter_of_an_hour() -> None:
    """The pause is no interval of its heartbeats, however long it was."""
    beats = [one(at_s, T.CALL_HEARTBEAT) for at_s in (1, 31, 531, 561)]
    driver = observed([one(1, T.CALL_STARTED), *beats, *ticks(2200)])
    assert levels(driver) == {0: 1, 180: 0, 530: 1, 1500: 0}


@given(
    st.lists(an_event(st.integers(0, 6000)), max_size=30),
    st.dictionaries(st.integers(10, 600), st.frozensets(st.integers(1, 6)), max_size=8), st.integers(0, 3),
)  # fmt: skip
@settings(max_examples=60)
def test_calls_come_back_by_lists_as_the_twin_says(
    events: list[Event], lists: dict[int, frozenset[int]], seed: int
) -> None:
    """Healed by lists and by silence, back by lists and by signs of life."""
    events = by_time([*events, *(listed(at_s, *calls) for at_s, calls in lists.items()), *ticks(700)])
    expected, twins = oracle.observe(events)
    driver = run(events, seed)
    assert facts_of(driver.summaries) == expected
    assert driver.observer.calls_in_flight == sum(one.flying for one in twins[0].calls.values())
