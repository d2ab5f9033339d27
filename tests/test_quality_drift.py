"""Answers that became worse are told; another mix of callers, or a bad hour of every day, is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from detectors.quality_drift import QualityDrift
from tests.slices_by_hand import Did, Slices

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.judge.detection import Finding

MINUTE = 12  # slices
Labels = tuple[tuple[str, str], ...]
ACME: Labels = (("tenant", "acme"),)
GLOBEX: Labels = (("tenant", "globex"),)


def told(
    means: list[tuple[float, float]],
    *,
    share: list[float] | None = None,
    per_slice: float = 2.0,
    seed: int = 1,
    is_yes_or_no: bool = False,
    more: Callable[[int], Labels] = lambda _: (),
) -> list[tuple[int, Labels, dict[str, Any]]]:
    """Give (slice, labels, evidence); means of both tenants by slice, and the share of the first.

    `more` are labels of every call of a slice, beside the tenant.
    """
    rng = np.random.default_rng(seed)
    slices, detector = Slices(), QualityDrift()
    state, found = detector.new_state(), []
    for number, (acme, globex) in enumerate(means):
        many = int(rng.poisson(per_slice))
        is_acme = rng.random(many) < (share[number] if share else 0.5)
        mean = np.where(is_acme, acme, globex)
        scores = (rng.random(many) < mean) * 1.0 if is_yes_or_no else rng.normal(mean, 0.1).clip(0.0, 1.0)
        did = {
            (*more(number), *labels): Did(scores={"csat": scores[own].tolist()})
            for labels, own in ((ACME, is_acme), (GLOBEX, ~is_acme))
            if own.any()
        }
        summary = slices.write(did)
        detection = detector.detect(state, summary, ())
        state = detection.state
        names = {row: labels for labels, row in slices.labels.items()}
        found += [(number, names[one.subject[1]], dict(one.evidence)) for one in detection.findings]
    return found


def both(mean: float, minutes: int) -> list[tuple[float, float]]:
    """Give both tenants the same mean for some minutes."""
    return [(mean, mean)] * (minutes * MINUTE)


def test_answers_that_became_worse_are_told() -> None:
    found = told(both(0.8, 60) + both(0.7, 30))

    assert 60 * MINUTE < found[0][0] < 75 * MINUTE
    assert found[-1][1] == ()
    assert found[0][2]["usual_mean"] == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("seed", [1, 2])
def test_answers_that_only_vary_or_became_better_are_not_told(seed: int) -> None:
    assert told(both(0.8, 180) + both(0.9, 30), seed=seed) == []


def test_another_mix_of_callers_is_no_drift() -> None:
    """Globex has always been harder, and now calls more often."""
    means = [(0.85, 0.65)] * (150 * MINUTE)
    share = [0.7] * (90 * MINUTE) + [0.2] * (60 * MINUTE)

    assert told(means, share=share) == []
    assert told(means, share=share, more=lambda _: (("sip_trunk", "sip-1"),)) == []


def test_a_release_that_answers_worse_is_told_as_long_as_it_does() -> None:
    """All calls go to it at once: that another release answers is no change of who calls."""
    found = told(
        both(0.8, 90) + both(0.7, 60), more=lambda number: (("release", f"v{1 + number // (90 * MINUTE)}"),)
    )

    assert {labels for number, labels, _ in found if number > 140 * MINUTE} == {()}


def test_the_tenant_whose_answers_became_worse_speaks() -> None:
    found = told([(0.8, 0.8)] * (90 * MINUTE) + [(0.8, 0.6)] * (30 * MINUTE))

    assert {labels for _, labels, _ in found} == {GLOBEX}


def test_what_all_have_is_told_once_where_scores_are_yes_or_no() -> None:
    """Nine in ten calls are solved, and then seven: less than half is wrong, and with everyone."""
    found = told(both(0.9, 90) + both(0.7, 30), is_yes_or_no=True)

    assert {labels for number, labels, _ in found if number > 100 * MINUTE} == {()}
    assert found[-1][2]["below_percent"] == pytest.approx(30, abs=5)
    assert found[-1][2]["usual_percent"] == pytest.approx(10, abs=2)


def test_the_tenant_of_whom_fewer_calls_are_solved_speaks() -> None:
    means = [(0.9, 0.9)] * (90 * MINUTE) + [(0.9, 0.5)] * (30 * MINUTE)

    assert {labels for _, labels, _ in told(means, is_yes_or_no=True)} == {GLOBEX}


def test_worse_than_yesterday_and_not_than_a_week_ago_is_not_told() -> None:
    """Both must reject where both are known; here the eighth day is like the first."""
    detector = QualityDrift()
    like_worse = QualityDrift()
    for one, last, expected in ((detector, 0.7, False), (like_worse, 0.6, True)):
        rng = np.random.default_rng(5)
        slices, state = Slices(), one.new_state()
        found: list[Finding] = []
        for day, mean in enumerate([0.7] + [0.8] * 6 + [last]):
            for _ in range(2 * 60 * 4):  # Two hours, a score in two of three slices, then a gap of 22 hours.
                many = int(rng.poisson(3.0))
                scores = np.clip(rng.normal(mean, 0.1, many), 0.0, 1.0).tolist()
                detection = one.detect(state, slices.write({ACME: Did(scores={"csat": scores})}), ())
                state = detection.state
                slices.skip(10.0)
                if day == 7:
                    found += detection.findings
            slices.skip(22 * 3600.0)
        assert bool(found) is expected
