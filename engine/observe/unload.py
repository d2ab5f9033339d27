"""What a slice has added up to becomes its summary: in by local ids, out by name and in order.

Names are put in order first, so that an id says its row; then most facts need no sorting: counts and bins go
to the row of their series, and sketches are read in the order of their names. What is left, mostly ends, is
sorted. Rejected: handing all of it to `merge.build`, which sorts and adds up what is here once anyway.
"""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine.kernel import kernel
from engine.observe.latency import OCTAVE_BITS, OCTAVES, PER_OCTAVE
from engine.observe.merge import (
    CAUSES,
    NUMBER,
    STAGES,
    Group,
    Lists,
    summary_of,
    summed,
    without_zeros,
)
from engine.observe.outcomes import (
    ANSWER_AGE_BITS,
    BIN_COLUMNS,
    CAUSE_BITS,
    CAUSE_MASK,
    COLUMN_BITS,
    COLUMN_MASK,
    GROUP_MASK,
    GROUPS,
    KIND_BITS,
    KIND_MASK,
    REST_SHIFT,
    SERIES_BITS,
    SERIES_MASK,
    START_AGE_BITS,
    START_AGE_MASK,
)
from engine.observe.radix import order_of
from engine.observe.sketches import PLACES, STAGE_BITS, STAGE_MASK
from engine.observe.summary import Count
from engine.observe.tally import KEY, SUM, keys_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from engine.decode.events import Note
    from engine.observe.merge import Header, Names
    from engine.observe.order import Ranks
    from engine.observe.outcomes import Facts
    from engine.observe.sketches import Sketches
    from engine.observe.summary import SliceSummary

    Said = dict["Part", NDArray[np.int64]]

BIN_SHIFT = REST_SHIFT + COLUMN_BITS
ANSWER_AGE_MASK = (1 << ANSWER_AGE_BITS) - 1
END_COLUMNS = 5
ALL_BITS = -1


class Part(NamedTuple):
    """What some bits of a key say beside series and group: a name's id, or a number."""

    shift: int
    mask: int
    of: int  # as in a `Column` of merge.py


# By group, those that are sorted, as `add_cause` and the kernels after it put their keys together.
SAID = (
    (Part(0, CAUSE_MASK, CAUSES),),
    (Part(0, CAUSE_MASK, CAUSES),),
    (Part(0, CAUSE_MASK, CAUSES), Part(CAUSE_BITS, 1, NUMBER), Part(CAUSE_BITS + 1, ALL_BITS, NUMBER)),
    (Part(0, CAUSE_MASK, CAUSES), Part(CAUSE_BITS, CAUSE_MASK, CAUSES)),
    (Part(0, STAGE_MASK, STAGES), Part(STAGE_BITS, ALL_BITS, NUMBER)),
)
NO_IDS: NDArray[np.int64] = np.zeros(0, np.int64)
NO_FACTS = Group((), np.zeros((0, 1), np.int64))


class Packed(NamedTuple):
    """Facts that are not zero: packed keys and their sums, both (n,)."""

    keys: NDArray[np.int64]
    sums: NDArray[np.int64]


class LatencyRows(NamedTuple):
    """Counters of sketches, in order; (counters + 1,) arrays, the last row being of no meaning."""

    series: NDArray[np.int32]
    stage: NDArray[np.int16]
    bucket: NDArray[np.int16]
    counts: NDArray[np.int64]


class Order(NamedTuple):
    """Names of ids that are in use, sorted, each once; and the place of each of these ids."""

    names: tuple[Any, ...]
    place_of: NDArray[np.int64]  # (ids,)


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
def add_counts(packed: Packed, row_of: NDArray[np.int64], into: NDArray[np.int64]) -> None:
    """Add counts to `into` (series, len(Count)); `row_of` says the row of a series' id."""
    for at in range(len(packed.keys)):
        key = packed.keys[at]
        into[row_of[key & SERIES_MASK], key >> REST_SHIFT] += packed.sums[at]


@kernel
def add_bins(
    packed: Packed,
    row_of: NDArray[np.int64],
    place_of: NDArray[np.int32],
    bins: NDArray[np.int64],
    values: NDArray[np.int64],
) -> int:
    """Add up n packed bins by (series, bin), in order; `row_of` says the row of a series' id.

    Writes the series and its bin to `bins` (n, 2), the columns to `values` (n, BIN_COLUMNS), which holds
    zeros, and gives how many there are. `place_of` (series, bins of a slice), zeros too, is working memory.
    """
    keys = packed.keys
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
        values[place, (keys[at] >> REST_SHIFT) & COLUMN_MASK] += packed.sums[at]
    return many


