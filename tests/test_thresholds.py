"""Thresholds by size of cap and class of load, and the best of several speakers."""

import numpy as np
import pytest

from detectors.thresholds import NEVER, Thresholds, best, on_surface, surface_of, surfaces_of, thresholds_of
from engine.learned import Learned, Threshold


def learned(score: float, load: float = 0.0, cap: float = 100.0) -> Threshold:
    return Threshold(tier="page", speaker="growth", has_baseline=True, cap=cap, load=load, score=score)


def at(surface_points: list[tuple[float, float, float]], cap: float, load: float) -> float:
    return float(on_surface(surface_of(surface_points), np.array([cap]), np.array([load]))[0])


def test_between_sizes_the_logarithm_counts_and_outside_it_is_flat() -> None:
    points = [(10.0, 0.0, 0.0), (1000.0, 0.0, -2.0)]

    assert at(points, 100.0, 0.3) == pytest.approx(-1.0)
    assert at(points, 1.0, 0.3) == 0.0
    assert at(points, 1e6, 0.3) == -2.0
    assert (at(points, 10.0, 0.3), at(points, 1000.0, 0.3)) == (0.0, -2.0)
    assert np.isnan(at(points, float("nan"), 0.3))


def test_between_loads_it_is_linear() -> None:
    points = [(100.0, 0.2, -2.0), (100.0, 0.6, 0.0)]

    assert at(points, 100.0, 0.4) == pytest.approx(-1.0)
    assert at(points, 50.0, 0.9) == 0.0


def test_a_speaker_that_is_mute_at_one_size_is_not_half_mute_at_the_next() -> None:
    points = [(10.0, 0.0, NEVER), (20.0, 0.0, -1.0), (100.0, 0.2, -2.0), (100.0, 0.6, NEVER)]

    assert [at(points, cap, 0.2) for cap in (10.0, 13.0, 15.0, 20.0)] == [NEVER, NEVER, -1.0, -1.0]
    assert [at(points, 100.0, load) for load in (0.3, 0.5)] == [-2.0, NEVER]


def test_what_was_learned_replaces_the_built_in_table_of_that_speaker_alone() -> None:
    both = (learned(3.0, 0.2), learned(5.0, 0.6))
    one = np.ones(1)
    before = thresholds_of(surfaces_of(None), "page", 100 * one, 0.4 * one, one)
    after = thresholds_of(surfaces_of(Learned(thresholds=both)), "page", 100 * one, 0.4 * one, one)

    assert after[0, 0] == pytest.approx(4.0)
    assert after[0, 1:].tolist() == before[0, 1:].tolist()
    recent = thresholds_of(surfaces_of(Learned(thresholds=both)), "page", 100 * one, 0.4 * one, 0 * one)
    assert recent[0, 0] != pytest.approx(4.0)


def test_caps_that_change_are_given_thresholds_of_their_own() -> None:
    """Asked again and again, for both tiers, the same as if nothing had been asked before."""
    surfaces = surfaces_of(None)
    kept = Thresholds(surfaces)
    load, usual = np.array([0.4, 0.7]), np.array([0.0, 1.0])
    for caps in ([100.0, 30.0], [100.0, 30.0], [100.0, 3000.0], [np.nan, 3000.0], [100.0, 30.0]):
        cap = np.array(caps)
        for tier in ("warn", "page", "warn"):
            for weight in (0 * usual, usual):
                expected = thresholds_of(surfaces, tier, cap, load, weight)
                found = kept.of(tier, cap, load, weight)
                assert np.array_equal(found, expected, equal_nan=True)
        cap[:] = 7.0  # What was given may be written to afterwards.


def test_the_speaker_furthest_above_its_own_threshold_is_the_best() -> None:
    thresholds = np.array([[-1.0, -2.0, 0.5]])

    assert best(np.array([[-1.5, -1.0, 0.0]]), thresholds)[0] == pytest.approx(0.0)
    assert best(np.array([[-0.5, -9.0, -np.inf]]), thresholds)[0] == -0.5
    assert best(np.array([[np.nan, -np.inf, -np.inf]]), thresholds)[0] == -np.inf
