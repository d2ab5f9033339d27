"""E-values against a reference are at most one on average below the null, and grow above it."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.reference_hours import expected
from detectors.shift_evidence import Alternatives, categories, in_categories, log_ratios, null_of

RANKS = np.array([0.5, 0.9, 0.99])
ALTERNATIVES = Alternatives(whole=(1.6, 3.0), tails=((1, 2.5), (2, 4.0)))


def reference(values: np.ndarray) -> np.ndarray:
    """Count values from 0 to 99 by bin."""
    return np.bincount(values, minlength=100)[None, :].astype(np.float64)


@pytest.mark.parametrize("scale", [1.0, 0.9, 0.5])
def test_an_e_value_is_at_most_one_on_average_for_what_is_not_above_the_null(scale: float) -> None:
    rng = np.random.default_rng(1)
    values = rng.gamma(4.0, 8.0, 20_000).astype(np.int64).clip(0, 99)
    seen = expected(reference(values), RANKS)
    ratios = log_ratios(null_of(seen, 1.1), ALTERNATIVES)
    drawn = (scale * rng.gamma(4.0, 8.0, 200_000)).astype(np.int64).clip(0, 99)
    facts = in_categories(1, seen.cut, np.zeros(len(drawn), np.int64), drawn, np.ones(len(drawn), np.int64))

    mean = (facts[0] / facts.sum() * np.exp(ratios[0])).sum(axis=1)

    assert np.all(mean <= 1.0 + 1e-3)


def test_ratios_grow_with_the_category_so_that_every_lower_distribution_is_covered() -> None:
    seen = expected(reference(np.arange(5_000) % 100), RANKS)
    ratios = log_ratios(null_of(seen, 1.1), ALTERNATIVES)[0]

    assert np.all(np.diff(ratios, axis=1) >= -1e-9)
    assert categories(null_of(seen, 1.1)).sum() == pytest.approx(1.0)


def test_a_reference_of_few_values_is_none() -> None:
    assert expected(reference(np.zeros(199, np.int64)), RANKS).values.tolist() == [0.0]
    assert expected(reference(np.zeros(200, np.int64)), RANKS).values.tolist() == [200.0]


def test_a_reference_with_one_value_alone_finds_what_is_above_it() -> None:
    seen = expected(reference(np.full(500, 7)), RANKS)
    ratios = log_ratios(null_of(seen, 1.1), ALTERNATIVES)
    above = in_categories(1, seen.cut, np.zeros(1, np.int64), np.array([8]), np.array([50]))
    same = in_categories(1, seen.cut, np.zeros(1, np.int64), np.array([7]), np.array([50]))

    assert float(np.einsum("sc,sac->sa", above, ratios).max()) > 20.0
    assert float(np.einsum("sc,sac->sa", same, ratios).max()) <= 0.0
