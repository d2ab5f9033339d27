"""Slow, obvious twins of engine/judge: its kernels, and what it derives, from a plain list of calls.

A call here is what happened, not what was told: start, answer, end, labels. From that alone every number of a
`LimitUse` and of a window follows by counting, without slices that carry anything from one to the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.observe.summary import EndKind
from tests import oracle_latency

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engine.judge.occupancy import Membership
    from engine.limits import Limit

BIN_NS = 100_000_000
SECOND_NS = 1_000_000_000
PANE_OF_HOUR_NS = 60_000_000_000
Pairs = tuple[tuple[str, str], ...]


# The kernels.


def _rows_of(members: Membership, series: int) -> list[int]:
    return [int(one) for one in members.instance[members.start[series] : members.start[series + 1]]]


def add_bins(
    members: Membership,
    series: Sequence[int],
    bins: Sequence[int],
    values: Sequence[int],
    into: NDArray[np.int32],
) -> None:
    """Add each value in the bin of every instance of its series."""
    for one, at, value in zip(series, bins, values, strict=True):
        for instance in _rows_of(members, one):
            into[instance, at] += value


def add_to_cells(
    members: Membership,
    series: Sequence[int],
    cells: Sequence[int],
    values: Sequence[int],
    into: NDArray[np.int32],
) -> None:
    """Do the same by age; what is too old is in the last cell."""
    add_bins(members, series, [min(cell, into.shape[1] - 1) for cell in cells], values, into)


def add_to_instances(
    members: Membership, series: Sequence[int], values: Sequence[int], into: NDArray[np.int64]
) -> None:
    """Add each value to every instance of its series."""
    for one, value in zip(series, values, strict=True):
        for instance in _rows_of(members, one):
            into[instance] += value


def age_by_one(alive: Sequence[Sequence[int]]) -> list[list[int]]:
    """Shift, and join the last two."""
    return [[0, *row[:-2], row[-2] + row[-1]] for row in alive]


class Ends(NamedTuple):
    """What ends change: arrays (instances, cells), and (instances,) the last."""

    alive: NDArray[np.int32]
    ended_by_age: NDArray[np.int32]
    healed_by_age: NDArray[np.int32]
    age_unknown: NDArray[np.int64]


def take_out(
    members: Membership,
    ends: Sequence[tuple[int, int, int, int]],
    at: tuple[int, int],
    into: Ends,
    *,
    has_unknown: bool,
) -> None:
    """Take ends (series, start_ns, kind, count) one by one; `at` is the start and the length of the slice."""
    for series, start_ns, kind, count in ends:
        age = max((at[0] - start_ns) // at[1], 0)
        if start_ns >= 0 and kind != EndKind.UNSEEN:
            add_to_cells(members, [series], [age], [-count], into.alive)
        if start_ns >= 0 and kind == EndKind.ENDED:
            add_to_cells(members, [series], [age], [count], into.ended_by_age)
        if start_ns >= 0 and kind == EndKind.HEALED:
            add_to_cells(members, [series], [age], [count], into.healed_by_age)
        if start_ns < 0 and kind != EndKind.UNSEEN and has_unknown:
            add_to_instances(members, [series], [-count], into.age_unknown)


class Walk(NamedTuple):
    """What walking the bins of one instance gives."""

    level_per_bin: list[int]
    level_peak: int
    rate_peak: int
    last_second: list[int]


def walk_levels(level: int, last_second: list[int], arrivals: list[int], changes: list[int]) -> Walk:
    """Write out the level after every bin, and the arrivals of every second that ends with a bin."""
    levels = [level + sum(changes[:count]) for count in range(len(changes) + 1)]
    bins = last_second + arrivals
    width = len(last_second)
    rates = [sum(bins[end - width : end]) for end in range(width + 1, len(bins) + 1)]
    return Walk(levels[1:], max(levels), max(rates, default=0), bins[-width:])


def count_errors(ends: Sequence[tuple[int, int, int]], is_error: Sequence[bool], series: int) -> list[int]:
    """Add up the errors among (series, cause, how many), by series."""
    return [sum(many for one, cause, many in ends if one == at and is_error[cause]) for at in range(series)]


def add_totals(
    before: list[list[int]], rows: Sequence[tuple[int, Sequence[int]]], sign: int
) -> list[list[int]]:
    """Add up (series, columns) by series."""
    return [
        [old + sign * sum(row[at] for one, row in rows if one == series) for at, old in enumerate(totals)]
        for series, totals in enumerate(before)
    ]


def scatter_add(dense: list[int], flat: Sequence[int], values: Sequence[int], sign: int) -> list[int]:
    """Add up by position."""
    return [
        before + sign * sum(value for at, value in zip(flat, values, strict=True) if at == place)
        for place, before in enumerate(dense)
    ]


def quantiles_of_rows(
    table: NDArray[np.int32], rows: Sequence[int], ranks: Sequence[float]
) -> dict[int, tuple[int, list[float]]]:
    """Count each row named, and take its quantiles."""
    sketches = {row: [int(count) for count in table[row]] for row in rows}
    return {
        row: (sum(one), [oracle_latency.quantile(one, q) for q in ranks]) for row, one in sketches.items()
    }


# What is derived.


class OneCall(NamedTuple):
    """What happened to one attempt; times in ns, -1: it did not."""

    start_ns: int
    answer_ns: int
    end_ns: int  # also when it was declined
    is_declined: bool
    labels: Pairs  # without empty ones, in the order of the series labels
    is_error: bool = False
    latencies: tuple[tuple[int, str, float], ...] = ()  # (when it was told, stage, seconds)


class Slice(NamedTuple):
    """A slice [start_ns, start_ns + slice_ns), and how many ages are told apart."""

    start_ns: int
    slice_ns: int
    cells: int

    @property
    def end_ns(self) -> int:
        """Where it ends."""
        return self.start_ns + self.slice_ns

    def has(self, time_ns: int) -> bool:
        """Say whether a moment lies in it."""
        return self.start_ns <= time_ns < self.end_ns


class Use(NamedTuple):
    """The numbers of one instance in one slice, named as in `LimitUse`."""

    first_ns: int
    level: int
    level_peak: int
    arrivals: int
    arrivals_per_bin: list[int]
    rate_peak: int
    ended: int
    ended_by_age: list[int]
    alive: list[int]
    declined: int


def counted_calls(calls: Sequence[OneCall], limit: Limit, split: Pairs) -> list[OneCall]:
    """Pick the calls that count in one instance."""
    found = []
    for call in calls:
        labels = dict(call.labels)
        if limit.matches(labels) and all(labels.get(name, "") == value for name, value in split):
            found.append(call)
    return found


def _entered_ns(call: OneCall, limit: Limit) -> int:
    return call.start_ns if limit.counts_from == "started" else call.answer_ns


def _held(call: OneCall, limit: Limit, slice_ns: int, time_ns: int) -> bool:
    """Say whether a call holds capacity just before a moment; one declined in its first slice never does."""
    if call.is_declined and call.end_ns // slice_ns == call.start_ns // slice_ns:
        return False
    entered_ns = _entered_ns(call, limit)
    return 0 <= entered_ns < time_ns and (call.end_ns < 0 or call.end_ns >= time_ns)


def limit_use(calls: Sequence[OneCall], limit: Limit, split: Pairs, at: Slice) -> Use:
    """Count everything anew for one slice."""
    ours = counted_calls(calls, limit, split)
    entered = sorted(_entered_ns(call, limit) for call in ours if _entered_ns(call, limit) >= 0)
    ends_of_bins = range(at.start_ns + BIN_NS, at.end_ns + 1, BIN_NS)
    per_bin = [sum(end - BIN_NS <= one < end for one in entered) for end in ends_of_bins]
    levels = [
        sum(_held(call, limit, at.slice_ns, end) for call in ours) for end in (at.start_ns, *ends_of_bins)
    ]
    rates = [sum(end - SECOND_NS <= one < end for one in entered) for end in ends_of_bins]
    ended, alive = [0] * at.cells, [0] * at.cells
    for call in ours:
        entered_ns = _entered_ns(call, limit)
        age = min((at.start_ns - entered_ns // at.slice_ns * at.slice_ns) // at.slice_ns, at.cells - 1)
        if _held(call, limit, at.slice_ns, at.end_ns):
            alive[age] += 1
        if entered_ns >= 0 and not call.is_declined and at.has(call.end_ns):
            ended[age] += 1
    first_ns = entered[0] // at.slice_ns * at.slice_ns + at.slice_ns if entered else -1
    return Use(
        first_ns=first_ns if 0 <= first_ns <= at.end_ns else -1,
        level=levels[-1],
        level_peak=max(levels),
        arrivals=sum(per_bin),
        arrivals_per_bin=per_bin,
        rate_peak=max(rates),
        ended=sum(ended),
        ended_by_age=ended,
        alive=alive,
        declined=sum(call.is_declined and at.has(call.end_ns) for call in ours),
    )


class WindowFacts(NamedTuple):
    """The numbers of one label set in one window, named as in `WindowView`; latency by stage."""

    arrivals: int
    ended: int
    errors: int
    declined: int
    latencies_s: dict[str, list[float]]


def window_facts(calls: Sequence[OneCall], labels: Pairs, window_ns: int, at: Slice) -> WindowFacts:
    """Count what happened in a window; that of an hour is made of whole minutes."""
    pane_ns = PANE_OF_HOUR_NS if window_ns > 600_000_000_000 else at.slice_ns
    ours = [call for call in calls if set(labels) <= set(call.labels)]

    def is_in(time_ns: int) -> bool:
        return time_ns < at.end_ns and time_ns // pane_ns * pane_ns >= at.end_ns - window_ns

    latencies: dict[str, list[float]] = {}
    for call in ours:
        for time_ns, stage, seconds in call.latencies:
            if is_in(time_ns):
                latencies.setdefault(stage, []).append(seconds)
    ends = [call for call in ours if call.end_ns >= 0 and is_in(call.end_ns)]
    return WindowFacts(
        arrivals=sum(is_in(call.start_ns) for call in ours),
        ended=sum(not call.is_declined for call in ends),
        errors=sum(call.is_error for call in ends),
        declined=sum(call.is_declined for call in ends),
        latencies_s=latencies,
    )
