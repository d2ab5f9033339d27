"""From a forecast to a verdict: score, probability, time left."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.limit_crossing import Horizons, Room, crossing, judge, new_verdict, reaching, score_of
from detectors.offered_load import Outlook
from tests import oracle_headroom as oracle

AHEAD_S = np.array([15.0, 60.0, 300.0, 600.0, 1800.0])
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
HORIZONS = Horizons(AHEAD_S, AHEAD_S / 15.0, 4, 5, NODES, WEIGHTS / WEIGHTS.sum(), 0.0 * AHEAD_S)

rows = st.lists(st.floats(0.0, 300.0), min_size=5, max_size=5)
variances = st.lists(st.floats(0.1, 900.0), min_size=5, max_size=5)


def outlook_of(mean: list[float], chance: list[float], ignorance: list[float]) -> Outlook:
    rest = [np.array([value]) for value in (0.5, 0.0, 100.0)]
    curves = [np.array([column]) for column in (mean, chance, ignorance)]
    return Outlook(*curves, *rest, *curves)


def room_of(level: float, cap: float, unseen: float = 0.0) -> Room:
    return Room(np.array([cap]), np.array([level]), np.ones(1, np.bool_), np.array([5]), np.array([unseen]))


def verdict_of(outlook: Outlook, level: float, cap: float, unseen: float = 0.0) -> tuple[float, float]:
    verdict = new_verdict(1)
    judge(room_of(level, cap, unseen), outlook, HORIZONS, 0.5, verdict)
    return float(verdict.page_by_speaker[0, 0]), float(verdict.warn_by_speaker[0, 0])


@given(mean=rows, chance=variances, ignorance=variances, level=st.floats(0, 200), cap=st.floats(10, 400))
def test_the_score_is_the_worst_horizon(
    mean: list[float], chance: list[float], ignorance: list[float], level: float, cap: float
) -> None:
    page, warn = verdict_of(outlook_of(mean, chance, ignorance), level, cap)

    assert page == pytest.approx(
        oracle.judge(level, cap, oracle.Outlook(mean[:4], chance[:4], ignorance[:4]), 50.0, 0.5)
    )
    assert warn == pytest.approx(oracle.judge(level, cap, oracle.Outlook(mean, chance, ignorance), 50.0, 0.5))


@given(mean=rows, level=st.integers(0, 200), value=st.integers(120, 400), unseen=st.integers(0, 100))
def test_what_others_use_is_in_use_when_it_is_asked_whether_half_the_cap_is(
    mean: list[float], level: int, value: int, unseen: int
) -> None:
    """50 calls are offered at least: of a cap of 300 of which others use 100, that is half."""
    doubt = [100.0] * 5
    _, warn = verdict_of(outlook_of(mean, doubt, doubt), level, value - unseen, unseen)
    expected = oracle.judge(level, value, oracle.Outlook(mean, doubt, doubt), 50.0, 0.5, unseen)

    assert warn == pytest.approx(expected)


@given(
    mean=rows, chance=variances, level=st.floats(0, 200), cap=st.floats(10, 400), less=st.floats(0.0, 100.0)
)
def test_a_lower_cap_never_has_a_lower_score(
    mean: list[float], chance: list[float], level: float, cap: float, less: float
) -> None:
    outlook = outlook_of(mean, chance, chance)
    page, warn = verdict_of(outlook, level, cap)
    page_lower, warn_lower = verdict_of(outlook, level, max(cap - less, 1.0))

    assert page_lower >= page
    assert warn_lower >= warn


def test_the_longest_horizon_must_say_more_for_a_warning() -> None:
    """Only there does the forecast stand above the cap; its margin comes off the warning's score alone."""
    outlook = outlook_of([50.0, 50.0, 50.0, 50.0, 120.0], [100.0] * 5, [0.0] * 5)
    room = room_of(60.0, 100.0)
    plain, asked = new_verdict(1), new_verdict(1)
    judge(room, outlook, HORIZONS, 0.5, plain)
    judge(room, outlook, HORIZONS._replace(margin=np.array([0.0, 0.0, 0.0, 0.0, 1.5])), 0.5, asked)

    assert asked.warn_by_speaker[0, 0] == pytest.approx(plain.warn_by_speaker[0, 0] - 1.5)
    assert asked.page_by_speaker[0, 0] == plain.page_by_speaker[0, 0]


@given(mean=rows, level=st.floats(0, 200), cap=st.floats(10, 400))
def test_the_time_left_is_where_the_line_meets_the_cap(mean: list[float], level: float, cap: float) -> None:
    nought = np.zeros(5)
    found = crossing(level, np.array(mean), nought, nought, (cap, 0.0), AHEAD_S)
    expected = oracle.crossing(level, cap, list(zip(AHEAD_S.tolist(), mean, strict=True)))

    assert found == pytest.approx(expected, abs=0.05)


@given(mean=rows, chance=variances, ignorance=variances, level=st.floats(0, 99))
@settings(max_examples=15)
def test_the_probability_is_that_of_being_above_or_climbing_there(
    mean: list[float], chance: list[float], ignorance: list[float], level: float
) -> None:
    """Nine quadrature nodes stand for five hundred futures, to a few percent."""
    wide = [max(variance, 100.0) for variance in chance]
    found = reaching(level, 100.0, outlook_of(mean, wide, ignorance), 0, HORIZONS)
    futures = oracle.Outlook(mean[:4], wide[:4], ignorance[:4])
    expected = oracle.reaching(level, 100.0, futures, [0.5] * 4, AHEAD_S[:4].tolist())

    assert 0.0 <= found <= 1.0
    assert found == pytest.approx(expected, abs=0.08)


def test_without_a_cap_or_a_forecast_nothing_is_said() -> None:
    verdict = new_verdict(2)
    curves = [np.full((2, 5), 500.0) for _ in range(3)]
    outlook = Outlook(*curves, *(np.ones(2) for _ in range(3)), *curves)
    room = Room(
        np.array([math.nan, 100.0]),
        np.array([50.0, 50.0]),
        np.array([True, False]),
        np.array([5, 5]),
        np.zeros(2),
    )
    judge(room, outlook, HORIZONS, 0.5, verdict)

    assert np.isneginf(verdict.page_by_speaker).all()
    assert np.isneginf(verdict.warn_by_speaker).all()
    assert np.isnan(verdict.probability).all()


def test_a_full_limit_is_full_now_and_certain() -> None:
    outlook = outlook_of([120.0] * 5, [100.0] * 5, [1.0] * 5)
    verdict = new_verdict(1)
    judge(room_of(120.0, 100.0), outlook, HORIZONS, 0.5, verdict)

    assert verdict.time_s[0] == 0.0
    assert verdict.probability[0] > 0.99
    assert verdict.page_by_speaker[0, 0] > 1.0


@given(mean=st.floats(0, 500), variance=st.floats(0, 900), cap=st.floats(1, 500))
def test_a_score_is_a_distance_in_standard_deviations(mean: float, variance: float, cap: float) -> None:
    assert score_of(mean, variance, cap) == pytest.approx(oracle.score_of(mean, variance, cap))
