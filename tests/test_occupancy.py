"""Levels and ages: every kernel against its twin, and how a slice moves on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.judge.occupancy import (
    AGES_NS,
    Flow,
    Membership,
    Occupancy,
    OccupancyState,
    SliceUse,
    add_bins,
    add_entered,
    add_to_cells,
    add_to_instances,
    age_by_one,
    new_occupancy,
    new_slice_use,
    take_out,
    walk_levels,
)
from engine.observe.summary import EndKind
from tests import oracle_judge

if TYPE_CHECKING:
    from collections.abc import Sequence

S = 1_000_000_000
SERIES, INSTANCES, BINS = 4, 3, 12
SMALL = st.integers(-50, 50)
EVERYWHERE = Membership(np.arange(SERIES + 1) * 1, np.zeros(SERIES, np.int32))


@st.composite
def memberships(draw: st.DrawFn) -> Membership:
    """Say for each series which instances it counts in: none, some or all."""
    lists = [draw(st.lists(st.integers(0, INSTANCES - 1), unique=True)) for _ in range(SERIES)]
    start = np.cumsum([0, *map(len, lists)])
    return Membership(start.astype(np.int64), np.array([one for row in lists for one in row], np.int32))


ROWS = st.lists(st.tuples(st.integers(0, SERIES - 1), st.integers(0, BINS + 3), SMALL), max_size=20)


def column(rows: Sequence[tuple[int, ...]], at: int, kind: type) -> np.ndarray:
    """Give a column of rows, also of none."""
    return np.array([row[at] for row in rows], kind)


@given(memberships(), ROWS)
def test_values_go_to_the_bin_of_every_instance_of_their_series(
    members: Membership, rows: list[tuple[int, int, int]]
) -> None:
    rows = [(one, min(at, BINS - 1), value) for one, at, value in rows]
    series, bins, values = ([row[at] for row in rows] for at in range(3))
    use = new_slice_use(INSTANCES, 4, BINS)
    slow = np.zeros((INSTANCES, BINS), np.int32)

    arrivals = column(rows, 2, np.int32)
    add_bins(
        flow()._replace(
            members=members,
            bin_series=column(rows, 0, np.int32),
            bin_index=column(rows, 1, np.int16),
            arrivals=arrivals,
            level=2 * arrivals,
            declines=3 * arrivals,
        ),
        use,
    )
    oracle_judge.add_bins(members, series, bins, values, slow)

    assert slow.tolist() == use.arrivals_per_bin.tolist()
    assert (2 * slow).tolist() == use.level_change.tolist()
    assert (3 * slow).tolist() == use.declines_per_bin.tolist()


@given(memberships(), st.lists(st.tuples(SMALL, SMALL), min_size=SERIES, max_size=SERIES), st.booleans())
def test_calls_enter_flight_young_or_of_unknown_age(
    members: Membership, rows: list[tuple[int, int]], has_opened: bool
) -> None:
    state, series = new_occupancy(INSTANCES, 4), list(range(SERIES))
    young, unknown = np.zeros(INSTANCES, np.int64), np.zeros(INSTANCES, np.int64)

    opened = column(rows, 1, np.int64) if has_opened else np.zeros(0, np.int64)
    add_entered(
        flow()._replace(
            members=members,
            entered_series=np.arange(SERIES, dtype=np.int32),
            entered=column(rows, 0, np.int64),
            opened=opened,
        ),
        state,
    )
    oracle_judge.add_to_instances(members, series, [row[0] for row in rows], young)
    oracle_judge.add_to_instances(members, series[: len(opened)], opened.tolist(), unknown)

    assert young.tolist() == state.alive[:, 0].tolist()
    assert not state.alive[:, 1:].any()
    assert unknown.tolist() == state.age_unknown.tolist()


@given(
    memberships(),
    st.lists(
        st.tuples(
            st.integers(0, SERIES - 1), st.integers(-1, 60), st.sampled_from([*EndKind]), st.integers(-3, 3)
        ),
        max_size=20,
    ),
    st.booleans(),
)
def test_calls_that_ended_leave_the_cell_of_their_age(
    members: Membership, rows: list[tuple[int, int, int, int]], has_unknown: bool
) -> None:
    """Also those that started after the slice, as a late end may say."""
    state, use = new_occupancy(INSTANCES, 4), new_slice_use(INSTANCES, 4, BINS)
    alive, by_age, healed = np.zeros((3, INSTANCES, 4), np.int32)
    slow = oracle_judge.Ends(alive, by_age, healed, np.zeros(INSTANCES, np.int64))

    take_out(
        flow()._replace(
            members=members,
            end_series=column(rows, 0, np.int32),
            end_start_ns=column(rows, 1, np.int64),
            end_kind=column(rows, 2, np.uint8),
            end_count=column(rows, 3, np.int32),
            has_unknown=has_unknown,
        ),
        50,
        10,
        state,
        use,
    )
    oracle_judge.take_out(members, rows, (50, 10), slow, has_unknown=has_unknown)

    assert slow.alive.tolist() == state.alive.tolist()
    assert slow.ended_by_age.tolist() == use.ended_by_age.tolist()
    assert slow.healed_by_age.tolist() == use.healed_by_age.tolist()
    assert slow.age_unknown.tolist() == state.age_unknown.tolist()


@given(memberships(), ROWS)
def test_what_is_older_than_the_last_cell_is_in_the_last_cell(
    members: Membership, rows: list[tuple[int, int, int]]
) -> None:
    series, cells, values = ([row[at] for row in rows] for at in range(3))
    fast, slow = np.zeros((INSTANCES, BINS), np.int32), np.zeros((INSTANCES, BINS), np.int32)

    columns = np.array(series, np.int32), np.array(cells, np.int64), np.array(values, np.int64)
    add_to_cells(members, *columns, fast)
    oracle_judge.add_to_cells(members, series, cells, values, slow)

    assert slow.tolist() == fast.tolist()


@given(memberships(), ROWS)
def test_values_go_to_every_instance_of_their_series(
    members: Membership, rows: list[tuple[int, int, int]]
) -> None:
    series, values = [row[0] for row in rows], [row[2] for row in rows]
    fast, slow = np.zeros(INSTANCES, np.int64), np.zeros(INSTANCES, np.int64)

    add_to_instances(members, np.array(series, np.int32), np.array(values, np.int64), fast)
    oracle_judge.add_to_instances(members, series, values, slow)

    assert slow.tolist() == fast.tolist()


@given(st.integers(0, 3), st.integers(2, 6), st.data())
def test_every_call_grows_older_by_one_cell(instances: int, cells: int, data: st.DataObject) -> None:
    rows = [data.draw(st.lists(SMALL, min_size=cells, max_size=cells)) for _ in range(instances)]
    alive = np.array(rows, np.int32).reshape(instances, cells)

    age_by_one(alive)

    assert oracle_judge.age_by_one(rows) == alive.tolist()


@given(st.integers(0, 3), st.sampled_from([10, 15, 50]), st.data())
def test_the_walk_over_the_bins_finds_level_peak_and_rolling_second(
    instances: int, bins: int, data: st.DataObject
) -> None:
    state, use = new_occupancy(instances, 4), new_slice_use(instances, 4, bins)
    expected = []
    for i in range(instances):
        level = data.draw(st.integers(0, 100))
        last = data.draw(st.lists(st.integers(0, 9), min_size=10, max_size=10))
        arrivals = data.draw(st.lists(st.integers(0, 9), min_size=bins, max_size=bins))
        changes = data.draw(st.lists(SMALL, min_size=bins, max_size=bins))
        state.level[i], state.last_second[i] = level, last
        use.arrivals_per_bin[i], use.level_change[i] = arrivals, changes
        use.ended_by_age[i] = data.draw(st.lists(SMALL, min_size=4, max_size=4))
        expected.append(oracle_judge.walk_levels(level, last, arrivals, changes))

    walk_levels(state, use)

    found = [
        oracle_judge.Walk(
            use.level_per_bin[i].tolist(),
            int(use.level_peak[i]),
            int(use.rate_peak[i]),
            state.last_second[i].tolist(),
        )
        for i in range(instances)
    ]
    assert expected == found
    assert [one.level_per_bin[-1] for one in expected] == state.level.tolist()
    assert [sum(one) for one in use.arrivals_per_bin.tolist()] == use.arrivals.tolist()
    assert [sum(one) for one in use.ended_by_age.tolist()] == use.ended.tolist()


def flow(
    entered: int = 0, level: int = 0, ends: tuple[tuple[int, int, int], ...] = (), opened: int = 0
) -> Flow:
    """Make the facts of one series in instance 0; ends are (start_ns, kind, count)."""
    one = np.zeros(1, np.int32)
    start, kind, count = (np.array([end[at] for end in ends], np.int64) for at in range(3))
    return Flow(
        members=Membership(np.array([0, 1]), np.zeros(1, np.int32)),
        bin_series=one,
        bin_index=np.zeros(1, np.int16),
        arrivals=np.array([entered], np.int32),
        level=np.array([level], np.int32),
        declines=np.zeros(1, np.int32),
        entered_series=one,
        entered=np.array([entered], np.int64),
        opened=np.array([opened], np.int64),
        end_series=np.zeros(len(ends), np.int32),
        end_start_ns=start,
        end_kind=kind.astype(np.uint8),
        end_count=count.astype(np.int32),
        has_unknown=True,
    )


def one_instance() -> Occupancy:
    """Make an occupancy of one instance in slices of 5 s."""
    occupancy = Occupancy(5 * S)
    occupancy.grow(1)
    return occupancy


def ages(state: OccupancyState) -> dict[int, int]:
    """List the cells that hold calls."""
    return {int(cell): int(state.alive[0, cell]) for cell in np.nonzero(state.alive[0])[0]}


def ended(use: SliceUse) -> dict[int, int]:
    """List the ages at which calls ended."""
    return {int(cell): int(use.ended_by_age[0, cell]) for cell in np.nonzero(use.ended_by_age[0])[0]}


def test_a_call_ends_at_the_age_of_its_start() -> None:
    occupancy = one_instance()
    occupancy.advance(0, (flow(entered=2, level=2),))
    occupancy.advance(5 * S, (flow(entered=1, level=1),))

    use = occupancy.advance(10 * S, (flow(level=-1, ends=((0, EndKind.ENDED, 1),)),))

    assert ended(use) == {2: 1}
    assert ages(occupancy.state) == {1: 1, 2: 1}
    assert occupancy.state.level.tolist() == [2]


def test_healed_and_declined_calls_leave_their_cell_but_are_no_ends() -> None:
    occupancy = one_instance()
    occupancy.advance(0, (flow(entered=3, level=3),))

    ends = ((0, EndKind.HEALED, 1), (0, EndKind.DECLINED, 1))
    use = occupancy.advance(5 * S, (flow(level=-2, ends=ends),))

    assert ended(use) == {}
    assert use.healed_by_age[0, 1] == 1
    assert ages(occupancy.state) == {1: 1}


def test_an_end_that_was_never_in_flight_here_changes_nothing() -> None:
    """Counting it would shorten the holding time that the survivors are judged by."""
    occupancy = one_instance()
    occupancy.advance(0, (flow(entered=1, level=1),))

    use = occupancy.advance(5 * S, (flow(ends=((0, EndKind.UNSEEN, 5), (-1, EndKind.UNSEEN, 5))),))

    assert ended(use) == {}
    assert ages(occupancy.state) == {1: 1}
    assert occupancy.state.age_unknown.tolist() == [0]


def test_a_call_of_unknown_age_is_counted_apart_until_it_ends() -> None:
    occupancy = one_instance()
    occupancy.advance(0, (flow(level=2, opened=2),))

    occupancy.advance(5 * S, (flow(level=-1, ends=((-1, EndKind.ENDED, 1),)),))

    assert occupancy.state.age_unknown.tolist() == [1]
    assert ages(occupancy.state) == {}


def test_a_start_that_came_late_enters_at_its_true_age() -> None:
    occupancy = one_instance()
    occupancy.advance(0, (flow(),))
    occupancy.advance(5 * S, (flow(),))

    occupancy.amend(1, flow().members, np.zeros(1, np.int32), np.array([1]))
    occupancy.advance(10 * S, (flow(level=1),))

    assert ages(occupancy.state) == {2: 1}


def test_calls_grow_older_in_slices_that_nobody_judged() -> None:
    occupancy = one_instance()
    occupancy.advance(0, (flow(entered=1, level=1),))

    occupancy.advance(100 * S, (flow(),))
    assert ages(occupancy.state) == {20: 1}

    use = occupancy.advance(2 * AGES_NS, (flow(level=-1, ends=((0, EndKind.ENDED, 1),)),))
    assert ended(use) == {occupancy.cells - 1: 1}
    assert ages(occupancy.state) == {}


def test_a_rolling_second_does_not_reach_over_slices_that_nobody_judged() -> None:
    occupancy = one_instance()
    last_bin = flow(entered=3)._replace(bin_index=np.array([49], np.int16))
    occupancy.advance(0, (last_bin,))

    assert occupancy.advance(5 * S, (flow(entered=2),)).rate_peak.tolist() == [5]
    occupancy.advance(10 * S, (last_bin,))
    assert occupancy.advance(100 * S, (flow(entered=2),)).rate_peak.tolist() == [2]


def test_calls_of_a_restarted_instance_end_as_calls_of_unknown_age() -> None:
    occupancy = one_instance()
    occupancy.advance(0, (flow(),))
    occupancy.restart(0, 2)

    occupancy.advance(5 * S, (flow(entered=1, level=0, ends=((0, EndKind.ENDED, 1),)),))

    assert occupancy.state.level.tolist() == [2]
    assert occupancy.state.age_unknown.tolist() == [1]
    assert ages(occupancy.state) == {0: 1}


def test_room_for_more_instances_leaves_the_others_as_they_are() -> None:
    occupancy = one_instance()
    occupancy.advance(0, (flow(entered=1, level=1),))

    occupancy.grow(3)

    assert occupancy.state.level.tolist() == [1, 0, 0]
    assert ages(occupancy.state) == {0: 1}
