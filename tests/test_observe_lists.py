"""Lists of live calls where partitions are read unevenly: a call that another partition knows counts once."""

from __future__ import annotations

import numpy as np
import pytest

from engine.observe.lists import matching_series
from engine.observe.observer import LISTS_SHARE_MAX
from engine.observe.summary import Count
from engine.settings import EngineSettings
from tests import oracle_observe as oracle
from tests.observe_driver import Driver
from tests.observe_events import Event, S, T
from tests.observe_facts import facts_of

T0 = 1_800_000_000 * S
KNOWN = tuple(range(1, 21))
NEVER_HEARD_OF = (97, 98)


def event(at_s: float, type_id: T, call: int = 0, partition: int = 0) -> Event:
    return Event(T0 + int(at_s * S), type_id, call, partition=partition, series=("acme",))


def listed(at_s: float, *calls: int) -> Event:
    labels = (("tenant", "acme"),)
    return Event(T0 + int(at_s * S), T.CALLS_LISTED, series=("acme",), listed=calls, labels=labels)


def ticking(until_s: int, partition: int) -> list[Event]:
    """Give an event of no call every second, so that the partition comes on."""
    return [event(at_s + 0.5, T.CALL_QUEUED, partition=partition) for at_s in range(until_s)]


def by_time(events: list[Event]) -> list[Event]:
    return sorted(events, key=lambda one: one.time_ns)


def by_partition(until_s: int = 300) -> tuple[list[Event], list[Event]]:
    """Give the lists in the first, most of their calls in the second; half of these end after 150 s."""
    first = [*ticking(until_s, 0), event(4, T.CALL_STARTED, 21)]
    second = ticking(until_s, 1) + [event(5 + call / 10, T.CALL_STARTED, call, 1) for call in KNOWN]
    second += [event(150 + call / 10, T.CALL_ENDED, call, 1) for call in KNOWN[::2]]
    for at_s in range(60, until_s, 60):
        up = KNOWN if at_s < 150 else KNOWN[1::2]
        first.append(listed(at_s + 0.2, *up, *NEVER_HEARD_OF))
    return by_time(first), by_time(second)


def read(driver: Driver, rows: tuple[list[Event], list[Event]], ahead_s: float, piece_s: float) -> None:
    """Read both in pieces, the first so much ahead."""
    driver.assigned = (0, 1)
    last_s = (rows[0][-1].time_ns - T0) / S
    for at_s in np.arange(-abs(ahead_s), last_s + abs(ahead_s) + piece_s, piece_s):
        for part, from_s in zip(rows, (at_s + ahead_s, at_s), strict=True):
            piece = [one for one in part if from_s <= (one.time_ns - T0) / S < from_s + piece_s]
            if piece:
                driver.feed(piece)


def opened(driver: Driver) -> int:
    return sum(int(one.counts[:, Count.OPENED_UNKNOWN].sum()) for one in driver.summaries)


@pytest.mark.parametrize("piece_s", [3, 47])
@pytest.mark.parametrize("ahead_s", [0, 20, 100, 1000])
def test_a_list_waits_for_partitions_that_are_behind(ahead_s: float, piece_s: float) -> None:
    """However far ahead its own is: what is held comes to the same, whichever is read first."""
    rows = by_partition()
    expected, _ = oracle.observe([*rows[0], *rows[1]])
    driver = Driver()
    read(driver, rows, ahead_s, piece_s)
    driver.finish()
    assert facts_of(driver.summaries) == expected
    assert opened(driver) == len(NEVER_HEARD_OF)
    assert driver.observer.calls_in_flight == len(KNOWN) // 2 + len(NEVER_HEARD_OF)
    assert dict(driver.observer.bounds_met)["lists_apart_max"] == 0


def test_what_waits_for_a_list_closes_when_the_others_have_come() -> None:
    """Not later: not at the next list, nor at the end of the log."""
    first, second = by_partition(100)
    driver = Driver()
    driver.assigned = (0, 1)
    driver.feed(first)
    assert max(one.start_ns for one in driver.summaries) == T0 + 75 * S  # The list took effect at 80 s.
    driver.feed(second)
    assert driver.observer.rows_held == 20  # Of the ten seconds that are not due.
    assert opened(driver) == len(NEVER_HEARD_OF)


