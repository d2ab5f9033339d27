"""The tables and the order under observe, each against the plainest thing that does the same."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.observe import calls as table
from engine.observe.absorb import desk_has_room
from engine.observe.heal import is_in
from engine.observe.life import Desk
from engine.observe.order import (
    Ranks,
    Run,
    comes_before,
    due_rows,
    find_runs,
    kind_ranks,
    sort_rows,
    sort_runs,
)
from engine.observe.outcomes import ANSWERS, ARRIVALS, LEVEL, add_count, add_to_bin
from engine.observe.recent import forget, new_recent, was_seen
from engine.observe.slices import LATE, MEASURES, ON_TIME, ROWS, TOO_LATE, TOO_LATE_ROWS, let_go, new_held
from engine.observe.tally import EMPTY, KEY, add, grown, has_room, home_of, keys_in, new_tally, refill
from engine.observe.unkeyed import count_unkeyed, forget_ends, new_unmatched, remember_end
from engine.observe.watermark import FLOOR_NS, NEWEST_NS, new_clock, watermark_of
from tests import oracle_order as oracle
from tests.observe_events import Event, T

# Keys whose lowest bits are alike, so that probes are long and wrap around.
KEYS = st.integers(1, 6).flatmap(
    lambda low: st.sampled_from([low + 255 * 256, low, low + 256, 255 + low, -low])
)


@given(st.lists(st.tuples(st.integers(0, 2**62 - 1), st.integers(-5, 5)), max_size=60))
@settings(max_examples=50)
def test_a_tally_is_a_dict_of_sums(pairs: list[tuple[int, int]]) -> None:
    """Wherever home_of lets a search begin; also after it has grown."""
    tally, expected = new_tally(), dict[int, int]()
    for key, amount in pairs:
        assert has_room(tally, 1)
        add(tally, key, amount)
        expected[key] = expected.get(key, 0) + amount
    larger = grown(tally, 1000)
    assert keys_in(larger) == keys_in(tally) == len(expected)
    refill(larger, tally)
    for one, times in ((tally, 1), (larger, 2)):
        found = {key: amount for key, amount in one[:-1].tolist() if key != EMPTY}
        assert found == {key: times * amount for key, amount in expected.items()}


@pytest.mark.parametrize("series", [1, 50, 400])
def test_facts_stand_close_to_where_they_are_looked_for(series: int) -> None:
    """However many series there are: keys that follow one another must not stand in one crowd."""
    keys = 40 * series
    tally = new_tally(keys)
    for one in range(series):
        for column in range(10):
            add_count(tally, one, column, 1)
        for bin_index in range(10):
            for column in (ARRIVALS, LEVEL, ANSWERS):
                add_to_bin(tally, one, bin_index, column, 1)
    rows = np.flatnonzero(tally[:-1, KEY] != EMPTY)
    homes = np.array([home_of(tally, int(key)) for key in tally[rows, KEY]])

    assert len(rows) == keys
    assert ((rows - homes) & (len(tally) - 2)).mean() < 1.0


@given(st.lists(KEYS, max_size=60), st.integers(1, 6))
@settings(max_examples=60)
def test_recent_ids_are_the_last_distinct_ones(keys: list[int], ids_max: int) -> None:
    """A bounded set that forgets in the order of arrival."""
    recent, ring = new_recent(ids_max), list[int]()
    for key in keys:
        assert was_seen(recent, key) == (key in ring)
        if key not in ring:
            ring = [*ring, key][-ids_max:]
    for key in ring:
        forget(recent, key)
    assert not recent.table.any()


@given(st.lists(st.tuples(st.booleans(), KEYS), max_size=80))
@settings(max_examples=60)
def test_the_table_of_calls_is_a_dict(steps: list[tuple[bool, int]]) -> None:
    """Insert, find and remove, with gaps closed (`tests/test_calls.py` is about growing)."""
    calls, expected = table.new_calls(), dict[int, int]()
    for step, (is_insert, key) in enumerate(steps):
        slot = table.find(calls, key)
        assert (slot >= 0) == (key in expected)
        if is_insert and slot < 0:
            assert not table.must_grow(calls)
            calls[table.insert(calls, key), table.SINCE_NS] = step
            expected[key] = step
        elif not is_insert and slot >= 0:
            table.remove(calls, slot)
            del expected[key]
    found = {key: int(calls[table.find(calls, key), table.SINCE_NS]) for key in expected}
    assert found == expected
    assert calls[table.TOTALS, table.USED] == len(expected)
    known = np.zeros(3, np.bool_)
    wanted = [1, 2, 3]
    table.mark_known(calls, np.array(wanted), known)
    assert known.tolist() == [key in expected for key in wanted]


def test_a_table_of_calls_grows_before_it_is_full() -> None:
    """Two thirds are the most."""
    calls = table.new_calls(8)
    for key in range(1, 6):
        assert not table.must_grow(calls)
        table.insert(calls, key)
    assert table.must_grow(calls)


@given(st.lists(st.integers(-5, 5), unique=True, max_size=8), st.integers(-6, 6))
@settings(max_examples=50)
def test_searching_a_list_finds_what_is_in_it(keys: list[int], key: int) -> None:
    """By halves in a sorted array, the empty one included."""
    assert is_in(np.array(sorted(keys), np.int64), key) == (key in keys)


A_ROW = st.tuples(
    st.integers(0, 2), st.integers(0, 3), st.sampled_from(list(T)), st.integers(1, 2), st.integers(0, 1),
    st.integers(0, 1), st.integers(-1, 1), st.sampled_from([float("nan"), 1.0, 2.0]), st.integers(0, 1),
)  # fmt: skip


@given(st.lists(A_ROW, max_size=80))
@settings(max_examples=60)
def test_rows_are_sorted_by_all_that_they_say(
    rows: list[tuple[int, int, T, int, int, int, int, float, int]],
) -> None:
    """The merge sort (sort_runs, sort_rows) agrees with sorted() on the order that comes_before defines."""
    held = new_held(max(len(rows), 1))
    for at, (standing, time, kind, call, event, series, cause, duration, digest) in enumerate(rows):
        held.slice_ns[at] = time // 2 * 2
        held.standing[at], held.time_ns[at], held.type_id[at] = standing, time, kind
        held.call_key[at], held.event_key[at], held.series_id[at] = call, event, series
        held.cause_id[at], held.duration_ms[at], held.digest[at] = cause, duration, digest
    # Local ids in the opposite order of their names.
    ranks = Ranks(kind_ranks(), np.array([1, 0]), np.array([1, 0, -1]))

    def place(at: int) -> tuple[object, ...]:
        standing, time, kind, call, event, series, cause, duration, digest = rows[at]
        event_of_twin = Event(time, kind, call, event, (str(1 - series),), duration_ms=duration)
        key = list(oracle.comes_before((standing, event_of_twin)))
        key[6] = (ranks.cause[cause],)
        return (time // 2, *key[:-1], digest)

    held.cells[ROWS] = len(rows)
    order, rough = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    assert due_rows(held, 2**62, 2, order, rough) == len(rows)
    runs = order.copy()
    sort_runs(held, ranks, rough, runs)
    sort_rows(held, ranks, rough, order, np.empty_like(order))
    expected = sorted(range(len(rows)), key=place)
    assert [place(at) for at in order.tolist()] == [place(at) for at in expected]
    assert [place(at) for at in runs[:16].tolist()] == sorted(place(at) for at in range(min(16, len(rows))))

    def compared(a: int, b: int) -> int:
        return comes_before(held, ranks, b, a) - comes_before(held, ranks, a, b)

    by_compare = sorted(range(len(rows)), key=functools.cmp_to_key(compared))
    assert [place(at) for at in by_compare] == [place(at) for at in expected]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from([TOO_LATE, LATE, ON_TIME]), st.integers(0, 9))),
    st.integers(0, 12),
)
def test_rows_that_are_due_lie_in_runs(rows: list[tuple[int, int, int]], until_ns: int) -> None:
    """due_rows and find_runs, beside loops over rows."""
    held = new_held(max(len(rows), 1))
    for at, (open_slice, standing, time) in enumerate(rows):
        held.slice_ns[at], held.standing[at], held.time_ns[at] = 2 * open_slice, standing, time
    held.cells[ROWS] = len(rows)
    order, rough = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)

    order = order[: due_rows(held, until_ns, 2, order, rough)]

    assert order.tolist() == [at for at, (slice_, *_) in enumerate(rows) if 2 * slice_ + 2 <= until_ns]
    told = [
        (2 * slice_, standing, time // 2 * 2 if standing == LATE else 2 * slice_)
        for slice_, standing, time in (rows[at] for at in order)
    ]
    expected: list[tuple[int, ...]] = []
    for what, every in itertools.groupby(enumerate(told), key=lambda one: one[1]):
        places = [at for at, _ in every]
        expected.append((*what, places[0], places[-1] + 1))
    runs = np.empty((len(order), len(Run._fields)), np.int64)
    assert [tuple(run) for run in runs[: find_runs(held, 2, order, runs)].tolist()] == expected


def test_a_watermark_is_the_newest_time_less_the_bound_but_not_below_its_floor() -> None:
    """And there is none before the first row."""
    clock = new_clock()
    assert watermark_of(clock, 5) == -1
    clock[NEWEST_NS] = 100
    assert watermark_of(clock, 5) == 95
    clock[FLOOR_NS] = 97
    assert watermark_of(clock, 5) == 97


def test_an_end_is_matched_in_another_partition_once() -> None:
    """Only a call that is in flight there with its start; forgotten ends match nothing."""
    calls, ends = table.new_calls(), new_unmatched()
    slot = table.insert(calls, 7)
    calls[slot, table.STATE] = table.IN_FLIGHT | table.START_SEEN
    remember_end(ends, 7, 10, 1)
    remember_end(ends, 8, 10, 1)
    assert count_unkeyed(ends, calls, 1) == 0
    assert count_unkeyed(ends, calls, 0) == 1
    assert count_unkeyed(ends, calls, 0) == 0
    remember_end(ends, 7, 20, 1)
    forget_ends(ends, 21, -1)
    assert count_unkeyed(ends, calls, 0) == 0


def test_an_entry_expires_by_what_it_is() -> None:
    """Tombstones by age, calls by time-to-live or by silence, whichever comes first."""
    calls, terms = table.new_calls(), table.Terms(np.array([1000]), 3, 30, 360)
    slot = table.insert(calls, 1)
    calls[slot, table.SINCE_NS], calls[slot, table.HEARTBEAT_NS] = 100, -1
    assert table.expires_ns(calls, slot, terms) == 460
    calls[slot, table.STATE] = table.IN_FLIGHT
    assert table.expires_ns(calls, slot, terms) == 1100
    assert table.silent_ns(calls, slot, terms) == table.NEVER_NS
    calls[slot, table.HEARTBEAT_NS] = 200
    assert table.expires_ns(calls, slot, terms) == 290
    for interval, expected in ((10, 290), (40, 320), (1000, 1100)):
        calls[slot, table.INTERVAL_NS] = interval
        assert table.expires_ns(calls, slot, terms) == expected
    assert table.silent_ns(calls, slot, terms) == 1100
    calls[slot, table.HEARTBEAT_NS] = -200
    assert table.silent_ns(calls, slot, terms) == table.NEVER_NS


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(1, 9), max_size=3)), max_size=20))
@settings(max_examples=40)
def test_letting_go_keeps_open_rows_in_order_with_their_latencies(rows: list[tuple[int, list[int]]]) -> None:
    """Rows of slices that end by the time go; the others move up with all that is theirs."""
    held = new_held()
    for at, (number, latencies) in enumerate(rows):
        first = int(held.cells[MEASURES])
        held.slice_ns[at], held.time_ns[at], held.standing[at] = 5 * number, 5 * number + 1, number % 3
        held.measure_first[at], held.measure_count[at] = first, len(latencies)
        held.measure_ms[first : first + len(latencies)] = latencies
        held.cells[MEASURES] += len(latencies)
        held.cells[ROWS] += 1
    let_go(held, 10, 5)
    expected = [(number, latencies) for number, latencies in rows if number >= 2]
    found = []
    for at in range(int(held.cells[ROWS])):
        first, count = int(held.measure_first[at]), int(held.measure_count[at])
        found.append((int(held.slice_ns[at]) // 5, held.measure_ms[first : first + count].tolist()))
    assert found == expected
    assert held.cells[MEASURES] == sum(len(latencies) for _, latencies in expected)
    assert held.cells[TOO_LATE_ROWS] == sum(number % 3 == 0 for number, _ in expected)


def test_a_desk_has_room_when_every_table_has() -> None:
    """A table of calls that may not grow any more is no reason to stop: it refuses instead."""

    def desk(entries: int, keys: int, entries_max: int) -> Desk:
        calls, facts = table.new_calls(8), new_tally()
        calls[table.TOTALS, table.USED], facts[-1, 1] = entries, keys
        return Desk(calls, facts, facts, 0, 0, 5, entries_max)

    assert desk_has_room(desk(0, 0, 100), 10)
    assert not desk_has_room(desk(5, 0, 100), 0)
    assert desk_has_room(desk(5, 0, 5), 0)
    assert desk_has_room(desk(0, 480, 100), 0)
    assert not desk_has_room(desk(0, 480, 100), 30)
