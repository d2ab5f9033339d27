"""How much of each limit is used: what is counted here, and what the platform reports beyond that.

Only what is measured gets a number. Calls in flight say nothing of a quota or a timeout, and the busiest
second says nothing of a rate per minute: those are NaN, which every reader takes as "not known".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engine.judge.occupancy import LimitUse
    from engine.limits import LimitInstance


def used_now(use: LimitUse, instances: Sequence[LimitInstance]) -> NDArray[np.float64]:
    """Give the use of each instance at the slice's end (float64, (instances,)); NaN: not measured."""
    return _measured(use, instances, use.level)


def used_peak(use: LimitUse, instances: Sequence[LimitInstance]) -> NDArray[np.float64]:
    """Give the highest use of each instance inside the slice (float64, (instances,)); NaN: not measured."""
    return _measured(use, instances, use.level_peak)


def _measured(
    use: LimitUse, instances: Sequence[LimitInstance], level: NDArray[np.int64]
) -> NDArray[np.float64]:
    rows = len(use.value)
    is_measured = np.array([one.limit.is_measured for one in instances[:rows]], np.bool_)
    counted = np.where(use.is_concurrency, level + use.unseen_use, use.rate_peak)
    return np.where(is_measured, counted, np.nan)