def test_a_partition_that_is_idle_holds_no_list_up() -> None:
    """It has been read to its end and stays silent; then the list opens what it names."""
    driver = Driver()
    driver.assigned = (0, 1)
    driver.feed([event(1, T.CALL_STARTED, 1)], T0 + 1 * S, caught_up=(0, 1))
    for at_s in range(2, 60):
        rows = [listed(at_s, 1, 2)] if at_s == 20 else [event(at_s, T.CALL_QUEUED)]
        driver.feed(rows, T0 + at_s * S, caught_up=(0, 1))
    assert opened(driver) == 1
    assert driver.observer.calls_in_flight == 2
    assert driver.observer.rows_held < 20


def test_a_list_opens_nothing_when_too_many_rows_would_wait_for_it() -> None:
    """A partition stands still: no row is lost for that, and the list takes out calls all the same."""
    driver = Driver(EngineSettings(held_rows_max=100 * LISTS_SHARE_MAX))
    driver.assigned = (0, 1)
    rows = by_time([event(1, T.CALL_STARTED, 7), listed(30, 1, 2), *ticking(900, 0)])
    for one in rows:
        driver.feed([one])
        assert driver.observer.rows_held <= 101
    for one in ticking(900, 1):
        driver.feed([one])
    driver.finish()
    assert int(driver.observer.losses.sum()) == 0
    assert dict(driver.observer.bounds_met)["lists_apart_max"] == 1
    assert (driver.observer.healed["listed"], opened(driver)) == (1, 0)


@pytest.mark.parametrize(("beyond_s", "count"), [(300, 0), (500, 1)])
def test_a_list_opens_nothing_where_ended_calls_are_forgotten(beyond_s: int, count: int) -> None:
    """Another partition is so far beyond that its tombstones are gone: what has ended stays so."""
    driver = Driver()
    driver.assigned = (0, 1)
    calls = [event(1, T.CALL_STARTED, 1, 1), event(31, T.CALL_ENDED, 1, 1)]
    driver.feed(by_time([*calls, *ticking(30 + beyond_s, 1)]))
    driver.feed(by_time([listed(30, 1), *ticking(30 + beyond_s, 0)]))
    driver.finish()
    assert opened(driver) == 0
    assert dict(driver.observer.bounds_met)["lists_apart_max"] == count


@pytest.mark.parametrize("is_live", [False, True])
def test_where_a_late_list_takes_effect_does_not_depend_on_batches(*, is_live: bool) -> None:
    """It goes by how far the rows before it had come, not by which slices were closed when it was read."""
    rows = [event(call, T.CALL_STARTED, call) for call in KNOWN] + ticking(120, 0)
    late = listed(60, *KNOWN[::2])
    rows = [*by_time([one for one in rows if one.time_ns < late.time_ns + 26 * S]), late]
    rows += by_time([event(at_s, T.CALL_QUEUED) for at_s in range(87, 120)])
    taken = []
    for rows_max in (1, 20, 200):
        driver = Driver(is_live=is_live)
        for first in range(0, len(rows), rows_max):
            driver.feed(rows[first : first + rows_max])
        driver.finish()
        taken.append([(one.start_ns, one.counts.tolist()) for one in driver.summaries])
    assert taken[0] == taken[1] == taken[2]
    assert driver.observer.calls_in_flight == len(KNOWN) // 2


@pytest.mark.parametrize(
    ("labels", "name", "expected"),
    [
        ((), "tenant", [False, True]),
        ((), "platform", [False, True]),
        ((), "trunk", [True, True]),
        ((("tenant", "acme"),), "tenant", [True, False]),
        ((("tenant", "acme"),), "trunk", [False, False]),  # Series do not keep it: nothing can be said.
    ],
)
def test_a_list_without_a_tenant_speaks_of_calls_that_have_none(
    labels: tuple[tuple[str, str], ...], name: str, expected: list[bool]
) -> None:
    """What is part of a call's identity is named, or none; of other labels a list need not speak."""
    assert matching_series(labels, (name,), [("acme",), ("",)]).tolist() == expected
