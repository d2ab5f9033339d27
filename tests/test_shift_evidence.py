"""E-values against a reference are at most one on average below the null, and grow above it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detectors.reference_hours import Expected, expected
from detectors.sequential import log_mixture
from detectors.shift_evidence import (
    Alternatives,
    Evidence,
    Hypotheses,
    carried_over,
    categories,
    forgotten,
    hypotheses,
    in_categories,
    log_gamma,
    new_evidence,
    weighed,
)

RANKS = np.array([0.5, 0.9, 0.99])
ALTERNATIVES = Alternatives(whole=(1.3, 3.0, 20.0), tails=((2, 4.0),))
ONE = np.ones(1)
NEVER = 1e9
KEEP = 0.9
SLOT = np.zeros(1, np.int64)


def reference(values: np.ndarray) -> Expected:
    """Read a reference off values from 0 to 99."""
    counts = np.bincount(values, minlength=100)[None, :].astype(np.float64)
    return expected(counts, RANKS)


def laws_of(values: np.ndarray, effect: float = 1.0, dispersion: float = 1.0) -> Hypotheses:
    """Give what is expected after such values, and what else might be."""
    return hypotheses(reference(values), effect, ALTERNATIVES, np.array([dispersion]))


def nothing() -> Evidence:
    """Have seen nothing."""
    return new_evidence(1, ALTERNATIVES.many, len(RANKS) + 1)


def looked(
    evidence: Evidence, counts: list[float], laws: Hypotheses, times: int = 1, level: float = NEVER
) -> Evidence:
    """Look at the same counts by category so many times."""
    for _ in range(times):
        evidence = weighed(evidence, np.array([counts]), laws, level, KEEP).evidence
    return evidence


def total(evidence: Evidence) -> float:
    """Give the evidence of the one slot."""
    return float(log_mixture(evidence.log_m)[0])


@pytest.mark.parametrize("scale", [1.0, 0.9, 0.5])
def test_an_e_value_is_at_most_one_on_average_for_what_is_not_above_the_null(scale: float) -> None:
    rng = np.random.default_rng(1)
    values = rng.gamma(4.0, 8.0, 20_000).astype(np.int64).clip(0, 99)
    drawn = (scale * rng.gamma(4.0, 8.0, 200_000)).astype(np.int64).clip(0, 99)
    seen = reference(values)
    many = np.ones(len(drawn), np.int64)
    shares = in_categories(1, seen.cut, np.zeros(len(drawn), np.int64), drawn, many)[0] / len(drawn)
    laws = laws_of(values, effect=1.04)

    e_values = [np.exp(weighed(nothing(), one[None], laws, NEVER, KEEP).log_e[0]) for one in np.eye(4)]

    assert np.all(shares @ np.array(e_values) <= 1.0 + 2e-3)


def test_a_small_reference_is_no_proof_that_more_is_wrong() -> None:
    """Against 100 values before even 4,000 others say little; against many they say a lot."""
    few, many = laws_of(np.arange(100) % 100), laws_of(np.arange(20_000) % 100)

    against_few = looked(nothing(), [40.0, 46.0, 12.0, 2.0], few, times=40)
    against_many = looked(nothing(), [40.0, 46.0, 12.0, 2.0], many, times=40)

    assert total(against_few) < total(against_many) / 3
    assert total(against_many) > 40.0


def test_what_comes_in_bursts_tells_less() -> None:
    values = np.arange(5_000) % 100
    alone = looked(nothing(), [20.0, 60.0, 15.0, 5.0], laws_of(values))
    bursts = looked(nothing(), [5.0, 15.0, 3.75, 1.25], laws_of(values, dispersion=4.0))

    assert total(bursts) < 0.5 * total(alone)


def test_ratios_grow_with_the_category_so_that_every_lower_distribution_is_covered() -> None:
    laws = laws_of(np.arange(5_000) % 100, effect=1.1)

    assert np.all(np.diff(laws.moved[0] / laws.usual, axis=1) >= -1e-9)
    assert laws.usual.sum() == pytest.approx(5_000.0, rel=1e-3)
    assert laws.moved.sum(axis=2)[0].tolist() == pytest.approx([5_000.0] * 4, rel=1e-3)


def test_shares_between_cuts_are_all_there_is() -> None:
    assert categories(np.array([[0.5, 0.1]]))[0].tolist() == pytest.approx([0.5, 0.4, 0.1])


def test_a_reference_that_is_read_anew_keeps_what_was_found() -> None:
    """Its cuts lie elsewhere; the same surplus counts as much."""
    old, new = laws_of(np.arange(5_000) % 100), laws_of(np.arange(6_000) % 60)
    one = looked(nothing(), [30.0, 50.0, 16.0, 4.0], old)

    after = carried_over(one, old, new)

    assert after.log_m.tolist() == one.log_m.tolist()
    assert after.tally.sum(axis=2) == pytest.approx(one.tally.sum(axis=2))
    gone = carried_over(one, old, laws_of(np.zeros(3, np.int64)))
    assert gone.log_m.tolist() == [[-math.inf] * 4]
    assert forgotten(one, np.array([True])).tally.sum() == 0.0


def test_it_stands_while_it_goes_on() -> None:
    laws = laws_of(np.arange(5_000) % 100)
    told = looked(nothing(), [100.0, 300.0, 500.0, 100.0], laws, level=12.0)

    stands = looked(told, [20.0, 60.0, 20.0, 4.0], laws, times=100, level=12.0)

    assert total(told) >= 12.0
    assert total(stands) >= 12.0


def test_it_falls_below_the_level_when_values_are_usual_again_or_no_more_come() -> None:
    laws = laws_of(np.arange(5_000) % 100)
    told = looked(nothing(), [20.0, 60.0, 20.0, 4.0], laws, times=20, level=12.0)

    usual = looked(told, [50.0, 40.0, 9.0, 1.0], laws, times=3, level=12.0)
    silent = looked(told, [0.0, 0.0, 0.0, 0.0], laws, times=100, level=12.0)

    assert total(told) >= 12.0
    assert total(usual) < 12.0
    assert total(silent) < 12.0


def test_a_reference_of_few_values_is_none() -> None:
    assert reference(np.zeros(59, np.int64)).values.tolist() == [0.0]
    assert reference(np.zeros(60, np.int64)).values.tolist() == [60.0]


def test_a_reference_with_one_value_alone_finds_what_is_above_it() -> None:
    values = np.full(500, 7)
    seen, laws = reference(values), laws_of(values, effect=1.1)
    above = in_categories(1, seen.cut, SLOT, np.array([8]), np.array([300]))
    same = in_categories(1, seen.cut, SLOT, np.array([7]), np.array([50]))

    assert weighed(nothing(), above, laws, NEVER, KEEP).log_e.max() > 20.0
    assert weighed(nothing(), same, laws, NEVER, KEEP).log_e.max() <= 1e-9


def test_the_gamma_function_is_that_of_the_library() -> None:
    at = np.array([1e-6, 0.3, 1.0, 7.5, 300.0, 60_000.0])

    assert [log_gamma(one) for one in at] == pytest.approx(
        [math.lgamma(one) for one in at], rel=1e-7, abs=1e-7
    )
