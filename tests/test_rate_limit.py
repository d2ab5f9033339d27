"""Rate limits: what clumps or rises is paged, what is healthy is not; every term beside its slow twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.detection.limit_slices import limit_slice, rate_limits
from bench.detection.rate_limit import clumped, healthy_mean
from detectors.headroom_state import HeadroomParams
from detectors.rate_excess import excess_above, follow_rates, log_chance
from detectors.rate_limit import RateLimit
from detectors.rate_limit_state import FOUND, PERIOD_NS_MAX, RateLimitParams, RateLimitState, look_at_bins
from detectors.statistics import FilterNoise, new_bank
from engine.judge.occupancy import SECOND_BINS
from engine.limits import Limit, LimitInstance
from tests.oracle import rates as oracle

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from engine.judge.detection import Finding

S = 1_000_000_000
SLICE_S = 15


def run(
    caps: list[float], slices: int, draw: Callable[[int], NDArray[np.int32]], per_ns: int = S
) -> tuple[list[tuple[Finding, ...]], RateLimitState]:
    """Show slices of 15 s; give what is said of each, and the last state."""
    cap = np.array(caps)
    detector, limits = RateLimit(), rate_limits(cap, per_ns)
    state, said = detector.new_state(), []
    for number in range(slices):
        detection = detector.detect(state, limit_slice(number, cap, draw(number), SLICE_S), limits)
        state = detection.state
        said.append(detection.findings)
    return said, state


def steady(mean: float, dispersion: float = 1.0, seed: int = 3) -> Callable[[int], NDArray[np.int32]]:
    rng = np.random.default_rng(seed)
    return lambda _: clumped(rng, np.array([mean]), dispersion)


def batch(size: int, every: int) -> Callable[[int], NDArray[np.int32]]:
    """Give `size` calls at once in the middle of every so many slices, and nothing else."""

    def draw(number: int) -> NDArray[np.int32]:
        bins = np.zeros((1, SLICE_S * 10), np.int32)
        bins[0, 74] = size if number % every == 0 else 0
        return bins

    return draw


@pytest.mark.parametrize("dispersion", [1.0, 1.7, 6.0, 40.0])
@pytest.mark.parametrize("mean", [1e-3, 0.7, 9.0, 60.0])
@pytest.mark.parametrize("cap", [0.0, 1.0, 8.0, 9.0, 50.0, 100.0])
def test_the_excess_is_that_of_the_slow_twin(cap: float, mean: float, dispersion: float) -> None:
    excess, chance = excess_above(np.array([mean]), np.array([dispersion]), np.array([cap]))

    wanted = oracle.excess_above(mean, dispersion, cap)
    assert excess[0] == pytest.approx(wanted[0], rel=1e-6, abs=1e-14)
    assert chance[0] == pytest.approx(wanted[1], rel=1e-6, abs=1e-10)
    assert log_chance(cap, mean, dispersion) == pytest.approx(
        oracle.log_chance(int(cap), mean, dispersion), rel=1e-6, abs=1e-8
    )


@pytest.mark.parametrize(("mean", "cap"), [(np.nan, 5.0), (0.0, 5.0), (3.0, np.nan)])
def test_what_is_not_known_exceeds_nothing(mean: float, cap: float) -> None:
    excess, chance = excess_above(np.array([mean]), np.array([2.0]), np.array([cap]))

    assert (excess[0], chance[0]) == (0.0, 0.0)


def test_far_above_the_cap_all_beyond_it_is_excess() -> None:
    excess, chance = excess_above(np.array([1e6]), np.array([1.0]), np.array([10.0]))

    assert excess[0] == pytest.approx(1e6 - 10)
    assert chance[0] == 1.0


def test_the_filters_go_on_as_their_twin_does() -> None:
    params = HeadroomParams()
    noise = FilterNoise(np.array(params.level_noise), np.array(params.growth_noise), 0.9876)
    pairs = list(zip(params.level_noise, params.growth_noise, strict=True))
    variances = np.square(params.cold_growth_sd)
    weights = np.array(params.model_weight_warm)
    bank, is_known = new_bank(1, weights, variances, 1.0), np.zeros(1, np.bool_)
    expected = None
    for count, watched, steps in [
        (0.0, 0.0, 1),
        (21.0, 0.5, 1),
        (40.0, 1.0, 1),
        (9.0, 0.0, 3),
        (60.0, 1.0, 2),
    ]:
        seen = (count, watched, 1.5)
        counts, parts, spread = (np.array([one]) for one in seen)
        follow_rates(bank, is_known, counts, parts, spread, noise, 3e-6, steps)
        expected = oracle.follow_rates(
            expected, seen, pairs, 0.9876, 3e-6, steps, (variances.tolist(), weights.tolist())
        )
        assert is_known[0] == (expected is not None)
    assert expected is not None
    assert np.allclose(bank.level[0], [one.mean[0] for one in expected], rtol=1e-6)
    assert np.allclose(bank.growth[0], [one.mean[1] for one in expected], rtol=1e-5, atol=1e-9)
    assert np.allclose(bank.weight[0], [one.weight for one in expected], rtol=1e-5)


@pytest.mark.parametrize("dispersion", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("cap", [5.0, 50.0])
def test_a_healthy_limit_is_quiet_for_hours(cap: float, dispersion: float) -> None:
    said, _ = run([cap], 600, steady(healthy_mean(cap, dispersion), dispersion))

    assert not any(said)


def test_a_dialer_that_clumps_is_paged_while_the_mean_is_far_below_the_cap() -> None:
    rng = np.random.default_rng(4)
    said, _ = run([50.0], 140, lambda at: clumped(rng, np.array([15.0]), 1.0 if at < 100 else 6.0))

    assert not any(said[:100])
    found = next(some for some in said if some)[0]
    evidence = dict(found.evidence)
    assert any(said[100:114])
    assert float(evidence["mean"]) < 20
    assert float(evidence["dispersion"]) > 1.5
    assert "clumps" in str(evidence["clumps"])


def test_a_ramp_is_paged_before_the_first_attempt_over_the_cap() -> None:
    rng = np.random.default_rng(5)
    counts: list[int] = []

    def draw(at: int) -> NDArray[np.int32]:
        bins = clumped(rng, np.array([10.0 * 2.0 ** (max(at - 80, 0) / 40)]), 1.0)
        counts.append(int(bins.reshape(-1, 10).sum(axis=1).max()))
        return bins

    said, _ = run([50.0], 200, draw)

    page = next(number for number, some in enumerate(said) if some)
    over = next(number for number, count in enumerate(counts) if count > 50)
    evidence = dict(said[page][0].evidence)
    assert 80 < page <= over - 8
    assert float(evidence["excess_per_hour_ahead"]) > float(evidence["excess_per_hour_now"])
    assert "rising" in str(evidence["trend"])
    assert evidence["clumps"] == "Calls start one by one."


def test_seconds_over_the_cap_are_paged_when_they_are_no_chance() -> None:
    """Twelve at once where ten may start: one or two of these are left to chance."""
    said, _ = run([10.0], 60, lambda at: batch(12 if at >= 20 else 1, 1)(at))

    evidence = dict(next(some for some in said[20:] if some)[0].evidence)
    assert not any(said[:21])
    assert evidence["busiest"] == 12
    assert evidence["when"] == "it is happening now"


@pytest.mark.parametrize(("raised", "is_paged"), [(100.0, False), (11.0, True)])
def test_what_was_over_the_old_cap_is_not_held_against_a_higher_one(raised: float, is_paged: bool) -> None:
    """Batches of 12 where 10 may start, until more may; also while the new value was unknown for a moment."""
    detector, draw, said = RateLimit(), batch(12, 2), []
    state = detector.new_state()
    for number in range(48):
        cap = np.array([10.0 if number < 39 else np.nan if number == 39 else raised])
        bins = draw(number) if number < 40 else draw(1)
        detection = detector.detect(state, limit_slice(number, cap, bins, SLICE_S), rate_limits(cap))
        state = detection.state
        said.append(detection.findings)

    assert said[38]
    assert [bool(one) for one in said[40:]] == [is_paged] * 8
    assert state.overs.sum() == (16 if is_paged else 0)
    assert state.peaks.max() == 12


def test_a_second_is_a_rolling_one() -> None:
    """Six calls on either side of the boundary of two seconds are twelve in one second."""
    bins = np.zeros((1, 150), np.int32)
    bins[0, [8, 11]] = 6
    _, state = run([10.0], 1, lambda _: bins)

    assert state.peaks[0, -1] == 12
    assert state.overs[0, -1] == 1


def test_a_second_goes_on_over_the_end_of_a_slice() -> None:
    first, second = np.zeros((1, 150), np.int32), np.zeros((1, 150), np.int32)
    first[0, 148], second[0, 3] = 6, 6
    _, state = run([10.0], 2, lambda at: second if at else first)

    assert state.peaks[0].tolist()[-2:] == [6, 12]


def test_the_same_batch_again_and_again_below_the_cap_is_no_page() -> None:
    """Its dispersion is that of a wild dialer, but nothing larger ever came."""
    said, state = run([60.0], 400, batch(20, 2))

    assert state.high_expected[0] > 0
    assert not any(said)


def test_a_limit_of_another_period_is_counted_by_that_period() -> None:
    said, state = run([100.0], 200, steady(5.0), per_ns=10 * S)
    crowded, _ = run([100.0], 200, steady(9.0), per_ns=10 * S)

    assert state.window.tolist() == [100]
    assert 50 < state.peaks[0].max() < 90
    assert not any(said)
    assert any(crowded)
    assert dict(next(some for some in crowded if some)[0].evidence)["period"] == "10 s"


@pytest.mark.parametrize(
    ("reached", "says"), [("decline", "declined."), ("queue", "wait instead"), ("throttle", "wait instead")]
)
def test_the_page_says_what_becomes_of_the_calls(reached: str, says: str) -> None:
    cap = np.array([10.0])
    detector, limits = RateLimit(), rate_limits(cap, when_reached=reached)
    state, draw = detector.new_state(), steady(9.0)
    for number in range(20):
        detection = detector.detect(state, limit_slice(number, cap, draw(number), SLICE_S), limits)
        state = detection.state

    assert says in str(dict(detection.findings[0].evidence)["consequence"])


def test_the_page_says_none_where_next_to_none_are_expected_over_the_limit() -> None:
    detector, limits = RateLimit(), rate_limits(np.array([50.0]))
    _, state = run([50.0], 20, steady(1.0))
    outlook = detector.outlook(state, np.array([50.0]))
    assert 0.0 < outlook.per_hour.max() < 1e-9

    evidence = dict(detector.evidence(state, outlook, 0, limits[0]))

    names = ("excess_per_hour_now", "excess_per_hour_ahead", "excess_within_horizon")
    assert [evidence[name] for name in names] == [0.0] * 3


def test_only_rates_that_can_be_counted_are_watched() -> None:
    kinds = (("concurrency", None), ("rate", S), ("rate", PERIOD_NS_MAX + 1), ("quota", 86_400 * S))
    limits = tuple(
        LimitInstance(row, Limit(name=f"limit-{row}", kind=kind, value=1.0, per_ns=per_ns))
        for row, (kind, per_ns) in enumerate(kinds)
    )
    bins = np.ones((4, 150), np.int32)
    detector = RateLimit()
    state = detector.new_state()
    for number in range(10):
        detection = detector.detect(state, limit_slice(number, np.ones(4), bins, SLICE_S), limits)
        state = detection.state

    assert state.row.tolist() == [1]
    assert {one.subject for one in detection.findings} == {("limit", 1)}


def test_limits_that_appear_later_begin_anew() -> None:
    detector, draw = RateLimit(), steady(9.0)
    state = detector.new_state()
    for number in range(30):
        cap = np.full(1 + (number >= 20), 10.0)
        bins = np.vstack([draw(number)] * len(cap))
        detection = detector.detect(state, limit_slice(number, cap, bins, SLICE_S), rate_limits(cap))
        state = detection.state

    assert state.row.tolist() == [0, 1]
    assert state.peaks[1, :-10].sum() == 0


def test_limits_that_have_retired_give_up_their_slots_to_new_ones() -> None:
    """Of two slots; without a retired one the third limit has none, and is counted."""
    draw = steady(9.0)
    kept = {}
    for retired in ((), (0,)):
        detector = RateLimit(RateLimitParams(rows_max=2))
        state = detector.new_state()
        for number in range(30):
            cap = np.full(2 + (number >= 20), 10.0)
            limits = tuple(
                msgspec.structs.replace(one, is_retired=one.index in retired) for one in rate_limits(cap)
            )
            bins = np.vstack([draw(number)] * len(cap))
            state = detector.detect(state, limit_slice(number, cap, bins, SLICE_S), limits).state
        kept[retired] = (state.row.tolist(), state.rate_limits_refused)

    assert kept == {(): ([0, 1], 1), (0,): ([1, 2], 0)}


def test_a_cap_that_nobody_knows_is_not_passed() -> None:
    said, _ = run([float("nan")], 20, steady(50.0))

    assert not any(said)


@pytest.mark.parametrize("hole", [7, 100, 40_000])
def test_a_hole_in_the_stream_breaks_nothing(hole: int) -> None:
    cap = np.array([50.0])
    detector, limits, draw = RateLimit(), rate_limits(cap), steady(12.0)
    state = detector.new_state()
    said: list[Finding] = []
    for number in range(120):
        at = number if number < 60 else number + hole
        detection = detector.detect(state, limit_slice(at, cap, draw(number), SLICE_S), limits)
        state = detection.state
        said += detection.findings

    assert said == []
    assert np.isfinite(state.rate.level).all()
    assert state.peaks.shape == (1, 40)


@pytest.mark.parametrize(("minutes", "share"), [(1, 0.0), (10, 0.0), (90, 0.0), (1, 0.02), (30, 0.02)])
def test_calls_that_come_back_after_an_outage_are_no_growth(minutes: int, share: float) -> None:
    """Ten limits at a healthy load, of which near none come for a while; each stops and is back mid-slice."""
    cap, begins, looks = np.repeat([50.0, 200.0], 5), 80, minutes * 4
    mean = np.array([healthy_mean(one, 1.0) * 0.9 for one in cap])
    detector, limits, rng = RateLimit(), rate_limits(cap), np.random.default_rng(6)
    state, said = detector.new_state(), []
    for number in range(begins + looks + 60):
        bins, few = clumped(rng, mean, 1.0), clumped(rng, mean * share, 1.0)
        if begins <= number < begins + looks:
            cut = 60 if number == begins else 0
            bins[:, cut:] = few[:, cut:]
        elif number == begins + looks:
            bins[:, :110] = few[:, :110]
        detection = detector.detect(state, limit_slice(number, cap, bins, SLICE_S), limits)
        state = detection.state
        said.append(detection.findings)

    assert not any(said)
    assert state.quiet_looks.tolist() == [0] * 10
    assert np.exp((state.rate.weight * state.rate.level).sum(axis=1)) == pytest.approx(mean * 15, rel=0.1)


def test_a_ramp_after_an_outage_is_paged_before_the_first_attempt_over_the_cap() -> None:
    counts: list[int] = []
    rng = np.random.default_rng(8)

    def draw(at: int) -> NDArray[np.int32]:
        mean = 0.0 if 60 <= at < 100 else 15.0 * 2.0 ** (max(at - 100, 0) / 40)
        bins = clumped(rng, np.array([mean]), 1.0)
        counts.append(int(bins.reshape(-1, 10).sum(axis=1).max()))
        return bins

    said, _ = run([50.0], 180, draw)

    page = next(number for number, some in enumerate(said) if some)
    assert 100 < page <= next(number for number, count in enumerate(counts) if count > 50) - 8


def test_few_calls_after_many_are_what_is_usual_after_an_hour() -> None:
    draw = steady(20.0)
    said, state = run([50.0], 420, lambda at: draw(at) if at < 60 else steady(1.0, seed=at)(at))

    assert not any(said)
    assert state.quiet_looks.tolist() == [0]
    assert np.exp((state.rate.weight * state.rate.level).sum()) == pytest.approx(15.0, rel=0.2)


def test_no_calls_at_all_are_nothing_to_say() -> None:
    said, _ = run([1.0], 100, batch(0, 1))

    assert not any(said)


@given(
    st.lists(st.integers(0, 4), min_size=30, max_size=75),
    st.integers(1, 30),
    st.sampled_from([0.0, 2.0, 17.0, float("nan")]),
)
def test_bins_are_looked_at_as_one_would_by_hand(bins: list[int], window: int, cap: float) -> None:
    found = np.zeros((1, len(FOUND)), np.int64)

    look_at_bins(
        np.array([bins], np.int32), 30, np.array([window], np.int32), np.array([[cap, cap / 2]]), found
    )

    assert tuple(found[0].tolist()) == oracle.look_at_bins(bins, 30, window, cap, cap / 2, SECOND_BINS)
