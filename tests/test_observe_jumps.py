"""Observe on plain logs, which have no receipt times: a wrong clock is told from a silent night."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import LossReason
from engine.observe.summary import Count
from engine.observe.watermark import JUMP_ROWS, JUMP_ROWS_MAX, NO_JUMP_NS, move, new_clock
from engine.observe.wire import to_bytes
from engine.settings import EngineSettings
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


@pytest.mark.parametrize("ahead_s", [120, HOUR_S, YEARS_S])
@pytest.mark.parametrize("outliers", [1, JUMP_ROWS_MAX])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_log_may_begin_with_a_few_wrong_clocks(ahead_s: int, outliers: int, seed: int) -> None:
    """Nothing is late, or closed, before nine rows have said what time it is."""
    wrong = [started(ahead_s + at, 1000 + at) for at in range(outliers)]
    driver = fed(wrong + [started(at, at + 1) for at in range(600)], seed)
    assert driver.observer.rows_clock_ahead == outliers
    assert driver.observer.watermark_ns == START + 594 * S
    driver.finish()
    lost = outliers if ahead_s >= HOUR_S else 0
    assert driver.observer.losses[LossReason.TIME_AHEAD] == int(driver.observer.losses.sum()) == lost
    assert starts(driver) == 600 + outliers - lost


@pytest.mark.parametrize("rows", [1, 8, 9, 10])
def test_a_log_of_few_rows_is_believed(rows: int) -> None:
    """Where the log ends, nothing more speaks against them."""
    driver = fed([started(at * HOUR_S, at + 1) for at in range(rows)])
    driver.finish()
    assert int(driver.observer.losses.sum()) == driver.observer.rows_clock_ahead == 0
    assert starts(driver) == rows


@pytest.mark.parametrize("ahead_s", [30, 60, 120, 290])
@pytest.mark.parametrize("one_of", [3, 5, 10])
def test_one_writer_that_is_minutes_fast_costs_no_row(ahead_s: int, one_of: int) -> None:
    """Up to `late` it makes the others late, which amend; beyond, its rows do not move the time."""
    log = [started(at + (0 if at % one_of else ahead_s), at + 1) for at in range(1200)]
    driver = fed(log)
    assert driver.observer.rows_clock_ahead == (1200 // one_of if ahead_s > 60 else 0)
    if ahead_s > 60:
        assert driver.observer.watermark_ns == START + 1194 * S
    driver.finish()
    assert int(driver.observer.losses.sum()) == 0
    assert driver.observer.rows_absorbed == 1200


@pytest.mark.parametrize("one_of", [3, 5, 10])
def test_one_writer_that_is_an_hour_slow_costs_its_own_rows(one_of: int) -> None:
    """Also where it speaks first, and again after a night: most rows say what time it is."""
    times = [*range(1200), *(10 * HOUR_S + at for at in range(1200))]
    log = [started(time_s + (HOUR_S if number % one_of else 0), number + 1)
           for number, time_s in enumerate(times)]  # fmt: skip
    driver = fed(log)
    assert driver.observer.watermark_ns == START + (11 * HOUR_S + 1194) * S
    driver.finish()
    assert starts(driver) >= 2400 - 2400 // one_of
    assert driver.observer.losses[LossReason.LATE] == int(driver.observer.losses.sum())


def test_rows_minutes_apart_are_eight_rows_behind() -> None:
    """And all take effect, each on time."""
    driver = fed([started(at * 100, at + 1) for at in range(40)])
    assert driver.observer.watermark_ns == START + (31 * 100 - 5) * S
    driver.finish()
    assert int(driver.observer.losses.sum()) == driver.observer.rows_amended == 0
    assert starts(driver) == 40


def test_where_late_of_a_platform_is_stricter_it_bounds_a_jump() -> None:
    """No row of any platform is lost for one that is ahead by less."""
    driver = Driver(EngineSettings(late_by_platform_ns={"twilio": 10 * S}), labels=("platform",))
    log = [started(at + (0 if at % 10 else 30), at + 1)._replace(series=("twilio",)) for at in range(600)]
    driver.feed(log)
    driver.finish()
    assert int(driver.observer.losses.sum()) == 0


def test_a_clock_that_was_kept_without_room_for_a_jump_goes_on() -> None:
    """Where rows have a receipt, no room is used: checkpoints of before hold less of it."""
    clock = new_clock()[: JUMP_ROWS + 3].copy()
    assert move(clock, START, NO_JUMP_NS) == move(clock, START + HOUR_S * S, NO_JUMP_NS) == 0
    assert clock.tolist() == [START + HOUR_S * S, -1, 0, 0, 0, 0]


def test_a_broker_needs_no_confirmation() -> None:
    """Where rows have a receipt, a jump up to it is what the clock says."""
    driver = Driver()
    driver.feed([started(0, 1)], received_ns=START)
    driver.feed([started(HOUR_S, 2)], received_ns=START + HOUR_S * S)
    assert driver.observer.watermark_ns == START + (HOUR_S - 5) * S


WRONG_S = st.sampled_from([0] * 9 + [90, 1000, 5000])


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
        ahead += move(clock, time_s * S, twin.jump_ns)
        twin.move(time_s * S)
        assert (int(clock[0]), int(clock[3]), ahead) == (twin.newest_ns, len(twin.jump), twin.ahead)
