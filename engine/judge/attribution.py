"""Which limit declined a call.

By the name the event gives, else by class of the decline and how full each limit is.

A decline seldom names its limit. Among the limits that match the series and whose kind fits the class, the
fullest one is blamed; a limit of unknown value or use is blamed only when no known one is nearly full.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engine.decode.events import Cause
    from engine.judge.declines import Classifier
    from engine.judge.series import SeriesIndex
    from engine.limits import Register
    from engine.observe.summary import SliceSummary

# A decline of a class can come from limits of these kinds. "unknown" may be any of them: better a page too
# many.
KINDS_BY_CLASS = {
    "capacity": ("concurrency", "rate"),
    "rate": ("rate", "concurrency"),
    "quota": ("quota",),
    "unknown": ("concurrency", "rate", "quota"),
}
NEARLY_FULL_RATIO = 0.8
UNATTRIBUTED = -1
NO_ROWS: NDArray[np.int64] = np.zeros(0, np.int64)


class Declines(NamedTuple):
    """The capacity declines of one slice."""

    by_instance: NDArray[np.int64]  # (instances,)
    unattributed: int
    causes: tuple[tuple[int, Cause, int], ...]  # (instance or UNATTRIBUTED, cause, count), in a fixed order


def fullness(used: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Say how full each instance was, as a ratio; NaN where the use or the value is unknown."""
    # A cap of 0 is full, in use or not.
    ratio = np.full(len(value), np.inf)
    np.divide(used, value, out=ratio, where=value != 0)
    return ratio


def blame(
    index: SeriesIndex,
    candidates: list[int],
    cause: Cause,
    decline_class: str,
    full: NDArray[np.float64],
    *,
    is_early: bool = False,
) -> int:
    """Name the instance, of those that match the call, that declined it, or UNATTRIBUTED.

    `is_early`: `full` is of the slice before, so among several only one that was nearly full then is named.
    Whether another one has filled up since is known when the slice is closed.
    """
    kinds = KINDS_BY_CLASS.get(decline_class, ())
    fitting = []
    for instance in candidates:
        limit = index.instances[instance].limit
        if cause.limit and limit.name == cause.limit:
            return instance
        is_known = instance < len(full) and not np.isnan(full[instance])
        # What is in no register is blamed only once its value was inferred.
        if limit.kind in kinds and (is_known or not limit.is_implicit):
            fitting.append(instance)
    if not fitting:
        return UNATTRIBUTED
    ratios = [full[instance] if instance < len(full) else np.nan for instance in fitting]
    ranked = [NEARLY_FULL_RATIO if np.isnan(ratio) else float(ratio) for ratio in ratios]
    best = int(np.argmax(ranked))
    if is_early and len(fitting) > 1 and not ratios[best] >= NEARLY_FULL_RATIO:
        return UNATTRIBUTED
    return fitting[best]


def may_be_blamed(register: Register, labels: Mapping[str, str], cause: Cause, decline_class: str) -> bool:
    """Say whether a limit of the register can have declined the call, known instance or not yet."""
    kinds = KINDS_BY_CLASS.get(decline_class, ())
    return any(
        limit.kind in kinds or (cause.limit and limit.name == cause.limit)
        for limit in register.limits
        if limit.matches(labels)
    )


def declined_rows(classifier: Classifier, summary: SliceSummary) -> NDArray[np.int64]:
    """Give the rows of a merged summary's causes that are declines by a limit."""
    is_decline = np.array([classifier.is_limit_decline(cause) for cause in summary.causes], np.bool_)
    return np.flatnonzero(is_decline[summary.cause_index]) if is_decline.any() else NO_ROWS


def attribute(
    index: SeriesIndex,
    classifier: Classifier,
    summary: SliceSummary,
    series_ids: NDArray[np.int32],
    full: NDArray[np.float64],
) -> Declines:
    """Put the declines of a merged summary down to limit instances."""
    by_instance = np.zeros(len(index.instances), np.int64)
    unattributed = 0
    counted: dict[tuple[int, Cause], int] = {}
    for row in declined_rows(classifier, summary):
        cause = summary.causes[summary.cause_index[row]]
        decline_class = classifier.classify(cause)
        candidates = index.instances_of(int(series_ids[summary.cause_series[row]]))
        instance = blame(index, candidates, cause, decline_class, full)
        count = int(summary.cause_count[row])
        counted[instance, cause] = counted.get((instance, cause), 0) + count
        if instance == UNATTRIBUTED:
            unattributed += count
        else:
            by_instance[instance] += count
    ordered = sorted((instance, cause, count) for (instance, cause), count in counted.items())
    return Declines(by_instance, unattributed, tuple(ordered))
