"""A stage that became slower is told within minutes; one that varies, or is slow as every day, is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.detection.labelled_slices import LabelledSlices, Latencies
from detectors.latency_shift import LatencyShift, Params, rises
from detectors.watched_rows import NO_ROOM
from engine.observe.latency import bucket_number

MINUTE = 12  # slices
LABELS = ((), (("tenant", "acme"),), (("tenant", "globex"),))
STAGES = ((0, "llm"), (1, "llm"), (2, "llm"))


def told(
    factors: list[float],
    *,
    per_slice: float = 5.0,
    only: int | None = None,
    tail: float = 1.0,
    seed: int = 1,
    in_flight: list[int] | None = None,
    skip_s: float = 0.0,
) -> list[tuple[int, str, dict[str, Any]]]:
    """Give (slice, label of the row, evidence) of what is found; a factor on the median for each slice."""
    rng = np.random.default_rng(seed)
    slices, detector = LabelledSlices(LABELS, stages=STAGES), LatencyShift()
    state, found = detector.new_state(), []
    for number, factor in enumerate(factors):
        many = int(rng.poisson(per_slice))
        who = rng.integers(1, 3, many)
        slow = rng.random(many) < tail if only is None else who == only
        value_s = rng.lognormal(np.log(0.45), 0.6, many) * np.where(slow, factor, 1.0)
        bucket = np.array([bucket_number(float(one)) for one in value_s], np.int64)
        row = np.concatenate([np.zeros(many, np.int64), who])
        if number and skip_s and number == len(factors) // 2:
            slices.skip(skip_s)
        summary = slices.write(latencies=Latencies(row, np.concatenate([bucket, bucket])))
        if in_flight:
            summary = summary._replace(stream=summary.stream._replace(in_flight=in_flight[number]))
        detection = detector.detect(state, summary, ())
        state = detection.state
        for one in detection.findings:
            labels = LABELS[one.subject[1]]
            found.append((number, labels[0][1] if labels else "", dict(one.evidence)))
    return found


@pytest.mark.parametrize(("factor", "minutes"), [(1.25, 8), (1.5, 4), (2.0, 3)])
def test_a_stage_that_became_slower_is_told_within_minutes(factor: float, minutes: int) -> None:
    found = told([1.0] * (40 * MINUTE) + [factor] * (12 * MINUTE))

    assert 40 * MINUTE < found[0][0] < (40 + minutes) * MINUTE
    assert found[0][1] == ""
    assert found[0][2]["reference"] == "earlier today"


def test_a_few_very_slow_calls_are_told() -> None:
    found = told([1.0] * (40 * MINUTE) + [5.0] * (20 * MINUTE), tail=0.05)

    assert found
    assert found[0][0] > 40 * MINUTE


def test_a_few_very_slow_calls_of_everyone_are_told_once() -> None:
    """Half of the values are above the median, as ever: what is more lies beyond the q99 alone."""
    found = told([1.0] * (90 * MINUTE) + [5.0] * (30 * MINUTE), tail=0.08, per_slice=8.0)

    assert {who for number, who, _ in found if number > 100 * MINUTE} == {""}
    assert found[-1][2]["usual_percent"] == pytest.approx(50, abs=2)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_only_varies_is_not_told(seed: int) -> None:
    assert told([1.0] * (6 * 60 * MINUTE), seed=seed) == []


def test_a_few_percent_are_no_trouble() -> None:
    assert told([1.0] * (40 * MINUTE) + [1.02] * (60 * MINUTE)) == []


def test_the_narrowest_label_that_carries_it_speaks() -> None:
    found = told([1.0] * (60 * MINUTE) + [2.0] * (10 * MINUTE), only=2)

    assert {who for _, who, _ in found} == {"globex"}


def test_it_ends_soon_after_the_stage_is_as_before() -> None:
    found = told([1.0] * (40 * MINUTE) + [1.6] * (20 * MINUTE) + [1.0] * (30 * MINUTE))

    assert found[-1][0] < 66 * MINUTE


def test_slowness_of_every_day_at_this_hour_is_no_shift() -> None:
    """From the second day on the same hour yesterday is what counts."""
    day = [1.0] * (2 * MINUTE * 60) + [1.6] * (2 * MINUTE * 60) + [1.0] * (20 * MINUTE * 60)
    found = told(day + day[: 5 * MINUTE * 60], per_slice=1.0)

    first_day = [number for number, _, _ in found if number < len(day)]
    second_day = [number for number, _, _ in found if number >= len(day)]
    assert first_day
    assert second_day == []


def test_it_is_said_when_it_rises_with_calls_in_flight() -> None:
    """Slow when many calls are up, and only then."""
    waves = [(number // (5 * MINUTE)) % 2 for number in range(20 * MINUTE)]
    factors = [1.0] * (40 * MINUTE) + [2.0 if wave else 1.0 for wave in waves]
    in_flight = [50] * (40 * MINUTE) + [90 if wave else 30 for wave in waves]

    found = told(factors, in_flight=in_flight)

    assert found[-1][2]["with_concurrency"] == "yes"
    assert told(factors, in_flight=[50] * len(factors))[-1][2]["with_concurrency"] == "no"
    assert not rises(1.0, 10.0, 0.0, 10.0, 3.0)


def test_it_survives_hours_in_which_nothing_was_judged() -> None:
    assert told([1.0] * (80 * MINUTE), skip_s=50 * 3600.0) == []


def test_rows_beyond_the_bound_are_not_watched() -> None:
    detector = LatencyShift(params=Params(rows_max=2, kept_for_totals=1))
    slices = LabelledSlices(LABELS, stages=STAGES)
    state = detector.detect(detector.new_state(), slices.write(), ()).state

    assert state.slot_of.tolist() == [0, NO_ROOM, NO_ROOM]


def test_turns_that_are_slow_together_are_not_told() -> None:
    """Calls have their own pace, and minutes too: values are not independent, and yet nothing has changed."""
    rng = np.random.default_rng(9)
    pace = np.repeat(np.exp(0.1 * rng.standard_normal(10 * 60)), MINUTE)

    found = told([1.0] * (2 * 60 * MINUTE) + pace.tolist())
    later = {number for number, _, _ in found if number > 5 * 60 * MINUTE}

    assert not later


def test_it_says_since_when() -> None:
    found = told([1.0] * (60 * MINUTE) + [1.25] * (30 * MINUTE))

    assert found[-1][2]["since"] in {f"{minutes} min" for minutes in range(28, 36)}
