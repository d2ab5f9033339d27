"""Sparse facts of rows: values at flat positions (row x width + column), added up position by position.

What is added to a window is taken off again later, so each slice is kept as few positions as it has: sorted,
each once, none that came to nothing. They are added up in a table of every position, of which only the blocks
that anything fell in are read again. Rejected: sorting the positions, which costs more than all else that is
done to them; putting them in order by counting first, which is a pass over all facts more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine.kernel import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BLOCK_BITS = 5
BLOCK = 1 << BLOCK_BITS


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


class Sums(NamedTuple):
    """A table of every position, while facts are added up."""

    dense: NDArray[np.int32]  # (blocks x BLOCK,)
    is_touched: NDArray[np.bool_]  # (blocks,)


def new_sums(positions: int) -> Sums:
    """Make an empty table for positions below `positions`; what is never written takes no memory."""
    blocks = -(-positions // BLOCK)
    return Sums(np.zeros(blocks * BLOCK, np.int32), np.zeros(blocks, np.bool_))


class SumTable:
    """One table that is added up in again and again: whoever reads it leaves it empty.

    A table of its own for every slice costs more to clear than the few blocks that a slice falls in.
    """

    def __init__(self) -> None:
        """Begin without positions."""
        self._sums = new_sums(0)

    def empty(self, positions: int) -> Sums:
        """Give the table, empty, for positions below `positions`; it may have more."""
        if positions > len(self._sums.dense):
            self._sums = new_sums(positions)
        return self._sums

    def drop(self) -> None:
        """Forget what was added up and not read."""
        self._sums = new_sums(len(self._sums.dense))


@kernel
def add_at(sums: Sums, position: int, value: int) -> None:
    """Add a value at a position."""
    sums.dense[position] += value
    sums.is_touched[position >> BLOCK_BITS] = True


@kernel
def add_all(sums: Sums, flat: NDArray[np.int32], values: NDArray[np.int32]) -> None:
    """Add values (facts,) at positions, which may repeat."""
    for k in range(len(flat)):
        add_at(sums, flat[k], values[k])


@kernel
def read_sums(sums: Sums, into: NDArray[np.int32]) -> int:
    """Write each position whose sum is not 0, in order, and its sum to `into` (2, touched positions + 1).

    Gives how many there are. Each is written at the next place, which only a sum that is not 0 uses up. The
    table is empty afterwards.
    """
    written = 0
    for block in range(len(sums.is_touched)):
        if sums.is_touched[block]:
            for position in range(block << BLOCK_BITS, (block + 1) << BLOCK_BITS):
                value = sums.dense[position]
                into[0, written] = position
                into[1, written] = value
                written += value != 0
                sums.dense[position] = 0
            sums.is_touched[block] = False
    return written


@kernel
def add_sums(sums: Sums, into: NDArray[np.int64], sign: int) -> None:
    """Add `sign` x each sum to `into`, which has room for those that are not 0; empty the table."""
    for block in range(len(sums.is_touched)):
        if sums.is_touched[block]:
            for position in range(block << BLOCK_BITS, (block + 1) << BLOCK_BITS):
                if sums.dense[position] != 0:
                    into[position] += sign * sums.dense[position]
                    sums.dense[position] = 0
            sums.is_touched[block] = False


def summed_up(start_ns: int, sums: Sums) -> Contribution:
    """Make the facts of one slice of what was added up: each position once, in order."""
    into = np.empty((2, BLOCK * int(np.count_nonzero(sums.is_touched)) + 1), np.int32)
    many = read_sums(sums, into)
    # Copies: an hour of them is kept, and `into` has room for more.
    return Contribution(start_ns, into[0, :many].copy(), into[1, :many].copy())


def contribution_of(start_ns: int, flat: NDArray[np.int32], values: NDArray[np.int32]) -> Contribution:
    """Make the facts of one slice: each position once, in order."""
    sums = new_sums(int(flat.max()) + 1 if len(flat) else 0)
    add_all(sums, flat, values)
    return summed_up(start_ns, sums)


def merged(contributions: Sequence[Contribution]) -> Contribution:
    """Merge contributions into one, dated as the first."""
    if len(contributions) == 1:
        return contributions[0]
    sums = new_sums(max(int(one.flat[-1]) + 1 if len(one.flat) else 0 for one in contributions))
    for one in contributions:
        add_all(sums, one.flat, one.values)
    return summed_up(contributions[0].start_ns, sums)
