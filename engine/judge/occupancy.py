"""What each limit is used for: levels, ages and holding times, derived after merging partitions.

A limit instance adds up all series that match it. Its level is a running sum of net changes; its ages are
kept as calls in flight by the slice in which they started, so an end takes its call out of the right cell and
says how long it held. Maxima are taken here, never before: they do not add over partitions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.judge.sparse import scatter_add
from engine.kernel import kernel
from engine.observe.summary import BIN_NS, Count, EndKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.observe.summary import SliceSummary

AGES_NS = 1_800_000_000_000  # ages are told apart up to half an hour; older calls share the last cell
SECOND_BINS = 1_000_000_000 // BIN_NS
ENDED, HEALED, UNSEEN = int(EndKind.ENDED), int(EndKind.HEALED), int(EndKind.UNSEEN)
NOBODY: NDArray[np.int64] = np.zeros(0, np.int64)


class LimitUse(NamedTuple):
    """One slice of every limit instance; arrays of shape (instances,) unless said. Instance i is `limits[i]`.

    An instance is a limit, or one value of a limit with `split_by`. Instances are only ever appended. `cells`
    are ages in slices: cell 0 holds calls that started in this slice, cell j those of j slices ago, the last
    one all older calls. For a limit with `counts_from: answered`, "started" means answered throughout.
    """

    value: NDArray[np.float64]  # the cap at the slice's end; NaN: unknown
    declared: NDArray[np.float64]  # what the register says of it; NaN: unknown
    first_ns: NDArray[np.int64]  # end of the first slice in which the instance saw an arrival; -1: none yet
    level: NDArray[np.int64]  # calls holding capacity at the slice's end
    level_peak: NDArray[np.int64]  # highest level inside the slice
    arrivals: NDArray[np.int64]  # attempts in the slice, declined ones included
    arrivals_per_bin: NDArray[np.int32]  # (instances, bins per slice), bins of 100 ms
    level_per_bin: NDArray[np.int32]  # (instances, bins): calls holding capacity at the end of each bin
    declines_per_bin: NDArray[np.int32]  # (instances, bins): attempts declined, by start if in this slice
    rate_peak: NDArray[np.int64]  # most arrivals in any rolling second that ends in the slice
    ended: NDArray[np.int64]  # known ends in the slice
    ended_by_age: NDArray[np.int32]  # (instances, cells): the same by age at the end
    healed_by_age: NDArray[np.int32]  # (instances, cells): left flight without an end; censored
    alive: NDArray[np.int32]  # (instances, cells): calls in flight at the slice's end by age
    age_unknown: NDArray[np.int64]  # calls in flight whose start was never seen
    declined: NDArray[np.int64]  # capacity declines put down to this limit, in the slice
    # Calls that the platform reported beyond our own level of that moment; 0 if no report is fresh.
    unseen_use: NDArray[np.float64]
    reported_use: NDArray[np.float64]  # platform's own `used`, if reported freshly; else NaN
    expected_holding_s: NDArray[np.float64]  # prior from the register; NaN: none
    is_concurrency: NDArray[np.bool_]


class OccupancyState(NamedTuple):
    """What is carried from slice to slice, by instance.

    Owned by `Occupancy`, written by the kernels below.
    """

    level: NDArray[np.int64]  # (instances,)
    age_unknown: NDArray[np.int64]  # (instances,)
    alive: NDArray[np.int32]  # (instances, cells)
    last_second: NDArray[np.int32]  # (instances, SECOND_BINS): arrivals per bin before the slice


class SliceUse(NamedTuple):
    """What one slice adds, by instance; made anew for every slice."""

    arrivals_per_bin: NDArray[np.int32]  # (instances, bins)
    level_change: NDArray[np.int32]  # (instances, bins)
    level_per_bin: NDArray[np.int32]  # (instances, bins)
    declines_per_bin: NDArray[np.int32]  # (instances, bins)
    arrivals: NDArray[np.int64]  # (instances,), like the next three
    level_peak: NDArray[np.int64]
    rate_peak: NDArray[np.int64]
    ended: NDArray[np.int64]
    ended_by_age: NDArray[np.int32]  # (instances, cells)
    healed_by_age: NDArray[np.int32]  # (instances, cells)


class Membership(NamedTuple):
    """Which instances a series counts in: those of series s are `instance[start[s]:start[s + 1]]`."""

    start: NDArray[np.int64]  # (series + 1,)
    instance: NDArray[np.int32]


class Flow(NamedTuple):
    """One way of counting calls (from their start, or from their answer).

    Whom it counts, and the facts it adds.
    """

    members: Membership
    bin_series: NDArray[np.int32]
    bin_index: NDArray[np.int16]
    arrivals: NDArray[np.int32]
    level: NDArray[np.int32]
    declines: NDArray[np.int32]
    entered_series: NDArray[np.int32]
    entered: NDArray[np.int64]  # entered flight in this slice with a known age of 0
    opened: NDArray[np.int64]  # entered flight with unknown age; empty: none
    end_series: NDArray[np.int32]
    end_start_ns: NDArray[np.int64]  # -1: not known, or never entered here
    end_kind: NDArray[np.uint8]
    end_count: NDArray[np.int32]
    has_unknown: bool  # whether a call that ends without a start was in flight, of unknown age


@kernel
def add_bins(flow: Flow, use: SliceUse) -> None:
    """Add what a flow says of bins, for every instance that its series match."""
    start, instance = flow.members
    for row in range(len(flow.bin_series)):
        at = flow.bin_index[row]
        for k in range(start[flow.bin_series[row]], start[flow.bin_series[row] + 1]):
            use.arrivals_per_bin[instance[k], at] += flow.arrivals[row]
            use.level_change[instance[k], at] += flow.level[row]
            use.declines_per_bin[instance[k], at] += flow.declines[row]


@kernel
def add_entered(flow: Flow, state: OccupancyState) -> None:
    """Take calls that entered flight in this slice into the youngest cell, or among those of unknown age."""
    start, instance = flow.members
    for row in range(len(flow.entered)):
        for k in range(start[flow.entered_series[row]], start[flow.entered_series[row] + 1]):
            state.alive[instance[k], 0] += flow.entered[row]
    for row in range(len(flow.opened)):
        for k in range(start[flow.entered_series[row]], start[flow.entered_series[row] + 1]):
            state.age_unknown[instance[k]] += flow.opened[row]


@kernel
def take_out(flow: Flow, start_ns: int, slice_ns: int, state: OccupancyState, use: SliceUse) -> None:
    """Take calls that ended in the slice out of their age cells, and count the known ends by age.

    Ends of calls that were never in flight here are left out: they were never exposed either, and counting
    them would shorten the holding time that the survivors are judged by.
    """
    start, instance = flow.members
    last = state.alive.shape[1] - 1
    for row in range(len(flow.end_series)):
        kind, is_known = flow.end_kind[row], flow.end_start_ns[row] >= 0
        if not is_known and not flow.has_unknown:
            continue
        cell = min(max((start_ns - flow.end_start_ns[row]) // slice_ns, 0), last)
        for k in range(start[flow.end_series[row]], start[flow.end_series[row] + 1]):
            if not is_known:
                state.age_unknown[instance[k]] -= flow.end_count[row] * (kind != UNSEEN)
                continue
            state.alive[instance[k], cell] -= flow.end_count[row] * (kind != UNSEEN)
            use.ended_by_age[instance[k], cell] += flow.end_count[row] * (kind == ENDED)
            use.healed_by_age[instance[k], cell] += flow.end_count[row] * (kind == HEALED)


@kernel
def add_flow(flow: Flow, start_ns: int, slice_ns: int, state: OccupancyState, use: SliceUse) -> None:
    """Add all that a flow says of the slice that starts at `start_ns`."""
    add_bins(flow, use)
    add_entered(flow, state)
    take_out(flow, start_ns, slice_ns, state, use)


@kernel
def add_to_cells(
    members: Membership,
    series: NDArray[np.int32],
    cells: NDArray[np.int64],
    values: NDArray[np.int64],
    into: NDArray[np.int32],
) -> None:
    """Add (series, cell, value) rows to `into` (instances, cells).

    A cell beyond the last one is the last one.
    """
    last = into.shape[1] - 1
    for row in range(len(series)):
        for k in range(members.start[series[row]], members.start[series[row] + 1]):
            into[members.instance[k], min(cells[row], last)] += values[row]


@kernel
def add_to_instances(
    members: Membership, series: NDArray[np.int32], values: NDArray[np.int64], into: NDArray[np.int64]
) -> None:
    """Add (series, value) rows to `into` (instances,)."""
    for row in range(len(series)):
        for k in range(members.start[series[row]], members.start[series[row] + 1]):
            into[members.instance[k]] += values[row]


@kernel
def age_by_one(alive: NDArray[np.int32]) -> None:
    """Move every call one cell older, in place; the last cell keeps all that is older."""
    instances, cells = alive.shape
    for i in range(instances):
        alive[i, cells - 1] += alive[i, cells - 2]
        for j in range(cells - 2, 0, -1):
            alive[i, j] = alive[i, j - 1]
        alive[i, 0] = 0


@kernel
def walk_levels(state: OccupancyState, use: SliceUse) -> None:
    """Walk the bins: move the level on, find its peak and the most arrivals in a rolling second.

    Writes `state.level`, `state.last_second` and what `use` holds by instance, and the levels by bin. A
    slice has at least as many bins as a second.
    """
    instances, bins = use.level_change.shape
    for i in range(instances):
        level = state.level[i]
        peak = level
        second = state.last_second[i].sum()
        rate = 0
        for b in range(bins):
            level += use.level_change[i, b]
            use.level_per_bin[i, b] = level
            peak = max(peak, level)
            before = b - len(state.last_second[i])
            leaves = use.arrivals_per_bin[i, before] if before >= 0 else state.last_second[i, b]
            second += use.arrivals_per_bin[i, b] - leaves
            rate = max(rate, second)
        state.level[i] = level
        use.level_peak[i] = peak
        use.rate_peak[i] = rate
        use.arrivals[i] = use.arrivals_per_bin[i].sum()
        use.ended[i] = use.ended_by_age[i].sum()
        for b in range(len(state.last_second[i])):
            state.last_second[i, b] = use.arrivals_per_bin[i, bins - len(state.last_second[i]) + b]


def new_occupancy(instances: int, cells: int) -> OccupancyState:
    """Make the state of `instances` limit instances, all empty."""
    return OccupancyState(
        np.zeros(instances, np.int64),
        np.zeros(instances, np.int64),
        np.zeros((instances, cells), np.int32),
        np.zeros((instances, SECOND_BINS), np.int32),
    )


def new_slice_use(instances: int, cells: int, bins: int) -> SliceUse:
    """Make an empty slice."""
    by_bin, by_age = np.zeros((4, instances, bins), np.int32), np.zeros((2, instances, cells), np.int32)
    return SliceUse(*by_bin, *np.zeros((4, instances), np.int64), *by_age)


def flows_of(
    summary: SliceSummary, series: NDArray[np.int32], by_start: Membership, by_answer: Membership
) -> tuple[Flow, Flow]:
    """Pick what limits see of a merged summary: those that count from `call.started`, from `call.answered`.

    `series` (int32, one per row of `summary.series`) are judge's numbers of its series.
    """
    bin_series, end_series = series[summary.bin_series], series[summary.end_series]
    answered = np.zeros(len(series), np.int64)
    scatter_add(answered, summary.bin_series, summary.bin_answers, 1)
    started = Flow(
        members=by_start,
        bin_series=bin_series,
        bin_index=summary.bin_index,
        arrivals=summary.bin_arrivals,
        level=summary.bin_level,
        declines=summary.bin_declines,
        entered_series=series,
        entered=summary.counts[:, Count.ADMITTED].copy(),
        opened=summary.counts[:, Count.OPENED_UNKNOWN].copy(),
        end_series=end_series,
        end_start_ns=summary.end_start_ns,
        end_kind=summary.end_kind,
        end_count=summary.end_count,
        has_unknown=True,
    )
    return started, started._replace(
        members=by_answer,
        arrivals=summary.bin_answers,
        level=summary.bin_answered_level,
        entered=answered,
        opened=NOBODY,
        end_start_ns=summary.end_answer_ns,
        has_unknown=False,
    )


class Occupancy:
    """Levels and ages of all limit instances; `advance` once per slice, `amend` for what came late."""

    def __init__(self, slice_ns: int) -> None:
        """Start with no instance."""
        self.slice_ns = slice_ns
        self.cells = AGES_NS // slice_ns
        self.bins = slice_ns // BIN_NS
        self.state = new_occupancy(0, self.cells)
        self._end_ns = -1  # of the newest slice
        self._restarted = False

    def grow(self, instances: int) -> None:
        """Make room for `instances` in all; new ones are empty."""
        missing = instances - len(self.state.level)
        if missing > 0:
            fresh = new_occupancy(missing, self.cells)
            old = self.state
            self.state = OccupancyState(
                np.concatenate([old.level, fresh.level]),
                np.concatenate([old.age_unknown, fresh.age_unknown]),
                np.concatenate([old.alive, fresh.alive]),
                np.concatenate([old.last_second, fresh.last_second]),
            )

    def advance(self, start_ns: int, flows: tuple[Flow, ...]) -> SliceUse:
        """Move on by the slice that starts at `start_ns`, adding the facts of `flows`."""
        use = new_slice_use(len(self.state.level), self.cells, self.bins)
        self._step_over_gap(start_ns)
        age_by_one(self.state.alive)
        for flow in flows:
            add_flow(flow, start_ns, self.slice_ns, self.state, use)
        if self._restarted:
            self._settle_unknown()
        walk_levels(self.state, use)
        return use

    def _step_over_gap(self, start_ns: int) -> None:
        """Let slices pass that nobody judged: calls grow older, and the last second is empty."""
        missed = (start_ns - self._end_ns) // self.slice_ns if self._end_ns >= 0 else 0
        if missed > 0:
            self.state.last_second[:] = 0
            for _ in range(min(missed, self.cells)):
                age_by_one(self.state.alive)
        self._end_ns = start_ns + self.slice_ns

    def restart(self, instance: int, level: int) -> None:
        """Let an instance begin with `level` calls in flight, of unknown age."""
        self._restarted = True
        self.state.level[instance] = self.state.age_unknown[instance] = level
        self.state.alive[instance] = 0
        self.state.last_second[instance] = 0

    def _settle_unknown(self) -> None:
        """Count calls that left from an age at which a restarted instance knew of none as of unknown age."""
        alive = self.state.alive
        self.state.age_unknown[:] += np.minimum(alive, 0).sum(axis=1, dtype=np.int64)
        np.maximum(alive, 0, out=alive)

    def amend(
        self, late_slices: int, members: Membership, series: NDArray[np.int32], entered: NDArray[np.int64]
    ) -> None:
        """Enter calls that started `late_slices` before the newest advanced slice and were only seen now.

        Their level change arrives with the slice that is open now; only the age is put right here.
        """
        if entered.any():
            cell = np.full(len(series), late_slices, np.int64)
            add_to_cells(members, series, cell, entered, self.state.alive)
