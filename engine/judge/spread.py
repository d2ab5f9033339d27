"""Facts of series, repeated for every window row that they count in: total, each label value, the series."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel
from engine.observe.latency import OCTAVE_BITS, OCTAVE_MASK, PER_OCTAVE

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNKNOWN = -1


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


class SeriesFacts(NamedTuple):
    """Latencies of series, by stage and bucket; arrays (facts,)."""

    series: NDArray[np.int32]
    stage: NDArray[np.int64]
    bucket: NDArray[np.int16]
    many: NDArray[np.int64]


def places(start: NDArray[np.int64], series: NDArray[np.int32]) -> int:
    """Give how many facts there will be when each is repeated for every row of its series."""
    return int((start[series + 1] - start[series]).sum())


@kernel
def spread_facts(
    facts: SeriesFacts,
    start: NDArray[np.int64],
    rows: NDArray[np.int32],
    number: NDArray[np.int64],
    page_of: NDArray[np.int32],
    into: NDArray[np.int32],
) -> int:
    """Write position and count of each fact, once for every row of its series, to `into` (2, places).

    `number` (rows, stages) says which sketch a row and a stage have, `page_of` (sketches, OCTAVES) which page
    an octave of it has; give UNKNOWN if one has none yet, else how many were written.
    """
    written = 0
    for k in range(len(facts.series)):
        series, stage = facts.series[k], facts.stage[k]
        for place in range(start[series], start[series + 1]):
            sketch = number[rows[place], stage]
            if sketch < 0 or sketch >= len(page_of):
                return UNKNOWN
            page = page_of[sketch, facts.bucket[k] >> OCTAVE_BITS]
            if page < 0:
                return UNKNOWN
            into[0, written] = page * PER_OCTAVE + (facts.bucket[k] & OCTAVE_MASK)
            into[1, written] = facts.many[k]
            written += 1
    return written
