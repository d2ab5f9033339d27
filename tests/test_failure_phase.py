"""A timeout or job that runs by the clock is told by failures that come at the same moment of each cycle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.detection.labelled_slices import LabelledSlices
from tests.slices_by_hand import Did, Slices
from tests.test_timeout_cliff import MINUTE, first_of, found

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.judge.windows import WindowSummary


def calls(minutes: int, is_bad: Callable[[int], bool], seed: int = 9) -> list[WindowSummary]:
    """Give five calls a slice; where `is_bad` (seconds since midnight) all fail, else one in a hundred."""
    rng = np.random.default_rng(seed)
    writer = LabelledSlices([()])
    slices = []
    for number in range(minutes * MINUTE):
        errors = 5 if is_bad(number * 5) else rng.binomial(5, 0.01)
        slices.append(writer.write(np.array([5]), np.array([errors])))
    return slices


@pytest.mark.parametrize(
    ("cycle_s", "label", "minutes"), [(60, "minute", 25), (300, "five_minutes", 45), (3600, "hour", 300)]
)
def test_failures_on_phase_are_told(cycle_s: int, label: str, minutes: int) -> None:
    said = found(calls(minutes, lambda second: second % cycle_s in (30, 35)))

    _, finding = first_of(said)
    assert finding.labels == (("cycle", label),)
    assert len(said[-1]) == 1, "a multiple of the cycle is the same cause"


def test_outages_without_a_rhythm_are_not_on_phase() -> None:
    rng = np.random.default_rng(10)
    starts = np.cumsum(rng.exponential(900.0, 200))
    lasts = rng.exponential(60.0, 200)

    def is_bad(second: int) -> bool:
        return bool(((starts <= second) & (second < starts + lasts)).any())

    assert not any(found(calls(24 * 60, is_bad)))


def test_a_platform_that_fails_all_the_time_is_not_on_phase() -> None:
    assert not any(found(calls(8 * 60, lambda _: True)))


def dialled(minutes: int, every: int, many: int, is_bad: Callable[[int], bool]) -> list[WindowSummary]:
    """Give calls that begin together every so many slices.

    Three in a hundred fail at once; the others end within five minutes, badly where `is_bad` (slice).
    """
    rng = np.random.default_rng(1)
    slices, summaries = Slices(), []
    ended, errors = (np.zeros(minutes * MINUTE + 60, np.int64) for _ in range(2))
    for number in range(minutes * MINUTE):
        come = many if number % every == 0 else 0
        at_once = int(rng.binomial(come, 0.03))
        ended[number] += at_once
        errors[number] += at_once
        np.add.at(ended, number + rng.integers(4, 57, come - at_once), 1)
        if is_bad(number):
            errors[number] = ended[number]
        summaries.append(slices.write({(): Did(come, int(ended[number]), int(errors[number]))}))
    return summaries


@pytest.mark.parametrize(("every", "many"), [(MINUTE, 15), (5 * MINUTE, 60)])
def test_calls_that_fail_at_once_as_ever_are_not_on_phase_with_their_dialler(every: int, many: int) -> None:
    """The good ones end minutes later, so there are hardly any ends but failures when a batch begins."""
    assert not any(found(dialled(180, every, many, lambda _: False)))


def test_failures_at_another_moment_than_batches_are_told() -> None:
    said = found(dialled(90, 5 * MINUTE, 60, lambda number: number % 60 in (30, 31)))

    assert first_of(said)[1].labels == (("cycle", "five_minutes"),)
