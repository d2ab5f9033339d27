"""The lead-time bench: its arithmetic, and that the whole of it still runs."""

import math

import numpy as np
import pytest

from bench.leadtime.__main__ import report
from bench.leadtime.baselines import level_of, pages, predict_linear, tuned_threshold
from bench.leadtime.feed import Calls, Feed, slices
from bench.leadtime.report import Truth, leads_min
from bench.leadtime.traffic import FAMILIES, first_decline_s, incident


def score_of(*values: float) -> np.ndarray:
    return np.array([values])


def test_a_single_evaluation_above_the_threshold_is_no_page() -> None:
    assert [p.tolist() for p in pages(score_of(0, 2, 0, 2, 0, 2), 1.0)] == [[]]
    assert [p.tolist() for p in pages(score_of(0, 2, 2, 2, 0, 2, 2), 1.0)] == [[2]]


def test_a_page_before_the_onset_is_no_lead() -> None:
    truth = Truth(onset_s=np.array([60.0]), decline_s=np.array([300.0]))
    early = leads_min(score_of(2, 2, *[2] * 20), 1.0, truth)
    late = leads_min(score_of(0, 0, 0, 0, 2, 2, *[2] * 20), 1.0, truth)
    never = leads_min(score_of(*[0] * 22), 1.0, truth)

    assert [early[0], late[0], never[0]] == [-1.0, (300.0 - 90.0) / 60.0, -1.0]


def test_the_tuned_threshold_is_the_lowest_that_keeps_the_budget() -> None:
    score = score_of(*([0.0] * 300 + [3.0] * 3 + [0.0] * 300 + [5.0] * 3 + [0.0] * 300))

    assert tuned_threshold(score, 2) == 3.0
    assert tuned_threshold(score, 1) == 5.0
    assert math.isinf(tuned_threshold(score, 0))


def test_predict_linear_is_the_least_squares_line() -> None:
    rng = np.random.default_rng(1)
    level = rng.normal(50.0, 5.0, (2, 60))
    found = predict_linear(level, 20, 10)
    slope, at_end = np.polyfit(np.arange(20) - 19, level[1, 30:50], 1)

    assert found[1, 49] == pytest.approx(at_end + 10 * slope)
    assert np.isneginf(found[:, :19]).all()


def test_the_first_decline_is_the_first_call_that_finds_the_limit_full() -> None:
    start = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    end = np.array([2.5, 10.0, 10.0, 10.0, 10.0])
    calls = Calls(start, end, np.zeros(5, np.bool_))

    assert first_decline_s(calls, 3.0) == 4.0
    assert math.isinf(first_decline_s(calls, 4.0))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_incident_declines_after_its_onset(family: str) -> None:
    found = incident(family, 100.0, np.random.default_rng(2))

    assert found.onset_s <= found.decline_s < np.inf
    assert found.decline_s == first_decline_s(found.calls, 100.0)


def test_the_feed_accounts_for_every_call() -> None:
    """Arrivals less ends is the level, by age too, and the level is that of the gauge."""
    found = incident("ramp15", 100.0, np.random.default_rng(3)).calls
    level, last = 0, None
    for last in slices(Feed((found,), np.array([100.0]), 3600.0)):
        use = last.limits
        level += int(use.arrivals[0] - use.ended[0])
        assert level == use.level[0] == use.alive[0].sum()
        assert use.ended[0] == use.ended_by_age[0].sum()
    assert level == level_of(found, 240)[-1]


def test_the_tiny_bench_prints_every_detector_and_family_and_repeats_itself() -> None:
    page = report("tiny", 1, 1)

    for name in ("static, tuned", "prototype mended, 10 min, tuned", "product, page, as shipped"):
        assert page.count(f"| {name} |") == 1
    assert all(family in page for family in FAMILIES)
    assert page.splitlines()[-1].startswith("Result ")
