"""Shares of calls that lack an event: said when they are far above what is usual, and not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from detectors.stream_incomplete import KINDS, StreamIncomplete
from engine.judge.windows import StreamUse
from tests.line_runs import run_all
from tests.line_traffic import REGISTER, Traffic, batches_of, make_story

if TYPE_CHECKING:
    from engine.judge.windows import WindowSummary

SLICE_S = 5
HOUR = 3600 // SLICE_S
FIELDS = {
    "ends_missing": ("healed_heartbeat", "ended"),
    "starts_missing": ("ended_unknown", "ended"),
    "answered_without_turn": ("ended_without_turn", "ended_answered"),
    "answered_without_agent": ("ended_without_agent", "ended_answered"),
}


def one_summary() -> WindowSummary:
    """Give a real slice to put counts into."""
    return run_all(
        batches_of(make_story(Traffic(seed=1, duration_s=30)).events), REGISTER
    ).recorder.summaries[0]


def problems(kind: str, shares: list[float], *, per_slice: float = 5.0, seed: int = 3) -> list[int]:
    """Give the slices in which a share is found too high, calls of a slice being Poisson."""
    rng = np.random.default_rng(seed)
    detector = StreamIncomplete()
    state, found, like = detector.new_state(), [], one_summary()
    slice_ns = like.end_ns - like.start_ns
    for number, share in enumerate(shares):
        total = int(rng.poisson(per_slice))
        bad = int(rng.binomial(total, share))
        hit, of = FIELDS[kind]
        counts = {hit: bad, of: total - bad if kind == "ends_missing" else total}
        stream = StreamUse(total, total, 0, 0, 0, 0, **counts)
        slice_ = like._replace(
            start_ns=like.start_ns + number * slice_ns,
            end_ns=like.end_ns + number * slice_ns,
            is_partial=False,
            stream=stream,
        )
        detection = detector.detect(state, slice_, ())
        state = detection.state
        if detection.findings:
            assert [dict(one.labels)["problem"] for one in detection.findings] == [kind]
            found.append(number)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_that_jumps_is_found_within_minutes(kind: str) -> None:
    usual = 0.01
    found = problems(kind, [usual] * (2 * HOUR) + [0.4] * 60)

    assert found
    assert 2 * HOUR < found[0] < 2 * HOUR + 36, "three minutes at one call a second"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 1.0])
def test_a_steady_share_is_not_found_whatever_it_is(kind: str, share: float) -> None:
    """A platform that never sends turns or agents has a share of one."""
    if kind in ("ends_missing", "starts_missing") and share == 0.3:
        share = 0.02
    assert problems(kind, [share] * (4 * HOUR)) == []


def test_ends_without_starts_are_usual_after_attaching_to_a_busy_platform() -> None:
    found = problems("starts_missing", [1.0] * 60 + [0.5] * 120 + [0.0] * (2 * HOUR))

    assert found == []


def test_a_few_calls_are_no_share() -> None:
    """At a call in ten minutes nothing is said within the hour."""
    assert problems("ends_missing", [0.0] * HOUR + [1.0] * (HOUR // 2), per_slice=1 / 120) == []


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_with_the_trouble_and_a_new_share_is_the_usual_one_after_a_day(kind: str) -> None:
    found = problems(kind, [0.01] * (2 * HOUR) + [0.4] * HOUR + [0.01] * HOUR)
    assert found[-1] < 3 * HOUR + 60, "five minutes after the end"

    found = problems(kind, [0.01] * (2 * HOUR) + [0.4] * (26 * HOUR), per_slice=2.0)
    assert 25 * HOUR < found[-1] < 26 * HOUR + 60
