"""The latency sketch: Prometheus' buckets, a stated error, exact merging."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.observe import latency
from tests import oracle_latency as oracle

SEED = 20
VALUES_S = st.floats(min_value=0, max_value=1e5, allow_subnormal=True)


def distribution(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Make 20,000 latencies in seconds of a named shape."""
    random = np.random.default_rng(SEED)
    if name == "lognormal":
        return random.lognormal(-0.7, 0.8, 20_000)
    if name == "bimodal":
        fast, slow = random.normal(0.3, 0.02, 20_000), random.normal(2.5, 0.2, 20_000)
        return np.where(random.random(20_000) < 0.8, fast, slow)
    if name == "pareto":
        return np.minimum(0.05 * (1 + random.pareto(1.5, 20_000)), 4000.0)
    if name == "step":
        return np.where(np.arange(20_000) < 10_000, 0.2, 15.0)
    return np.full(20_000, 0.75)


def test_the_bounds_are_powers_of_two_in_steps_of_a_32nd() -> None:
    """Prometheus' bounds are 2^(k/32) to a digit or two, so the error follows from the layout."""
    for bucket in range(latency.BUCKETS):
        exact = 2.0 ** ((bucket + latency.BUCKET_FIRST) / 32)
        assert latency.bucket_upper_s(bucket) == pytest.approx(exact, rel=5e-16)


def test_a_bound_belongs_to_its_bucket_and_its_neighbours_do_not_stray() -> None:
    """A bucket includes its upper bound; the next larger number lies in the next bucket."""
    for bucket in range(1, latency.BUCKETS - 1):
        bound = latency.bucket_upper_s(bucket)
        for value in (math.nextafter(bound, 0), bound, math.nextafter(bound, math.inf)):
            assert latency.bucket_index(value) == oracle.bucket_index(value)
        assert latency.bucket_number(bound) == bucket
        assert latency.bucket_number(math.nextafter(bound, math.inf)) == bucket + 1


@given(st.floats(min_value=1e-300, max_value=1e300))
@settings(max_examples=100)
def test_the_index_is_that_of_prometheus(value_s: float) -> None:
    """Without a logarithm or a search, the index is the same for every positive number."""
    assert latency.bucket_index(value_s) == oracle.bucket_index(value_s)


@pytest.mark.parametrize(
    ("value_s", "bucket"),
    [(0.0, 0), (-1.0, 0), (5e-324, 0), (2.0**-14, 0), (math.nan, 0), (4096.0, latency.BUCKETS - 1),
     (4096.1, latency.BUCKETS - 1), (math.inf, latency.BUCKETS - 1), (1.0, -latency.BUCKET_FIRST)],
)  # fmt: skip
def test_values_outside_the_range_go_to_the_first_or_last_bucket(value_s: float, bucket: int) -> None:
    """Zero and tiny values count in bucket 0, huge ones in the last; nothing is lost."""
    assert latency.bucket_number(value_s) == bucket


@given(st.lists(VALUES_S, max_size=40))
@settings(max_examples=60)
def test_adding_values_equals_counting_them_one_by_one(values_s: list[float]) -> None:
    """Also when there are none."""
    counts = latency.new_sketch()
    latency.add_values(counts, np.array(values_s, np.float64))
    assert counts.tolist() == oracle.add_values(values_s)


@given(st.lists(VALUES_S, max_size=30), st.lists(VALUES_S, max_size=30))
@settings(max_examples=50)
def test_merging_equals_adding_all(one: list[float], other: list[float]) -> None:
    """merge(a, b) is exactly the sketch of all values of both."""
    merged, second, every = latency.new_sketch(), latency.new_sketch(), latency.new_sketch()
    latency.add_values(merged, np.array(one, np.float64))
    latency.add_values(second, np.array(other, np.float64))
    expected = oracle.merge(merged.tolist(), second.tolist())
    latency.merge(merged, second)
    latency.add_values(every, np.array(one + other, np.float64))
    assert merged.tolist() == every.tolist() == expected


@given(st.lists(VALUES_S, max_size=40), st.floats(min_value=0, max_value=1))
@settings(max_examples=60)
def test_the_quantile_is_that_of_the_slow_twin(values_s: list[float], q: float) -> None:
    """The nearest rank, as the midpoint of its bucket; NaN without values."""
    counts = latency.new_sketch()
    latency.add_values(counts, np.array(values_s, np.float64))
    expected = oracle.quantile(counts.tolist(), q)
    assert latency.quantile(counts, q) == pytest.approx(expected, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("q", [0.01, 0.5, 0.9, 0.99, 0.999, 1.0])
@pytest.mark.parametrize("name", ["lognormal", "bimodal", "pareto", "step", "constant"])
def test_quantiles_keep_their_guarantee(name: str, q: float) -> None:
    """A reported quantile is within 1.1 % of the true one."""
    values_s = distribution(name)
    counts = latency.new_sketch()
    latency.add_values(counts, values_s)
    exact = oracle.exact_quantile(values_s.tolist(), q)
    assert abs(latency.quantile(counts, q) / exact - 1) <= latency.RELATIVE_ERROR_MAX * (1 + 1e-9)
    assert latency.RELATIVE_ERROR_MAX < 0.011


@given(st.lists(VALUES_S, min_size=1, max_size=30), st.integers(1, 30))
@settings(max_examples=40)
def test_a_rank_finds_the_bucket_of_its_value(values_s: list[float], rank: int) -> None:
    """`value_of_rank` counts values from the smallest, as the slow quantile does."""
    rank = min(rank, len(values_s))
    counts = latency.new_sketch()
    latency.add_values(counts, np.array(values_s, np.float64))
    bucket = oracle.bucket_number(sorted(values_s)[rank - 1])
    expected = latency.bucket_upper_s(bucket) * 2 ** (-1 / 64)
    assert latency.value_of_rank(counts, rank) == pytest.approx(expected, rel=1e-12)
