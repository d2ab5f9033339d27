"""Sparse facts of rows: values at flat positions (row x width + column), added up position by position.

What is added to a window is taken off again later, so each slice is kept as few positions as it has: sorted,
each once. Rows are put together by counting, and each row is added up in one row of memory that stays in the
processor's first cache. Rejected: sorting the positions, which costs more than all else that is done to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine.kernel import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Contribution(NamedTuple):
    """Sparse facts of one slice or pane: `values` (int32) at flat positions (int32)."""

    start_ns: int
    flat: NDArray[np.int32]
    values: NDArray[np.int32]


@kernel
def scatter_add(dense: NDArray[Any], flat: NDArray[Any], values: NDArray[Any], sign: int) -> None:
    """Add `sign` x `values` to `dense` (all integers) at the positions `flat`; positions may repeat."""
    for k in range(len(flat)):
        dense[flat[k]] += sign * values[k]


class Summing(NamedTuple):
    """Working memory of `sum_by_position`."""

    first: NDArray[np.int64]  # (rows + 1,): zeros
    order: NDArray[np.int64]  # (facts,)
    row: NDArray[np.int32]  # (width,): zeros
    is_touched: NDArray[np.bool_]  # (width,): False


@kernel
def sum_by_position(
    flat: NDArray[np.int32], values: NDArray[np.int32], work: Summing, into: NDArray[np.int32]
) -> int:
    """Write each position once with its sum, in order, to `into` (2, facts); give how many there are."""
    width, first, order = len(work.row), work.first, work.order
    for k in range(len(flat)):
        first[flat[k] // width + 1] += 1
    for row in range(1, len(first)):
        first[row] += first[row - 1]
    for k in range(len(flat)):
        row = flat[k] // width
        order[first[row]] = k
        first[row] += 1
    written, at = 0, 0
    for row in range(len(first) - 1):
        lowest, highest = width, -1
        while at < first[row]:
            column = flat[order[at]] - row * width
            work.row[column] += values[order[at]]
            work.is_touched[column] = True
            lowest, highest = min(lowest, column), max(highest, column)
            at += 1
        for column in range(lowest, highest + 1):
            if work.is_touched[column]:
                into[0, written] = row * width + column
                into[1, written] = work.row[column]
                work.row[column] = 0
                work.is_touched[column] = False
                written += 1
    return written


def contribution_of(
    start_ns: int, flat: NDArray[np.int32], values: NDArray[np.int32], width: int
) -> Contribution:
    """Make the facts of one slice, of rows `width` wide: each position once, in order."""
    if not len(flat):
        return Contribution(start_ns, flat, values)
    into = np.empty((2, len(flat)), np.int32)
    work = Summing(
        first=np.zeros(int(flat.max()) // width + 2, np.int64),
        order=np.empty(len(flat), np.int64),
        row=np.zeros(width, np.int32),
        is_touched=np.zeros(width, np.bool_),
    )
    many = sum_by_position(flat, values, work, into)
    # Copies: an hour of them is kept, and `into` is as long as the facts were before.
    return Contribution(start_ns, into[0, :many].copy(), into[1, :many].copy())


def merged(contributions: Sequence[Contribution], width: int) -> Contribution:
    """Merge contributions of rows `width` wide into one, dated as the first."""
    if len(contributions) == 1:
        return contributions[0]
    flat = np.concatenate([one.flat for one in contributions])
    values = np.concatenate([one.values for one in contributions])
    return contribution_of(contributions[0].start_ns, flat, values, width)


@kernel
def mark_rows(is_marked: NDArray[np.bool_], flat: NDArray[np.int32], width: int) -> None:
    """Set `is_marked[row]` for the row of each position; positions in order are cheapest."""
    row, end = -1, 0
    for k in range(len(flat)):
        if row < 0 or not row * width <= flat[k] < end:
            row = flat[k] // width
            end = (row + 1) * width
            is_marked[row] = True
