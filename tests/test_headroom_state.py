"""One evaluation of the filters, against its twin; what is copied, and what grows."""

import numpy as np

from detectors.headroom_state import (
    HeadroomParams,
    Size,
    StepParams,
    filters_of,
    first_level,
    fresh,
    grown,
    new_state,
    pass_time,
    step_rows,
)
from detectors.statistics import FilterNoise, new_bank
from tests import oracle_headroom as oracle
from tests.test_statistics import assert_same

SIZE = Size(11, 8, 15.0)


def test_one_evaluation_of_the_filters_is_that_of_the_twin() -> None:
    """First level from the first count alone, then time, then counts; seen only in part at first."""
    params = HeadroomParams()
    noise = FilterNoise(np.array(params.level_noise), np.array(params.growth_noise), 0.9876)
    still = FilterNoise(np.array(params.speed_level_noise), np.array(params.speed_growth_noise), 0.9876)
    state = new_state(1, 3, SIZE, params)
    steady = FilterNoise(np.array(params.steady_noise), np.full(3, 1e-14), 0.9876)
    switch = np.array([1e-3])
    step = StepParams(
        noise, steady, still, params.dispersion, 0.999, switch, 3e-6, 15.0, 30.0, 3e-6, np.zeros(1)
    )
    variances = np.square(params.cold_growth_sd).tolist()
    pairs = list(zip(params.level_noise, params.growth_noise, strict=True))
    expected = oracle.first_level(21.0, 0.5, variances, list(params.model_weight))
    for k, count in enumerate([21.0, 40.0, 44.0, 51.0]):
        state.arrivals[0], state.exposure_s[0] = count, 7.5 if k == 0 else 15.0
        step_rows(filters_of(state), step)
        if k > 0:
            expected = oracle.advance_row(expected, pairs, 0.9876, 1e-3)
            expected = oracle.observe_row(expected, count, 1.0, float(state.phi[0]))
        assert_same(state.rate, expected)
        assert state.arrivals[0] == state.exposure_s[0] == 0.0

    again = new_bank(1, np.array(params.model_weight), np.array(variances), 1.0)
    first_level(again, 0, 21.0, 0.5)
    pass_time(again, noise, 1e-3, 5)
    expected = oracle.first_level(21.0, 0.5, variances, list(params.model_weight))
    assert_same(again, oracle.pass_time(expected, pairs, 0.9876, 1e-3, 5))


def test_counts_are_taken_against_what_is_usual() -> None:
    """With 20 calls usual an evaluation, 20 calls are a ratio of 1."""
    params = HeadroomParams()
    noise = FilterNoise(np.array(params.level_noise), np.array(params.growth_noise), 0.9876)
    still = FilterNoise(np.array(params.speed_level_noise), np.array(params.speed_growth_noise), 0.9876)
    steady = FilterNoise(np.array(params.steady_noise), np.full(3, 1e-14), 0.9876)
    step = StepParams(
        noise, steady, still, params.dispersion, 0.999, np.array([3e-6]), 3e-6, 15.0, 30.0, 3e-6,
        np.log([20.0]),
    )  # fmt: skip
    state = new_state(1, 3, SIZE, params)
    for _ in range(40):
        state.arrivals[0], state.exposure_s[0] = 20.0, 15.0
        step_rows(filters_of(state), step)

    for bank in (state.rate, state.steady):
        assert np.abs((bank.level * bank.weight).sum()) < 0.05


def test_tables_of_past_weeks_are_not_copied_at_every_slice() -> None:
    state = new_state(3, 5, SIZE, HeadroomParams())
    copied = fresh(state)

    assert copied.season.baseline.calls is state.season.baseline.calls
    assert copied.rate.level is not state.rate.level
    assert grown(state, new_state(3, 5, SIZE, HeadroomParams())).season is state.season
    assert len(grown(state, new_state(4, 5, SIZE, HeadroomParams())).season.weight) == 4
