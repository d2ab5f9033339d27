"""The table of calls while it grows: at every position of the split it is the dict that its twin is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import memory
from engine.observe import calls as table
from engine.observe.calls import KEY, SERIES, SINCE_NS, SPLIT, SPLIT_AT_ONCE, TOTALS, USED
from engine.settings import EngineSettings
from engine.state.encoding import decode, encode
from engine.state.kept import KEPT, fill
from tests import oracle_calls as oracle
from tests.observe_driver import TOPIC, Driver
from tests.observe_events import Event, S, T

if TYPE_CHECKING:
    from engine.observe.calls import Calls
    from engine.observe.partition import Partition

START = 1_800_000_000 * S
SLOTS = 64
# Keys that crowd at the end of the table and go round it, with and without the bits that a split looks at,
# and keys of any bits.
CROWDED = st.builds(
    lambda low, high: (high << 6) + low, st.sampled_from([0, 1, 29, 30, 31, 61, 62, 63]), st.integers(-4, 4)
)
KEYS = st.one_of(CROWDED, st.integers(-(2**63), 2**63 - 1)).filter(bool)


def grown(calls: Calls) -> Calls:
    """Make a table twice as large; this test holds the one before, which so is copied."""
    return table.grown_calls(memory.memory_of(calls), len(calls))


def check(calls: Calls, expected: dict[int, int]) -> None:
    """Hold the table against a dict, and its slots against the twin's walk."""
    assert calls[TOTALS, USED] == len(expected)
    slots = calls[:-1, KEY].tolist()
    assert sorted(one for one in slots if one != 0) == sorted(expected)
    assert oracle.keys_within_reach(slots, int(calls[TOTALS, SPLIT])) == sorted(expected)
    assert {key: int(calls[table.find(calls, key), SINCE_NS]) for key in expected} == expected


def filled(keys: list[int], slots: int = SLOTS) -> tuple[Calls, dict[int, int]]:
    """Fill a table with keys; what is said of each is its place among them."""
    calls = table.new_calls(slots)
    for at, key in enumerate(keys):
        calls[table.insert(calls, key), SINCE_NS] = at
    return calls, {key: at for at, key in enumerate(keys)}


@given(KEYS, st.integers(-SLOTS, 0))
def test_a_search_begins_where_the_twin_begins(key: int, split: int) -> None:
    """In a table of any split, with keys of either sign (home_of)."""
    mask = 2 * SLOTS - 1
    assert table.home_of(key, mask, split) == oracle.home_of(key, mask, split)