@kernel
def end_keys(packed: Packed, row_of: NDArray[np.int64], slices: int, into: NDArray[np.int64]) -> None:
    """Write numbers that sort as n ends do to `into` (n,): by series, start, answer and kind.

    Time 0, before which a start that is not known is sorted, lies so many `slices` before this one.
    """
    for at in range(len(packed.keys)):
        key = packed.keys[at]
        rest = key >> REST_SHIFT
        start = by_time((rest >> KIND_BITS) & START_AGE_MASK, START_AGE_MASK, slices)
        answer = by_time(rest >> (KIND_BITS + START_AGE_BITS), ANSWER_AGE_MASK, slices)
        times = start << (ANSWER_AGE_BITS + 1) | answer
        whole = row_of[key & SERIES_MASK] << (START_AGE_BITS + ANSWER_AGE_BITS + 2) | times
        into[at] = whole << KIND_BITS | (rest & KIND_MASK)


@kernel
def by_time(age: int, oldest: int, slices: int) -> int:
    """Give a number that sorts as the start of a slice of an age does; ages are one higher, 0 is unknown."""
    if age > 0:
        return 2 * (oldest - age) + 1
    return 2 * (oldest - min(slices + 1, oldest))


@kernel
def lay_out_ends(
    packed: Packed,
    row_of: NDArray[np.int64],
    order: NDArray[np.int64],
    start_ns: int,
    slice_ns: int,
    into: NDArray[np.int64],
) -> None:
    """Write the columns of n ends, and how many each is, to `into` (END_COLUMNS, n), in an order (n,).

    Ages become the starts of slices before `start_ns`.
    """
    for at in range(len(order)):
        key = packed.keys[order[at]]
        rest = key >> REST_SHIFT
        start, answer = (rest >> KIND_BITS) & START_AGE_MASK, rest >> (KIND_BITS + START_AGE_BITS)
        into[0, at] = row_of[key & SERIES_MASK]
        into[1, at] = start_ns - (start - 1) * slice_ns if start > 0 else -1
        into[2, at] = start_ns - (answer - 1) * slice_ns if answer > 0 else -1
        into[3, at] = rest & KIND_MASK
        into[4, at] = packed.sums[order[at]]


@kernel
def unload_latencies(
    sketches: Sketches,
    order: NDArray[np.int64],
    series: NDArray[np.int64],
    stage: NDArray[np.int64],
    into: LatencyRows,
) -> None:
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
                into.counts[to] = sketches.counts[page, at]
                to += sketches.counts[page, at] != 0
        for row in range(first, to):
            into.series[row], into.stage[row] = series[place], stage[place]


@kernel
def has_repeats(key: NDArray[np.int64], order: NDArray[np.int64]) -> bool:
    """Say whether a key (n,) comes more than once: two ids have the same name. `order` (n,) sorts it."""
    found = False
    for at in range(1, len(order)):
        found |= key[order[at]] == key[order[at - 1]]
    return found


def unloaded(
    header: Header, facts: Facts, sketches: Sketches, names: Names, ranks: Ranks, notes: tuple[Note, ...]
) -> SliceSummary:
    """Make the summary of a slice. A name may have several ids."""
    is_used = np.zeros(len(ranks.series), np.bool_)
    counts, bins, ends, *others = _unloaded(facts, is_used)
    sketch_key = sketches.key[: sketches.used[PLACES]]
    sketch_series, sketch_stage = sketch_key >> STAGE_BITS, sketch_key & STAGE_MASK
    is_used[sketch_series] = True
    ids = is_used.nonzero()[0]
    series = _in_order(ids[np.argsort(ranks.series[ids])], names.series)
    said = [_said(one, parts) for one, parts in zip(others, SAID, strict=True)]
    ids = _ids_in(said, CAUSES)
    cause = _in_order(ids[np.argsort(ranks.cause[ids])], names.cause)
    ids = _ids_in([*said, {Part(0, STAGE_MASK, STAGES): sketch_stage}], STAGES)
    stage = _in_order(np.array(sorted(ids.tolist(), key=names.stage), np.int64), names.stage)
    latency, sums = _latencies(sketches, series.place_of[sketch_series], stage.place_of[sketch_stage])
    orders = {CAUSES: cause, STAGES: stage}
    causes, *rest = (_sorted(*one, series, orders) for one in zip(others, said, strict=True))
    groups = (_bins(bins, series), _ends(ends, series, header), causes, latency, sums, *rest)
    lists = Lists(series.names, cause.names, stage.names)
    return summary_of(header, lists, _counts(counts, series), groups, notes)


