"""The lead-time bench: its arithmetic, and that the whole of it still runs."""

import datetime as dt
import math
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from bench.leadtime.__main__ import page
from bench.leadtime.baselines import holt, kalman, predict_linear
from bench.leadtime.benign import BANDS, BENIGN, benign, week
from bench.leadtime.corpus import Truth, corpus_of
from bench.leadtime.families import FAMILIES, incident
from bench.leadtime.feed import Calls, Feed, slices
from bench.leadtime.figure import figure
from bench.leadtime.history import expected_level, seasonal_rate, week_counts
from bench.leadtime.measures import POSTED_S, leads_min
from bench.leadtime.oracle import cusum, stay_evidence
from bench.leadtime.paging import pages, tuned_threshold, tuned_thresholds
from bench.leadtime.parts import run_parts
from bench.leadtime.probability import stated
from bench.leadtime.rate_limit import busiest_seconds, first_excess_s
from bench.leadtime.real import DAY_SLOTS, Days, real_section, real_streams, weeks_before
from bench.leadtime.sizes import QUICK
from bench.leadtime.stream import Stream, levels
from bench.leadtime.traffic import HOLDING_S, HOLDING_SIGMA, ordinary_rate
from bench.leadtime.truth import declined_s, first_decline_s, lost


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

    assert [early[0], late[0], never[0]] == [-1.0, (300.0 - 90.0 - POSTED_S) / 60.0, -1.0]


def test_an_alert_posted_after_the_first_decline_is_no_lead() -> None:
    """Its evaluation ends 2 s before the decline; posted it is 3 s after."""
    truth = Truth(onset_s=np.array([0.0]), decline_s=np.array([62.0]))

    assert leads_min(score_of(0, 0, 2, 2), 1.0, truth)[0] == -1.0
    assert leads_min(score_of(0, 2, 2, 2), 1.0, truth)[0] == pytest.approx((62.0 - 50.0) / 60.0)


def test_the_tuned_threshold_is_the_lowest_that_keeps_the_budget() -> None:
    score = score_of(*([0.0] * 300 + [3.0] * 3 + [0.0] * 300 + [5.0] * 3 + [0.0] * 300))

    assert tuned_threshold(score, 2) == 3.0
    assert tuned_threshold(score, 1) == 5.0
    assert math.isinf(tuned_threshold(score, 0))
    assert tuned_thresholds(score, (0, 1, 2)) == [math.inf, 5.0, 3.0]


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