@given(st.lists(KEYS, unique=True, min_size=20, max_size=SLOTS * 2 // 3), st.data())
@settings(max_examples=60)
def test_every_position_of_a_split_is_the_same_dict(keys: list[int], data: st.DataObject) -> None:
    """One slot after the other is split (put_right), from none to all; at one, entries go and come."""
    calls, expected = filled(keys)
    calls = grown(calls)
    changed_at = data.draw(st.integers(0, SLOTS))
    for position in range(SLOTS + 1):
        assert calls[TOTALS, SPLIT] == position - SLOTS
        check(calls, expected)
        if position == changed_at:
            for key in data.draw(st.lists(st.sampled_from(keys), unique=True, max_size=12)):
                table.remove(calls, table.find(calls, key))
                del expected[key]
                check(calls, expected)
            for key in data.draw(st.lists(KEYS, unique=True, max_size=12)):
                if key not in expected:
                    slot = table.free_slot(calls, key)
                    calls[slot, KEY], calls[slot, SINCE_NS], expected[key] = key, position, position
                    calls[TOTALS, USED] += 1
                    check(calls, expected)
        if position < SLOTS:
            calls[TOTALS, SPLIT] += 1
            table.put_right(calls, position)


@given(st.lists(st.tuples(st.integers(0, 3), KEYS), max_size=300), st.sampled_from([8, 16, 64]))
@settings(max_examples=100)
def test_a_table_that_grows_under_way_is_a_dict(steps: list[tuple[int, int]], slots: int) -> None:
    """Three of four steps take a key up, others take it out; it grows as often as it must."""
    calls, expected = table.new_calls(slots), dict[int, int]()
    for step, (what, key) in enumerate(steps):
        slot = table.find(calls, key)
        assert (slot >= 0) == (key in expected)
        table.ask_for(calls, key)
        if what and slot < 0:
            if table.must_grow(calls):
                calls = grown(calls)
                check(calls, expected)
            split = int(calls[TOTALS, SPLIT])
            calls[table.insert(calls, key), SINCE_NS] = expected[key] = step
            assert calls[TOTALS, SPLIT] == min(split + SPLIT_AT_ONCE, 0)
            check(calls, expected)
        elif not what and slot >= 0:
            table.remove(calls, slot)
            del expected[key]
            check(calls, expected)


def test_a_table_is_split_before_it_grows_again() -> None:
    """Also when nothing but new calls comes, and however small it is; growing twice at once is refused."""
    calls = table.new_calls(2)
    for key in range(1, 5000):
        if table.must_grow(calls):
            calls = grown(calls)
        table.insert(calls, key << 40)  # Every one of them begins at the first slot.
    assert calls[TOTALS, USED] == 4999
    with pytest.raises(AssertionError, match="faster than it is split"):
        grown(grown(calls))


def test_growing_keeps_what_is_said_of_calls_and_of_the_table() -> None:
    """Every column of an entry, and all totals but how far the split is."""
    calls, _ = filled(list(range(1, 40)))
    calls[:-1, SERIES] = calls[:-1, KEY] * 10
    calls[TOTALS, table.FLYING], calls[TOTALS, table.DUE_NS] = 7, 12345
    larger = grown(calls)
    for key in range(1000, 1010):
        table.insert(larger, key)
    assert [int(larger[table.find(larger, key), SERIES]) for key in range(1, 40)] == [
        10 * key for key in range(1, 40)
    ]
    assert larger[TOTALS, [USED, table.FLYING, table.DUE_NS]].tolist() == [49, 7, 12345]


def starts(many: int, seed: int) -> list[Event]:
    """Make calls that start, a hundred a second, with keys of any bits; every third one ends at once."""
    keys = np.random.default_rng(seed).integers(1, 2**63, many, np.uint64).tolist()
    events = []
    for at, key in enumerate(keys):
        events.append(Event(START + at * S // 100, T.CALL_STARTED, key))
        if at % 3 == 0:
            events.append(Event(START + at * S // 100 + 1, T.CALL_ENDED, key))
    return events


def partition_of(driver: Driver) -> Partition:
    """Give the only partition of an observer."""
    (partition,) = getattr(driver.observer, "_partitions").values()  # noqa: B009
    assert partition.topic == TOPIC
    return partition  # type: ignore[no-any-return]


def is_halfway(calls: Calls) -> bool:
    """Say whether some slots have been split, and some not."""
    return -(len(calls) - 1) // 2 < int(calls[TOTALS, SPLIT]) < 0


def restored(driver: Driver) -> None:
    """Put a partition through bytes, as a checkpoint does."""
    partition = partition_of(driver)
    state = decode(b"".join(encode(partition, KEPT)))
    for one in vars(partition):
        if one in KEPT[type(partition)] and isinstance(getattr(partition, one), np.ndarray):
            setattr(partition, one, np.zeros(0))
    fill(partition, state)
    partition.calls = memory.growing(partition.calls)


def test_a_line_grows_the_same_whatever_the_batches_and_the_restarts() -> None:
    """Slot by slot, restored in the middle of a split or not."""
    events = starts(3000, 1)
    whole, parted = Driver(EngineSettings()), Driver(EngineSettings())
    whole.feed(events)
    halfway = 0
    for first in range(0, len(events), 61):
        parted.feed(events[first : first + 61])
        if is_halfway(partition_of(parted).calls):
            halfway += 1
            restored(parted)
    whole.finish()
    parted.finish()
    assert halfway > 2
    assert len(partition_of(whole).calls) == 8193
    assert np.array_equal(partition_of(parted).calls, partition_of(whole).calls)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives a mapping more room")
def test_a_line_does_not_copy_its_calls_to_grow() -> None:
    """Its table stays in the memory that it began in: nothing else holds the array while it grows."""
    driver = Driver(EngineSettings())
    events = starts(3000, 1)
    driver.feed(events[:10])
    own, rows = memory.memory_of(partition_of(driver).calls), len(partition_of(driver).calls)
    driver.feed(events[10:])
    driver.finish()
    assert len(partition_of(driver).calls) > 8 * rows
    assert memory.memory_of(partition_of(driver).calls) is own


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives a mapping more room")
def test_a_list_of_calls_that_nobody_knew_does_not_copy_the_others() -> None:
    """It opens thousands of calls at once."""
    driver = Driver(EngineSettings())
    driver.feed(starts(30, 1))
    own, rows = memory.memory_of(partition_of(driver).calls), len(partition_of(driver).calls)
    listed = tuple(sorted(np.random.default_rng(2).integers(1, 2**63, 3000, np.uint64).tolist()))
    labels = (("tenant", "acme"),)
    told = Event(START + 30 * S, T.CALLS_LISTED, series=("acme",), labels=labels, listed=listed)
    driver.feed([told, Event(START + 100 * S, T.CALL_STARTED, 5)])
    driver.finish()
    assert driver.observer.calls_in_flight > len(listed)
    assert len(partition_of(driver).calls) > 8 * rows
    assert memory.memory_of(partition_of(driver).calls) is own


@pytest.mark.parametrize("is_held", [True, False])
def test_memory_grows_behind_what_is_in_it(*, is_held: bool) -> None:
    """Whether the system can move its pages or somebody still holds the array: rows stay, zeros follow."""
    array = memory.new_rows(1000, 8)
    array[...] = np.arange(8000).reshape(1000, 8)
    holder = array if is_held else None
    own = memory.memory_of(array)
    del array
    longer = memory.longer(own, 200_000, 8)
    assert longer[:1000].ravel().tolist() == list(range(8000))
    assert not longer[1000:].any()
    assert holder is None or holder[999, 7] == 7999
    assert (memory.memory_of(longer) is own) == (not is_held and sys.platform == "linux")


def test_an_array_without_memory_of_its_own_is_given_some_once() -> None:
    """As when it has been read from a checkpoint."""
    array = np.arange(16).reshape(2, 8)
    own = memory.growing(array)
    assert own is not array
    assert own.tolist() == array.tolist()
    assert memory.growing(own) is own
