"""The headroom detector as others use it: slices in, findings out."""

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from backports import zstd

from bench.leadtime.feed import Calls, Feed, slices
from bench.leadtime.product import product_scores
from bench.leadtime.traffic import Plan, draw_calls, slow_factor, start_flat, start_rising
from detectors.headroom import Headroom
from detectors.headroom_state import HeadroomState
from detectors.limit_crossing import Room
from engine.config_files import config_path
from engine.judge.detection import CRITICAL, WARNING, Detection
from engine.judge.windows import WindowSummary
from engine.settings import HeadroomSettings


class Run(NamedTuple):
    """What came of a feed; by evaluation."""

    at_s: list[float]  # since the feed's origin
    findings: list[tuple[Any, ...]]
    page: list[np.ndarray]
    state: HeadroomState

    def first_page_s(self) -> float:
        """Give when two evaluations in a row found a page; inf: never."""
        pages = [any(f.severity == CRITICAL for f in found) for found in self.findings]
        twice = [k for k in range(1, len(pages)) if pages[k] and pages[k - 1]]
        return self.at_s[twice[0]] if twice else math.inf


def run(summaries: Iterator[WindowSummary], settings: HeadroomSettings | None = None) -> Run:
    detector = Headroom(settings or HeadroomSettings())
    state = detector.new_state()
    result = Run([], [], [], state)
    origin_ns = None
    for summary in summaries:
        origin_ns = summary.start_ns if origin_ns is None else origin_ns
        detection = detector.detect(state, summary, ())
        state = detection.state
        if detection.evaluated:
            result.at_s.append((summary.end_ns - origin_ns) / 1e9)
            result.findings.append(detection.findings)
            result.page.append(state.verdict.page_score)
    return result._replace(state=state)


