"""Facts of series, repeated for every window row that they count in: total, each label value, the series."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.judge.sketch_pages import page_at
from engine.judge.sparse import add_at
from engine.kernel import kernel
from engine.observe.latency import OCTAVE_BITS, OCTAVE_MASK, OCTAVES, PER_OCTAVE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.sketch_pages import Pages, SketchPages
    from engine.judge.sparse import Sums, SumTable
    from engine.judge.stage_rows import StageRows


class Spread:
    """Items repeated once per row they count in: `item` says which item, `row` which row."""

    __slots__ = ("item", "row")

    def __init__(self, item: NDArray[np.int64], row: NDArray[np.int64]) -> None:
        """Keep both arrays; they have the same length."""
        self.item = item
        self.row = row


def spread_over_rows(start: NDArray[np.int64], rows: NDArray[np.int32], series: NDArray[np.int32]) -> Spread:
    """Repeat each item for every row of its series."""
    many = start[series + 1] - start[series]
    item = np.repeat(np.arange(len(series)), many)
    first = np.repeat(start[series] - (np.cumsum(many) - many), many)
    return Spread(item, rows[first + np.arange(len(item))].astype(np.int64))


@kernel
def spread_counts(
    series: NDArray[np.int32],
    counts: NDArray[np.int64],
    start: NDArray[np.int64],
    rows: NDArray[np.int32],
    sums: Sums,
) -> None:
    """Add counts, (series, columns), to `sums` at row x columns + column, for every row of the series.

    The rows of series s are `rows[start[s]:start[s + 1]]`.
    """
    columns = counts.shape[1]
    for item in range(len(series)):
        for place in range(start[series[item]], start[series[item] + 1]):
            for column in range(columns):
                add_at(sums, rows[place] * columns + column, counts[item, column])


class SeriesFacts(NamedTuple):
    """Latencies of series; arrays (facts,). Those of one series and stage lie together, by bucket."""

    series: NDArray[np.int32]
    stage: NDArray[np.int16]
    bucket: NDArray[np.int16]
    many: NDArray[np.int64]


class Sketches(NamedTuple):
    """Which sketch each row and stage have."""

    number: NDArray[np.int64]  # (rows, columns); -1: none yet
    column: NDArray[np.int64]  # (stages,): of `number`


@kernel
def spread_facts(
    facts: SeriesFacts,
    start: NDArray[np.int64],
    rows: NDArray[np.int32],
    sketches: Sketches,
    pages: Pages,
    sums: Sums,
) -> bool:
    """Add the count of each fact to `sums`, once for every row of its series, at its place in the pages.

    Octaves that nothing was counted in before are given pages. Gives False where a row has no sketch yet, or
    where there may be no room for pages: `sums` is half added up then.
    """
    first = 0
    while first < len(facts.series):
        series, stage = facts.series[first], facts.stage[first]
        end = first + 1
        while end < len(facts.series) and facts.series[end] == series and facts.stage[end] == stage:
            end += 1
        if pages.used[0] + OCTAVES * (start[series + 1] - start[series]) > len(pages.row_of):
            return False
        for place in range(start[series], start[series + 1]):
            sketch = sketches.number[rows[place], sketches.column[stage]]
            if sketch < 0:
                return False
            octave, begin = -1, 0
            for fact in range(first, end):
                bucket = int(facts.bucket[fact])
                if bucket >> OCTAVE_BITS != octave:
                    octave = bucket >> OCTAVE_BITS
                    begin = page_at(pages, sketch, octave) << OCTAVE_BITS
                add_at(sums, begin + (bucket & OCTAVE_MASK), facts.many[fact])
        first = end
    return True


@kernel
def reach_of(start: NDArray[np.int64], rows: NDArray[np.int32]) -> tuple[int, int]:
    """Give how many rows there are up to the last one, and the most that one series has."""
    rows_max, most = 0, 0
    for row in rows:
        rows_max = max(rows_max, row + 1)
    for series in range(len(start) - 1):
        most = max(most, start[series + 1] - start[series])
    return rows_max, most


def added_up(
    facts: SeriesFacts,
    members: tuple[NDArray[np.int64], NDArray[np.int32]],
    known: StageRows,
    stages: tuple[str, ...],
    pages: SketchPages,
    table: SumTable,
) -> Sums:
    """Add up facts at their places in the pages, numbering the sketches and pages that are new.

    `members` is where the rows of each series begin, and the rows; `stages` the names of the facts' stages;
    `table` is what they are added up in.
    """
    start, rows = members
    column = known.places(stages)
    rows_max, most = reach_of(start, rows)
    while True:
        number = known.numbers(rows_max)
        room = pages.room(len(known.pairs), OCTAVES * most)
        sums = table.empty(PER_OCTAVE * len(room.row_of))
        is_done = spread_facts(facts, start, rows, Sketches(number, column), room, sums)
        pages.many = int(room.used[0])
        if is_done:
            return sums
        table.drop()
        is_there = np.zeros((len(start), len(stages)), np.bool_)
        is_there[facts.series, facts.stage] = True
        series, stage = np.nonzero(is_there)
        wide = spread_over_rows(start, rows, series.astype(np.int32))
        known.ids(wide.row, stage[wide.item].astype(np.int16), stages)
