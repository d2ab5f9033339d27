"""The static guard rail: Erlang's loss formula and what a cap safely carries."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.erlang import erlang_b, poisson_excess, safe_offered_load, safe_rate
from tests import oracle_erlang

# Cap, and load over cap for 0.01, 1 and 60 declines an hour, at a holding time of 180 s; derived elsewhere.
SAFE_LOAD_TABLE = [
    (10, 0.25, 0.45, 1.12),
    (20, 0.37, 0.55, 0.99),
    (50, 0.54, 0.67, 0.92),
    (100, 0.64, 0.74, 0.92),
    (250, 0.75, 0.82, 0.92),
    (1000, 0.87, 0.90, 0.95),
    (5000, 0.94, 0.95, 0.97),
]


@settings(max_examples=50)
@given(servers=st.integers(0, 150), load=st.fractions(0, 300, max_denominator=64))
def test_blocking_agrees_with_the_definition(servers: int, load: Fraction) -> None:
    expected = float(oracle_erlang.erlang_b(servers, load))

    assert erlang_b(servers, float(load)) == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(("servers", "load"), [(5000, 4700.0), (5000, 5300.0), (2000, 1500.0)])
def test_blocking_is_stable_for_thousands_of_servers(servers: int, load: float) -> None:
    """Compare with the definition in logarithms: factorials themselves would overflow at 171."""
    logs = [busy * math.log(load) - math.lgamma(busy + 1) for busy in range(servers + 1)]
    top = max(logs)
    expected = math.exp(logs[-1] - top) / math.fsum(math.exp(log - top) for log in logs)

    assert erlang_b(servers, load) == pytest.approx(expected, rel=1e-9)


def test_without_servers_all_is_blocked_and_without_load_nothing() -> None:
    assert erlang_b(0, 10.0) == 1.0
    assert erlang_b(10, 0.0) == 0.0


def test_blocking_of_what_cannot_be_is_not_a_number() -> None:
    assert math.isnan(erlang_b(-1, 1.0))
    assert math.isnan(erlang_b(1, -1.0))
    assert math.isnan(erlang_b(1, math.nan))


@pytest.mark.parametrize("row", SAFE_LOAD_TABLE, ids=lambda row: f"cap-{row[0]}")
def test_the_safe_load_is_that_of_the_published_table(row: tuple[int, float, float, float]) -> None:
    """To the table's last digit; its 0.92 at cap 100 was rounded from just under 0.915."""
    cap, *ratios = row

    solved = [safe_offered_load(cap, 180.0, declines) / cap for declines in (0.01, 1.0, 60.0)]

    assert solved == pytest.approx(ratios, abs=0.0055)


@settings(max_examples=20)
@given(cap=st.integers(1, 40), holding_s=st.integers(1, 600), declines=st.sampled_from([0.01, 1.0, 60.0]))
def test_the_safe_load_agrees_with_a_search(cap: int, holding_s: int, declines: float) -> None:
    expected = oracle_erlang.safe_offered_load(cap, holding_s, declines)

    assert safe_offered_load(cap, holding_s, declines) == pytest.approx(expected, rel=1e-6, abs=1e-7)


@given(cap=st.floats(1, 5000), holding_s=st.floats(0.1, 36_000), declines=st.floats(0.001, 1000))
@settings(max_examples=50)
def test_at_the_safe_load_just_so_many_are_declined(cap: float, holding_s: float, declines: float) -> None:
    load = safe_offered_load(cap, holding_s, declines)

    assert load / holding_s * 3600.0 * erlang_b(int(cap), load) == pytest.approx(declines, rel=1e-6)


def test_more_cap_carries_more_and_a_part_of_a_call_carries_nothing() -> None:
    assert safe_offered_load(81.0, 180.0, 1.0) > safe_offered_load(80.0, 180.0, 1.0)
    assert safe_offered_load(80.9, 180.0, 1.0) == safe_offered_load(80.0, 180.0, 1.0)


@pytest.mark.parametrize(
    "arguments",
    [(0.0, 180.0, 1.0), (math.nan, 180.0, 1.0), (80.0, 0.0, 1.0), (80.0, math.nan, 1.0), (80.0, 180.0, 0.0),
     (math.inf, 180.0, 1.0), (80.0, math.inf, 1.0), (80.0, 180.0, math.nan)],
)  # fmt: skip
def test_what_is_not_known_has_no_safe_load(arguments: tuple[float, float, float]) -> None:
    assert math.isnan(safe_offered_load(*arguments))
    assert math.isnan(safe_rate(*arguments))


@settings(max_examples=100)
@given(mean=st.floats(0, 200), cap=st.integers(0, 200))
def test_the_excess_over_a_rate_agrees_with_the_definition(mean: float, cap: int) -> None:
    expected = oracle_erlang.poisson_excess(mean, cap)

    assert poisson_excess(mean, cap) == pytest.approx(expected, rel=1e-9, abs=1e-40)


def test_the_excess_at_the_edges() -> None:
    assert poisson_excess(0.0, 5) == 0.0
    assert poisson_excess(7.5, 0) == pytest.approx(7.5)
    assert math.isnan(poisson_excess(-1.0, 5))
    assert math.isnan(poisson_excess(1.0, -1))
    assert math.isnan(poisson_excess(math.nan, 1))


@settings(max_examples=15)
@given(cap=st.integers(1, 30), per_s=st.sampled_from([1, 60]), refused=st.sampled_from([0.01, 1.0, 60.0]))
def test_the_safe_rate_agrees_with_a_search(cap: int, per_s: int, refused: float) -> None:
    expected = oracle_erlang.safe_rate(cap, per_s, refused)

    assert safe_rate(cap, per_s, refused) == pytest.approx(expected, rel=1e-6, abs=1e-7)
