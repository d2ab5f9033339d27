"""Evidence for or against a release is fair: an e-value is at most 1 on average if it is no worse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.release_evidence import NO_SHARE, ODDS, log_average, log_e_block, log_e_not_worse

counts = st.integers(0, 40)


@settings(max_examples=60, deadline=None)
@given(canary=counts, baseline=counts, bad=counts)
def test_an_e_value_is_at_most_one_on_average_however_the_bad_ones_fall(
    canary: int, baseline: int, bad: int
) -> None:
    """Summed over the hypergeometric distribution exactly."""
    bad = min(bad, canary + baseline)
    taken = np.arange(max(0, bad - baseline), min(bad, canary) + 1)
    total = math.comb(canary + baseline, bad)
    chance = [math.comb(canary, k) * math.comb(baseline, bad - k) / total for k in taken.tolist()]
    calls = np.tile([float(canary), float(baseline)], (len(taken), 1))
    split = np.stack([taken, bad - taken], axis=1).astype(float)
    for share_min in (NO_SHARE, 0.0, 0.5):
        log_e = log_e_block(calls, split, np.full(len(taken), share_min))
        mean = (np.exp(log_e) * np.array(chance)[:, None]).sum(axis=0)
        assert (mean <= 1.0 + 1e-9).all()


@settings(max_examples=60, deadline=None)
@given(canary=counts, baseline=counts, bad=st.integers(0, 10), share=st.floats(0.0, 1.0))
def test_a_larger_share_is_never_more_evidence(canary: int, baseline: int, bad: int, share: float) -> None:
    calls = np.array([float(canary), float(baseline)])
    split = np.array([float(min(bad, canary)), float(min(bad, baseline))])

    own = log_e_block(calls, split, np.array(NO_SHARE))
    given_ = log_e_block(calls, split, np.array(share))

    assert (given_ <= own + 1e-9).all()


def test_an_e_value_of_one_bad_call_is_the_likelihood_ratio_of_its_share() -> None:
    log_e = log_e_block(np.array([10.0, 90.0]), np.array([1.0, 0.0]), np.array(NO_SHARE))

    assert np.exp(log_e) == pytest.approx(ODDS / (0.9 + 0.1 * ODDS))


def test_not_worse_is_a_martingale_at_the_margin() -> None:
    """At the margin itself the e-value is 1 on average, so it rarely clears what is just too bad."""
    usual, margin, calls = 0.005, 0.015, 50
    bad = np.arange(calls + 1)
    chance = [math.comb(calls, k) * margin**k * (1 - margin) ** (calls - k) for k in bad.tolist()]
    log_e = log_e_not_worse(
        np.full(calls + 1, float(calls)), bad.astype(float), np.array(usual), np.array(margin)
    )

    assert float((np.exp(log_e) * chance).sum()) == pytest.approx(1.0)


def test_the_average_of_nothing_is_no_evidence() -> None:
    assert log_average(np.zeros((0, 3))) == -math.inf
