"""The kernels that add a slice to evidence do what their slow twins do."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.creep_tables import Above, CutLaw, add_to_cuts, column_from, sums_above
from detectors.error_burn import add_evidence
from detectors.failure_phase import count_parts
from detectors.sequential import (
    log_e_bernoulli,
    log_e_bernoulli_once,
    log_mixture,
    log_mixture_once,
    restarted,
    restarted_once,
)
from detectors.shift_evidence import (
    Evidence,
    Hypotheses,
    fill_log_gammas,
    fill_log_ratios,
    fill_row,
    log_dirichlet,
    log_for_usual,
    log_gamma,
    log_gammas,
    log_moved,
    log_usual,
    scale,
    weighed,
)
from detectors.stream_incomplete import Params, Rule, Shares, weigh_shares
from tests import oracle_evidence as oracle

LOG_M = st.one_of(st.just(-np.inf), st.floats(-40.0, 40.0))
COUNTS = st.lists(st.integers(0, 30).map(float), min_size=4, max_size=4)
USUAL = np.array([[50.0, 40.0, 9.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
MOVED = np.array([[[40.0, 44.0, 13.0, 3.0], [25.0, 45.0, 22.0, 8.0]], np.zeros((2, 4))])


def close(expected: Any) -> Any:
    """To the digits that `log_gamma` has."""
    return pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(st.lists(LOG_M, min_size=1, max_size=6), st.floats(-20.0, 20.0))
def test_one_element_is_as_an_array_of_it_and_as_its_twin(log_m: list[float], log_e: float) -> None:
    found = log_mixture_once(np.array(log_m))

    assert found == close(oracle.log_mixture_once(log_m))
    assert found == pytest.approx(float(log_mixture(np.array([log_m]))[0]), rel=1e-12, abs=1e-12)
    for one in log_m:
        again = restarted_once(one, log_e)
        assert again == close(oracle.restarted_once(one, log_e))
        assert again == pytest.approx(float(restarted(np.array(one), np.array(log_e))), rel=1e-12, abs=1e-12)


@given(st.integers(0, 20), st.integers(0, 20), st.floats(0.001, 0.9), st.floats(1.1, 50.0))
def test_an_e_value_of_a_share_is_that_of_its_twin(hits: int, misses: int, null: float, odds: float) -> None:
    found = log_e_bernoulli_once(hits, hits + misses, null, odds)
    counts = np.array([float(hits)]), np.array([float(hits + misses)])

    assert found == close(oracle.log_e_bernoulli_once(hits, hits + misses, null, odds))
    assert found == pytest.approx(
        float(log_e_bernoulli(*counts, np.array([null]), np.array([odds]))[0, 0]), rel=1e-12, abs=1e-12
    )


@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=8), st.sampled_from([1.0, 3.0, 1e9]))
def test_evidence_of_a_shift_is_that_of_its_twin(slices: list[tuple[list[float], ...]], level: float) -> None:
    """Slot 1 has no reference, and stays as it is."""
    shape, laws = (2, 2, 4), Hypotheses(USUAL, MOVED)
    evidence = Evidence(np.full(shape[:2], -np.inf), np.zeros(shape), np.zeros(shape[:2]), np.zeros(2))
    slot = oracle.Slot([-np.inf] * 2, [[0.0] * 4] * 2, [0.0] * 2, 0.0)
    law = USUAL[0].tolist(), MOVED[0].tolist()

    for new in slices:
        evidence, log_e = weighed(evidence, np.array(new), laws, level, 0.9)
        slot, expected = oracle.weigh_slot(slot, new[0], *law, level, 0.9)

        assert log_e[0] == close(expected)
        assert evidence.log_m[0] == close(slot.log_m)
        assert evidence.tally[0] == close(np.array(slot.tally))
        assert evidence.log_ratio[0] == close(slot.log_ratio)
        assert evidence.back[0] == close(slot.back)
    assert (evidence.log_m[1].tolist(), evidence.tally[1].any()) == ([-np.inf] * 2, False)


@given(COUNTS, COUNTS)
def test_laws_of_counts_are_those_of_their_twins(tally: list[float], new: list[float]) -> None:
    laws, usual, moved = Hypotheses(USUAL, MOVED), USUAL[0].tolist(), MOVED[0, 1].tolist()
    gammas, counts, seen = log_gammas(laws), np.array(tally), np.array(new)
    again, row = log_gammas(laws), np.zeros(4)
    evidence = Evidence(np.zeros((2, 2)), np.zeros((2, 2, 4)) + counts, np.zeros((2, 2)), np.zeros(2))
    fill_log_ratios(evidence, laws, gammas)
    fill_log_gammas(laws, again)
    fill_row(USUAL[0], row)

    assert row.tolist() == gammas.usual[0].tolist() == again.usual[0].tolist()
    assert row == close([math.lgamma(one) for one in usual])
    assert row[0] == log_gamma(USUAL[0, 0])
    assert log_moved(0, 1, counts, laws, gammas) == close(oracle.log_dirichlet(tally, moved))
    assert log_usual(0, counts, laws, gammas) == close(oracle.log_dirichlet(tally, usual))
    assert log_dirichlet(counts, USUAL[0], row, log_gamma(100.0)) == log_usual(0, counts, laws, gammas)
    assert evidence.log_ratio[0, 1] == close(oracle.log_ratio(tally, moved, usual))
    expected = oracle.log_for_usual(new, tally, usual)
    assert log_for_usual(seen, counts, USUAL[0]) == close(expected)
    scale(counts, 0.5)
    assert counts.tolist() == [0.5 * one for one in tally]


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.lists(LOG_M, min_size=2, max_size=2)), max_size=5
    )
)
def test_evidence_of_errors_is_that_of_its_twin(slots: list[tuple[int, int, list[float]]]) -> None:
    errors, ended = (np.array([one[at] for one in slots], np.int64) for at in (0, 1))
    ended += errors
    steps = [(0.7, -0.1), (1.5, -0.4)]
    log_m = np.array([one for _, _, one in slots]).reshape(-1, 2)
    expected = [oracle.add_evidence(one, bad, bad + fine, steps, 30.0) for bad, fine, one in slots]

    failed, fine = np.array(steps).T.copy()
    add_evidence(errors, ended, failed, fine, 30.0, log_m)

    assert log_m == close(np.array(expected).reshape(-1, 2))


@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 5)), max_size=6))
def test_parts_are_counted_as_by_hand(rows: list[tuple[int, int]]) -> None:
    slot, many = ([one[at] for one in rows] for at in (0, 1))
    table = np.ones((3, 4), np.int32)

    count_parts(np.array(slot, np.int32), np.array(many, np.int64), np.array([0, 2]), table)

    assert table.tolist() == oracle.count_parts(slot, many, [0, 2], [[1] * 4] * 3)


@given(
    st.one_of(st.just(math.nan), st.floats(0.5, 7.0)),
    *[st.lists(st.integers(0, 40), min_size=6, max_size=6)] * 2,
)
def test_cuts_are_told_as_by_hand(wall_s: float, past: list[int], new: list[int]) -> None:
    lower_s, rule = np.arange(1.0, 7.0), (1.03, 0.8, 8.0)
    above = Above(sums_above(np.array([past])), sums_above(np.array([new])))
    log_cut, missed = np.full((1, 1), 2.0), np.full((1, 1), 3.0)
    more = oracle.add_to_cuts(wall_s, lower_s.tolist(), past, new, rule)
    expected = [0.0, 0.0] if math.isnan(more[0]) else [2.0 + more[0], 3.0 + more[1]]

    add_to_cuts(np.array([[wall_s]]), above, CutLaw(lower_s, *rule), log_cut, missed)

    assert [float(log_cut[0, 0]), float(missed[0, 0])] == pytest.approx(expected)
    assert column_from(lower_s, 3.0) == 2


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=30))
def test_shares_are_weighed_as_by_their_twin(slices: list[tuple[int, int]]) -> None:
    params = Params(calls_min=5.0, doubt_ns=20)
    zeros = np.zeros(4)
    now = Shares(
        zeros.copy(), zeros + 40.0, np.full((4, 2), -np.inf), zeros.copy(), zeros.copy(), np.full(4, -1)
    )
    share = oracle.Share(0.0, 40.0, [-math.inf] * 2, 0.0, 0.0, -1)
    rule = oracle.ShareRule(
        params.floor[2], params.effect, params.usual_max, params.calls_min, params.odds, 9.0, params.doubt,
        params.doubt_ns, 0.99,
    )  # fmt: skip

    for number, (bad, fine) in enumerate(slices):
        span_ns = 5 * number, 5 * number + 5
        weigh_shares(now, zeros + bad, zeros + bad + fine, span_ns, Rule(9.0, 0.99), params)
        share = oracle.weigh_shares(share, bad, bad + fine, span_ns, rule)

        found = [one[2].tolist() for one in now]
        assert found[2] == close(share.log_m)
        assert [*found[:2], *found[3:]] == close([*share[:2], *share[3:]])
