"""Summaries add up by name: one slice over partitions, or a late addition to what was published.

Every way to a summary ends in `build`, which sorts names and rows and leaves out what is zero. So the result
does not depend on the order of the parts, nor on process-local ids, and equal facts give equal summaries.
Rejected: adding in the order of arrival, which makes equal summaries differ in their bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel
from engine.observe.radix import order_of, packed
from engine.observe.summary import Count, SliceSummary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
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
    return summary_of(header, Lists(series, causes, stages), in_order, notes)


def summary_of(header: Header, lists: Lists, groups: Groups, notes: tuple[Note, ...]) -> SliceSummary:
    """Lay out facts that are in order, each key once, none zero; keys are rows of the lists."""
    counts, bins, ends, cause, latency, sums, side, failure, caller, score = groups
    table = np.zeros((len(lists.series), len(Count)), np.int64)
    table[counts.keys[0]] = counts.values
    return SliceSummary(
        *header, series=lists.series, counts=table,
        bin_series=bins.keys[0].astype(np.int32), bin_index=bins.keys[1].astype(np.int16),
        bin_arrivals=bins.values[:, 0].astype(np.int32), bin_level=bins.values[:, 1].astype(np.int32),
        bin_answers=bins.values[:, 2].astype(np.int32), bin_answered_level=bins.values[:, 3].astype(np.int32),
        bin_declines=bins.values[:, 4].astype(np.int32),
        end_series=ends.keys[0].astype(np.int32), end_start_ns=ends.keys[1].copy(),
        end_answer_ns=ends.keys[2].copy(), end_kind=ends.keys[3].astype(np.uint8),
        end_count=ends.values[:, 0].astype(np.int32),
        causes=lists.causes, cause_series=cause.keys[0].astype(np.int32),
        cause_index=cause.keys[1].astype(np.int32), cause_count=cause.values[:, 0].copy(),
        side_series=side.keys[0].astype(np.int32), side_cause=side.keys[1].astype(np.int32),
        side_count=side.values[:, 0].copy(), failure_series=failure.keys[0].astype(np.int32),
        failure_cause=failure.keys[1].astype(np.int32), failure_answered=failure.keys[2].astype(np.uint8),
        failure_bin=failure.keys[3].astype(np.int32), failure_count=failure.values[:, 0].copy(),
        caller_series=caller.keys[0].astype(np.int32), caller_cause=caller.keys[1].astype(np.int32),
        caller_end=caller.keys[2].astype(np.int32), caller_count=caller.values[:, 0].copy(),
        score_series=score.keys[0].astype(np.int32), score_stage=score.keys[1].astype(np.int16),
        score_bin=score.keys[2].astype(np.int16), score_count=score.values[:, 0].copy(),
        stages=lists.stages, latency_series=latency.keys[0].astype(np.int32),
        latency_stage=latency.keys[1].astype(np.int16), latency_bucket=latency.keys[2].astype(np.int16),
        latency_count=latency.values[:, 0].copy(), sum_series=sums.keys[0].astype(np.int32),
        sum_stage=sums.keys[1].astype(np.int16), sum_us=sums.values[:, 0].copy(),
        notes=tuple(sorted(notes, key=_note_order)),
    )  # fmt: skip


def is_empty(summary: SliceSummary) -> bool:
    """Say whether a summary states nothing."""
    return not summary.series and not summary.notes


def _columns(*columns: NDArray[Any]) -> NDArray[np.int64]:
    return np.stack(columns, axis=1).astype(np.int64)


def _groups(one: SliceSummary, series: int, cause: int, stage: int) -> Groups:
    """Give the facts of a summary, its numbers moved on by the given offsets."""
    wide = {name: getattr(one, name).astype(np.int64) for name in (
        "bin_series", "bin_index", "end_series", "end_kind", "cause_series", "cause_index", "latency_series",
        "latency_stage", "latency_bucket", "sum_series", "sum_stage", "side_series", "side_cause",
        "failure_series", "failure_cause", "failure_answered", "failure_bin", "caller_series",
        "caller_cause", "caller_end", "score_series", "score_stage", "score_bin")}  # fmt: skip
    ends = (wide["end_series"] + series, one.end_start_ns, one.end_answer_ns, wide["end_kind"])
    latency = (wide["latency_series"] + series, wide["latency_stage"] + stage, wide["latency_bucket"])
    bins = _columns(
        one.bin_arrivals, one.bin_level, one.bin_answers, one.bin_answered_level, one.bin_declines
    )
    failures = (wide["failure_series"] + series, wide["failure_cause"] + cause, wide["failure_answered"],
                wide["failure_bin"])  # fmt: skip
    callers = (wide["caller_series"] + series, wide["caller_cause"] + cause, wide["caller_end"] + cause)
    scores = (wide["score_series"] + series, wide["score_stage"] + stage, wide["score_bin"])
    return Groups(
        Group((np.arange(len(one.series), dtype=np.int64) + series,), one.counts),
        Group((wide["bin_series"] + series, wide["bin_index"]), bins),
        Group(ends, _columns(one.end_count)),
        Group((wide["cause_series"] + series, wide["cause_index"] + cause), _columns(one.cause_count)),
        Group(latency, _columns(one.latency_count)),
        Group((wide["sum_series"] + series, wide["sum_stage"] + stage), _columns(one.sum_us)),
        Group((wide["side_series"] + series, wide["side_cause"] + cause), _columns(one.side_count)),
        Group(failures, _columns(one.failure_count)),
        Group(callers, _columns(one.caller_count)),
        Group(scores, _columns(one.score_count)),
    )


def _joined(groups: Sequence[Group]) -> Group:
    keys = tuple(np.concatenate(column) for column in zip(*(group.keys for group in groups), strict=True))
    return Group(keys, np.concatenate([group.values for group in groups]))


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
    series: list[tuple[str, ...]] = []
    causes: list[Cause] = []
    stages: list[str] = []
    parts = []
    for one in summaries:
        parts.append(_groups(one, len(series), len(causes), len(stages)))
        series += one.series
        causes += one.causes
        stages += one.stages
    partitions = {(one.topic, one.partition) for one in summaries}
    topic = min(one.topic for one in summaries)
    partition = first.partition if len(partitions) == 1 else MERGED_PARTITION
    revision = max(one.revision for one in summaries)
    header = Header(topic, partition, first.start_ns, first.slice_ns, revision, first.labels)
    names = Names(series.__getitem__, causes.__getitem__, stages.__getitem__)
    notes = tuple(note for one in summaries for note in one.notes)
    return build(header, names, Groups(*(_joined(group) for group in zip(*parts, strict=True))), notes)
