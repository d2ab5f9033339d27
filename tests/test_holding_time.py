"""Holding times: the life table against its twin, and what it must know of real distributions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.holding_time import (
    HoldingParams,
    absorb_ends,
    age_bins,
    cumulate,
    estimate_hazards,
    leaned,
    mean_holding_slices,
    new_holding_times,
)
from tests import oracle_headroom as oracle

PARAMS = HoldingParams()
CELLS = 60
SLICE_S = 5.0

tables = st.lists(
    st.tuples(*[st.lists(st.integers(0, 9), min_size=CELLS, max_size=CELLS)] * 3), min_size=0, max_size=4
)


def test_every_age_is_in_one_bin_and_the_oldest_alone() -> None:
    for cells in (2, 3, 60, 120, 360, 1800):
        bins = age_bins(cells)
        assert np.array_equal(np.unique(bins.of_cell), np.arange(len(bins.middle)))
        assert np.all(np.diff(bins.of_cell) >= 0)
        assert np.array_equal(bins.of_cell[bins.middle], np.arange(len(bins.middle)))
        assert np.array_equal(bins.of_cell[bins.first], np.arange(len(bins.middle)))
        assert np.count_nonzero(bins.of_cell == bins.of_cell[-1]) == 1


@given(past=tables, expected_s=st.one_of(st.just(math.nan), st.floats(5.0, 2000.0)))
@settings(max_examples=40)
def test_the_table_is_that_of_the_slow_twin(
    past: list[tuple[list[int], list[int], list[int]]], expected_s: float
) -> None:
    """Ends and calls at risk fade by slice.

    Hazards lean on the long run, all ages and the register's prior.
    """
    bins = age_bins(CELLS)
    times = new_holding_times(1, len(bins.middle))
    keep = (0.9, 0.99)
    seen = np.zeros((1, 2))
    for slice_ in past:
        alive, ended, healed = (np.array([column], dtype=np.int32) for column in slice_)
        absorb_ends(times, bins.of_cell, alive, ended, healed, keep, seen)
    estimate_hazards(times, np.array([expected_s]), SLICE_S, PARAMS)

    of_cell = bins.of_cell.tolist()
    recent, long_run = (oracle.absorb_ends(past, of_cell, k) for k in keep)
    is_declared = expected_s > 0
    expected = oracle.estimate_hazards(
        recent,
        long_run,
        (expected_s if is_declared else PARAMS.expected_s) / SLICE_S,
        PARAMS.declared_ends if is_declared else PARAMS.expected_ends,
        PARAMS.bin_ends,
    )
    assert times.ends[0] == pytest.approx(recent[0])
    assert times.at_risk[0] == pytest.approx(recent[1])
    assert times.hazard[0] == pytest.approx(expected)
    assert seen[0, 0] == sum(sum(ended) for _, ended, _ in past)


@given(ends=st.floats(0, 1e4), risk=st.floats(0, 1e6), prior=st.floats(1e-4, 0.9), worth=st.floats(0.1, 10.0))
def test_leaning_is_seeing_a_few_more_ends(ends: float, risk: float, prior: float, worth: float) -> None:
    assert leaned(ends, risk, prior, worth) == pytest.approx(oracle.leaned(ends, risk, prior, worth))


@given(hazard=st.lists(st.floats(1e-4, 2.0), min_size=21, max_size=21), speed=st.floats(0.05, 3.0))
@settings(max_examples=40)
def test_the_mean_is_the_sum_of_survival(hazard: list[float], speed: float) -> None:
    bins = age_bins(CELLS)
    hazards = np.resize(hazard, len(bins.middle))
    total = np.empty(CELLS + 30)
    cumulate(hazards, bins.of_cell, total)

    expected = oracle.cumulate(hazards.tolist(), bins.of_cell.tolist(), len(total))
    assert total == pytest.approx(expected)
    assert mean_holding_slices(hazards, bins.of_cell, speed, 2880.0) == pytest.approx(
        oracle.mean_holding_slices(expected[: CELLS + 1], speed, 2880.0), rel=1e-6
    )


@pytest.mark.parametrize("mean_s", [12.0, 19.0, 60.0, 300.0])
@pytest.mark.parametrize("slice_s", [1.0, 5.0, 15.0])
def test_the_mean_holding_time_has_no_bias_however_short_the_calls(mean_s: float, slice_s: float) -> None:
    """Calls start anywhere within a slice.

    The estimate of a lognormal law is within 3 %, whatever the slice.
    """
    cells = round(1800 / slice_s)
    rng = np.random.default_rng(3)
    start_s = np.sort(rng.uniform(0.0, 7200.0, 20_000))
    end_s = start_s + np.exp(rng.standard_normal(20_000) * 0.8 - 0.32) * mean_s
    bins = age_bins(cells)
    times = new_holding_times(1, len(bins.middle))
    began, gone = (start_s // slice_s).astype(int), (end_s // slice_s).astype(int)
    ended = np.bincount(np.minimum(gone - began, cells - 1), minlength=cells)
    alive = np.zeros(cells, int)
    for age in range(cells - 1):
        alive[age] = np.count_nonzero(gone - began > age)
    table = [np.array([column], dtype=np.int32) for column in (alive, ended, np.zeros(cells))]
    absorb_ends(times, bins.of_cell, table[0], table[1], table[2], (1.0, 1.0), np.zeros((1, 2)))
    estimate_hazards(times, np.array([np.nan]), slice_s, PARAMS)

    assert mean_holding_slices(times.hazard[0], bins.of_cell, 1.0, 1e4) * slice_s == pytest.approx(
        mean_s, rel=0.03
    )


def test_calls_healed_away_are_censored_and_do_not_shorten_the_holding_time() -> None:
    """A hundred calls lost without an end are a hundred times at risk, and no end."""
    bins = age_bins(CELLS)
    shares = []
    for healed_calls in (0, 100):
        times = new_holding_times(1, len(bins.middle))
        alive, ended, healed = (np.zeros((1, CELLS), np.int32) for _ in range(3))
        alive[0, 5], ended[0, 5], healed[0, 5] = 900, 100, healed_calls
        absorb_ends(times, bins.of_cell, alive, ended, healed, (1.0, 1.0), np.zeros((1, 2)))
        shares.append(times.ends[0, 5] / times.at_risk[0, 5])

    assert shares[0] == pytest.approx(100 / 1000)
    assert shares[1] == pytest.approx(100 / 1050)


def test_no_instances_are_no_trouble() -> None:
    times = new_holding_times(0, 9)
    none = np.zeros((0, 12), np.int32)
    absorb_ends(times, age_bins(12).of_cell, none, none, none, (0.9, 0.9), np.zeros((0, 2)))
    estimate_hazards(times, np.zeros(0), SLICE_S, PARAMS)

    assert times.hazard.shape == (0, 9)
