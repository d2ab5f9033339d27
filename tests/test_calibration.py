"""Thresholds keep their budget on days like those they were made from; days of declines are none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from detectors.calibration import (
    AFTER_HOURS,
    BEFORE_HOURS,
    BUDGET_SHARES,
    DAYS_MIN,
    Days,
    HourScores,
    class_of,
    ordinary_days,
    tail_threshold,
    thresholds,
    with_hour,
)
from detectors.thresholds import BUILT_IN, CAPS, NEVER, surfaces_of
from engine.learned import SPEAKERS, TIERS, Learned


def hours(many: int, *, score: float = -5.0, declined_at: int = -1) -> tuple[HourScores, ...]:
    """Give hours of one limit of 100 calls."""
    return tuple(
        HourScores(
            number,
            np.full((1, len(TIERS), len(SPEAKERS)), score + 0.01 * number),
            np.array([number == declined_at]),
            np.array([False]),
            np.array([0.4]),
            np.array([100.0]),
        )
        for number in range(many)
    )


def days_of(maxima: np.ndarray, cap: float = 100.0, *, known: bool = False) -> Days:
    """Give days of one limit, every tier and speaker with the same highest scores."""
    many = len(maxima)
    score = np.tile(maxima[:, None, None], (1, len(TIERS), len(SPEAKERS)))
    return Days(np.zeros(many, np.int64), score, np.full(many, known), np.full(many, 0.4), np.full(many, cap))


@pytest.mark.parametrize("pages_per_week", [0.05, 0.25, 1.0])
def test_other_days_of_the_kind_pass_a_threshold_as_often_as_the_budget_says(pages_per_week: float) -> None:
    """From 60 days, the pages of 20,000 others: about as many, and rarely five times as many."""
    ratios = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        threshold = tail_threshold(rng.gumbel(-4.0, 0.8, 60), pages_per_week)
        pages = 7.0 * float(np.mean(rng.gumbel(-4.0, 0.8, 20_000) >= threshold))
        ratios.append(pages / pages_per_week)

    assert 0.5 < float(np.median(ratios)) < 1.6
    assert float(np.quantile(ratios, 0.9)) < 5.0


def test_a_speaker_that_was_silent_on_most_days_is_not_let_speak_more_often() -> None:
    maxima = np.concatenate([np.full(50, -np.inf), np.linspace(-1.0, 1.0, 10)])

    assert 7.0 * float(np.mean(maxima >= tail_threshold(maxima, 0.25))) < 0.5
    assert tail_threshold(np.full(60, -np.inf), 0.25) == NEVER


def test_days_on_which_nobody_came_near_the_cap_keep_the_built_in_thresholds() -> None:
    found = thresholds(days_of(np.full(28, -np.inf)), 1.0)
    place = CAPS.index(100.0)

    own = {(one.tier, one.speaker): one.score for one in found if one.cap == 100.0}
    assert own["page", "growth"] == BUILT_IN["page", "growth", False][place]
    assert own["warn", "level"] == BUILT_IN["warn", "level", False][place]


def test_hours_around_a_decline_are_not_ordinary() -> None:
    """The scores before it were right, and those after it are of its repair."""
    calm = ordinary_days(hours(24), 1)
    assert calm.score[0, 0, 0] == pytest.approx(-5.0 + 0.23)

    broken = ordinary_days(hours(24, declined_at=22), 1)
    assert broken.score[0, 0, 0] == pytest.approx(-5.0 + 0.01 * (22 - BEFORE_HOURS - 1))
    assert AFTER_HOURS >= 1


def test_a_day_that_was_hardly_watched_is_none() -> None:
    assert len(ordinary_days(hours(11), 1).row) == 0
    assert len(ordinary_days(hours(12), 1).row) == 1


def test_two_weeks_of_a_pool_are_needed_and_other_sizes_keep_the_built_in_thresholds() -> None:
    rng = np.random.default_rng(1)
    assert thresholds(days_of(rng.gumbel(size=DAYS_MIN - 1)), 1.0) == ()

    found = thresholds(days_of(rng.gumbel(-4.0, 0.8, DAYS_MIN)), 1.0)

    own = [one for one in found if one.cap == 100.0]
    assert {(one.tier, one.speaker) for one in own} == {(tier, one) for tier in TIERS for one in SPEAKERS}
    assert {one.cap for one in found} == set(CAPS)
    assert not any(one.has_baseline for one in found)
    surfaces = surfaces_of(Learned(thresholds=found))
    built_in = surfaces_of(None)
    place = CAPS.index(5000.0)
    key = ("page", "growth", False)
    assert surfaces[key].scores[place] == pytest.approx(built_in[key].scores[place])


def test_a_smaller_part_of_the_budget_is_a_higher_threshold() -> None:
    found = thresholds(days_of(np.random.default_rng(1).gumbel(-4.0, 0.8, 60)), 1.0)
    by_speaker = {one.speaker: one.score for one in found if one.tier == "page" and one.cap == 100.0}

    assert sum(BUDGET_SHARES) == pytest.approx(1.0)
    assert by_speaker["level"] < by_speaker["growth"] < by_speaker["line"]


def test_classes_are_by_the_logarithm_of_the_cap_and_by_load() -> None:
    assert class_of(80.0, 0.4) == (CAPS.index(100.0), 1)
    assert class_of(9.0, 0.1) == (0, 0)
    assert class_of(20_000.0, 0.9) == (len(CAPS) - 1, 3)


def test_an_hour_takes_rows_that_appear_in_it() -> None:
    known = with_hour((), 5, 1)
    known[0].score[0] = 1.0

    grown = with_hour(known, 5, 2)

    assert len(grown) == 1
    assert grown[0].score[0].tolist() == np.ones((2, 3)).tolist()
    assert math.isinf(grown[0].score[1].max())
    assert len(with_hour(grown, 6, 2)) == 2
