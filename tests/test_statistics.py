"""The maths that detectors share: a Poisson filter bank against its twin in matrices."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.statistics import (
    FilterBank,
    FilterNoise,
    advance_row,
    limit_variances,
    new_bank,
    normal_tail,
    observe_row,
    poisson_mode,
)
from tests import oracle_headroom as oracle
from tests.oracle_headroom import Filter

NOISE = FilterNoise(np.array([3e-5, 3e-5, 0.02]), np.array([1e-12, 3e-6, 1e-9]), 0.9876)
NOISE_PAIRS = list(zip(NOISE.level.tolist(), NOISE.growth.tolist(), strict=True))
SWITCH = 1e-3

counts = st.integers(0, 3000).map(float)
exposures = st.floats(0.05, 4.0)
dispersions = st.floats(0.5, 10.0)


@st.composite
def banks(draw: st.DrawFn) -> list[Filter]:
    weights = draw(st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3))
    filters = []
    for weight in weights:
        mean = np.array([draw(st.floats(-6.0, 7.0)), draw(st.floats(-0.1, 0.1))])
        level_var, growth_var = draw(st.floats(1e-5, 4.0)), draw(st.floats(1e-8, 4e-3))
        covariance = draw(st.floats(-0.95, 0.95)) * math.sqrt(level_var * growth_var)
        filters.append(
            Filter(mean, np.array([[level_var, covariance], [covariance, growth_var]]), weight / sum(weights))
        )
    return filters


def to_arrays(bank: list[Filter]) -> FilterBank:
    columns = [
        [f.mean[0] for f in bank],
        [f.mean[1] for f in bank],
        [f.covariance[0, 0] for f in bank],
        [f.covariance[0, 1] for f in bank],
        [f.covariance[1, 1] for f in bank],
        [f.weight for f in bank],
    ]
    return FilterBank(*(np.array([column]) for column in columns))


def assert_same(bank: FilterBank, expected: list[Filter]) -> None:
    for ours, theirs in zip(bank, to_arrays(expected), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9)


@given(z=st.floats(-8.0, 8.0))
def test_the_tail_of_a_normal_keeps_its_digits(z: float) -> None:
    assert normal_tail(z) == pytest.approx(oracle.normal_tail(z), rel=1e-9)


@given(
    count=counts, exposure=exposures, phi=dispersions, prior=st.floats(-12.0, 8.0), var=st.floats(1e-6, 4.0)
)
def test_the_mode_is_where_the_slope_is_nought(
    count: float, exposure: float, phi: float, prior: float, var: float
) -> None:
    """Newton from the right neither stops short nor runs away, from silence to a flood."""
    expected = oracle.poisson_mode(count, exposure, phi, prior, var)
    assert poisson_mode(count, exposure, phi, prior, var) == pytest.approx(expected, abs=1e-6)


@given(bank=banks(), steps=st.integers(0, 40))
@settings(max_examples=40)
def test_time_passes_as_in_the_matrices(bank: list[Filter], steps: int) -> None:
    ours = to_arrays(bank)
    for _ in range(steps):
        advance_row(ours, 0, NOISE, SWITCH)

    assert_same(ours, oracle.pass_time(bank, NOISE_PAIRS, NOISE.damping, SWITCH, steps))


@given(bank=banks(), count=counts, exposure=exposures, phi=dispersions)
@settings(max_examples=60)
def test_a_count_is_absorbed_as_by_conditioning_gaussians(
    bank: list[Filter], count: float, exposure: float, phi: float
) -> None:
    ours = to_arrays(bank)
    observe_row(ours, 0, count, exposure, phi)

    assert_same(ours, oracle.observe_row(bank, count, exposure, phi))


@given(bank=banks(), factor=st.floats(1.0, 100.0))
def test_bounding_variances_keeps_the_correlation(bank: list[Filter], factor: float) -> None:
    wide = [f._replace(covariance=f.covariance * factor) for f in bank]
    ours = to_arrays(wide)
    for m in range(len(bank)):
        limit_variances(ours, 0, m)

    assert_same(ours, [f._replace(covariance=oracle.limit_variances(f.covariance)) for f in wide])


def test_a_steady_count_makes_the_steady_model_win() -> None:
    """Rare change is the prior, and evidence for it adds up."""
    bank = new_bank(1, np.array([0.34, 0.33, 0.33]), np.array([1e-8, 1e-3, 1e-6]), 1.0)
    rng = np.random.default_rng(1)
    for count in rng.poisson(40.0, 200):
        advance_row(bank, 0, NOISE, 3e-6)
        observe_row(bank, 0, float(count), 1.0, 1.0)

    assert bank.weight[0, 0] > 0.9
    assert math.exp(bank.level[0, 0]) == pytest.approx(40.0, rel=0.05)


def test_hours_of_silence_and_then_a_flood_stay_finite() -> None:
    bank = new_bank(1, np.array([0.34, 0.33, 0.33]), np.array([1e-8, 1e-3, 1e-6]), 1.0)
    for count in [0.0] * 5000 + [10_000.0] * 20:
        advance_row(bank, 0, NOISE, 3e-6)
        observe_row(bank, 0, count, 1.0, 1.0)

    assert all(np.isfinite(array).all() for array in bank)
    assert math.exp(float(np.sum(bank.weight * bank.level))) == pytest.approx(10_000.0, rel=0.2)
