"""Observe with clocks that run ahead of ours: rows that lie in the future when they are received."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import LossReason
from engine.observe.summary import Count
from tests import oracle_observe as oracle
from tests.observe_driver import Driver
from tests.observe_events import Event, S, T
from tests.observe_facts import facts_of
from tests.test_observe import START, an_event, run

MS = S // 1000


def started(received_s: int, ahead_ns: int, call: int) -> Event:
    """Give a call that starts ahead of its receipt, whose second counts from START."""
    received_ns = START + received_s * S
    return Event(received_ns + ahead_ns, T.CALL_STARTED, call, series=("acme",), received_ns=received_ns)


def feed(driver: Driver, *events: Event) -> None:
    """Give events as a broker does, each with its receipt."""
    for event in events:
        driver.feed([event], received_ns=event.received_ns)


def counts_by_slice(driver: Driver) -> dict[int, int]:
    """Count the starts of each closed slice, whose second counts from START."""
    return {(one.start_ns - START) // S: int(one.counts[:, Count.STARTED].sum()) for one in driver.summaries}


@pytest.mark.parametrize("ahead_ns", [1, 200 * MS, 60 * S])
def test_a_platform_whose_clock_is_ahead_is_judged_all_the_same(ahead_ns: int) -> None:
    """Where every row lies ahead, receipt moves the watermark: slices close, and nothing is lost."""
    driver = Driver()
    for second in range(120):
        feed(driver, started(second, ahead_ns, second + 1))
        assert driver.observer.watermark_ns == START + (second - 5) * S
    assert driver.observer.rows_clock_ahead == 120
    assert int(driver.observer.losses.sum()) == 0
    closed = counts_by_slice(driver)
    assert sum(closed.values()) == sum(second * S + ahead_ns < 110 * S for second in range(120))
    assert all(count == 5 for start, count in closed.items() if start * S >= ahead_ns)


def test_a_row_from_the_future_waits_in_its_slice_and_closes_none_before_its_receipt() -> None:
    """Up to the bound it counts and is held; further ahead it is refused and moves nothing."""
    driver = Driver()
    feed(driver, started(1, 0, 1), started(2, 98 * S, 2), started(50, 350 * S, 3))
    assert driver.observer.rows_clock_ahead == 2
    assert driver.observer.losses[LossReason.TIME_AHEAD] == 1
    assert driver.observer.partition_watermarks == {0: START - 3 * S}
    feed(driver, started(50, 0, 4), started(99, 0, 5))
    assert counts_by_slice(driver) == {0: 1, 50: 1}
    feed(driver, started(110, 0, 6))
    assert counts_by_slice(driver) == {0: 1, 50: 1, 95: 1, 100: 1}


@given(st.lists(st.tuples(an_event(), st.sampled_from([-60 * S, -200 * MS, 0, S, 9 * S])), max_size=40),
       st.integers(0, 1000))  # fmt: skip
@settings(max_examples=60)
def test_clocks_that_are_partly_ahead_come_to_what_the_twin_says(
    drawn: list[tuple[Event, int]], seed: int
) -> None:
    """Rows ahead of their receipt or behind it, in the order of receipt, whatever the batches."""
    events = [one._replace(received_ns=one.time_ns + delay_ns) for one, delay_ns in drawn]
    events.sort(key=lambda one: one.received_ns)
    expected, twins = oracle.observe(events)
    driver = run(events, seed)
    assert facts_of(driver.summaries) == expected
    assert driver.observer.rows_clock_ahead == sum(delay_ns < 0 for _, delay_ns in drawn)
    assert int(driver.observer.losses.sum()) == sum(twin.lost.total() for twin in twins.values())
