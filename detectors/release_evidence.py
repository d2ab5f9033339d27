"""Evidence for or against a release, from what happened to it and to older releases in the same minutes.

A block is some calls of both sides, closed by how many there are and never by how they went. If a release is
no worse, the bad calls of a block fall on it as if drawn without replacement: P(canary) = its share of the
block's calls, whatever the traffic and however bad the hour. With odds m the e-value of a block is
m^bad_canary / E[m^bad_canary]; the expectation is bounded by both Hoeffding bounds (binomial over bad
calls, and over the canary's calls), so that it stays at most 1 on average for any counts, and costs no sum.
Products over blocks and strata are averaged over m; P(they ever reach 1/alpha) <= alpha (Ville). A little
weight begins anew with every slice, so that a release which turns bad after days is found as well.
Reference: Lindon and Malek, Anytime-valid inference for multinomial count data (NeurIPS 2022).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ODDS: NDArray[np.float64] = np.array([1.5, 2.0, 3.0, 5.0, 10.0, 20.0])
ODDS.setflags(write=False)
START_WEIGHT = 0.98  # of the evidence that begins with the comparison
LATER_WEIGHT = 1.0 - START_WEIGHT  # of all that begins within a week after it
NO_SHARE = -1.0
WEEK_NS = 7 * 86_400 * 1_000_000_000


def log_e_block(
    calls: NDArray[np.float64], bad: NDArray[np.float64], share_min: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Give ln of the e-value of blocks, (..., odds).

    `calls` and `bad` (..., 2) are of the canary and of the baseline. `share_min` (...) is NO_SHARE, or a
    share that the canary's ended calls may be too few to show: a larger one is less evidence, never more.
    """
    total, bads = calls.sum(axis=-1), bad.sum(axis=-1)
    counted = np.maximum(total, 1.0)
    own = np.where(total > 0, calls[..., 0] / counted, 0.0)
    share = np.maximum(own, share_min)[..., None]
    over_bad = bads[..., None] * np.log1p(share * (ODDS - 1.0))
    over_calls = calls[..., :1] * np.log1p((bads / counted)[..., None] * (ODDS - 1.0))
    # The second bound needs calls that end alike on both sides.
    cost = np.where(share_min[..., None] >= 0.0, over_bad, np.minimum(over_bad, over_calls))
    return np.asarray(bad[..., :1] * np.log(ODDS) - cost)


def log_restart(slice_ns: int) -> float:
    """Give ln of the weight that begins anew with each slice."""
    return math.log(LATER_WEIGHT * slice_ns / WEEK_NS)


def with_restart(log_m: NDArray[np.float64], slice_ns: int) -> NDArray[np.float64]:
    """Let a little weight begin with this slice."""
    return np.asarray(np.logaddexp(log_m, log_restart(slice_ns)))


def log_average(log_m: NDArray[np.float64]) -> float:
    """Give ln of the average of all e-values; -inf of none."""
    if not log_m.size:
        return -math.inf
    best = float(log_m.max())
    return best + math.log(float(np.mean(np.exp(log_m - best))))


def log_e_not_worse(
    calls: NDArray[np.float64],
    bad: NDArray[np.float64],
    usual: NDArray[np.float64],
    margin: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Give ln of the e-value against "the canary's bad ratio is at least `margin`".

    All (...), `usual` < `margin` being ratios that were known before these calls. Reaching 1/alpha means that
    the upper end of the confidence sequence at level alpha has come below the margin.
    """
    return np.asarray(bad * np.log(usual / margin) + (calls - bad) * np.log((1.0 - usual) / (1.0 - margin)))
