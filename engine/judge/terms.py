"""What the register alone says of every limit instance, worked out when the instances change.

There are hundreds of instances, and a slice of a quiet platform is judged in less time than it takes to look
at each of them. What a slice has to look at one by one is named here: values with a history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.limits import CONCURRENCY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from engine.judge.reports import ReportKey
    from engine.limits import LimitInstance


class LimitTerms(NamedTuple):
    """Arrays have shape (instances,); nobody writes to them."""

    value: NDArray[np.float64]  # NaN: unknown, or in `dated`
    dated: tuple[LimitInstance, ...]  # those whose value may depend on the time
    expected_holding_s: NDArray[np.float64]  # NaN: none
    is_concurrency: NDArray[np.bool_]
    row_of: Mapping[ReportKey, int]  # the instance that a report is of; none that has retired or is shared

    def value_at(self, time_ns: int) -> NDArray[np.float64]:
        """Give the values in force at a time; NaN: unknown."""
        value = self.value.copy()
        for instance in self.dated:
            value[instance.index] = _or_nan(instance.value_at(time_ns))
        return value


def terms_of(instances: Sequence[LimitInstance], counting: AbstractSet[int]) -> LimitTerms:
    """Work them out; `counting` are the instances that have not retired."""
    limits = [one.limit for one in instances]
    row_of = {
        (one.limit.name, tuple(value for _, value in one.split)): one.index
        for one in instances
        if one.index in counting and not one.is_shared
    }
    value = [np.nan if one.limit.history else _or_nan(one.value_at(0)) for one in instances]
    return LimitTerms(
        value=np.array(value, np.float64),
        dated=tuple(one for one in instances if one.limit.history),
        expected_holding_s=np.array([one.expected_holding_s for one in limits], np.float64),
        is_concurrency=np.array([one.kind == CONCURRENCY for one in limits], np.bool_),
        row_of=row_of,
    )


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
