"""The detector with past weeks: learned from the stream, put in from a file, faded in, and worth it."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from bench.leadtime.feed import Calls, Feed, slices
from bench.leadtime.priming import baseline_from_counts
from bench.leadtime.traffic import Plan, draw_calls
from detectors.headroom import Headroom
from detectors.headroom_state import HeadroomState, primed
from detectors.usual_load import busiest_within, offsets_at
from engine.judge.baseline import SLOT_NS, Baseline
from engine.judge.detection import CRITICAL, WARNING, Finding
from engine.judge.windows import WindowSummary
from engine.learned import Learned, LearnedBaseline
from engine.limits import Limit, LimitInstance
from engine.settings import UTC_OFFSETS, HeadroomSettings

ORIGIN_S = 1_767_571_200  # a Monday, midnight
DAY_S = 86_400
HOLDING_S = 120.0


def day_load(steps_per_day: int = 5760) -> np.ndarray:
    """Give the offered load over a day, highest 1: quiet nights, one busy noon."""
    hour = np.arange(steps_per_day) * 24.0 / steps_per_day
    return 0.08 + 0.92 * np.exp(-0.5 * np.square((hour - 12.5) / 2.5))


def past_weeks(peak: float, weeks: int = 4, seed: int = 3) -> Baseline:
    rate = day_load(288) * peak / HOLDING_S * 300.0
    counts = np.random.default_rng(seed).poisson(np.tile(rate, 7 * weeks))[None, :]
    start_ns = (ORIGIN_S - weeks * 7 * DAY_S) * 1_000_000_000
    return baseline_from_counts(counts.astype(float), start_ns, UTC_OFFSETS)


def day(peak: float, hours: tuple[float, float], seed: int, factor: float = 1.0) -> Calls:
    first, last = (round(hour * 240) for hour in hours)
    rate = day_load()[first:last] * peak / HOLDING_S * factor
    plan = Plan(rate, np.full(len(rate), HOLDING_S), np.zeros(len(rate)))
    return draw_calls(plan, np.random.default_rng(seed))


def feed(calls: Calls, cap: float, hours: tuple[float, float]) -> Iterator[WindowSummary]:
    stop_s = (hours[1] - hours[0]) * 3600.0
    return slices(Feed((calls,), np.array([cap]), stop_s, 15, ORIGIN_S + round(hours[0] * 3600)))


def run(
    summaries: Iterator[WindowSummary], state: HeadroomState, detector: Headroom
) -> tuple[list[tuple[Finding, ...]], list[HeadroomState]]:
    findings, states = [], []
    for summary in summaries:
        detection = detector.detect(state, summary, ())
        state = detection.state
        findings.append(detection.findings)
        states.append(state)
    return findings, states


def test_an_ordinary_morning_is_no_incident_and_is_foreseen() -> None:
    """Load rises eightfold from six to noon to 75 % of the cap, as every day: nobody is woken."""
    detector = Headroom(HeadroomSettings())
    findings, states = run(
        feed(day(300.0, (5.0, 14.0), 1), 400.0, (5.0, 14.0)),
        primed(detector.new_state(), past_weeks(300.0)),
        detector,
    )

    assert all(one.severity != CRITICAL for found in findings for one in found)
    at_eight = states[3 * 240 - 1]
    expected = 300.0 * day_load()[10 * 240]
    assert at_eight.outlook.mean[0, -1] == pytest.approx(expected, rel=0.25)


def test_a_morning_half_as_busy_again_is_warned_of_an_hour_ahead() -> None:
    """At nine it is clear to whoever knows the noons of past weeks that this one will not fit."""
    detector = Headroom(HeadroomSettings())
    calls = day(300.0, (5.0, 14.0), 2, 1.6)
    findings, states = run(
        feed(calls, 400.0, (5.0, 14.0)), primed(detector.new_state(), past_weeks(300.0)), detector
    )
    level = np.arange(len(calls.start_s)) - np.searchsorted(np.sort(calls.end_s), calls.start_s)
    full_s = float(calls.start_s[np.flatnonzero(level >= 400)[0]])
    warned = [k for k, found in enumerate(findings) if any(one.severity == WARNING for one in found)]

    assert full_s - (warned[0] + 1) * 15.0 > 2400.0
    evidence = dict(findings[warned[0]][-1].evidence)
    assert "more than is usual at this time of the week" in str(evidence["baseline_text"])
    assert str(evidence["baseline"]).startswith("time of week")
    assert states[-1].season.weight[0] == 1.0


def test_the_stream_teaches_what_past_counts_would() -> None:
    """Six hours over a midnight, slice by slice, against the same hours by slots."""
    detector = Headroom(HeadroomSettings())
    rate = np.full(6 * 240, 1.5)
    calls = draw_calls(Plan(rate, np.full(len(rate), 20.0), 0.0 * rate), np.random.default_rng(4))
    start_s = ORIGIN_S + 21 * 3600
    summaries = slices(Feed((calls,), np.array([100.0]), 6 * 3600.0, 15, start_s))
    _, states = run(summaries, detector.new_state(), detector)
    slots = np.bincount((calls.start_s // 300).astype(int), minlength=72)[None, :].astype(float)
    expected = baseline_from_counts(slots, start_s * 1_000_000_000, UTC_OFFSETS)
    learned = states[-1].season.baseline
    inner = np.arange(21 * 12 + 1, 27 * 12 - 1)  # The first slot began late, and the last one is still open.

    assert learned.day == expected.day
    assert learned.calls[0, inner] == pytest.approx(expected.calls[0, inner])
    assert learned.watched_s[0, inner] == pytest.approx(expected.watched_s[0, inner])


def test_the_rate_of_now_does_not_jump_when_past_weeks_come_in() -> None:
    """A baseline that appears in mid-stream takes an hour to count fully, and no forecast jumps."""
    detector = Headroom(HeadroomSettings())
    state = detector.new_state()
    rates, weights = [], []
    for k, summary in enumerate(feed(day(100.0, (10.0, 14.0), 5), 400.0, (10.0, 14.0))):
        if k == 240:
            season = state.season._replace(baseline=past_weeks(80.0))
            state = state._replace(season=season)
        state = detector.detect(state, summary, ()).state
        rates.append(float(state.outlook.rate_per_s[0]))
        weights.append(float(state.season.weight[0]))

    assert weights[200] == 0.0
    assert max(np.diff(weights)) <= 1 / 12 + 1e-9
    assert weights[-1] == 1.0
    steps = np.abs(np.diff(np.log(rates[100:])))
    assert steps[130:].max() < 0.25
    usual = 80.0 * day_load()[14 * 240 - 1] / HOLDING_S * 15.0
    assert math.exp(float(state.season.offset[0])) == pytest.approx(usual, rel=0.15)
    ratio = float((state.rate.level * state.rate.weight).sum())
    assert math.exp(ratio) == pytest.approx(100 / 80, rel=0.3)


def test_a_silence_of_the_whole_stream_is_not_learned_as_a_quiet_hour() -> None:
    detector = Headroom(HeadroomSettings())
    state = detector.new_state()
    for k, summary in enumerate(feed(day(100.0, (10.0, 13.0), 6), 400.0, (10.0, 13.0))):
        dark = summary
        if 240 <= k < 480:
            nothing = np.zeros_like(summary.limits.arrivals)
            dark = summary._replace(
                limits=summary.limits._replace(arrivals=nothing), stream=summary.stream._replace(events=0)
            )
        state = detector.detect(state, dark, ()).state
    baseline = state.season.baseline
    hour = slice(11 * 12 + 1, 12 * 12 - 1)

    assert baseline.watched_s[0, hour].sum() == 0.0
    assert (baseline.watched_s[0, 10 * 12 + 1 : 11 * 12] == 300.0).all()


def test_what_a_file_says_goes_to_the_instance_of_its_name() -> None:
    baseline = past_weeks(80.0)
    one = LearnedBaseline(
        limit="sip-1",
        split=(("tenant", "acme"),),
        calls=tuple(baseline.calls[0].tolist()),
        watched_s=tuple(baseline.watched_s[0].tolist()),
    )
    detector = Headroom(HeadroomSettings(), learned=Learned(day=baseline.day, baselines=(one,)))
    limit = Limit(name="sip-1", kind="concurrency", value=400.0, split_by=("tenant",))
    limits = tuple(
        LimitInstance(row, limit, (("tenant", tenant),)) for row, tenant in enumerate(("globex", "acme"))
    )
    streams = tuple(day(80.0, (10.0, 10.5), seed) for seed in (7, 8))
    state = detector.new_state()
    for summary in slices(Feed(streams, np.full(2, 400.0), 1800.0, 15, ORIGIN_S + 36_000)):
        state = detector.detect(state, summary, limits).state

    assert state.season.weight.tolist() == [0.0, 1.0]
    assert state.season.busiest_per_s[1] > 0.5


def test_offsets_run_between_the_middles_of_slots() -> None:
    detector = Headroom(HeadroomSettings())
    _, states = run(
        feed(day(100.0, (9.0, 10.0), 9), 400.0, (9.0, 10.0)),
        primed(detector.new_state(), past_weeks(100.0)),
        detector,
    )
    season = states[-1].season
    middle = season.table_slot * SLOT_NS + SLOT_NS // 2
    at = offsets_at(season, np.array([middle, middle + SLOT_NS // 2, middle + SLOT_NS]))[0]

    assert at[0] == pytest.approx(season.log_usual[0, 0])
    assert at[1] == pytest.approx((at[0] + at[2]) / 2)
    noon_ns = (ORIGIN_S + 12 * 3600) * 1_000_000_000
    busiest = busiest_within(season.baseline, 0, (noon_ns, noon_ns + 7200 * 10**9), UTC_OFFSETS)
    assert busiest * HOLDING_S == pytest.approx(100.0, rel=0.15)
