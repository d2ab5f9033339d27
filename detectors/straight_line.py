"""The straight line through the last half hour of the level, half an hour on: Prometheus's predict_linear.

At small caps growth cannot be told from chance, while leaks and longer calls show in the level as a slow
line; there this simplest of rules is ahead of every model, so it speaks beside the forecast. Not where the
level was near nothing within the half hour: calls that come back after an outage rise to where they were, and
what begins so fast is for the forecast.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW_S = 1800.0
AHEAD_S = 1800.0
LEAST_RATIO = 0.25  # of the level now: a line that is slow was above it all the while


def new_levels(rows: int, step_s: float) -> NDArray[np.float32]:
    """Give the memory of levels, oldest first; NaN: not seen."""
    return np.full((rows, max(round(WINDOW_S / step_s), 2)), np.nan, np.float32)


def with_level(levels: NDArray[np.float32], level: NDArray[np.float64]) -> NDArray[np.float32]:
    """Give the memory one evaluation on."""
    return np.concatenate([levels[:, 1:], level.astype(np.float32)[:, None]], axis=1)


@cache
def weights_of(window: int, step_s: float) -> NDArray[np.float64]:
    """Give what each of the last levels counts for at the line's end."""
    at = np.arange(window) - (window - 1.0)
    centred = at - at.mean()
    weights = 1.0 / window + centred / np.square(centred).sum() * (AHEAD_S / step_s - at.mean())
    weights.setflags(write=False)  # Whoever asks is given the same array.
    return np.asarray(weights)


def line_scores(
    levels: NDArray[np.float32],
    cap: NDArray[np.float64],
    unseen: NDArray[np.float64],
    step_s: float,
    gate: float,
) -> NDArray[np.float64]:
    """Give how far the line's end stands above the cap, in square roots of the cap; -inf: no line yet.

    `unseen` is what others use, which is off the cap already. As for the forecast, at least the share `gate`
    of the whole cap must be in use.
    """
    end = levels.astype(np.float64) @ weights_of(levels.shape[1], step_s)
    score = (end - cap) / np.sqrt(np.maximum(cap, 1.0))
    is_slow = levels.min(axis=1) >= LEAST_RATIO * levels[:, -1]
    ready = np.isfinite(score) & is_slow & (levels[:, -1] + unseen >= gate * (cap + unseen))
    return np.where(ready, score, -np.inf)
