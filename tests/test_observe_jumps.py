"""Observe on plain logs, which have no receipt times: a wrong clock is told from a silent night."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import LossReason
from engine.observe.summary import Count
from engine.observe.watermark import JUMP_ROWS_MAX, move, new_clock
from engine.observe.wire import to_bytes
from tests import oracle_observe as oracle
from tests.observe_driver import Driver
from tests.observe_events import Event, S, T
from tests.observe_facts import facts_of
from tests.oracle_clock import Clock
from tests.test_observe import START, an_event, cut, run

HOUR_S = 3600
YEARS_S = 70 * 365 * 24 * HOUR_S


def started(at_s: int, call: int) -> Event:
    return Event(START + at_s * S, T.CALL_STARTED, call, series=("acme",))


def fed(events: list[Event], seed: int = 0) -> Driver:
    """Give a driver that has had the events, in batches that a seed decides, and is not finished."""
    driver = Driver()
    for batch in cut(events, seed):
        driver.feed(batch)
    return driver


def starts(driver: Driver) -> int:
    return sum(int(one.counts[:, Count.STARTED].sum()) for one in driver.summaries)


@pytest.mark.parametrize("ahead_s", [HOUR_S, YEARS_S])
@pytest.mark.parametrize("outliers", [1, JUMP_ROWS_MAX])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_few_rows_far_in_the_future_do_not_ruin_a_log(ahead_s: int, outliers: int, seed: int) -> None:
    """They are lost as ahead at the end, and count as ahead at once; every other row takes effect."""
    log = [started(at, at + 1) for at in range(600)]
    wrong = [started(300 + ahead_s + at, 1000 + at) for at in range(outliers)]
    driver = fed(log[:300] + wrong + log[300:], seed)
    assert driver.observer.rows_clock_ahead == outliers
    assert driver.observer.watermark_ns == START + 594 * S
    driver.finish()
    assert driver.observer.losses[LossReason.TIME_AHEAD] == outliers
    assert int(driver.observer.losses.sum()) == outliers
    assert starts(driver) == 600


@pytest.mark.parametrize("after", [1, 8, 9, 100])
def test_a_silence_of_hours_costs_no_row(after: int) -> None:
    """However few rows follow it up to the end of the log."""
    log = [started(at, at + 1) for at in range(20)]
    morning = [started(60 * HOUR_S + at, 100 + at) for at in range(after)]
    driver = fed(log + morning)
    driver.finish()
    assert int(driver.observer.losses.sum()) == driver.observer.rows_clock_ahead == 0
    assert starts(driver) == 20 + after
    assert driver.observer.rows_amended == 0


def test_rows_that_are_hours_apart_all_take_effect() -> None:
    """Every one of them is a jump."""
    driver = fed([started(at * HOUR_S, at + 1) for at in range(40)])
    assert driver.observer.watermark_ns >= START + 20 * HOUR_S * S
    driver.finish()
    assert int(driver.observer.losses.sum()) == 0
    assert starts(driver) == 40


def test_a_wrong_clock_in_the_morning_does_not_become_the_time() -> None:
    """A jump is believed up to the least of its rows."""
    morning = [started(60 * HOUR_S + at, 100 + at) for at in range(30)]
    driver = fed([started(0, 1), morning[0], started(YEARS_S, 99), *morning[1:]])
    assert driver.observer.watermark_ns == START + (60 * HOUR_S + 24) * S
    driver.finish()
    assert driver.observer.losses[LossReason.TIME_AHEAD] == 1


def test_a_broker_needs_no_confirmation() -> None:
    """Where rows have a receipt, a jump up to it is what the clock says."""
    driver = Driver()
    driver.feed([started(0, 1)], received_ns=START)
    driver.feed([started(HOUR_S, 2)], received_ns=START + HOUR_S * S)
    assert driver.observer.watermark_ns == START + (HOUR_S - 5) * S


WRONG_S = st.sampled_from([0] * 9 + [1000, 5000])


@given(st.lists(st.tuples(an_event(st.integers(0, 20_000)), WRONG_S), max_size=40), st.integers(0, 1000))
@settings(max_examples=60)
def test_wrong_clocks_come_to_what_the_twin_says(drawn: list[tuple[Event, int]], seed: int) -> None:
    """Whatever the batches: the same bytes, and the same rows lost."""
    drawn.sort(key=lambda one: one[0].time_ns)
    events = [one._replace(time_ns=one.time_ns + wrong_s * S) for one, wrong_s in drawn]
    driver, other = run(events, seed), run(events, seed + 1)
    assert [to_bytes(one) for one in driver.summaries] == [to_bytes(one) for one in other.summaries]
    expected, twins = oracle.observe(events)
    assert facts_of(driver.summaries) == expected
    assert int(driver.observer.losses.sum()) == sum(twin.lost.total() for twin in twins.values())
    assert driver.observer.rows_clock_ahead == sum(twin.clock.ahead for twin in twins.values())


@given(st.lists(st.integers(0, 2000), max_size=60))
@settings(max_examples=60)
def test_the_newest_time_moves_as_the_twin_says(times_s: list[int]) -> None:
    """Row by row."""
    clock, twin, ahead = new_clock(), Clock(), 0
    for time_s in times_s:
        ahead += move(clock, time_s * S, 300 * S)
        twin.move(time_s * S)
        assert (int(clock[0]), int(clock[3]), ahead) == (twin.newest_ns, len(twin.jump), twin.ahead)
