"""Closed slices of limits of kind rate, from their 100-ms bins alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.detection.labelled_slices import START_NS, LabelledSlices, S
from engine.judge.windows import WindowSummary
from engine.limits import RATE, Limit, LimitInstance

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rate_limits(cap: NDArray[np.float64], per_ns: int = S, **fields: Any) -> tuple[LimitInstance, ...]:
    """Give a limit of kind rate for every cap."""
    return tuple(
        LimitInstance(row, Limit(name=f"cps-{row}", kind=RATE, value=float(value), per_ns=per_ns, **fields))
        for row, value in enumerate(cap)
    )


def limit_slice(
    number: int, cap: NDArray[np.float64], bins: NDArray[np.int32], slice_s: int
) -> WindowSummary:
    """Give slice `number`: `bins` (limits, bins) are arrivals; every limit has been seen before the first."""
    start_ns = START_NS + number * slice_s * S
    blank = _BLANK._replace(start_ns=start_ns, end_ns=start_ns + slice_s * S)
    use = blank.limits._replace(
        value=cap,
        declared=cap,
        first_ns=np.full(len(cap), START_NS, np.int64),
        arrivals=bins.sum(axis=1, dtype=np.int64),
        arrivals_per_bin=bins,
        level=np.zeros(len(cap), np.int64),
    )
    return blank._replace(limits=use)


_BLANK = LabelledSlices([()]).write()
