"""Quantiles of latency are those of the windows at the moment somebody asks, whoever asked before."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.judge.quantiles import Quantiles, quantiles_of_rows
from engine.observe.latency import BUCKETS, OCTAVES, RELATIVE_ERROR_MAX
from tests import oracle_judge
from tests.snapshots import family_of
from tests.summaries import ACME, GLOBEX, SLICE_NS, summary
from tests.test_measures import advance, new_measures

LATENCIES = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(["llm", "tts"]), st.sampled_from([0.01, 0.5, 3.0, 70.0]),
              st.integers(1, 3)), max_size=4,
)  # fmt: skip


@given(
    st.lists(st.lists(st.tuples(st.integers(0, BUCKETS - 1), st.integers(1, 9)), max_size=6), max_size=4),
    st.lists(st.sampled_from([0.0, 0.5, 0.99, 1.0]), max_size=3),
    st.data(),
)
def test_only_the_rows_named_get_new_quantiles_and_counts(
    sketches: list[list[tuple[int, int]]], ranks: list[float], data: st.DataObject
) -> None:
    whole = np.zeros((len(sketches), BUCKETS), np.int64)
    for row, filled in enumerate(sketches):
        for bucket, count in filled:
            whole[row, bucket] = count
    family = family_of((), tuple(() for _ in sketches), whole, np.zeros(len(sketches)))
    rows = data.draw(st.lists(st.integers(0, len(sketches) - 1), unique=True)) if sketches else []
    into, counted = np.full((len(ranks), len(sketches)), -1.0), np.full(len(sketches), -1)

    quantiles_of_rows(
        family.pages.astype(np.int32), family.page_of, np.array(rows, np.int32), np.array(ranks), into,
        counted, np.empty(OCTAVES, np.int64),
    )  # fmt: skip

    expected, expected_counts = np.full_like(into, -1.0), np.full_like(counted, -1)
    for row, (count, values) in oracle_judge.quantiles_of_rows(whole.astype(np.int32), rows, ranks).items():
        expected[:, row], expected_counts[row] = values, count
    np.testing.assert_allclose(into, expected, rtol=1e-15)
    assert expected_counts.tolist() == counted.tolist()


def test_quantiles_follow_the_window_and_are_unknown_when_it_is_empty() -> None:
    measures = new_measures()
    first = summary(0, latency=[(0, "llm", 0.5, 99), (0, "llm", 4.0, 1)])
    last = summary(12 * SLICE_NS)

    view = advance(measures, first)
    row = list(zip(view.latency_row.tolist(), view.latency_stage, strict=True)).index((0, "llm"))
    found = measures.latency_quantiles()
    assert found.p50_s[row, 0] == pytest.approx(0.5, rel=RELATIVE_ERROR_MAX)
    assert found.p99_s[row, 0] == pytest.approx(0.5, rel=RELATIVE_ERROR_MAX)
    assert found.values[row].tolist() == [100, 100, 100]

    advance(measures, last)
    later = measures.latency_quantiles()
    assert math.isnan(later.p50_s[row, 0])
    assert later.p50_s[row, 1] == pytest.approx(0.5, rel=RELATIVE_ERROR_MAX)


@given(st.lists(st.tuples(st.integers(1, 400), LATENCIES, st.booleans()), min_size=1, max_size=12))
def test_who_asked_before_changes_no_answer(
    slices: list[tuple[int, list[tuple[int, str, float, int]], bool]],
) -> None:
    """Slices up to half an hour apart; after some of them somebody asks."""
    measures, number = new_measures(), 0
    for apart, latencies, is_asked in slices:
        number += apart
        advance(measures, summary(number * SLICE_NS, (ACME, GLOBEX), latency=latencies))
        if is_asked:
            measures.latency_quantiles()

    pairs = measures.latency_rows.pairs
    fresh = Quantiles(measures.sketches, measures.pages).of_all(len(pairs))
    singly = [[measures.latency_quantile_s(*pair, window, 0.99) for window in range(3)] for pair in pairs]
    for found, expected in zip(measures.latency_quantiles(), fresh, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.array(singly).reshape(-1, 3), fresh.p99_s)


def test_of_what_was_never_measured_no_quantile_is_known() -> None:
    measures = new_measures()
    advance(measures, summary(0, latency=[(0, "llm", 0.5, 1)]))

    assert math.isnan(measures.latency_quantile_s(0, "tts", 0, 0.5))
    assert math.isnan(measures.latency_quantile_s(10**6, "llm", 0, 0.5))