def test_what_is_turned_away_holds_no_place() -> None:
    """A heap of ends against the plain rule: a call is lost if three are up that were taken."""
    rng = np.random.default_rng(5)
    start = np.sort(rng.uniform(0.0, 1000.0, 300))
    calls = Calls(start, start + rng.exponential(15.0, 300), np.zeros(300, np.bool_))
    taken: list[float] = []
    expected = []
    for begin, end in zip(calls.start_s, calls.end_s, strict=True):
        if sum(other > begin for other in taken) >= 3:
            expected.append(begin)
        else:
            taken.append(end)

    found = declined_s(calls, 3.0, 900.0)

    assert found.tolist() == [begin for begin in expected if begin < 900.0]
    assert found[0] == first_decline_s(calls, 3.0)
    assert lost(found, found[0] - 61.0, found[0], 60.0) == 0, "the cap was out of the way in time"
    assert lost(found, math.inf, found[0], 1e6) == len(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_incident_declines_after_its_onset(family: str) -> None:
    found = incident(family, 100.0, np.random.default_rng(2))

    assert found.onset_s <= found.decline_s < found.stop_s
    assert found.decline_s == first_decline_s(found.calls, 100.0) == found.losses_s[0]
    assert found.oracle_s > found.onset_s


@pytest.mark.parametrize("family", BENIGN)
def test_nothing_harmless_declines_a_call(family: str) -> None:
    assert math.isinf(first_decline_s(benign(family, 100.0, np.random.default_rng(4)).calls, 100.0))


@pytest.mark.parametrize("dispersion", [1.0, 2.0, 4.0])
def test_batches_have_the_dispersion_that_they_say(dispersion: float) -> None:
    """Variance over mean of counts in seconds, pooled over a day, against the mean of each quarter hour."""
    found = week(1000.0, np.random.default_rng(6), days=1, dispersion=dispersion)
    counts = np.bincount(found.calls.start_s.astype(np.int64), minlength=86_400).reshape(96, 900)

    seen = np.square(counts - counts.mean(axis=1, keepdims=True)).sum() / counts.sum()

    assert seen == pytest.approx(dispersion, rel=0.08)


def test_the_oracle_is_sure_of_what_cannot_be_otherwise() -> None:
    """The sum since its last minimum; a call that outlives every ordinary one is no ordinary call."""
    assert cusum(np.array([-1.0, -1.0, 2.0, 1.0, -5.0, 1.0])).tolist() == [0.0, 0.0, 2.0, 3.0, 0.0, 1.0]
    start, end = np.zeros(1), np.full(1, np.inf)

    evidence = stay_evidence(
        start, end, np.full(1, HOLDING_S), np.full(1, 0.1), (HOLDING_S, HOLDING_SIGMA, 15.0), 240
    )

    assert np.diff(evidence).min() >= 0.0
    assert evidence[-1] > 3.0


def test_what_is_usual_is_what_ordinary_weeks_bring() -> None:
    """Arrivals and level from six weeks of counts stand near the plan that they were drawn from."""
    counts = week_counts(1000.0, np.random.default_rng(7))
    rate = seasonal_rate(counts.astype(np.float64))
    level = expected_level(rate, 1000.0)
    busiest = int(np.argmax(rate))

    assert rate[busiest] == pytest.approx(ordinary_rate(1000.0)[busiest] * 15.0, rel=0.1)
    assert level[busiest] == pytest.approx(rate[busiest] / 15.0 * HOLDING_S, rel=0.05)


def test_trends_follow_a_line() -> None:
    """On a straight line Holt's and the Kalman filter's forecasts end up on it."""
    line = 100.0 + np.arange(400.0)[None, :]
    at_cap = np.array([line[0, -1] + 40.0])

    assert holt(line, (0.4, 0.1), 0.99999, 40)[0, -1] == pytest.approx(at_cap[0], abs=0.5)
    assert kalman(line, 1e-5, 0.02, 40, at_cap)[0, -1] == pytest.approx(0.0, abs=0.05)


def test_stated_probabilities_are_counted_by_what_came() -> None:
    """Certain and right within ten minutes of the decline, certain and wrong before."""
    nothing = Calls(np.zeros(0), np.zeros(0), np.zeros(0, np.bool_))
    stream = Stream(nothing, 100.0, 0, 1800.0, 0.0, decline_s=1500.0)
    corpus = corpus_of([stream], {100.0: week_counts(100.0, np.random.default_rng(8))})

    found = stated(corpus, np.ones((1, corpus.steps)))

    assert [int(found.moments[-1]), int(found.came[-1])] == [99, 40]
    assert found.brier == pytest.approx(59 / 99)


def test_one_call_too_many_in_a_rolling_second() -> None:
    """Calendar seconds would miss it: two and two calls around a full second, at a limit of three."""
    start = np.array([0.8, 0.9, 1.1, 1.2, 5.0])

    assert first_excess_s(start, 3) == 1.2
    assert math.isinf(first_excess_s(start, 4))
    assert busiest_seconds(start, 2, 3.0).tolist() == [4.0, 1.0]


def days_of(many: int) -> Days:
    """Give a call centre open every day, busy on the last one."""
    rng = np.random.default_rng(9)
    start = dt.date(2003, 3, 3)
    calls = rng.poisson(60.0, (many, DAY_SLOTS)).astype(float)
    calls[-1, 80:] *= 3.0
    return Days([start + dt.timedelta(days=k) for k in range(many)], calls)


def test_a_real_day_knows_only_the_days_before_it() -> None:
    """Six weeks by slot, nothing of the day itself, NaN where nothing was recorded."""
    days = days_of(23)

    known = weeks_before(days, 22)
    real = real_streams(days, (0,))

    assert np.nansum(known) == days.calls[1:22].sum() + days.calls[0].sum()
    assert np.isnan(known[0]).all()
    assert [len(real.incidents.streams), len(real.benign.streams)] == [1, 2]
    assert levels(real.incidents.streams, 100)[0, -1] > 0


def test_without_a_recording_the_report_says_so(tmp_path: Path) -> None:
    assert "No recording" in real_section(tmp_path / "none.csv")


def test_the_feed_accounts_for_every_call() -> None:
    """Arrivals less ends is the level, by age too, and the level is that of the gauge."""
    stream = incident("ramp15", 100.0, np.random.default_rng(3))
    found = stream.calls
    level, last = 0, None
    for last in slices(Feed((found,), np.array([100.0]), 3600.0)):
        use = last.limits
        level += int(use.arrivals[0] - use.ended[0])
        assert level == use.level[0] == use.alive[0].sum()
        assert use.ended[0] == use.ended_by_age[0].sum()
    assert level == levels([stream], 240)[0, -1]


def test_the_tiny_bench_prints_every_part(tmp_path: Path) -> None:
    """Every family, every kind of detector, a figure that is well-formed, and a digest."""
    found = run_parts("tiny", 1, 1, tmp_path / "none.csv")
    text = page(found, "tiny", 1, {100.0: "leadtime_100.svg"})
    drawn = figure(found["cap 100"])

    for name in (
        "ours page, as shipped",
        "ours page, learned",
        "prototype, mended union",
        "static tuned",
        "Holt, best by family",
    ):
        assert text.count(f"| {name} |") >= 1
    assert all(family in text for family in (*QUICK, *BANDS))
    assert text.splitlines()[-1].startswith("Result ")
    assert ET.fromstring(drawn).tag.endswith("svg")
    assert drawn.count("<polyline") == 5 * len(QUICK)
