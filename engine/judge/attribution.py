"""Which limit declined a call.

By the name the event gives, else by class of the decline and how full each limit is.

A decline seldom names its limit. Among the limits that match the series and whose kind fits the class, the
fullest one is blamed; a limit of unknown value or use is blamed only when no known one is nearly full. Where
the event names a limit that is in no register, one that is known to have room is not blamed instead.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engine.decode.events import Cause
    from engine.judge.declines import Classifier
    from engine.judge.series import SeriesIndex
    from engine.limits import Limit, Register
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
    late: int = 0  # of these: told after their slice was judged
    first_ns: tuple[tuple[int, int], ...] = ()  # (instance, event time of the first decline put down to it)


class Heard(NamedTuple):
    """When the first declines of a slice came, by series and cause."""

    start_ns: int  # of the slice
    times_ns: Mapping[tuple[tuple[str, ...], Cause], int]

    def first_ns(self, values: tuple[str, ...], cause: Cause) -> int:
        """Say when the first one was: exactly, or when the slice began, of what came late or is an end."""
        if (values, cause) in self.times_ns:
            return self.times_ns[values, cause]
        # A decline may come with other labels than the start of its call.
        return min((at for (_, one), at in self.times_ns.items() if one == cause), default=self.start_ns)


def fullness(used: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Say how full each instance was, as a ratio; NaN where the use or the value is unknown."""
    # A cap of 0 is full, in use or not; next to nothing is, too.
    ratio = np.full(len(value), np.inf)
    with np.errstate(over="ignore"):
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
    ratios = {one: float(full[one]) if one < len(full) else np.nan for one in fitting}
    best = max(fitting, key=lambda one: (*_rank(index.instances[one].limit, ratios[one], kinds), -one))
    is_unwritten = bool(cause.limit) and all(limit.name != cause.limit for limit in index.register.limits)
    has_room = ratios[best] < NEARLY_FULL_RATIO
    is_doubtful = is_early and (is_unwritten or len(fitting) > 1) and not ratios[best] >= NEARLY_FULL_RATIO
    return UNATTRIBUTED if (is_unwritten and has_room) or is_doubtful else best


def _rank(limit: Limit, ratio: float, kinds: tuple[str, ...]) -> tuple[float, float, int]:
    """Say how well a limit fits: how full, how little above its value, how soon its kind comes to mind."""
    if np.isnan(ratio):
        return NEARLY_FULL_RATIO, 0.0, 0
    # Calls that are up beyond a value speak against it; a rate counts attempts, also those it declines.
    is_refuted = limit.kind == "concurrency" and 1.0 < ratio < np.inf
    return min(ratio, 1.0), 1.0 - ratio if is_refuted else 0.0, -kinds.index(limit.kind)


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
    heard: Heard,
) -> Declines:
    """Put the declines of a summary down to limit instances."""
    counted: Counter[tuple[int, Cause]] = Counter()
    first_ns: dict[int, int] = {}
    for row in declined_rows(classifier, summary):
        cause = summary.causes[summary.cause_index[row]]
        decline_class = classifier.classify(cause)
        candidates = index.instances_of(int(series_ids[summary.cause_series[row]]))
        instance = blame(index, candidates, cause, decline_class, full)
        count = int(summary.cause_count[row])
        counted[instance, cause] += count
        if count:
            at_ns = heard.first_ns(summary.series[summary.cause_series[row]], cause)
            first_ns[instance] = min(at_ns, first_ns.get(instance, at_ns))
    return _declines(counted, first_ns, len(index.instances))


def declines_of(parts: Sequence[Declines], instances: int) -> Declines:
    """Add up what several summaries say of so many instances."""
    counted: Counter[tuple[int, Cause]] = Counter()
    first_ns: dict[int, int] = {}
    for part in parts:
        for instance, cause, count in part.causes:
            counted[instance, cause] += count
        for instance, at_ns in part.first_ns:
            first_ns[instance] = min(at_ns, first_ns.get(instance, at_ns))
    return _declines(counted, first_ns, instances)


def _declines(
    counted: Mapping[tuple[int, Cause], int], first_ns: Mapping[int, int], instances: int
) -> Declines:
    by_instance = np.zeros(instances, np.int64)
    unattributed = 0
    for (instance, _), count in counted.items():
        if instance == UNATTRIBUTED:
            unattributed += count
        else:
            by_instance[instance] += count
    # What a late addition took back is there with a count of 0.
    ordered = sorted((instance, cause, count) for (instance, cause), count in counted.items() if count)
    first = sorted((instance, at_ns) for instance, at_ns in first_ns.items() if instance != UNATTRIBUTED)
    return Declines(by_instance, unattributed, tuple(ordered), first_ns=tuple(first))
