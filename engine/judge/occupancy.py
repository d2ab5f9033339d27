"""What each limit is used for: levels, ages and holding times, derived after merging partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class LimitUse(NamedTuple):
    """One slice of every limit instance; arrays of shape (instances,) unless said. Instance i is `limits[i]`.

    An instance is a limit, or one value of a limit with `split_by`. Instances are only ever appended. `cells` are ages
    in slices: cell 0 holds calls that started in this slice, cell j those of j slices ago, the last one all older
    calls. For a limit with `counts_from: answered`, "started" means answered throughout.
    """

    value: NDArray[np.float64]  # the cap at the slice's end; NaN: unknown
    first_ns: NDArray[np.int64]  # end of the first slice in which the instance saw an arrival; -1: none yet
    level: NDArray[np.int64]  # calls holding capacity at the slice's end
    level_peak: NDArray[np.int64]  # highest level inside the slice
    arrivals: NDArray[np.int64]  # attempts in the slice, declined ones included
    arrivals_per_bin: NDArray[np.int32]  # (instances, bins per slice), bins of 100 ms
    rate_peak: NDArray[np.int64]  # most arrivals in any rolling second that ends in the slice
    ended: NDArray[np.int64]  # known ends in the slice
    ended_by_age: NDArray[np.int32]  # (instances, cells): the same by age at the end
    healed_by_age: NDArray[np.int32]  # (instances, cells): left flight without an end; censored
    alive: NDArray[np.int32]  # (instances, cells): calls in flight at the slice's end by age
    age_unknown: NDArray[np.int64]  # calls in flight whose start was never seen
    declined: NDArray[np.int64]  # capacity declines put down to this limit, in the slice
    unseen_use: NDArray[np.float64]  # platform's own `used` above our level, if reported freshly; else 0
    expected_holding_s: NDArray[np.float64]  # prior from the register; NaN: none
    is_concurrency: NDArray[np.bool_]
