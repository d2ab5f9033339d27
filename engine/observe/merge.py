"""Summaries add up by name: one slice over partitions, or a late addition to what was published.

Every way to a summary (`build`, and `unload.py` for what was just counted) sorts names and rows and leaves
out what is zero. So the result does not depend on the order of the parts, nor on process-local ids, and equal
facts give equal summaries.
Rejected: adding in the order of arrival, which makes equal summaries differ in their bytes.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel
from engine.observe.radix import order_of, packed
from engine.observe.summary import Count, SliceSummary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from engine.decode.events import Cause, Note

MERGED_PARTITION = -1


class Group(NamedTuple):
    """Rows of one kind of fact: integer key columns (the first is the series), and what is summed per key."""

    keys: tuple[NDArray[Any], ...]
    values: NDArray[np.int64]  # (rows, columns)


class Groups(NamedTuple):
    """All facts of a slice; keys are numbers in the lists of names that go with them."""

    counts: Group  # (series), len(Count) columns
    bins: Group  # (series, bin): arrivals, level, answers, answered level, declines
    ends: Group  # (series, start_ns, answer_ns, kind): count
    causes: Group  # (series, cause): count
    latency: Group  # (series, stage, bucket): count
    sums: Group  # (series, stage): microseconds
    sides: Group  # (series, cause): count
    failures: Group  # (series, cause, answered, bin): count
    callers: Group  # (series, cause of the dependency, cause of the end): count
    scores: Group  # (series, stage, bin): count


class Header(NamedTuple):
    """Which slice of what."""

    topic: str
    partition: int
    start_ns: int
    slice_ns: int
    revision: int
    labels: tuple[str, ...]


class Names(NamedTuple):
    """What the numbers in the keys stand for; the same name may have several numbers."""

    series: Callable[[int], tuple[str, ...]]
    cause: Callable[[int], Cause]
    stage: Callable[[int], str]


class Column(NamedTuple):
    """A column of a summary."""

    name: str
    kind: type  # dtype
    of: int  # what its numbers are, as below


SERIES, CAUSES, STAGES, NUMBER, VALUE = range(5)  # a key that is a row of a list, or a number; a value
U1, I2, I4, I8 = np.uint8, np.int16, np.int32, np.int64
# By group, those of `Groups` after the first: its keys, then its values.
LAYOUT = (
    (Column("bin_series", I4, SERIES), Column("bin_index", I2, NUMBER), Column("bin_arrivals", I4, VALUE),
     Column("bin_level", I4, VALUE), Column("bin_answers", I4, VALUE),
     Column("bin_answered_level", I4, VALUE), Column("bin_declines", I4, VALUE)),
    (Column("end_series", I4, SERIES), Column("end_start_ns", I8, NUMBER),
     Column("end_answer_ns", I8, NUMBER), Column("end_kind", U1, NUMBER), Column("end_count", I4, VALUE)),
    (Column("cause_series", I4, SERIES), Column("cause_index", I4, CAUSES),
     Column("cause_count", I8, VALUE)),
    (Column("latency_series", I4, SERIES), Column("latency_stage", I2, STAGES),
     Column("latency_bucket", I2, NUMBER), Column("latency_count", I8, VALUE)),
    (Column("sum_series", I4, SERIES), Column("sum_stage", I2, STAGES), Column("sum_us", I8, VALUE)),
    (Column("side_series", I4, SERIES), Column("side_cause", I4, CAUSES), Column("side_count", I8, VALUE)),
    (Column("failure_series", I4, SERIES), Column("failure_cause", I4, CAUSES),
     Column("failure_answered", U1, NUMBER), Column("failure_bin", I4, NUMBER),
     Column("failure_count", I8, VALUE)),
    (Column("caller_series", I4, SERIES), Column("caller_cause", I4, CAUSES),
     Column("caller_end", I4, CAUSES), Column("caller_count", I8, VALUE)),
    (Column("score_series", I4, SERIES), Column("score_stage", I2, STAGES), Column("score_bin", I2, NUMBER),
     Column("score_count", I8, VALUE)),
)  # fmt: skip


# Columns without rows, shared by all summaries.
NOTHING: dict[str, NDArray[Any]] = {one.name: np.zeros(0, one.kind) for layout in LAYOUT for one in layout}


class Lists(NamedTuple):
    """The names in a summary: sorted, each once."""

    series: tuple[tuple[str, ...], ...]
    causes: tuple[Cause, ...]
    stages: tuple[str, ...]


@kernel
def add_runs(
    values: NDArray[np.int64],
    order: NDArray[np.int64],
    key: NDArray[np.int64],
    into: NDArray[np.int64],
    first: NDArray[np.int64],
) -> int:
    """Add up the rows of `values` (rows, columns) that have equal keys, leaving out sums of zeros.

    `order` (rows,) says in which order rows come, `key` (rows,) their keys in that order. Sums go to `into`,
    of the shape of `values`, the first row of each to `first` (rows,). Gives how many there are.
    """
    written, at = 0, 0
    while at < len(order):
        first[written] = order[at]
        for column in range(values.shape[1]):
            into[written, column] = 0
        begin = at
        while at < len(order) and key[at] == key[begin]:
            for column in range(values.shape[1]):
                into[written, column] += values[order[at], column]
            at += 1
        written += is_anything(into, written)
    return written


@kernel
def is_anything(values: NDArray[np.int64], row: int) -> bool:
    """Say whether a row of `values` (rows, columns) holds anything but zeros."""
    found = False
    for column in range(values.shape[1]):
        found |= values[row, column] != 0
    return found


@kernel
def rows_in_use(values: NDArray[np.int64], kept: NDArray[np.int64]) -> int:
    """Write which rows of `values` (rows, columns) are not all zeros to `kept` (rows,); give how many."""
    many = 0
    for row in range(len(values)):
        kept[many] = row
        many += is_anything(values, row)
    return many


def summed(group: Group) -> Group:
    """Sort by key, add up equal keys, leave out rows of zeros."""
    if not len(group.values):
        return group
    key = packed(group.keys)
    if key is None:
        order = np.lexsort(group.keys[::-1])
        is_next = np.zeros(len(order), np.bool_)
        for column in group.keys:
            is_next[1:] |= np.diff(column[order]) != 0
        in_order = np.cumsum(is_next, dtype=np.int64)
    else:
        order = order_of(key)
        in_order = key[order]
    into, first = np.empty_like(group.values), np.empty_like(order)
    many = add_runs(group.values, order, in_order, into, first)
    return Group(tuple(column[first[:many]] for column in group.keys), into[:many])


def without_zeros(group: Group) -> Group:
    """Leave out rows of zeros."""
    kept = np.empty(len(group.values), np.int64)
    kept = kept[: rows_in_use(group.values, kept)]
    if len(kept) == len(group.values):
        return group
    return Group(tuple(column[kept] for column in group.keys), group.values[kept])


def _ranked(
    ids: NDArray[np.int64], name_of: Callable[[int], Any]
) -> tuple[tuple[Any, ...], NDArray[np.int64]]:
    """Sort the names of the ids in use; give them, and a table from id to place."""
    table = np.zeros(int(ids.max()) + 1 if len(ids) else 0, np.int64)
    table[ids] = 1
    used = np.flatnonzero(table)
    names = [name_of(one) for one in used.tolist()]
    unique = tuple(sorted(set(names)))
    place = {name: number for number, name in enumerate(unique)}
    table[used] = [place[name] for name in names]
    return unique, table


def _named(group: Group, *tables: NDArray[np.int64]) -> Group:
    """Replace the first keys by their places in the tables, and add up what has become equal."""
    if not len(group.values):
        return group
    renamed = tuple(table[key] for table, key in zip(tables, group.keys, strict=False))
    return summed(Group(renamed + group.keys[len(tables) :], group.values))


def _note_order(note: Note) -> tuple[int, int, tuple[tuple[str, str], ...], str]:
    return note.time_ns, note.type_id, note.labels, repr(note.fields)


def build(header: Header, names: Names, groups: Groups, notes: tuple[Note, ...]) -> SliceSummary:
    """Make the one summary that these facts have."""
    groups = Groups(*(without_zeros(group) for group in groups))
    series, place = _ranked(np.concatenate([group.keys[0] for group in groups]), names.series)
    cause_ids = [group.keys[1] for group in (groups.causes, groups.sides, groups.failures, groups.callers)]
    causes, cause_place = _ranked(np.concatenate([*cause_ids, groups.callers.keys[2]]), names.cause)
    stage_ids = np.concatenate([group.keys[1] for group in (groups.latency, groups.sums, groups.scores)])
    stages, stage_place = _ranked(stage_ids, names.stage)
    in_order = Groups(
        counts=_named(groups.counts, place),
        bins=_named(groups.bins, place),
        ends=_named(groups.ends, place),
        causes=_named(groups.causes, place, cause_place),
        latency=_named(groups.latency, place, stage_place),
        sums=_named(groups.sums, place, stage_place),
        sides=_named(groups.sides, place, cause_place),
        failures=_named(groups.failures, place, cause_place),
        callers=_named(groups.callers, place, cause_place, cause_place),
        scores=_named(groups.scores, place, stage_place),
    )
    counts = np.zeros((len(series), len(Count)), np.int64)
    counts[in_order.counts.keys[0]] = in_order.counts.values
    return summary_of(header, Lists(series, causes, stages), counts, in_order[1:], notes)


def summary_of(
    header: Header,
    lists: Lists,
    counts: NDArray[np.int64],
    groups: tuple[Group, ...],
    notes: tuple[Note, ...],
) -> SliceSummary:
    """Lay out facts that are in order, each key once, none zero; keys are rows of the lists.

    `counts` has a row for every series, `groups` are those of `Groups` after the first.
    """
    columns: dict[str, Any] = dict(NOTHING)
    for group, layout in zip(groups, LAYOUT, strict=True):
        if len(group.values):
            columns |= _laid_out(group, layout)
    return SliceSummary(
        *header,
        series=lists.series,
        counts=counts,
        causes=lists.causes,
        stages=lists.stages,
        notes=tuple(sorted(notes, key=_note_order)),
        **columns,
    )


def _laid_out(group: Group, layout: tuple[Column, ...]) -> dict[str, NDArray[Any]]:
    """Give keys and values as columns by name, each with memory of its own."""
    columns = (*group.keys, *group.values.T)
    return {one.name: column.astype(one.kind) for one, column in zip(layout, columns, strict=True)}


def is_empty(summary: SliceSummary) -> bool:
    """Say whether a summary states nothing."""
    return not summary.series and not summary.notes


def _joined(
    summaries: Sequence[SliceSummary], layout: tuple[Column, ...], offsets: dict[int, list[int]]
) -> Group:
    """Put the rows of all summaries one after another; `offsets` by summary are added to rows of lists."""
    rows = [len(getattr(one, layout[0].name)) for one in summaries]
    keys: list[NDArray[np.int64]] = []
    values: list[NDArray[np.int64]] = []
    for column in layout:
        whole = np.concatenate([getattr(one, column.name) for one in summaries]).astype(np.int64)
        if column.of in offsets:
            whole += np.repeat(offsets[column.of], rows)
        (values if column.of == VALUE else keys).append(whole)
    return Group(tuple(keys), np.stack(values, axis=1))


def _offsets(lists: Iterable[Sequence[Any]]) -> list[int]:
    """Give where each list begins when they come one after another."""
    return [0, *itertools.accumulate(map(len, lists))][:-1]


def merge_summaries(summaries: Sequence[SliceSummary]) -> SliceSummary:
    """Add up one or more summaries of one slice, exactly and whatever their order.

    The result belongs to no partition (MERGED_PARTITION) unless all parts are of one. Its revision is the
    highest.
    """
    first = summaries[0]
    assert all(
        (one.start_ns, one.slice_ns, one.labels) == (first.start_ns, first.slice_ns, first.labels)
        for one in summaries
    ), "summaries of different slices or labels do not add up"
    if len(summaries) == 1:
        return first
    series = [name for one in summaries for name in one.series]
    causes = [name for one in summaries for name in one.causes]
    stages = [name for one in summaries for name in one.stages]
    offsets = {
        SERIES: _offsets(one.series for one in summaries),
        CAUSES: _offsets(one.causes for one in summaries),
        STAGES: _offsets(one.stages for one in summaries),
    }
    counts = Group((np.arange(len(series)),), np.concatenate([one.counts for one in summaries]))
    groups = Groups(counts, *(_joined(summaries, layout, offsets) for layout in LAYOUT))
    partitions = {(one.topic, one.partition) for one in summaries}
    topic = min(one.topic for one in summaries)
    partition = first.partition if len(partitions) == 1 else MERGED_PARTITION
    revision = max(one.revision for one in summaries)
    header = Header(topic, partition, first.start_ns, first.slice_ns, revision, first.labels)
    names = Names(series.__getitem__, causes.__getitem__, stages.__getitem__)
    notes = tuple(note for one in summaries for note in one.notes)
    return build(header, names, groups, notes)


def difference(new: SliceSummary, old: SliceSummary) -> SliceSummary:
    """Say what a higher revision adds to a lower one: added to `old`, it gives `new`.

    Only facts that differ have rows; all names of both are kept.
    """
    values = [column.name for layout in LAYOUT for column in layout if column.of == VALUE]
    negated = {name: -getattr(old, name) for name in values}
    change = merge_summaries([new, old._replace(counts=-old.counts, notes=(), **negated)])
    return change._replace(notes=tuple(note for note in new.notes if note not in old.notes))
