"""The straight line through the level: when it speaks, and when it has nothing to say."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.straight_line import line_scores

STEPS, STEP_S = 120, 15.0
CAP = np.array([100.0])


def score(levels: object, unseen: float = 0.0) -> float:
    """Give the score of one limit of which 100 calls are ours, and others use `unseen`."""
    return float(line_scores(np.array([levels], np.float32), CAP, np.array([unseen]), STEP_S, 0.5)[0])


def test_a_slow_line_that_ends_above_the_cap_speaks() -> None:
    assert score(np.linspace(40.0, 80.0, STEPS)) == pytest.approx(2.0, abs=0.2)


def test_what_others_use_is_in_use_when_a_line_is_asked_whether_half_the_cap_is() -> None:
    levels = np.linspace(20.0, 45.0, STEPS)

    assert score(levels) == -np.inf
    assert score(levels, unseen=5.0) == -np.inf
    assert score(levels, unseen=10.0) == pytest.approx(-3.0, abs=0.2)


@pytest.mark.parametrize("quiet_steps", [20, 60, 100])
def test_calls_that_come_back_after_an_outage_are_no_slow_line(quiet_steps: int) -> None:
    """A steady load of 60, an outage, and the same load again: its line ends far above the cap."""
    levels = np.full(STEPS, 60.0)
    levels[:quiet_steps] = 2.0

    assert score(levels) == -np.inf
    assert score(np.full(STEPS, 60.0)) < 0.0
