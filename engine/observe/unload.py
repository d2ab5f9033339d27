"""What a slice has added up to becomes its summary: in by local ids, out by name and in order.

Names are put in order first, so that an id says its row; then most facts need no sorting: counts and bins go
to the row of their series, and sketches are read in the order of their names. What is left, mostly ends, is
sorted. Rejected: handing all of it to `merge.build`, which sorts and adds up what is here once anyway.
"""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel
from engine.observe.latency import OCTAVE_BITS, OCTAVES, PER_OCTAVE
from engine.observe.merge import Group, Groups, Lists, summary_of, summed, without_zeros
from engine.observe.outcomes import (
    BIN_COLUMNS,
    BINS,
    CALLERS,
    CAUSE_BITS,
    CAUSE_MASK,
    CAUSES,
    COLUMN_BITS,
    COLUMN_MASK,
    COUNTS,
    ENDS,
    FAILURES,
    GROUP_MASK,
    GROUPS,
    KIND_BITS,
    KIND_MASK,
    REST_SHIFT,
    SCORES,
    SERIES_BITS,
    SERIES_MASK,
    SIDES,
    START_AGE_BITS,
    START_AGE_MASK,
)  # fmt: skip
from engine.observe.sketches import PLACES, STAGE_BITS, STAGE_MASK
from engine.observe.summary import Count
from engine.observe.tally import KEY, SUM, keys_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

    from engine.decode.events import Note
    from engine.observe.merge import Header, Names
    from engine.observe.order import Ranks
    from engine.observe.outcomes import Facts
    from engine.observe.sketches import Sketches
    from engine.observe.summary import SliceSummary

BIN_SHIFT = REST_SHIFT + COLUMN_BITS


class LatencyRows(NamedTuple):
    """Counters of sketches, in order; (counters + 1,) arrays, the last row being of no meaning."""

    series: NDArray[np.int32]
    stage: NDArray[np.int16]
    bucket: NDArray[np.int16]
    count: NDArray[np.int64]


