"""Windows: sums over the last minute, five minutes and hour, whatever the order in which facts come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.judge.sparse import Contribution, scatter_add
from engine.judge.windows import PANE_NS, WINDOWS_NS, RollingSums
from tests import oracle_judge

S = 1_000_000_000
SIZE = 6
FACTS = st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(-9, 9)), max_size=12)


def contribution(start_ns: int, facts: list[tuple[int, int]]) -> Contribution:
    """Make the sparse facts of one slice."""
    return Contribution(
        start_ns, np.array([f[0] for f in facts], np.int32), np.array([f[1] for f in facts], np.int32)
    )


@given(FACTS, st.sampled_from([1, -1]), st.lists(st.integers(-9, 9), min_size=SIZE, max_size=SIZE))
def test_scattered_facts_add_up_by_position(
    facts: list[tuple[int, int]], sign: int, before: list[int]
) -> None:
    dense = np.array(before, np.int64)
    one = contribution(0, facts)

    scatter_add(dense, one.flat, one.values, sign)

    assert (
        oracle_judge.scatter_add(before, [f[0] for f in facts], [f[1] for f in facts], sign) == dense.tolist()
    )


def expected_sums(facts: list[tuple[int, int, int]], window_ns: int, slice_ns: int, end_ns: int) -> list[int]:
    """Add up what lies in a window; `facts` are (start_ns of the slice, position, value)."""
    pane_ns = PANE_NS if window_ns > 600 * S else slice_ns
    inside = [(at, value) for start, at, value in facts if start // pane_ns * pane_ns >= end_ns - window_ns]
    return oracle_judge.scatter_add([0] * SIZE, [f[0] for f in inside], [f[1] for f in inside], 1)


@given(st.sampled_from([1, 3, 5, 15]), st.integers(0, 70), st.integers(0, 2**32 - 1))
def test_every_window_is_the_sum_of_the_slices_that_it_covers(slice_s: int, first: int, seed: int) -> None:
    """With gaps between slices, with facts that come late, and across the hour."""
    generator = np.random.default_rng(seed)
    slice_ns = slice_s * S
    sums = RollingSums(2, slice_ns)
    sums.grow(SIZE // 2)
    facts: list[tuple[int, int, int]] = []
    start_ns = first * slice_ns
    for _ in range(60):
        # Most steps are one slice; some leap over minutes or hours.
        late_ns = start_ns - int(generator.integers(1, 40)) * slice_ns
        if late_ns >= 0 and generator.random() < 0.3:
            late = (late_ns, int(generator.integers(SIZE)), int(generator.integers(1, 5)))
            sums.amend(contribution(late[0], [late[1:]]), start_ns)
            facts.append(late)
        fresh = [(int(generator.integers(SIZE)), int(generator.integers(1, 5))) for _ in range(3)]
        facts += [(start_ns, at, value) for at, value in fresh]
        sums.advance(start_ns + slice_ns, contribution(start_ns, fresh))
        end_ns = start_ns + slice_ns
        for window, window_ns in enumerate(WINDOWS_NS):
            expected = expected_sums(facts, window_ns, slice_ns, end_ns)
            assert expected == sums.table(window).ravel().tolist()
        start_ns += slice_ns * int(
            generator.choice([1, 1, 1, 1, 1, 1, 1, 60 // slice_s + 7, 7000 // slice_s])
        )


def test_positions_that_a_slice_changed_are_named_those_that_left_included() -> None:
    sums = RollingSums(2, 5 * S)
    sums.grow(3)
    sums.advance(5 * S, contribution(0, [(4, 1), (5, 1)]))

    changed = sums.advance(70 * S, contribution(65 * S, [(0, 1), (1, 1)]))

    found = [[one.tolist() for one in positions] for positions in changed]
    assert found == [[[0, 1], [4, 5]], [[0, 1]], [[0, 1]]]


def test_rows_that_appear_later_start_at_zero() -> None:
    sums = RollingSums(2, 5 * S)
    sums.grow(1)
    sums.advance(5 * S, contribution(0, [(1, 7)]))

    sums.grow(100)

    assert sums.table(0).shape == (100, 2)
    assert sums.table(0).sum() == 7


def test_what_a_window_holds_is_bounded_by_its_length() -> None:
    sums = RollingSums(1, 5 * S)
    sums.grow(1)
    for number in range(2000):
        sums.advance(5 * S * (number + 1), contribution(5 * S * number, [(0, 1)]))

    held = [len(window._held) + len(window._pane) for window in sums.windows]

    assert held == [12, 60, 59 + 8]


@pytest.mark.parametrize("late", [1, 50])
def test_what_a_window_holds_does_not_grow_with_what_comes_late(late: int) -> None:
    """Neither in panes nor in bytes; what is taken back again is not held at all."""
    sums = RollingSums(1, 5 * S)
    sums.grow(SIZE)
    for number in range(1000):
        for again in range(late):
            for age in range(1, min(number, 15)):
                start_ns = 5 * S * (number - age)
                sums.amend(contribution(start_ns, [(1, 1), (2, 1 - 2 * (again % 2))]), 5 * S * number)
        sums.advance(5 * S * (number + 1), contribution(5 * S * number, [(0, 1), (3, 1)]))

    held = [[*window._held, *window._pane] for window in sums.windows]

    assert [len(one) for one in held] == [12, 60, 59 + 4]
    assert all(len(one.flat) <= 4 for window in held for one in window)
