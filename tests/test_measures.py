"""Quantiles and totals by label set."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.judge.declines import Classifier, Rule
from engine.judge.measures import Measures, add_totals, count_errors
from engine.judge.series import SeriesIndex
from engine.judge.stage_rows import StageRows
from engine.judge.windows import HOUR, WindowView
from engine.limits import Register
from engine.observe.merge import difference
from engine.observe.summary import Count, SliceSummary
from tests import oracle_judge
from tests.summaries import ACME, GLOBEX, LABELS, SLICE_NS, declined, ended, summary

ENDS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(-3, 3)))


@given(ENDS, st.lists(st.booleans(), min_size=2, max_size=2))
def test_errors_are_added_up_by_series(ends: list[tuple[int, int, int]], is_error: list[bool]) -> None:
    series, cause, many = (np.array([one[at] for one in ends], np.int64) for at in range(3))
    into = np.zeros(3, np.int64)

    count_errors(series.astype(np.int32), cause.astype(np.int32), many, np.array(is_error), into)

    assert into.tolist() == oracle_judge.count_errors(ends, is_error, 3)


@given(ENDS, st.sampled_from([-1, 1]))
def test_totals_are_added_up_by_series_and_errors_with_them(
    rows: list[tuple[int, int, int]], sign: int
) -> None:
    series, counts, errors = (np.array([one[at] for one in rows], np.int64) for at in range(3))
    totals, errors_total = np.full((3, 2), 7), np.full(3, 7)

    table = np.stack([counts, 2 * counts, 3 * counts], axis=1)
    add_totals(totals, errors_total, series.astype(np.int32), table, np.array([2, 0]), errors, sign)

    found = np.column_stack([totals, errors_total]).tolist()
    given_rows = [(one, (3 * count, count, error)) for one, count, error in rows]
    assert found == oracle_judge.add_totals([[7] * 3] * 3, given_rows, sign)


def test_pairs_of_row_and_stage_are_numbered_by_name_whatever_their_local_order() -> None:
    rows = StageRows()

    first = rows.ids(np.array([1, 0]), np.array([0, 1], np.int16), ("tts", "llm"))
    again = rows.ids(np.array([0, 1, 1]), np.array([0, 1, 0], np.int16), ("llm", "tts"))

    assert rows.pairs[:2] == [(0, "llm"), (1, "tts")]
    assert first.tolist() == [1, 0]
    assert again.tolist() == [0, 1, 2]
    assert rows.ids(np.zeros(0, np.int64), np.zeros(0, np.int16), ()).tolist() == []


def new_measures(window_rows_max: int = 100) -> Measures:
    """Make measures of a register without limits."""
    index = SeriesIndex(Register(), 10, window_rows_max)
    return Measures(SLICE_NS, index, Classifier((Rule("busy", codes=(486,)),)))


def advance(measures: Measures, *summaries: SliceSummary) -> WindowView:
    """Advance by summaries of consecutive slices; give the last view."""
    view = measures.empty_view()
    for one in summaries:
        ids = measures.index.ids(one.labels, one.series)
        view, _ = measures.advance(one.start_ns, one.end_ns, one, ids)
    return view


def test_a_series_counts_in_the_total_in_each_of_its_labels_and_as_a_whole() -> None:
    counts = [{Count.STARTED: 3, Count.ENDED: 2, Count.DECLINED: 1}, {Count.STARTED: 5}]
    view, _ = new_measures().advance(0, SLICE_NS, None, np.zeros(0, np.int32))
    assert view.labels == ((),)

    view = advance(new_measures(), summary(0, (ACME, GLOBEX), counts))

    arrivals = dict(zip(view.labels, view.arrivals[:, HOUR].tolist(), strict=True))
    assert arrivals == {
        (): 8,
        (("tenant", "acme"),): 3,
        (("tenant", "globex"),): 5,
        (("trunk", "sip-1"),): 8,
        (("tenant", "acme"), ("trunk", "sip-1")): 3,
        (("tenant", "globex"), ("trunk", "sip-1")): 5,
    }
    assert view.ended[0].tolist() == [2, 2, 2]
    assert view.declined[0].tolist() == [1, 1, 1]
    assert view.arrivals_in_slice[0] == 8


def test_errors_are_ends_that_the_rules_call_errors_and_never_declines() -> None:
    causes = [
        (0, ended("failed"), 4),
        (0, ended("completed"), 2),
        (0, declined(503), 8),
        (0, declined(486), 16),
    ]

    view = advance(new_measures(), summary(counts=[{Count.ENDED: 6, Count.DECLINED: 24}], causes=causes))

    assert view.errors[0].tolist() == [4, 4, 4]


def test_an_amended_summary_replaces_what_it_said_before() -> None:
    measures = new_measures()
    before = summary(
        0,
        counts=[{Count.STARTED: 3, Count.ENDED: 1}],
        latency=[(0, "llm", 0.5, 1)],
        causes=[(0, ended("failed"), 1)],
    )
    after = summary(
        0,
        counts=[{Count.STARTED: 4, Count.ENDED: 1}],
        latency=[(0, "llm", 0.5, 3)],
        causes=[(0, ended("failed"), 1)],
    )
    advance(measures, before)
    ids = measures.index.ids(LABELS, (ACME,))

    measures.amend(difference(after, before), ids, SLICE_NS)
    view, _ = measures.advance(SLICE_NS, 2 * SLICE_NS, None, np.zeros(0, np.int32))

    assert view.arrivals[0].tolist() == [4, 4, 4]
    assert view.errors[0].tolist() == [1, 1, 1]
    assert measures.latency_quantiles().values[0].tolist() == [3, 3, 3]
    assert measures.totals[0, 0] == 4
    assert measures.histograms.sum() == 3
    assert measures.sums_us.tolist() == [1_500_000]


def test_when_window_rows_are_full_the_rows_that_exist_still_count() -> None:
    measures = new_measures(window_rows_max=2)

    view = advance(measures, summary(0, (ACME, GLOBEX), [{Count.STARTED: 1}, {Count.STARTED: 2}]))

    assert len(view.labels) == 2
    assert view.arrivals[0, 0] == 3


def test_histograms_for_export_name_every_label_and_the_stage() -> None:
    measures = new_measures()
    advance(measures, summary(0, latency=[(0, "llm", 0.5, 2)]))

    family = measures.histogram_family(LABELS)

    assert family.labels == (*LABELS, "stage")
    assert family.values == (("acme", "sip-1", "", "", "llm"),)
    assert family.pages.sum() == 2
    assert family.sum_us.tolist() == [1_000_000]
