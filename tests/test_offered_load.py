"""The forecast of the level: against its twin, and against simulated truth."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.headroom_state import new_outlook, new_scratch
from detectors.holding_time import age_bins, cumulate
from detectors.offered_load import (
    DispersionParams,
    Grid,
    Today,
    dispersion_of,
    fill_rates,
    fill_stay,
    fill_steady,
    fill_usual,
    forecast,
    forecast_row,
    mixture,
    new_calls,
    new_dispersion,
    observe_dispersion,
    survivors,
)
from detectors.statistics import new_bank
from tests import oracle_headroom as oracle
from tests.oracle_headroom import Filter
from tests.test_statistics import banks, to_arrays

CELLS = 60
BINS = age_bins(CELLS)
DAMPING = 0.9876
GRID = Grid(
    of_cell=BINS.of_cell,
    middle=BINS.middle,
    steps=np.array([1, 4, 20]),
    step_slices=3,
    slice_s=5.0,
    damping=DAMPING,
    tail_slices_max=2880.0,
)
LENGTH = CELLS + 20 * 3 + 2

hazards = st.lists(st.floats(0.001, 1.0), min_size=len(BINS.middle), max_size=len(BINS.middle)).map(np.array)
calls = st.lists(st.integers(0, 50).map(float), min_size=len(BINS.middle), max_size=len(BINS.middle))


def nothing_usual(steps: int, horizons: int) -> dict[str, Any]:
    return {
        "offset": np.zeros(1),
        "offset_ahead": np.zeros((1, steps)),
        "offset_var": np.zeros((1, horizons)),
        "horizons": np.array([horizons]),
    }


def totals(hazard: np.ndarray) -> list[float]:
    return oracle.cumulate(hazard.tolist(), BINS.of_cell.tolist(), LENGTH)


@given(counts=st.lists(st.integers(0, 400).map(float), max_size=200))
@settings(max_examples=40)
def test_dispersion_is_that_of_the_whole_history(counts: list[float]) -> None:
    params = DispersionParams()
    state = new_dispersion(1)
    for count in counts:
        observe_dispersion(state, 0, count, 0.99, params)

    rest = (0.99, params.prior_counts, params.lowest, params.clip)
    assert dispersion_of(state, 0, params) == pytest.approx(oracle.dispersion_of(counts, *rest))
    for s, scale in enumerate((1, 4, 16)):
        expected = oracle.observe_dispersion(counts, scale, 0.99, params.prior_counts, params.clip)
        assert (state.excess[0, s], state.many[0, s]) == pytest.approx(expected)


@pytest.mark.parametrize(("batch", "low", "high"), [(1.0, 0.85, 1.25), (2.0, 2.2, 4.0), (4.0, 5.0, 9.0)])
def test_batches_are_seen_as_dispersion(batch: float, low: float, high: float) -> None:
    """Geometric batches of mean m have dispersion 2 m - 1."""
    rng = np.random.default_rng(4)
    state = new_dispersion(1)
    for many in rng.poisson(40.0 / batch, 800):
        observe_dispersion(state, 0, float(rng.geometric(1 / batch, many).sum()), 0.999, DispersionParams())

    assert low < dispersion_of(state, 0, DispersionParams()) < high


def test_a_ramp_or_a_single_step_is_not_dispersion() -> None:
    rng = np.random.default_rng(5)
    state = new_dispersion(1)
    for k in range(240):
        rate = 20.0 * 2.0 ** (k / 60) * (3.0 if k > 120 else 1.0)
        observe_dispersion(state, 0, float(rng.poisson(rate)), 0.999, DispersionParams())

    assert dispersion_of(state, 0, DispersionParams()) < 1.4


@given(hazard=hazards, alive=calls, speed=st.floats(0.05, 3.0), ahead=st.integers(1, 60))
@settings(max_examples=40)
def test_survivors_are_independent_chances(
    hazard: np.ndarray, alive: list[float], speed: float, ahead: int
) -> None:
    total = np.array(totals(hazard))
    by_age = dict(zip(BINS.middle.tolist(), alive, strict=True))

    mean, variance, _ = survivors(np.array(alive), BINS.middle, total, ahead, speed)
    assert (mean, variance) == pytest.approx(oracle.survivors(by_age, totals(hazard), ahead, speed))


@given(hazard=hazards, bank=banks(), speed=st.floats(0.05, 3.0), steps=st.integers(1, 20))
@settings(max_examples=30)
def test_new_calls_are_the_sum_over_every_step_ahead(
    hazard: np.ndarray, bank: list[Filter], speed: float, steps: int
) -> None:
    scratch = new_scratch(CELLS, GRID, len(bank), 3)
    cumulate(hazard, BINS.of_cell, scratch.total)
    fill_rates(scratch, to_arrays(bank), 0, (20, 15.0), DAMPING)
    fill_stay(scratch, hazard, BINS.of_cell, (steps, 3), 5.0, speed)
    found = new_calls(scratch, scratch.rate, to_arrays(bank), 0, steps, (-3.0, 0.01, 0.0))

    stay = oracle.fill_stay(totals(hazard), steps, 3, 5.0, speed)
    assert scratch.stay[:steps] == pytest.approx(stay, abs=1e-6)  # What is nearly gone is taken as gone.
    assert scratch.rate[0] == pytest.approx(oracle.fill_rates(bank[0], 20, 15.0, DAMPING)[0])
    slopes = scratch.stay_slope[:steps].tolist()
    expected = oracle.new_calls(bank, stay, 15.0, DAMPING, -3.0, (slopes, 0.01))
    assert found[0] == pytest.approx(expected[0])
    assert found[1] == pytest.approx(expected[1], rel=1e-6, abs=1e-9 * (1 + expected[0] ** 2))


@given(hazard=hazards, alive=calls, unknown=st.floats(0, 40), rate=banks(), data=st.data())
@settings(max_examples=30)
def test_the_outlook_is_that_of_the_slow_twin(
    hazard: np.ndarray, alive: list[float], unknown: float, rate: list[Filter], data: st.DataObject
) -> None:
    """Survivors, unknown ages, new calls and the doubts about the speed of ending, at every horizon."""
    speed = [f._replace(mean=f.mean * 0.1, covariance=f.covariance * 0.01) for f in data.draw(banks())]
    today = Today(
        is_ready=np.ones(1, np.bool_),
        alive=np.array([alive]),
        unknown_age=np.array([unknown]),
        hazard=hazard[None, :],
        rate=to_arrays(rate),
        speed=to_arrays(speed),
        hazard_var=np.array([0.02]),
        dispersion=np.array([1.5]),
        steady=to_arrays(rate),
        **nothing_usual(20, 3),
    )
    outlook, again = new_outlook(1, 3), new_outlook(1, 3)
    forecast(today, GRID, new_scratch(CELLS, GRID, 3, 3), outlook)
    forecast_row(0, today, GRID, new_scratch(CELLS, GRID, 3, 3), again)

    by_age = dict(zip(BINS.middle.tolist(), alive, strict=True))
    expected = oracle.forecast_row(
        by_age,
        unknown,
        totals(hazard),
        (rate, speed),
        ([1, 4, 20], 3, 5.0, DAMPING, 2880.0, CELLS),
        (1.5, 0.02),
    )
    scale = 1 + np.square(expected.means)
    assert outlook.mean[0] == pytest.approx(expected.means)
    assert outlook.chance_var[0] == pytest.approx(expected.chances)
    assert np.all(np.abs(outlook.model_var[0] - expected.ignorances) < 1e-6 * scale)
    assert again.mean[0] == pytest.approx(outlook.mean[0])
    assert mixture(to_arrays(rate), 0) == pytest.approx(oracle.mixture(rate), rel=1e-6, abs=1e-9)


def test_an_instance_that_is_not_ready_is_left_alone() -> None:
    today = Today(
        is_ready=np.zeros(1, np.bool_),
        alive=np.zeros((1, len(BINS.middle))),
        unknown_age=np.zeros(1),
        hazard=np.full((1, len(BINS.middle)), 0.1),
        rate=new_bank(1, np.ones(3) / 3, np.full(3, 1e-6), 1.0),
        speed=new_bank(1, np.ones(3) / 3, np.full(3, 1e-6), 1.0),
        hazard_var=np.zeros(1),
        dispersion=np.ones(1),
        steady=new_bank(1, np.ones(3) / 3, np.full(3, 1e-6), 1.0),
        **nothing_usual(20, 3),
    )
    outlook = new_outlook(1, 3)
    forecast(today, GRID, new_scratch(CELLS, GRID, 3, 3), outlook)

    assert all(np.isnan(array).all() for array in outlook)


@pytest.mark.parametrize("holding_s", [8.0, 19.0, 120.0])
def test_steady_traffic_is_forecast_at_its_offered_load(holding_s: float) -> None:
    """From an empty platform, far ahead, the level is rate x holding time.

    Also for calls of eight seconds.
    """
    rate_per_s = 2.0
    bank = new_bank(1, np.array([1.0]), np.array([1e-12]), 1e-9)
    bank.level[:] = math.log(rate_per_s * 15.0)
    still = new_bank(1, np.array([1.0]), np.array([1e-12]), 1e-12)
    # Constant hazard: calls of age 0 are at risk for half a slice on average, and exactly so for this law.
    share = -math.expm1(-5.0 / holding_s) * holding_s / 5.0
    hazard = np.full(len(BINS.middle), 5.0 / holding_s)
    hazard[0] = -math.log(share)
    today = Today(
        is_ready=np.ones(1, np.bool_),
        alive=np.zeros((1, len(BINS.middle))),
        unknown_age=np.zeros(1),
        hazard=hazard[None, :],
        rate=bank,
        speed=still,
        hazard_var=np.zeros(1),
        dispersion=np.ones(1),
        steady=bank,
        **nothing_usual(80, 1),
    )
    grid = GRID._replace(steps=np.array([80]))
    outlook = new_outlook(1, 1)
    forecast(today, grid, new_scratch(CELLS, grid, 1, 1), outlook)

    assert outlook.mean[0, 0] == pytest.approx(rate_per_s * holding_s, rel=1e-3)
    assert outlook.chance_var[0, 0] == pytest.approx(rate_per_s * holding_s, rel=1e-3)
    assert outlook.holding_s[0] == pytest.approx(holding_s, rel=1e-3)


@given(offsets=st.lists(st.floats(-3, 3), min_size=20, max_size=20), level=st.floats(-3, 3))
def test_without_growth_arrivals_follow_what_is_usual(offsets: list[float], level: float) -> None:
    scratch = new_scratch(CELLS, GRID, 3, 1)
    bank = new_bank(1, np.array([1.0]), np.array([1e-12]), 1e-9)
    bank.level[:] = level
    fill_usual(scratch, np.array(offsets), 20)
    fill_steady(scratch, bank, 0, (20, 15.0))

    assert scratch.usual == pytest.approx(oracle.fill_usual(offsets))
    assert scratch.steady[0] == pytest.approx(oracle.fill_steady(level, oracle.fill_usual(offsets), 15.0))


def test_what_is_usual_lifts_the_forecast_by_as_much() -> None:
    """Twice the usual from the next evaluation on is twice the level far ahead, in both forecasts."""
    bank = new_bank(1, np.array([1.0]), np.array([1e-12]), 1e-9)
    bank.level[:] = math.log(30.0)
    today = Today(
        is_ready=np.ones(1, np.bool_),
        alive=np.zeros((1, len(BINS.middle))),
        unknown_age=np.zeros(1),
        hazard=np.full((1, len(BINS.middle)), 0.2),
        rate=bank,
        speed=new_bank(1, np.array([1.0]), np.array([1e-12]), 1e-12),
        hazard_var=np.zeros(1),
        dispersion=np.ones(1),
        steady=bank,
        **nothing_usual(80, 1),
    )
    grid = GRID._replace(steps=np.array([80]))
    plain, lifted = new_outlook(1, 1), new_outlook(1, 1)
    forecast(today, grid, new_scratch(CELLS, grid, 1, 1), plain)
    more = today._replace(offset_ahead=np.full((1, 80), math.log(2.0)), offset_var=np.full((1, 1), 0.01))
    forecast(more, grid, new_scratch(CELLS, grid, 1, 1), lifted)

    assert lifted.mean[0, 0] == pytest.approx(2.0 * plain.mean[0, 0])
    assert lifted.steady_mean[0, 0] == pytest.approx(2.0 * plain.steady_mean[0, 0])
    assert lifted.model_var[0, 0] - 4.0 * plain.model_var[0, 0] == pytest.approx(
        0.01 * lifted.mean[0, 0] ** 2, rel=1e-3
    )