class Unloaded(NamedTuple):
    """Facts that are not zero, group by group: packed keys (n,), their sums (n,), and where groups end."""

    keys: NDArray[np.int64]
    sums: NDArray[np.int64]
    ends: list[int]

    def of(self, group: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give the keys and sums of one group."""
        number = group >> SERIES_BITS
        span = slice(self.ends[number - 1] if number else 0, self.ends[number])
        return self.keys[span], self.sums[span]

    def sorted(
        self,
        group: int,
        row_of: NDArray[np.int64],
        columns_of: Callable[[NDArray[np.int64]], tuple[NDArray[np.int64], ...]],
    ) -> Group:
        """Give one group in order; keys: the row of the series, then what `columns_of` makes of the rest."""
        keys, sums = self.of(group)
        columns = columns_of(keys >> REST_SHIFT)
        return summed(Group((row_of[keys & SERIES_MASK], *columns), sums[:, np.newaxis]))


@kernel
def unload_facts(
    facts: Facts,
    found: NDArray[np.int64],
    ends: NDArray[np.int64],
    keys: NDArray[np.int64],
    sums: NDArray[np.int64],
    is_used: NDArray[np.bool_],
) -> None:
    """Write the keys (n,) of all sums that are not 0, and these (n,), group by group.

    `ends` (GROUPS,) gets where each group ends; `is_used` (series,) is set for their series. `found`
    (n + 1,) is working memory.
    """
    many = 0
    for row in range(len(facts) - 1):
        found[many] = row
        many += facts[row, SUM] != 0  # It is 0 where no key is.
    ends[:] = 0
    for at in range(many):
        key = facts[found[at], KEY]
        ends[(key >> SERIES_BITS) & GROUP_MASK] += 1
        is_used[key & SERIES_MASK] = True
    place = 0
    for group in range(len(ends)):
        many_of_group = ends[group]
        ends[group] = place
        place += many_of_group
    for at in range(many):
        key = facts[found[at], KEY]
        group = (key >> SERIES_BITS) & GROUP_MASK
        keys[ends[group]], sums[ends[group]] = key, facts[found[at], SUM]
        ends[group] += 1


@kernel
def add_counts(
    keys: NDArray[np.int64], sums: NDArray[np.int64], row_of: NDArray[np.int64], into: NDArray[np.int64]
) -> None:
    """Add the sums (n,) of packed counts to `into` (series, len(Count)); `row_of` says the row of an id."""
    for at in range(len(keys)):
        into[row_of[keys[at] & SERIES_MASK], keys[at] >> REST_SHIFT] += sums[at]


@kernel
def add_bins(
    keys: NDArray[np.int64],
    sums: NDArray[np.int64],
    row_of: NDArray[np.int64],
    place_of: NDArray[np.int32],
    bins: NDArray[np.int64],
    values: NDArray[np.int64],
) -> int:
    """Add up the sums (n,) of packed bins by (series, bin), in order; `row_of` says the row of a series' id.

    Writes the series and its bin to `bins` (n, 2), the columns to `values` (n, BIN_COLUMNS), which holds
    zeros, and gives how many there are. `place_of` (series, bins of a slice), zeros too, is working memory.
    """
    for at in range(len(keys)):
        place_of[row_of[keys[at] & SERIES_MASK], keys[at] >> BIN_SHIFT] = 1
    many = 0
    for series in range(place_of.shape[0]):
        for bin_index in range(place_of.shape[1]):
            if place_of[series, bin_index]:
                bins[many, 0], bins[many, 1] = series, bin_index
                place_of[series, bin_index] = many
                many += 1
    for at in range(len(keys)):
        place = place_of[row_of[keys[at] & SERIES_MASK], keys[at] >> BIN_SHIFT]
        values[place, (keys[at] >> REST_SHIFT) & COLUMN_MASK] += sums[at]
    return many


@kernel
def unload_latencies(
    sketches: Sketches, order: NDArray[np.int64], series: NDArray[np.int64], stage: NDArray[np.int64],
    into: LatencyRows,
) -> None:  # fmt: skip
    """Write each counter that is not 0, of the places in `order` (places,), whose names' rows are given.

    `series` and `stage` (places,) go by place, not by order.
    """
    to = 0
    for place in order:
        first = to
        for octave in range(OCTAVES):
            page = sketches.page_of[place, octave]
            if page == 0:
                continue
            for at in range(PER_OCTAVE):
                into.bucket[to] = octave << OCTAVE_BITS | at
                into.count[to] = sketches.counts[page, at]
                to += sketches.counts[page, at] != 0
        for row in range(first, to):
            into.series[row], into.stage[row] = series[place], stage[place]


def unloaded(
    header: Header, facts: Facts, sketches: Sketches, names: Names, ranks: Ranks, notes: tuple[Note, ...]
) -> SliceSummary:
    """Make the summary of a slice. A name may have several ids."""
    is_used = np.zeros(len(ranks.series), np.bool_)
    found = _unloaded(facts, is_used)
    sketch_key = sketches.key[: sketches.used[PLACES]]
    is_used[sketch_key >> STAGE_BITS] = True
    used = np.flatnonzero(is_used)
    series, row_of = _in_order(used[np.argsort(ranks.series[used])], names.series)
    used = _ids_of(
        *(found.of(group)[0] >> REST_SHIFT & CAUSE_MASK for group in (CAUSES, SIDES, FAILURES)),
        *_both_causes(found.of(CALLERS)[0] >> REST_SHIFT),
    )
    causes, cause_of = _in_order(used[np.argsort(ranks.cause[used])], names.cause)
    used = _ids_of(sketch_key & STAGE_MASK, found.of(SCORES)[0] >> REST_SHIFT & STAGE_MASK)
    stages, stage_of = _in_order(np.array(sorted(used.tolist(), key=names.stage), np.int64), names.stage)
    latency, sums = _latencies(sketches, row_of[sketch_key >> STAGE_BITS], stage_of[sketch_key & STAGE_MASK])
    groups = Groups(
        _counts(found, row_of, len(series)),
        _bins(found, row_of, len(series)),
        _ends(found, row_of, header),
        found.sorted(CAUSES, row_of, lambda rest: (cause_of[rest],)),
        latency,
        sums,
        found.sorted(SIDES, row_of, lambda rest: (cause_of[rest],)),
        found.sorted(FAILURES, row_of, lambda rest: (
            cause_of[rest & CAUSE_MASK], (rest >> CAUSE_BITS) & 1, rest >> (CAUSE_BITS + 1)
        )),
        found.sorted(CALLERS, row_of, lambda rest: tuple(cause_of[one] for one in _both_causes(rest))),
        found.sorted(SCORES, row_of, lambda rest: (stage_of[rest & STAGE_MASK], rest >> STAGE_BITS)),
    )  # fmt: skip
    return summary_of(header, Lists(series, causes, stages), groups, notes)


def _unloaded(facts: Facts, is_used: NDArray[np.bool_]) -> Unloaded:
    many = keys_in(facts)
    keys, sums, ends = np.empty(many, np.int64), np.empty(many, np.int64), np.empty(GROUPS, np.int64)
    unload_facts(facts, np.empty(many + 1, np.int64), ends, keys, sums, is_used)
    return Unloaded(keys, sums, ends.tolist())


def _ids_of(*columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each id that is in the columns once."""
    return np.flatnonzero(np.bincount(np.concatenate(columns)))


def _both_causes(rest: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Take apart what is in a key of CALLERS: the cause of the dependency, and that of the end."""
    return rest & CAUSE_MASK, rest >> CAUSE_BITS


def _in_order(
    used: NDArray[np.int64], name_of: Callable[[int], Any]
) -> tuple[tuple[Any, ...], NDArray[np.int64]]:
    """Give the names of ids, which come in the order of their names, each once; and the place of each id."""
    names = tuple(map(name_of, used.tolist()))
    is_next = [*map(operator.ne, names[1:], names)]
    place = np.zeros(int(used.max()) + 1 if len(used) else 0, np.int64)
    place[used[1:]] = np.cumsum(is_next, dtype=np.int64)
    return tuple(itertools.compress(names, (True, *is_next))), place


def _counts(found: Unloaded, row_of: NDArray[np.int64], series: int) -> Group:
    """Give a row for every series."""
    table = np.zeros((series, len(Count)), np.int64)
    add_counts(*found.of(COUNTS), row_of, table)
    return Group((np.arange(series),), table)


def _bins(found: Unloaded, row_of: NDArray[np.int64], series: int) -> Group:
    keys, sums = found.of(BINS)
    width = (int(keys.max(initial=0)) >> BIN_SHIFT) + 1  # the bin has the highest bits
    place_of = np.zeros((series, width), np.int32)
    bins, values = np.empty((len(keys), 2), np.int64), np.zeros((len(keys), BIN_COLUMNS), np.int64)
    many = add_bins(keys, sums, row_of, place_of, bins, values)
    return without_zeros(Group((bins[:many, 0], bins[:many, 1]), values[:many]))


def _ends(found: Unloaded, row_of: NDArray[np.int64], header: Header) -> Group:
    """Sort by age, which is short, and not by time; ages become the starts of slices."""
    slices = header.start_ns // header.slice_ns

    def columns_of(rest: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        start = by_time((rest >> KIND_BITS) & START_AGE_MASK, slices)
        answer = by_time(rest >> (KIND_BITS + START_AGE_BITS), slices)
        return start, answer, rest & KIND_MASK

    def start_ns(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(numbers & 1, -1, header.start_ns + (numbers >> 1) * header.slice_ns)

    (series, start, answer, kind), counts = found.sorted(ENDS, row_of, columns_of)
    return Group((series, start_ns(start), start_ns(answer), kind), counts)


def by_time(ages: NDArray[np.int64], slices: int) -> NDArray[np.int64]:
    """Give numbers that sort as the starts of slices of these ages do; ages are one higher, 0 is unknown.

    Twice the number of the slice, which is 0 for age 1; odd if unknown. Time 0, before which an unknown start
    (-1) is sorted, lies `slices` before that one.
    """
    oldest = min(int(ages.max(initial=0)) - 1, slices)
    return np.where(ages > 0, -2 * (ages - 1), -2 * oldest - 1)


def _latencies(
    sketches: Sketches, series: NDArray[np.int64], stage: NDArray[np.int64]
) -> tuple[Group, Group]:
    """Give counts by (series, stage, bucket) and sums by (series, stage), whose rows are given by place."""
    places, pages = sketches.used.tolist()
    many = int(np.count_nonzero(sketches.counts[:pages]))
    pair = series << STAGE_BITS | stage
    order = np.argsort(pair)
    rows = LatencyRows(*(np.empty(many + 1, kind) for kind in (np.int32, np.int16, np.int16, np.int64)))
    unload_latencies(sketches, order, series, stage, rows)
    *keys, counts = (column[:many] for column in rows)
    latency = Group(tuple(keys), counts[:, np.newaxis])
    sums = Group((series, stage), sketches.sum_us[:places, np.newaxis])
    if np.count_nonzero(np.diff(pair[order])) + 1 < places:  # Two sketches have the same names.
        latency = summed(Group(tuple(key.astype(np.int64) for key in keys), latency.values))
    return latency, summed(sums)
