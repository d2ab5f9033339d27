"""A release is compared with those that run beside it: in the same minutes, with the same other labels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from bench.detection import release_regression
from detectors.release_comparison import FAILURES, log_evidence
from detectors.release_regression import ReleaseRegression
from detectors.release_rows import AWAY_NS, PRESENT_NS
from engine.judge.lifecycle import FIRING, AlertBook, Worded
from engine.settings import DetectionSettings
from tests.slices_by_hand import SLICE_NS, Did, S, Slices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.judge.detection import Detection, ReleaseVerdict

MINUTE = 60 * S // SLICE_NS
Labels = tuple[tuple[str, str], ...]


class Release(NamedTuple):
    """How a release does, and how many calls it takes."""

    calls_per_min: float
    failed_ratio: float = 0.005
    slower: float = 1.0
    spread: float = 0.6  # of ln latency
    worse: float = 1.0  # scores
    values: bool = False  # whether latencies and scores are measured
    tenant: str = ""


class Told:
    """Shows a detector minute after minute, and keeps what it said."""

    def __init__(self, seed: int = 1, settings: DetectionSettings | None = None) -> None:
        self.detector = ReleaseRegression(settings)
        self.state = self.detector.new_state()
        self.slices = Slices()
        self.rng = np.random.default_rng(seed)
        self.said: list[Detection] = []

    def go(self, minutes: float, releases: Mapping[str, Release | list[Release]]) -> Told:
        """Let releases take calls that end in the slice in which they begin."""
        for _ in range(int(minutes * MINUTE)):
            did: dict[Labels, Did] = {}
            for name, given_ in releases.items():
                for one in given_ if isinstance(given_, list) else [given_]:
                    labels: Labels = (("release", name),)
                    labels += (("tenant", one.tenant),) if one.tenant else ()
                    did[labels] = self.did(one)
            self.show({labels: one for labels, one in did.items() if one.arrivals})
        return self

    def show(self, did: Mapping[Labels, Did]) -> Detection:
        """Show one slice."""
        self.said.append(self.detector.detect(self.state, self.slices.write(did), ()))
        self.state = self.said[-1].state
        return self.said[-1]

    def did(self, one: Release) -> Did:
        calls = int(self.rng.poisson(one.calls_per_min / MINUTE))
        failed = int(self.rng.binomial(calls, one.failed_ratio))
        if not one.values:
            return Did(calls, calls, failed)
        latencies = one.slower * np.exp(self.rng.normal(0.0, one.spread, calls))
        scores = np.clip(one.worse * self.rng.beta(8.0, 2.0, calls), 0.0, 1.0)
        return Did(calls, calls, failed, {"llm": latencies.tolist()}, {"judge": scores.tolist()})

    def verdict(self, release: str) -> ReleaseVerdict:
        """Give the last verdict on a release."""
        assert self.said[-1].verdicts is not None
        return next(one for one in self.said[-1].verdicts if one.release == release)

    def findings(self) -> int:
        return sum(len(one.findings) for one in self.said)


def beside(canary: Release, *, minutes: float = 40, baseline: float = 90, seed: int = 1) -> Told:
    """Let a release run beside an older one that has been there for two minutes."""
    old = Release(baseline, values=canary.values, spread=canary.spread)
    told = Told(seed).go(2, {"v1": old._replace(calls_per_min=baseline + 10)})
    return told.go(minutes, {"v1": old, "v2": canary})


def test_a_release_that_fails_more_is_rolled_back() -> None:
    told = beside(Release(10, failed_ratio=0.2), minutes=10)

    verdict = told.verdict("v2")
    assert verdict.verdict == "rollback"
    assert verdict.baseline == ("v1",)
    assert verdict.failed > 5 * verdict.failed_usual
    finding = next(one for said in told.said for one in said.findings)
    assert dict(finding.labels) == {"action": "rollback"}
    row = finding.subject[1]
    assert tuple(told.slices.labels)[row] == (("release", "v2"),)
    assert "calls failed" in str(dict(finding.evidence)["worse"])


def test_a_release_that_is_no_worse_is_promoted_and_never_rolled_back() -> None:
    told = beside(Release(30, failed_ratio=0.005), minutes=60)

    assert told.findings() == 0
    assert told.verdict("v2").verdict == "promote"
    assert told.verdict("v1").verdict == "continue"
    assert "No older release" in told.verdict("v1").reason


def test_a_release_twice_as_bad_as_the_margin_is_not_promoted() -> None:
    """At three in a hundred, where half a percent is usual, a promotion would be wrong."""
    promoted = [
        any(one.verdict == "promote" for said in beside(
            Release(10, failed_ratio=0.03), minutes=30, seed=seed
        ).said for one in said.verdicts or ())
        for seed in range(10)
    ]  # fmt: skip

    assert sum(promoted) <= 1


def test_a_slower_release_is_rolled_back_for_its_latency() -> None:
    told = beside(Release(30, slower=1.5, values=True), minutes=20)

    verdict = told.verdict("v2")
    assert verdict.verdict == "rollback"
    assert "llm latencies were slower" in verdict.reason
    assert {what: e > at for what, e, at in verdict.evidence}["latency"]


@pytest.mark.parametrize(("slower", "expected"), [(1.03, "promote"), (1.2, "rollback")])
def test_a_stage_that_hardly_varies_has_to_be_slower_by_a_tenth(slower: float, expected: str) -> None:
    """Nearly every latency exceeds nearly all of the older ones; what counts is by how much."""
    told = beside(Release(30, slower=slower, spread=0.01, values=True), minutes=90)

    assert told.verdict("v2").verdict == expected


def test_a_release_that_answers_worse_is_rolled_back_for_its_scores() -> None:
    told = beside(Release(30, worse=0.8, values=True), minutes=20)

    verdict = told.verdict("v2")
    assert verdict.verdict == "rollback"
    assert "judge scores were lower" in verdict.reason


def test_what_happens_to_both_is_not_held_against_the_newer() -> None:
    """An hour in which a carrier fails three calls in ten, whoever asks."""
    told = beside(Release(10), minutes=5)
    for _ in range(3):
        told.go(5, {"v1": Release(90, 0.3), "v2": Release(10, 0.3)})
        told.go(5, {"v1": Release(90, 0.005), "v2": Release(10, 0.005)})

    assert told.findings() == 0


def test_a_release_that_gets_the_hard_tenant_is_no_regression() -> None:
    """Over all calls it fails eight times as often; tenant by tenant it is like the older one."""
    easy, hard = Release(80, 0.01, tenant="easy"), Release(20, 0.3, tenant="hard")
    told = Told().go(2, {"v1": [easy, hard]})
    told.go(40, {
        "v1": [easy, hard._replace(calls_per_min=10)],
        "v2": [easy._replace(calls_per_min=1), hard._replace(calls_per_min=10)],
    })  # fmt: skip

    verdict = told.verdict("v2")
    assert told.findings() == 0
    assert verdict.failed / verdict.calls > 0.2
    assert verdict.failed_usual == pytest.approx(verdict.failed, rel=0.3)


def test_a_release_alone_with_its_tenant_cannot_be_compared() -> None:
    told = Told().go(2, {"v1": Release(90, 0.01, tenant="easy")})
    told.go(20, {"v1": Release(90, 0.01, tenant="easy"), "v2": Release(20, 0.5, tenant="hard")})

    assert told.findings() == 0
    assert told.verdict("v2").verdict == "continue"
    assert "same other labels" in told.verdict("v2").reason


def test_two_new_releases_are_judged_apart() -> None:
    told = Told().go(2, {"v1": Release(80)})
    told.go(15, {"v1": Release(80), "v2": Release(10, 0.3)})
    told.go(60, {"v1": Release(80), "v2": Release(10, 0.3), "v3": Release(30)})

    assert told.verdict("v2").verdict == "rollback"
    assert told.verdict("v3").verdict == "promote"
    assert told.verdict("v3").baseline == ("v1",), "what is to be rolled back is no yardstick"


def test_a_switch_ends_the_comparison_when_the_older_release_is_forgotten() -> None:
    """Blue and green: the old one takes no call any more, so there is nothing beside the new one."""
    told = beside(Release(10), minutes=5)
    told.go(AWAY_NS / S / 60 + 1, {"v2": Release(100, 0.1)})

    assert told.verdict("v2").verdict == "continue"
    assert "No older release" in told.verdict("v2").reason
    assert told.state.comparisons == ()
    assert told.findings() == 0


@pytest.mark.parametrize("minutes_apart", [29, 35, 45])
def test_a_canary_of_few_calls_that_all_fail_is_rolled_back_however_far_apart_they_are(
    minutes_apart: int,
) -> None:
    told = Told()
    for minute in range(6 * 60):
        did: dict[Labels, Did] = {(("release", "v1"),): Did(2, 2)}
        if minute % minutes_apart == 10:
            did[("release", "v2"),] = Did(1, 1, 1)
        told.show(did)
        told.slices.skip(55)

    assert told.verdict("v2").verdict == "rollback"
    assert told.verdict("v2").failed == told.verdict("v2").calls > 0


@pytest.mark.parametrize("paused", [["v1", "v2"], ["v2"], ["v1"]])
def test_half_an_hour_without_calls_of_either_side_loses_no_evidence(paused: list[str]) -> None:
    told = beside(Release(30), minutes=60)
    calls = told.verdict("v2").calls
    assert told.verdict("v2").verdict == "promote"
    told.go(PRESENT_NS / S / 60 + 1, {name: Release(30) for name in ("v1", "v2") if name not in paused})
    assert told.verdict("v2").verdict == "promote"

    told.go(5, {"v1": Release(90), "v2": Release(30)})
    assert told.verdict("v2").verdict == "promote"
    assert told.verdict("v2").calls > calls


def test_a_release_that_was_withdrawn_is_quiet_and_stays_condemned_for_an_hour() -> None:
    told = beside(Release(10, failed_ratio=0.5), minutes=8)
    assert told.verdict("v2").verdict == "rollback"
    told.go(20, {"v1": Release(100)})

    assert told.said[-1].findings == ()
    assert told.verdict("v2").verdict == "rollback"
    told.go(AWAY_NS / S / 60 - 18, {"v1": Release(100)})
    assert [one.release for one in told.said[-1].verdicts or ()] == ["v1"]


def test_a_condemned_release_of_few_calls_pages_once_an_hour_at_most() -> None:
    """A call every 18 minutes: its alert is resolved between two of them."""
    told, (policy,) = beside(Release(10, failed_ratio=0.5), minutes=8), ReleaseRegression.policies
    book = AlertBook(10, 15 * MINUTE * SLICE_NS)
    pages = 0
    for number in range(6 * 60):
        did: dict[Labels, Did] = {(("release", "v1"),): Did(9, 9)}
        if number % 18 == 0:
            did[("release", "v2"),] = Did(1, 1, 1)
        found = [Worded(policy, (("release", "v2"),), ()) for _ in told.show(did).findings]
        changes = book.update({"release_regression": found}, told.slices.next_ns)
        pages += sum(change.state == FIRING for change in changes)
        told.slices.skip(55)

    assert 1 <= pages <= 6


def test_evidence_that_goes_away_takes_the_verdict_with_it() -> None:
    told = beside(Release(10, failed_ratio=0.3), minutes=4)
    assert told.verdict("v2").verdict == "rollback"
    told.go(120, {"v1": Release(90, 0.02), "v2": Release(30, 0.002)})

    assert told.verdict("v2").verdict != "rollback"


def test_the_largest_release_at_the_beginning_is_the_oldest() -> None:
    """An engine that starts in the middle of a rollout cannot know; the newer one is the smaller."""
    told = Told().go(20, {"v2": Release(10, 0.3), "v1": Release(90)})

    assert told.verdict("v2").verdict == "rollback"
    assert told.verdict("v1").verdict == "continue"


def test_a_rollout_while_calls_last_long_and_failures_are_quick_is_no_regression() -> None:
    """Of the first calls of a release, those that failed have ended, and the good ones have not."""
    for seed in range(12):
        told, rng = Told(seed), np.random.default_rng(seed)
        pending: dict[int, dict[Labels, list[int]]] = {}
        shares = [0.0] * 5 * MINUTE + [0.1] * 7 * MINUTE + [0.5] * 6 * MINUTE + [0.9] * 6 * MINUTE
        for number, share in enumerate(shares):
            arrived: dict[Labels, int] = {}
            for name, part in (("v1", 1 - share), ("v2", share)):
                labels: Labels = (("release", name),)
                arrived[labels] = calls = int(rng.poisson(50 * part))
                failed = int(rng.binomial(calls, 0.1))
                for is_failed in [True] * failed + [False] * (calls - failed):
                    lasts = 0 if is_failed else int(rng.exponential(180) / 5)
                    ends = pending.setdefault(number + lasts, {}).setdefault(labels, [0, 0])
                    ends[0] += 1
                    ends[1] += is_failed
            ended = pending.pop(number, {})
            labels_here = sorted(set(arrived) | set(ended))
            told.show({
                labels: Did(arrived.get(labels, 0), ended.get(labels, [0])[0], ended.get(labels, [0])[-1])
                for labels in labels_here
            })  # fmt: skip
        assert told.findings() == 0, seed


def test_without_releases_nothing_is_said() -> None:
    told = Told()
    shown: list[dict[Labels, Did]] = [{}]
    shown += [{(one,): Did(9, 9, 9)} for one in (("tenant", "acme"), ("release", "__other__"))]
    for did in shown:
        detection = told.show(did)
        assert (detection.findings, detection.verdicts) == ((), ())


NIGHT_MINUTES = 120


@pytest.mark.parametrize("first", ["v1", "v2"])
@pytest.mark.parametrize("bad", ["v1", "v2"])
@pytest.mark.parametrize("is_told", [True, False])
def test_a_night_without_calls_makes_no_release_older(first: str, bad: str, is_told: bool) -> None:
    """Whichever takes the first calls of the morning, and whether slices are shown while nobody calls."""
    told = beside(Release(30), minutes=10, baseline=70)
    if is_told:
        told.go(NIGHT_MINUTES, {})
    else:
        told.slices.skip(NIGHT_MINUTES * 60)
    told.go(3, {first: Release(30)})
    told.go(25, {name: Release(50, 0.4 if name == bad else 0.005) for name in ("v1", "v2")})

    assert told.verdict("v1").verdict == "continue"
    assert told.verdict("v2").verdict == ("rollback" if bad == "v2" else "promote")


def test_a_release_is_forgotten_by_the_hour_in_which_others_take_calls_and_by_more_than_a_few() -> None:
    told = beside(Release(10), minutes=5)
    for _ in range(11):
        told.slices.skip(59 * 60)
        told.show({(("release", "v1"),): Did(1, 1)})
    assert [one.release for one in told.said[-1].verdicts or ()] == ["v1", "v2"]

    told.go(AWAY_NS / S / 60 - 54, {"v1": Release(100)})
    assert [one.release for one in told.said[-1].verdicts or ()] == ["v1"]


def test_a_gap_of_days_keeps_what_was_found() -> None:
    """Until the calls say otherwise."""
    told = beside(Release(10, 0.2), minutes=10)
    told.slices.skip(3 * 86_400)
    told.go(3, {"v1": Release(50), "v2": Release(50)})
    assert told.verdict("v2").verdict == "rollback"

    told.go(120, {"v1": Release(90, 0.02), "v2": Release(30, 0.002)})
    assert told.verdict("v2").verdict != "rollback"


def test_many_releases_at_a_time_are_bounded() -> None:
    told = Told().go(2, {"v0": Release(100)})
    told.go(3, {f"v{number}": Release(20) for number in range(12)})

    assert len(told.state.comparisons) == 4
    reasons = [one.reason for one in told.said[-1].verdicts or ()]
    assert sum("Too many" in reason for reason in reasons) == 7


def test_newer_releases_do_not_take_the_place_of_one_that_is_to_be_rolled_back() -> None:
    told = beside(Release(10, failed_ratio=0.5), minutes=8)
    told.go(3, {"v1": Release(90)} | {f"v{number}": Release(20) for number in range(3, 9)})

    assert told.verdict("v2").verdict == "rollback"
    assert len(told.state.comparisons) == 4


def test_an_accepted_ratio_of_false_rollbacks_sets_the_evidence_that_is_asked_for() -> None:
    lax = Told(settings=DetectionSettings(false_rollback_ratio=0.05))

    assert math.exp(lax.detector.log_levels["failures"]) == pytest.approx(20)
    assert math.exp(lax.detector.log_levels["latency"]) == pytest.approx(40)


def test_the_benchmark_computes_what_the_detector_computes() -> None:
    """Its trials go side by side through the same arithmetic; here one goes through the detector itself."""
    drawn = release_regression.failures(np.random.default_rng(5), 1, 0.05)
    told = Told().go(2, {"v1": Release(100)})
    log_e = []
    first = int((drawn.calls[0, :, 0] > 0).argmax())
    for calls, bad in zip(drawn.calls[0, first:200], drawn.bad[0, first:200, 0], strict=True):
        did: dict[Labels, Did] = {}
        for side, name in enumerate(("v2", "v1")):
            if calls[side]:
                did[("release", name),] = Did(int(calls[side]), int(calls[side]), int(bad[side]))
        told.show(did)
        log_e.append(log_evidence(told.state.comparisons[0], told.state.signals, FAILURES))
    drawn = drawn._replace(calls=drawn.calls[:, first:], bad=drawn.bad[:, first:])
    padded = type(drawn)(*(np.concatenate([one, one], axis=1) for one in drawn))

    expected = release_regression.evidence(padded, settle=True)[0, : len(log_e)]

    assert expected == pytest.approx(log_e)
