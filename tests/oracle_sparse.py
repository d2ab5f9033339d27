"""Slow, obvious twins of what adds up sparse facts: by position, by key, by row."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def sum_by_position(flat: Sequence[int], values: Sequence[int]) -> list[tuple[int, int]]:
    """Give each position whose sum is not 0, with its sum, in order (add_at, add_all, read_sums)."""
    sums: dict[int, int] = defaultdict(int)
    for at, value in zip(flat, values, strict=True):
        sums[at] += value
    return sorted((at, value) for at, value in sums.items() if value)


def mark_rows(flat: Sequence[int], row_of: Sequence[int], page: int) -> list[int]:
    """Give the rows of positions, each once; `row_of` says those of pages of a length."""
    return sorted({row_of[at // page] for at in flat})


def reach_of(rows_of: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Give how many rows there are up to the last one, and the most that one series has."""
    rows_max = max((row + 1 for rows in rows_of for row in rows), default=0)
    return rows_max, max(map(len, rows_of), default=0)


def summed(facts: Sequence[tuple[int, int, int, int]]) -> list[tuple[int, ...]]:
    """Add up the last two of (key, key, value, value) by key, in order; without sums of zeros.

    (add_runs, is_anything, rows_in_use)
    """
    sums: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    for *key, one, other in facts:
        pair = sums[key[0], key[1]]
        pair[0] += one
        pair[1] += other
    return sorted((*key, *pair) for key, pair in sums.items() if any(pair))


def spread_counts(
    series: Sequence[int], counts: Sequence[Sequence[int]], rows_of: Sequence[Sequence[int]]
) -> dict[tuple[int, int], int]:
    """Add up the columns of each series in each of its rows, by row and column."""
    sums: dict[tuple[int, int], int] = defaultdict(int)
    for one, row_counts in zip(series, counts, strict=True):
        for row in rows_of[one]:
            for column, value in enumerate(row_counts):
                sums[row, column] += value
    return {key: value for key, value in sums.items() if value}


def added_up(
    facts: Sequence[tuple[int, int, int, int]], rows_of: Sequence[Sequence[int]], stages: Sequence[str]
) -> dict[tuple[int, str, int], int]:
    """Add up (series, stage, bucket, count) in each row of the series, by row, stage's name and bucket.

    (spread_facts, page_at)
    """
    sums: dict[tuple[int, str, int], int] = defaultdict(int)
    for series, stage, bucket, count in facts:
        for row in rows_of[series]:
            sums[row, stages[stage], bucket] += count
    return {key: value for key, value in sums.items() if value}


def radix_order(keys: Sequence[int]) -> list[int]:
    """Sort row numbers by key; equal ones stay in order."""
    return sorted(range(len(keys)), key=lambda row: keys[row])


def add_latency(
    latencies: Sequence[tuple[int, int, int, int]],
) -> tuple[Counter[tuple[int, int, int]], dict[tuple[int, int], int]]:
    """Count (series, stage, bucket, micros) by bucket as unload_latencies writes it, and add up the last."""
    counts: Counter[tuple[int, int, int]] = Counter()
    sums: dict[tuple[int, int], int] = defaultdict(int)
    for series, stage, bucket, micros in latencies:
        counts[series, stage, bucket] += 1
        sums[series, stage] += micros
    return counts, sums


def add_by_category(
    cuts: Sequence[Sequence[int]], facts: Sequence[tuple[int, int, int]], slots: int
) -> list[list[int]]:
    """Count (slot, bin, how many) by how many of the slot's cuts lie below the bin."""
    ranks = len(cuts[0]) if cuts else 0
    found = [[0] * (ranks + 1) for _ in range(slots)]
    for slot, bin_, many in facts:
        found[slot][sum(cut < bin_ for cut in cuts[slot])] += many
    return found


def add_to_bins(facts: Sequence[tuple[int, int, int]], rows: int, bins: int) -> list[list[int]]:
    """Count (row, bin, how many)."""
    table = [[0] * bins for _ in range(rows)]
    for row, bin_, many in facts:
        table[row][bin_] += many
    return table


def of_watched(
    facts: Sequence[tuple[int, int, int]], slot_of: Sequence[int], bins: Sequence[int]
) -> list[tuple[int, int, int]]:
    """Give the facts (row, bucket, how many) of rows with a slot as (slot, bin, how many).

    `bins` says the bin of each bucket (count_latencies, add_to_columns).
    """
    return [(slot_of[row], bins[bucket], many) for row, bucket, many in facts if slot_of[row] >= 0]


def add_up_from_the_last(table: Sequence[Sequence[float]]) -> list[list[float]]:
    """Add up what stands in each column of a row and behind it."""
    return [[math.fsum(row[k:]) for k in range(len(row) + 1)] for row in table]


def columns_beyond(above: Sequence[Sequence[float]], wanted: Sequence[float]) -> list[int]:
    """Count the columns of each row that are above what is wanted."""
    return [sum(one > most for one in row) for row, most in zip(above, wanted, strict=True)]


def fade_calls(
    recent: Any, past: Any, pending: int, keep: tuple[Any, Any], flags: tuple[Any, Any]
) -> tuple[float, float]:
    """Fade one place of two tables in the precision of what they hold (fade_tables)."""
    is_learned, is_usual_now = flags
    recent_after = float(recent * keep[0]) + pending
    past_after = float(past * keep[1]) + pending if is_learned else float(past)
    return recent_after, recent_after if is_usual_now else float(np.float32(past_after))
