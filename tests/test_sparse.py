"""Sparse facts: whatever the order in which they come, each position has its sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detectors.creep_tables import (
    BUCKET_FIRST,
    COLUMNS,
    Fade,
    add_to_columns,
    columns_beyond,
    faded,
    sums_above,
)
from detectors.latency_shift import BINS, COARSE, count_latencies
from detectors.rows import add_to_bins
from detectors.shift_evidence import in_categories
from engine.judge.sketch_pages import PAGES_MIN, SketchPages, mark_rows
from engine.judge.sparse import SumTable, add_sums, contribution_of, merged, summed_up
from engine.judge.spread import SeriesFacts, added_up, reach_of, spread_counts
from engine.judge.stage_rows import StageRows
from engine.observe.latency import BUCKETS, OCTAVES, PER_OCTAVE
from engine.observe.merge import Group, summed, without_zeros
from engine.observe.radix import order_of, packed
from engine.observe.sketches import (
    PLACES,
    STAGE_BITS,
    STAGE_MASK,
    Sketches,
    add_latency,
    emptied,
    grown_sketches,
    has_pages,
    new_sketches,
    place_of,
)
from engine.observe.unload import LatencyRows, unload_latencies
from tests import oracle_sparse

if TYPE_CHECKING:
    from collections.abc import Sequence

STAGES = ("asr", "llm")
POSITIONS = st.lists(st.tuples(st.integers(0, 40), st.integers(-9, 9)), max_size=30)
LATENCIES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, BUCKETS - 1), st.integers(0, 10**9)),
    max_size=60,
)


def columns(facts: Sequence[tuple[int, ...]], width: int, kind: type = np.int64) -> list[np.ndarray]:
    """Give the columns of facts, also of none."""
    return [np.array([fact[at] for fact in facts], kind) for at in range(width)]


@given(POSITIONS)
def test_a_contribution_has_each_position_once_in_order(facts: list[tuple[int, int]]) -> None:
    flat, values = columns(facts, 2, np.int32)

    one = contribution_of(5, flat, values)

    expected = oracle_sparse.sum_by_position(flat.tolist(), values.tolist())
    assert (one.start_ns, list(zip(one.flat.tolist(), one.values.tolist(), strict=True))) == (5, expected)


@given(st.lists(POSITIONS, min_size=1, max_size=3))
def test_contributions_merge_into_the_sum_of_their_facts(parts: list[list[tuple[int, int]]]) -> None:
    ones = []
    for at, part in enumerate(parts):
        flat, values = columns(part, 2, np.int32)
        ones.append(contribution_of(at, flat, values))

    whole = merged(ones)

    every = [fact for part in parts for fact in part]
    expected = oracle_sparse.sum_by_position([at for at, _ in every], [value for _, value in every])
    assert list(zip(whole.flat.tolist(), whole.values.tolist(), strict=True)) == expected
    assert whole.start_ns == 0


@given(st.lists(st.integers(0, 9 * PER_OCTAVE - 1)), st.lists(st.integers(0, 5), min_size=9, max_size=9))
def test_the_rows_of_positions_are_marked(flat: list[int], row_of: list[int]) -> None:
    is_marked = np.zeros(6, np.bool_)

    mark_rows(is_marked, np.array(flat, np.int32), np.array(row_of, np.int32))

    assert np.flatnonzero(is_marked).tolist() == oracle_sparse.mark_rows(flat, row_of, PER_OCTAVE)


@given(st.lists(st.lists(st.integers(0, 8), max_size=4), max_size=4))
def test_the_reach_of_lists_is_their_last_row_and_the_longest_of_them(rows_of: list[list[int]]) -> None:
    rows = np.array([row for one in rows_of for row in one], np.int32)

    assert reach_of(np.cumsum([0, *map(len, rows_of)]), rows) == oracle_sparse.reach_of(rows_of)


@given(
    st.lists(st.lists(st.integers(0, 8), unique=True), min_size=1, max_size=4),
    st.lists(st.tuples(*[st.integers(-9, 9)] * 3), max_size=4),
)
def test_counts_are_added_up_in_every_row_of_their_series(
    rows_of: list[list[int]], counts: list[tuple[int, ...]]
) -> None:
    counts = counts[: len(rows_of)]
    series = list(range(len(counts)))[::-1]
    start = np.cumsum([0, *map(len, rows_of)])
    rows = np.array([row for one in rows_of for row in one], np.int32)
    table, numbers = np.array(counts, np.int64).reshape(-1, 3), np.array(series, np.int32)
    into, again = np.zeros(3 * 9, np.int64), SumTable()

    spread_counts(numbers, table, start, rows, again.empty(3 * 9))
    add_sums(again.empty(3 * 9), into, -2)
    spread_counts(numbers, table, start, rows, again.empty(2 * 9))
    one = summed_up(0, again.empty(1))
    spread_counts(numbers, table, start, rows, again.empty(3 * 9))
    again.drop()

    assert len(summed_up(0, again.empty(3 * 9)).flat) == 0
    assert into[one.flat].tolist() == (-2 * one.values).tolist()
    assert np.count_nonzero(into) == len(one.flat)
    found = {divmod(at, 3): value for at, value in zip(one.flat.tolist(), one.values.tolist(), strict=True)}
    assert found == oracle_sparse.spread_counts(series, counts, rows_of)


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, BUCKETS - 1), st.integers(-5, 5)),
            max_size=20,
        ),
        max_size=4,
    ),
    st.lists(st.lists(st.integers(0, 4), unique=True, max_size=4), min_size=3, max_size=3),
)
def test_facts_are_added_up_in_every_row_of_their_series(
    slices: list[list[tuple[int, int, int, int]]], rows_of: list[list[int]]
) -> None:
    """A position means one row, stage and bucket for ever."""
    start = np.cumsum([0, *map(len, rows_of)])
    rows = np.array([row for one in rows_of for row in one], np.int32)
    known, pages, table = StageRows(), SketchPages(), SumTable()
    meant: dict[int, tuple[int, int]] = {}
    for given_facts in slices:
        series, stage, bucket, many = columns(given_facts, 4)
        facts = SeriesFacts(series.astype(np.int32), stage.astype(np.int16), bucket.astype(np.int16), many)

        one = summed_up(0, added_up(facts, (start, rows), known, STAGES, pages, table))

        row, bucket = pages.rows_and_buckets(one.flat)
        told = list(zip(row.tolist(), bucket.tolist(), strict=True))
        found = zip([known.pairs[number] for number, _ in told], (where for _, where in told), strict=True)
        expected = oracle_sparse.added_up(given_facts, rows_of, STAGES)
        assert {
            (*pair, where): value for (pair, where), value in zip(found, one.values.tolist(), strict=True)
        } == expected
        meant |= dict(zip(one.flat.tolist(), told, strict=True))
        every = np.array(list(meant), np.int32)
        row, bucket = pages.rows_and_buckets(every)
        assert list(zip(row.tolist(), bucket.tolist(), strict=True)) == list(meant.values())
        is_marked = np.zeros(len(pages.page_of), np.bool_)
        pages.mark_rows([one.flat, one.flat], is_marked)
        assert np.flatnonzero(is_marked).tolist() == sorted({number for number, _ in told})


def test_there_is_room_for_as_many_pages_as_are_met() -> None:
    rows = 3 * PAGES_MIN
    known, pages = StageRows(), SketchPages()
    start, itself = np.arange(rows + 1), np.arange(rows, dtype=np.int32)
    for octave in range(3):
        bucket = np.full(rows, octave * PER_OCTAVE, np.int16)
        facts = SeriesFacts(itself, np.zeros(rows, np.int16), bucket, np.ones(rows, np.int64))

        one = summed_up(0, added_up(facts, (start, itself), known, STAGES, pages, SumTable()))

        assert one.values.tolist() == [1] * rows
        assert pages.many == (octave + 1) * rows


def test_room_for_pages_grows_with_the_pages_alone() -> None:
    """A series that is new in each slice is numbered there, and takes the room of its own pages."""
    series = 200
    start, itself = np.arange(series + 1), np.arange(series, dtype=np.int32)
    known, pages = StageRows(), SketchPages()
    for one in range(series):
        facts = SeriesFacts(itself[one : one + 1], *(np.zeros(1, np.int16),) * 2, np.ones(1, np.int64))
        added_up(facts, (start, itself), known, STAGES, pages, SumTable())

    assert pages.many == series
    assert len(pages.room(0, 0).row_of) <= max(PAGES_MIN, 2 * (series + OCTAVES))


@given(st.lists(st.integers(0, 2**62) | st.integers(0, 3)))
def test_row_numbers_come_in_the_order_of_their_keys(keys: list[int]) -> None:
    assert order_of(np.array(keys, np.int64)).tolist() == oracle_sparse.radix_order(keys)


@given(st.lists(st.tuples(st.integers(-3, 9), st.integers(-1, 2**40), st.integers(0, 1)), min_size=1))
def test_packed_keys_sort_as_their_columns(keys: list[tuple[int, int, int]]) -> None:
    whole = packed(columns(keys, 3))

    assert whole is not None
    assert order_of(whole).tolist() == sorted(range(len(keys)), key=lambda row: keys[row])


def test_keys_that_do_not_fit_in_one_number_are_not_packed() -> None:
    assert packed([np.array([0, 2**40]), np.array([-1, 2**30])]) is None
    with np.errstate(over="ignore"):  # In plain Python, which warns.
        assert packed([np.array([-(2**62), 2**62])]) is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from([-1, 0, 7, 2**61]), st.integers(-1, 1), st.integers(0, 1)
        ),
        max_size=20,
    )
)
def test_facts_of_one_key_are_added_up_and_what_comes_to_nothing_is_left_out(
    facts: list[tuple[int, int, int, int]],
) -> None:
    """Whether their keys fit in one number or not."""
    first, second, *values = columns(facts, 4)
    group = Group((first, second), np.stack(values, axis=1))

    whole, kept = summed(group), without_zeros(group)

    found = zip(*(key.tolist() for key in whole.keys), *whole.values.T.tolist(), strict=True)
    assert list(found) == oracle_sparse.summed(facts)
    left = zip(*(key.tolist() for key in kept.keys), *kept.values.T.tolist(), strict=True)
    assert list(left) == [fact for fact in facts if any(fact[2:])]


def counted(sketches: Sketches) -> tuple[dict[tuple[int, ...], int], dict[tuple[int, ...], int]]:
    """Read counts and sums back."""
    places, many = int(sketches.used[PLACES]), int(np.count_nonzero(sketches.counts))
    series, stage = sketches.key[:places] >> STAGE_BITS, sketches.key[:places] & STAGE_MASK
    rows = LatencyRows(
        np.zeros(many + 1, np.int32),
        np.zeros(many + 1, np.int16),
        np.zeros(many + 1, np.int16),
        np.zeros(many + 1, np.int64),
    )
    unload_latencies(sketches, np.arange(places), series, stage, rows)
    *keys, counts = (column[:many].tolist() for column in rows)
    sums = zip(series.tolist(), stage.tolist(), sketches.sum_us[:places].tolist(), strict=True)
    return dict(zip(zip(*keys, strict=True), counts, strict=True)), {tuple(key): one for *key, one in sums}


@given(LATENCIES)
def test_latencies_are_counted_by_bucket_and_added_up(latencies: list[tuple[int, int, int, int]]) -> None:
    sketches = new_sketches(1, 2)
    for one in latencies:
        if not has_pages(sketches, 1):
            sketches = grown_sketches(sketches, 1)
        add_latency(sketches, *one)

    counts, sums = counted(sketches)

    expected_counts, expected_sums = oracle_sparse.add_latency(latencies)
    assert (counts, sums) == (expected_counts, expected_sums)
    assert sketches.used[PLACES] == len(expected_sums)


@given(st.lists(LATENCIES, min_size=2, max_size=3))
def test_emptied_sketches_count_as_new_ones(slices: list[list[tuple[int, int, int, int]]]) -> None:
    sketches = new_sketches()
    for latencies in slices:
        sketches = emptied(sketches)
        for one in latencies:
            add_latency(sketches, *one)

    assert counted(sketches) == oracle_sparse.add_latency(slices[-1])


def test_sketches_that_a_busy_slice_has_left_too_large_are_given_up() -> None:
    busy = grown_sketches(new_sketches(), 20_000)
    for series in range(9000):
        place_of(busy, series, 0)
        add_latency(busy, series, 1, 5, 1)

    assert emptied(busy) is busy
    assert len(emptied(busy).key) < len(busy.key)


@given(
    st.lists(st.lists(st.integers(-1, 9), min_size=2, max_size=2).map(sorted), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(1, 5))),
)
def test_facts_are_counted_by_category_and_by_bin(
    cuts: list[list[int]], facts: list[tuple[int, int, int]]
) -> None:
    facts = [fact for fact in facts if fact[0] < len(cuts)]
    slot, bins, many = columns(facts, 3)
    table = np.zeros((len(cuts), 10), np.int32)

    found = in_categories(len(cuts), np.array(cuts, np.int64), slot, bins, many)
    add_to_bins(table, slot, bins, many)

    assert found.tolist() == oracle_sparse.add_by_category(cuts, facts, len(cuts))
    assert table.tolist() == oracle_sparse.add_to_bins(facts, len(cuts), 10)


@given(
    st.lists(st.lists(st.integers(-1, BINS), min_size=2, max_size=2).map(sorted), min_size=4, max_size=4),
    st.lists(st.integers(-2, 3), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, BUCKETS - 1), st.integers(1, 5))),
)
def test_latencies_of_watched_rows_are_counted(
    cuts: list[list[int]], slot_of: list[int], facts: list[tuple[int, int, int]]
) -> None:
    facts = [fact for fact in facts if fact[0] < len(slot_of)]
    row, bucket, many = (
        np.array([fact[at] for fact in facts], kind) for at, kind in enumerate((np.int32, np.int16, np.int64))
    )
    slots, cut = np.array(slot_of, np.int32), np.array(cuts, np.int64)
    newest, pending = np.zeros((len(cuts), BINS), np.int32), np.zeros((len(cuts), COLUMNS), np.int32)
    seen = np.zeros((len(cuts), 3))

    count_latencies(slots, row, bucket, many, cut, newest, seen)
    add_to_columns(slots, row, bucket, many, pending)

    coarse = oracle_sparse.of_watched(facts, slot_of, [bucket // COARSE for bucket in range(BUCKETS)])
    column = [sorted((0, bucket - BUCKET_FIRST, COLUMNS - 1))[1] for bucket in range(BUCKETS)]
    assert newest.tolist() == oracle_sparse.add_to_bins(coarse, len(cuts), BINS)
    assert seen.tolist() == oracle_sparse.add_by_category(cuts, coarse, len(cuts))
    fine = oracle_sparse.of_watched(facts, slot_of, column)
    assert pending.tolist() == oracle_sparse.add_to_bins(fine, len(cuts), COLUMNS)


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), max_size=3))
def test_columns_are_added_up_from_the_last(table: list[list[int]]) -> None:
    expected = oracle_sparse.add_up_from_the_last(table)

    assert sums_above(np.array(table, np.int32).reshape(-1, 3)).tolist() == expected
    assert sums_above(np.array(table, np.float32).reshape(-1, 3)).tolist() == expected


@given(
    st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9), st.integers(0, 9)), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([np.float32, np.float64]),
)
def test_tables_fade_and_take_a_minute_up(
    calls: list[tuple[float, float, int]], is_learned: bool, is_usual_now: bool, kind: type
) -> None:
    recent: np.ndarray = np.array([[one[0] for one in calls]], kind)
    past: np.ndarray = np.array([[one[1] for one in calls]], kind)
    pending = np.array([[one[2] for one in calls]], np.int32)
    flags = np.array([is_learned]), np.array([is_usual_now])
    fade = Fade(np.array([0.8], np.float32), np.float32(0.99), *flags)

    after = faded(recent, past, pending, fade)

    for k, found in enumerate(zip(*(one[0].tolist() for one in after), strict=True)):
        given_calls = recent[0, k], past[0, k], int(pending[0, k])
        assert found == oracle_sparse.fade_calls(*given_calls, (fade.recent[0], fade.past), flags)


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=5, max_size=5), min_size=1, max_size=3),
    st.integers(-1, 12),
)
def test_the_column_from_which_on_no_more_lie_above_is_found(table: list[list[int]], most: int) -> None:
    above = sums_above(np.array(table, np.int32))
    wanted, found = np.full(len(table), float(most)), np.zeros(len(table), np.int64)

    columns_beyond(above, wanted, found)

    assert found.tolist() == oracle_sparse.columns_beyond(above.tolist(), wanted.tolist())
