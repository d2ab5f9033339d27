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
    unseen_use: NDArray[np.float64]  # platform's own `used` above our level, if reported freshly; else 0
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
    declines_per_bin: NDArray[np.int32]  # (instances, bins)
    level_peak: NDArray[np.int64]  # (instances,)
    rate_peak: NDArray[np.int64]  # (instances,)
    ended_by_age: NDArray[np.int32]  # (instances, cells)
    healed_by_age: NDArray[np.int32]  # (instances, cells)


class Membership(NamedTuple):
    """Which instances a series counts in: those of series s are `instance[start[s]:start[s + 1]]`."""

    start: NDArray[np.int64]  # (series + 1,)
    instance: NDArray[np.int32]


@kernel
def add_bins(
    members: Membership,
    series: NDArray[np.int32],
    bins: NDArray[np.int16],
    values: NDArray[np.int32],
    into: NDArray[np.int32],
) -> None:
    """Add (series, bin, value) rows to `into` (instances, bins), for every instance they match."""
    for row in range(len(series)):
        for k in range(members.start[series[row]], members.start[series[row] + 1]):
            into[members.instance[k], bins[row]] += values[row]


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

    Writes `state.level`, `state.last_second`, `use.level_peak` and `use.rate_peak`. A slice has at least as
    many bins as a second.
    """
    instances, bins = use.level_change.shape
    for i in range(instances):
        level = state.level[i]
        peak = level
        second = state.last_second[i].sum()
        rate = 0
        for b in range(bins):
            level += use.level_change[i, b]
            peak = max(peak, level)
            before = b - len(state.last_second[i])
            leaves = use.arrivals_per_bin[i, before] if before >= 0 else state.last_second[i, b]
            second += use.arrivals_per_bin[i, b] - leaves
            rate = max(rate, second)
        state.level[i] = level
        use.level_peak[i] = peak
        use.rate_peak[i] = rate
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
    return SliceUse(
        np.zeros((instances, bins), np.int32),
        np.zeros((instances, bins), np.int32),
        np.zeros((instances, bins), np.int32),
        np.zeros(instances, np.int64),
        np.zeros(instances, np.int64),
        np.zeros((instances, cells), np.int32),
        np.zeros((instances, cells), np.int32),
    )


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
    entered_series: NDArray[np.int32]  # entered flight in this slice with a known age of 0
    entered: NDArray[np.int64]
    end_series: NDArray[np.int32]
    end_start_ns: NDArray[np.int64]
    end_kind: NDArray[np.uint8]
    end_count: NDArray[np.int32]


def flow_of(
    summary: SliceSummary, series_ids: NDArray[np.int32], members: Membership, *, answered: bool
) -> Flow:
    """Pick what a limit that counts from `call.answered` (or from `call.started`) sees of a merged summary.

    `series_ids` (int32, one per row of `summary.series`) are judge's series.
    """
    bin_series, end_series = series_ids[summary.bin_series], series_ids[summary.end_series]
    if not answered:
        entered = summary.counts[:, Count.ADMITTED]
        return Flow(
            members,
            bin_series,
            summary.bin_index,
            summary.bin_arrivals,
            summary.bin_level,
            summary.bin_declines,
            series_ids,
            entered,
            end_series,
            summary.end_start_ns,
            summary.end_kind,
            summary.end_count,
        )
    entered = np.zeros(len(series_ids), np.int64)
    scatter_add(entered, summary.bin_series, summary.bin_answers, 1)
    keep = summary.end_answer_ns >= 0
    return Flow(
        members,
        bin_series,
        summary.bin_index,
        summary.bin_answers,
        summary.bin_answered_level,
        summary.bin_declines,
        series_ids,
        entered,
        end_series[keep],
        summary.end_answer_ns[keep],
        summary.end_kind[keep],
        summary.end_count[keep],
    )


def level_per_bin(level: NDArray[np.int64], change: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give the level at the end of each bin, from that at the slice's end and the changes in its bins."""
    after = change.sum(axis=1, keepdims=True) - np.cumsum(change, axis=1)
    return np.asarray(level[:, None] - after, np.int32)


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
            add_bins(flow.members, flow.bin_series, flow.bin_index, flow.arrivals, use.arrivals_per_bin)
            add_bins(flow.members, flow.bin_series, flow.bin_index, flow.level, use.level_change)
            add_bins(flow.members, flow.bin_series, flow.bin_index, flow.declines, use.declines_per_bin)
            cell = np.zeros(len(flow.entered_series), np.int64)
            add_to_cells(flow.members, flow.entered_series, cell, flow.entered, self.state.alive)
            self._take_out(start_ns, flow, use)
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

    def _take_out(self, start_ns: int, flow: Flow, use: SliceUse) -> None:
        """Take ended calls out of their age cells, and count the known ends by age.

        Ends of calls that were never in flight here are left out: they were never exposed either, and
        counting them would shorten the holding time that the survivors are judged by.
        """
        known = flow.end_start_ns >= 0
        seen = flow.end_kind != EndKind.UNSEEN
        age = np.maximum((start_ns - flow.end_start_ns) // self.slice_ns, 0)
        for pick, sign, into in (
            (known & seen, -1, self.state.alive),
            (known & (flow.end_kind == EndKind.ENDED), 1, use.ended_by_age),
            (known & (flow.end_kind == EndKind.HEALED), 1, use.healed_by_age),
        ):
            if pick.any():
                counts = flow.end_count[pick].astype(np.int64) * sign
                add_to_cells(flow.members, flow.end_series[pick], age[pick], counts, into)
        lost = ~known & seen
        if lost.any():
            gone = -flow.end_count[lost].astype(np.int64)
            add_to_instances(flow.members, flow.end_series[lost], gone, self.state.age_unknown)

    def opened_unknown(
        self, members: Membership, series: NDArray[np.int32], opened: NDArray[np.int64]
    ) -> None:
        """Count calls that entered flight with unknown age."""
        if opened.any():
            add_to_instances(members, series, opened, self.state.age_unknown)

    def amend(
        self, late_slices: int, members: Membership, series: NDArray[np.int32], entered: NDArray[np.int64]
    ) -> None:
        """Enter calls that started `late_slices` before the newest advanced slice and were only seen now.

        Their level change arrives with the slice that is open now; only the age is put right here.
        """
        if entered.any():
            cell = np.full(len(series), late_slices, np.int64)
            add_to_cells(members, series, cell, entered, self.state.alive)