def _unloaded(facts: Facts, is_used: NDArray[np.bool_]) -> list[Packed]:
    many = keys_in(facts)
    keys, sums, ends = np.empty(many, np.int64), np.empty(many, np.int64), np.empty(GROUPS, np.int64)
    unload_facts(facts, np.empty(many + 1, np.int64), ends, keys, sums, is_used)
    spans = itertools.pairwise((0, *ends.tolist()))
    return [Packed(keys[first:end], sums[first:end]) for first, end in spans]


def _said(packed: Packed, parts: tuple[Part, ...]) -> Said:
    """Give what keys say beside the series and the group, part by part; nothing if there are none."""
    if not len(packed.keys):
        return {}
    return {one: (packed.keys >> (REST_SHIFT + one.shift)) & one.mask for one in parts}


def _ids_in(said: Sequence[Said], of: int) -> NDArray[np.int64]:
    """Give each id of one kind that is said anywhere, once."""
    columns = [column for one in said for part, column in one.items() if part.of == of]
    return np.bincount(np.concatenate(columns)).nonzero()[0] if columns else NO_IDS


def _in_order(ids: NDArray[np.int64], name_of: Callable[[int], Any]) -> Order:
    """Name ids that come in the order of their names."""
    names = tuple(map(name_of, ids.tolist()))
    is_next = [*map(operator.ne, names[1:], names)]
    place_of = np.zeros(int(ids.max(initial=-1)) + 1, np.int64)
    place_of[ids[1:]] = [*itertools.accumulate(is_next)]
    return Order(tuple(itertools.compress(names, (True, *is_next))), place_of)


def _sorted(packed: Packed, said: Said, series: Order, orders: Mapping[int, Order]) -> Group:
    if not said:
        return NO_FACTS
    columns = [
        orders[part.of].place_of[column] if part.of in orders else column for part, column in said.items()
    ]
    return summed(Group((series.place_of[packed.keys & SERIES_MASK], *columns), packed.sums[:, np.newaxis]))


def _counts(packed: Packed, series: Order) -> NDArray[np.int64]:
    """Give a row for every series."""
    table = np.zeros((len(series.names), len(Count)), np.int64)
    add_counts(packed, series.place_of, table)
    return table


def _bins(packed: Packed, series: Order) -> Group:
    facts = len(packed.keys)
    width = (int(packed.keys.max(initial=0)) >> BIN_SHIFT) + 1  # the bin has the highest bits
    place_of = np.zeros((len(series.names), width), np.int32)
    bins, values = np.empty((facts, 2), np.int64), np.zeros((facts, BIN_COLUMNS), np.int64)
    many = add_bins(packed, series.place_of, place_of, bins, values)
    return without_zeros(Group((bins[:many, 0], bins[:many, 1]), values[:many]))


def _ends(packed: Packed, series: Order, header: Header) -> Group:
    """Sort by age, which is short, and not by time."""
    key = np.empty(len(packed.keys), np.int64)
    end_keys(packed, series.place_of, header.start_ns // header.slice_ns, key)
    order = order_of(key)
    rows = np.empty((END_COLUMNS, len(key)), np.int64)
    lay_out_ends(packed, series.place_of, order, header.start_ns, header.slice_ns, rows)
    group = Group(tuple(rows[:-1]), rows[-1][:, np.newaxis])
    return summed(group) if has_repeats(key, order) else group


def _latencies(
    sketches: Sketches, series: NDArray[np.int64], stage: NDArray[np.int64]
) -> tuple[Group, Group]:
    """Give counts by (series, stage, bucket) and sums by (series, stage), whose rows are given by place."""
    places, pages = sketches.used.tolist()
    many = int(np.count_nonzero(sketches.counts[:pages]))
    key = series << STAGE_BITS | stage
    order = np.argsort(key)
    rows = LatencyRows(
        np.empty(many + 1, np.int32),
        np.empty(many + 1, np.int16),
        np.empty(many + 1, np.int16),
        np.empty(many + 1, np.int64),
    )
    unload_latencies(sketches, order, series, stage, rows)
    keys = rows.series[:many], rows.stage[:many], rows.bucket[:many]
    latency = Group(keys, rows.counts[:many, np.newaxis])
    sums = Group((series[order], stage[order]), sketches.sum_us[:places][order, np.newaxis])
    if has_repeats(key, order):
        wide = tuple(one.astype(np.int64) for one in keys)
        return summed(latency._replace(keys=wide)), summed(sums)
    return latency, without_zeros(sums)
