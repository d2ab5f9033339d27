"""What a slice adds up to while its rows are absorbed: counts, bins, ends, causes and latency, by packed key.

A key holds the series in its lowest 20 bits and the rest above them, so that one int64 names a fact.
Ends are kept by age in slices, not by time: that is what fits, and what the summary says again as times.
Rejected: one record per event sorted afterwards, which costs more than the whole kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel
from engine.observe.merge import Group, Groups
from engine.observe.summary import Count
from engine.observe.tally import Tally, grown, has_room, items, new_tally, row_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

SERIES_BITS = 20
SERIES_MASK = (1 << SERIES_BITS) - 1
KIND_BITS = 3
START_AGE_BITS = 20
ANSWER_AGE_BITS = 19
STAGE_BITS = 16
# Ages are stored one higher, 0 being unknown; what is older than fits is unknown.
START_AGES = (1 << START_AGE_BITS) - 2
ANSWER_AGES = (1 << ANSWER_AGE_BITS) - 2
COUNTS = len(Count)
ARRIVALS, LEVEL, ANSWERS, ANSWERED_LEVEL = range(4)
ROW_KEYS = 8  # no row, and no call that leaves, adds more keys than this to any tally but those of latency


class Facts(NamedTuple):
    """The facts of one slice, or of what came late for it."""

    counts: Tally  # key: series; len(Count) columns
    bins: Tally  # bin, series: ARRIVALS, LEVEL, ANSWERS, ANSWERED_LEVEL
    ends: Tally  # answer age, start age, kind, series
    causes: Tally  # cause, series
    latency: Tally  # bucket, stage, series
    sums: Tally  # stage, series: microseconds


def new_facts(like: Facts | None = None) -> Facts:
    """Make empty facts, with room for as many keys as `like` has."""
    columns = (COUNTS, 4, 1, 1, 1, 1)
    keys = tuple(int(tally.used[0]) for tally in like) if like else (0,) * len(columns)
    return Facts(*(new_tally(width, room) for width, room in zip(columns, keys, strict=True)))


def grown_facts(facts: Facts, measures: int) -> Facts:
    """Give the same facts with room for one more row with so many latencies."""
    rooms = (ROW_KEYS, ROW_KEYS, ROW_KEYS, ROW_KEYS, measures, measures)
    return Facts(*(grown(tally, room) for tally, room in zip(facts, rooms, strict=True)))


@kernel
def facts_have_room(facts: Facts, measures: int) -> bool:
    """Say whether one more row with so many latencies fits."""
    return (
        has_room(facts.counts, ROW_KEYS)
        and has_room(facts.bins, ROW_KEYS)
        and has_room(facts.ends, ROW_KEYS)
        and has_room(facts.causes, ROW_KEYS)
        and has_room(facts.latency, measures)
        and has_room(facts.sums, measures)
    )


@kernel
def add_count(facts: Facts, series: int, column: int, amount: int) -> None:
    """Add to a column of `Count`."""
    facts.counts.values[row_of(facts.counts, series), column] += amount


@kernel
def add_to_bin(facts: Facts, series: int, bin_index: int, column: int, amount: int) -> None:
    """Add to a column of a 100 ms bin."""
    facts.bins.values[row_of(facts.bins, (bin_index << SERIES_BITS) | series), column] += amount


@kernel
def add_end(facts: Facts, series: int, kind: int, start_age: int, answer_age: int) -> None:
    """Count a call that left flight, ages in slices before this one (-1: unknown)."""
    start = start_age + 1 if 0 <= start_age <= START_AGES else 0
    answer = answer_age + 1 if 0 <= answer_age <= ANSWER_AGES else 0
    key = (((answer << START_AGE_BITS) | start) << KIND_BITS | kind) << SERIES_BITS | series
    facts.ends.values[row_of(facts.ends, key), 0] += 1


@kernel
def add_cause(facts: Facts, series: int, cause: int) -> None:
    """Count how an attempt ended; -1 is not counted."""
    if cause >= 0:
        facts.causes.values[row_of(facts.causes, (cause << SERIES_BITS) | series), 0] += 1


@kernel
def add_latency(facts: Facts, series: int, stage: int, bucket: int, micros: int) -> None:
    """Count one latency."""
    key = (((bucket << STAGE_BITS) | stage) << SERIES_BITS) | series
    facts.latency.values[row_of(facts.latency, key), 0] += 1
    facts.sums.values[row_of(facts.sums, (stage << SERIES_BITS) | series), 0] += micros


def groups_of(facts: Facts, start_ns: int, slice_ns: int) -> Groups:
    """Unpack the keys; ages become the starts of slices before `start_ns`."""
    (counts, counted), (bins, changes) = items(facts.counts), items(facts.bins)
    (ends, left), (causes, caused) = items(facts.ends), items(facts.causes)
    (latency, measured), (sums, micros) = items(facts.latency), items(facts.sums)
    ages = ends >> (SERIES_BITS + KIND_BITS)
    start = _slice_start(ages & ((1 << START_AGE_BITS) - 1), start_ns, slice_ns)
    answer = _slice_start(ages >> START_AGE_BITS, start_ns, slice_ns)
    kind = (ends >> SERIES_BITS) & ((1 << KIND_BITS) - 1)
    above = latency >> SERIES_BITS
    return Groups(
        Group((counts & SERIES_MASK,), counted),
        Group((bins & SERIES_MASK, bins >> SERIES_BITS), changes),
        Group((ends & SERIES_MASK, start, answer, kind), left),
        Group((causes & SERIES_MASK, causes >> SERIES_BITS), caused),
        Group((latency & SERIES_MASK, above & ((1 << STAGE_BITS) - 1), above >> STAGE_BITS), measured),
        Group((sums & SERIES_MASK, sums >> SERIES_BITS), micros),
    )


def _slice_start(ages: NDArray[np.int64], start_ns: int, slice_ns: int) -> NDArray[np.int64]:
    return np.where(ages > 0, start_ns - (ages - 1) * slice_ns, -1)