def recording(name: str) -> tuple[Calls, int]:
    """Give a recording's calls in seconds since a multiple of 15 s, and that origin."""
    started, ended, declined = {}, {}, set()
    path = config_path(f"demo/{name}.events.jsonl.zst")
    for line in zstd.decompress(path.read_bytes()).splitlines():
        event = json.loads(line)
        call = event["call_id"]
        if event["type"] == "call.started":
            started[call] = event["time"]
        elif event["type"] == "call.ended":
            ended[call] = event["time"]
        elif event["type"] == "call.declined":
            declined.add(call)
    origin = int(min(started.values()) // 15 * 15)
    ids = sorted(started, key=started.__getitem__)
    return Calls(
        np.array([started[call] - origin for call in ids]),
        np.array([ended.get(call, math.inf) - origin for call in ids]),
        np.array([call in declined for call in ids]),
    ), origin


def feed_of(calls: Calls, cap: float, stop_s: float, origin_s: int = 1_767_225_600, slice_s: int = 5) -> Feed:
    return Feed((calls,), np.array([cap]), stop_s, slice_s, origin_s)


def thinned(calls: Calls, share: float, seed: int) -> Calls:
    keep = np.random.default_rng(seed).random(len(calls.start_s)) < share
    return Calls(calls.start_s[keep], calls.end_s[keep], calls.is_declined[keep])


def test_the_recorded_go_live_pages_long_before_its_first_decline() -> None:
    """From a cold start, within 255 s of the first event; the first decline comes at 539 s."""
    calls, origin = recording("sip-go-live")
    result = run(slices(feed_of(calls, 80.0, 600.0, origin)))

    assert result.first_page_s() - calls.start_s[0] <= 255.0


@pytest.mark.parametrize("cap", [75.0, 85.0, 90.0])
@pytest.mark.parametrize("share", [1.0, 0.6])
def test_the_go_live_with_other_caps_and_fewer_calls_pages_as_well(cap: float, share: float) -> None:
    """No constant is fitted to one log.

    With every cap the page leads the crossing by two minutes and more.
    """
    calls, origin = recording("sip-go-live")
    result = run(slices(feed_of(thinned(calls, share, 7), cap * share, 600.0, origin)))

    full_s = (cap / 19.6 - 1.4) / 0.3 * 60.0  # The offered load is (1.4 + 0.3 a minute) a second, for 19.6 s.
    assert result.first_page_s() - calls.start_s[0] <= full_s - 120.0


@pytest.mark.parametrize("from_s", [0.0, 300.0])
@pytest.mark.parametrize("cap", [77.0, 80.0])
def test_the_recorded_steady_traffic_never_pages(from_s: float, cap: float) -> None:
    """A mean of 53 and a peak of 70 of 80, from its start and when we attach in the middle of it."""
    calls, origin = recording("sip-steady")
    later = calls.start_s >= from_s
    calls = Calls(calls.start_s[later] - from_s, calls.end_s[later] - from_s, calls.is_declined[later])
    result = run(slices(feed_of(calls, cap, 900.0 - from_s, origin + int(from_s))))

    assert math.isinf(result.first_page_s())


@pytest.mark.parametrize("holding_s", [20.0, 180.0, 600.0])
def test_an_empty_platform_that_fills_is_not_growth(holding_s: float) -> None:
    """Concurrency rises for the first holding times while arrivals are flat: no page at 55 % of the cap."""
    rng = np.random.default_rng(8)
    caps = np.repeat([50.0, 100.0, 300.0], 4)
    streams = tuple(start_flat(0.55, cap, holding_s, 2700.0, rng) for cap in caps)
    result = run(slices(Feed(streams, caps, 2700.0, 15)))

    assert math.isinf(result.first_page_s())


def test_a_go_live_that_doubles_every_five_minutes_is_paged_in_time() -> None:
    """From 15 % of the cap on a cold platform: most of the way from half the cap to all of it."""
    rng = np.random.default_rng(9)
    load = np.minimum(0.15 * 2.0 ** (np.arange(100) * 15.0 / 300.0), 1.5)
    result = run(slices(feed_of(start_rising(load, 300.0, 60.0, rng), 300.0, 1500.0)))

    full_s = 300.0 * math.log2(1 / 0.15)
    assert result.first_page_s() < full_s - 180.0


def test_batches_do_not_page() -> None:
    """Calls that come three at a time on average, at 40 % of the cap, for two hours."""
    rng = np.random.default_rng(10)
    steps = 480
    plan = Plan(np.full(steps, 40.0 / 120.0), np.full(steps, 120.0), np.zeros(steps))
    streams = tuple(draw_calls(plan, rng, batch_mean=3.0) for _ in range(6))
    result = run(slices(Feed(streams, np.full(6, 100.0), steps * 15.0, 15)))

    assert math.isinf(result.first_page_s())


def test_calls_that_never_end_are_paged_before_the_limit_is_full() -> None:
    """One call in ten leaks, from the second hour on, at 50 % of the cap."""
    rng = np.random.default_rng(11)
    steps = 960
    leak = np.where(np.arange(steps) >= 240, 0.1, 0.0)
    calls = draw_calls(Plan(np.full(steps, 100.0 / 180.0), np.full(steps, 180.0), leak), rng)
    result = run(slices(feed_of(calls, 200.0, steps * 15.0, slice_s=15)))
    level = np.arange(len(calls.start_s)) - np.searchsorted(np.sort(calls.end_s), calls.start_s)
    full_s = float(calls.start_s[np.flatnonzero(level >= 200)[0]])

    assert 3600.0 < result.first_page_s() < full_s - 300.0


def test_a_page_brings_its_warning_and_explains_itself() -> None:
    calls, origin = recording("sip-go-live")
    result = run(slices(feed_of(calls, 80.0, 600.0, origin)))
    page, warning = next(found for found in result.findings if len(found) == 2)
    evidence = dict(page.evidence)

    assert (page.severity, warning.severity) == (CRITICAL, WARNING)
    assert page.subject == ("limit", 0)
    assert evidence["baseline"] == "no baseline yet"
    assert evidence["limit_value"] == 80
    assert 0.0 < evidence["probability"] <= 1.0
    assert evidence["time_to_limit_seconds_low"] <= evidence["time_to_limit_seconds"]
    text = page.description.format(limit="sip-trunk", **evidence)
    assert "{" not in text
    assert "There is no baseline yet" in text
    assert page.summary.format(limit="sip-trunk").endswith(".")


def test_nothing_is_said_before_a_minute_and_two_holding_times() -> None:
    rng = np.random.default_rng(12)
    calls = start_flat(1.2, 100.0, 300.0, 1500.0, rng)
    result = run(slices(feed_of(calls, 100.0, 1500.0, slice_s=15)))
    spoke_s = [at for at, page in zip(result.at_s, result.page, strict=True) if np.isfinite(page[0])]

    assert spoke_s[0] >= 400.0


def test_the_state_given_is_never_written_to() -> None:
    """Purity: every array of state and summary is read-only, and the same input gives the same output."""

    def freeze(part: Any) -> None:
        if isinstance(part, tuple):
            for inner in part:
                freeze(inner)
        elif isinstance(part, np.ndarray):
            part.flags.writeable = False

    calls, origin = recording("sip-go-live")
    detector = Headroom(HeadroomSettings())
    state = detector.new_state()
    for summary in slices(feed_of(calls, 80.0, 300.0, origin)):
        freeze(state)
        freeze(summary.limits)
        first = detector.detect(state, summary, ())
        second = detector.detect(state, summary, ())
        assert repr(first) == repr(second)
        state = first.state


def test_instances_side_by_side_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(13)
    streams = tuple(start_flat(load, 100.0, 60.0, 900.0, rng) for load in (0.4, 0.9, 1.1))
    together = run(slices(Feed(streams, np.full(3, 100.0), 900.0, 15)))
    for row, calls in enumerate(streams):
        alone = run(slices(Feed((calls,), np.full(1, 100.0), 900.0, 15)))
        assert [page[row] for page in together.page] == [page[0] for page in alone.page]


def test_instances_that_appear_later_get_rows_of_their_own() -> None:
    """Rows are appended; what was known of the first instance stays, and a new one starts cold."""
    rng = np.random.default_rng(14)
    streams = tuple(start_flat(0.5, 100.0, 60.0, 600.0, rng) for _ in range(2))
    one = list(slices(Feed(streams[:1], np.full(1, 100.0), 600.0, 15)))
    two = list(slices(Feed(streams, np.full(2, 100.0), 600.0, 15)))
    grown = run(iter([*one[:20], *two[20:]]))
    steady = run(iter(one))

    assert grown.state.rate.level.shape[0] == 2
    assert grown.page[-1][0] == steady.page[-1][0]


@pytest.mark.parametrize("change", ["value unknown", "not concurrency", "no calls"])
def test_what_cannot_be_forecast_is_skipped(change: str) -> None:
    calls, origin = recording("sip-go-live")

    def changed() -> Iterator[WindowSummary]:
        for summary in slices(feed_of(calls, 80.0, 600.0, origin)):
            use = summary.limits
            if change == "value unknown":
                use = use._replace(value=np.array([math.nan]))
            elif change == "not concurrency":
                use = use._replace(is_concurrency=np.array([False]))
            else:
                nought = {
                    name: np.zeros_like(getattr(use, name))
                    for name in ("arrivals", "alive", "ended_by_age", "level", "ended", "declined")
                }
                use = use._replace(first_ns=np.array([-1]), **nought)
            yield summary._replace(limits=use)

    result = run(changed())
    assert all(found == () for found in result.findings)
    assert all(np.isneginf(page).all() for page in result.page)


def test_a_cap_raised_in_time_takes_the_page_back() -> None:
    """Values change at run time; the forecast is of the level and knows no cap."""
    calls, origin = recording("sip-go-live")
    summaries = slices(feed_of(calls, 80.0, 500.0, origin))
    result = run(
        s._replace(limits=s.limits._replace(value=np.array([300.0]))) if s.end_ns / 1e9 - origin > 300 else s
        for s in summaries
    )

    assert any(f.severity == CRITICAL for f in result.findings[18])
    assert result.findings[-1] == ()


def test_use_that_others_make_of_the_limit_is_added() -> None:
    """Fifteen calls that only the platform sees bring the page forward, as a cap of 65 would.

    And as they are in use, half of the cap of 80 is before half of one of 65 would be.
    """
    calls, origin = recording("sip-go-live")
    shared = run(
        s._replace(limits=s.limits._replace(unseen_use=np.array([15.0])))
        for s in slices(feed_of(calls, 80.0, 600.0, origin))
    )
    lower = run(slices(feed_of(calls, 65.0, 600.0, origin)))

    both = [(one[0], other[0]) for one, other in zip(shared.page, lower.page, strict=True)]
    assert all(one == other for one, other in both if np.isfinite(other))
    assert sum(np.isfinite(one) for one, _ in both) > sum(np.isfinite(other) for _, other in both) > 0
    page = dict(next(f for found in shared.findings for f in found if f.severity == CRITICAL).evidence)
    others = "(15 of them seen by the platform alone)"
    assert page["calls_in_use"] == f"{page['used']} of 80 calls in use {others}"
    assert float(page["expected_used"]) > float(page["used"]) >= page["unseen_use"] == 15


@pytest.mark.parametrize("hole_s", [120.0, 7200.0])
def test_a_hole_in_the_stream_makes_vague_and_does_not_break(hole_s: float) -> None:
    rng = np.random.default_rng(15)
    summaries = list(slices(feed_of(start_flat(0.6, 100.0, 60.0, 1800.0, rng), 100.0, 1800.0, slice_s=15)))
    hole_ns = int(hole_s * 1e9)
    moved = [s._replace(start_ns=s.start_ns + hole_ns, end_ns=s.end_ns + hole_ns) for s in summaries[60:]]
    detector = Headroom(HeadroomSettings())
    state = detector.new_state()
    for summary in summaries[:60]:
        state = detector.detect(state, summary, ()).state
    before = float(state.rate.level_var.max())
    detection: Detection = detector.detect(state, moved[0], ())
    assert float(detection.state.rate.level_var.max()) > before
    result = run(iter([*summaries[:60], *moved]))

    assert all(np.isfinite(array).all() for array in result.state.rate)


@pytest.mark.parametrize("slice_s", [1, 3, 15])
def test_the_length_of_slices_hardly_matters(slice_s: int) -> None:
    calls, origin = recording("sip-go-live")
    usual = run(slices(feed_of(calls, 80.0, 600.0, origin))).first_page_s()
    other = run(slices(feed_of(calls, 80.0, 600.0, origin, slice_s))).first_page_s()

    assert abs(other - usual) <= 30.0


@pytest.mark.parametrize("cap", [10.0, 5000.0])
def test_small_and_large_caps_give_finite_forecasts(cap: float) -> None:
    rng = np.random.default_rng(16)
    result = run(slices(feed_of(start_flat(0.7, cap, 30.0, 900.0, rng), cap, 900.0, slice_s=15)))

    assert np.isfinite(result.page[-1]).all()
    assert np.isfinite(result.state.outlook.mean[:, :11]).all()  # The rest needs a baseline.


def test_more_is_asked_for_before_someone_is_woken_over_a_cap_that_is_half_empty() -> None:
    """All of it at half of the cap, half of it midway, nothing where the cap fills or nobody knows it.

    What others use is in use too: of the last two, with caps of 100, others use 70.
    """
    detector = Headroom(HeadroomSettings())
    cap = np.array([100.0, 200.0, 100.0, np.nan, 30.0, 30.0])
    level = np.array([50.0, 135.0, 80.0, 10.0, 2.0, 9.0])
    unseen = np.array([0.0, 0.0, 0.0, 0.0, 70.0, 70.0])
    nothing = np.zeros(6, np.int64)

    margin = detector.page_margin(Room(cap, level, np.ones(6, np.bool_), nothing, unseen))

    assert margin.tolist() == pytest.approx([2.0, 1.0, 0.0, 0.0, 0.4, 0.0])


def test_thresholds_in_the_settings_win() -> None:
    calls, origin = recording("sip-go-live")
    never = HeadroomSettings(page_threshold=1e9, warn_threshold=1e9)

    assert all(found == () for found in run(slices(feed_of(calls, 80.0, 600.0, origin)), never).findings)


def test_the_stated_probability_is_what_happens() -> None:
    """Ramps that stop between 45 and 95 % of the cap, or do not.

    Of all that is said, about so much comes true.
    """
    rng = np.random.default_rng(17)
    steps, cap = 1200, 100.0
    since_s = np.maximum(np.arange(steps) * 15.0 - 7200.0, 0.0)
    streams = []
    for doubling_s in np.repeat([300.0, 900.0, 3600.0], 16):
        load = np.minimum(0.3 * 2.0 ** (since_s / doubling_s), rng.uniform(0.45, 1.15)) * slow_factor(
            steps, rng
        )
        streams.append(start_rising(load, cap, 180.0, rng))
    scores = product_scores(tuple(streams), np.full(len(streams), cap), steps * 15.0, 15)
    said: list[float] = []
    came: list[bool] = []
    for calls, probability in zip(streams, scores.probability, strict=True):
        level = np.arange(len(calls.start_s)) - np.searchsorted(np.sort(calls.end_s), calls.start_s)
        full_s = np.append(calls.start_s[level >= cap], np.inf)
        at_s = (np.arange(steps) + 1) * 15.0
        next_s = full_s[np.searchsorted(full_s, at_s)] - at_s
        known = np.isfinite(probability)
        said += probability[known].tolist()
        came += (next_s <= 600.0)[known].tolist()

    truth = np.array(came)
    for low, high in ((0.0, 0.05), (0.05, 0.3), (0.3, 0.7), (0.95, 1.01)):
        chosen = (np.array(said) >= low) & (np.array(said) < high)
        assert truth[chosen].mean() == pytest.approx(np.array(said)[chosen].mean(), abs=0.2)
