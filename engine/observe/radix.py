"""Row numbers in the order of integer keys, digit by digit: time grows with the rows alone.

The facts of a slice are thousands of short keys. Rejected: numpy.lexsort, which sorts by comparing, once for
every column.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engine.kernel import kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DIGIT_BITS = 11
DIGITS = 1 << DIGIT_BITS
DIGIT_MASK = DIGITS - 1
PACKED_BITS_MAX = 62


@kernel
def radix_order(
    keys: NDArray[np.int64], order: NDArray[np.int64], spare: NDArray[np.int64], starts: NDArray[np.int64]
) -> None:
    """Write row numbers to `order` in ascending order of `keys`, none of them negative; equal ones stay.

    All are (rows,), but `starts` (DIGITS,), which like `spare` is working memory.
    """
    highest = np.int64(0)
    for row in range(len(keys)):
        order[row] = row
        highest = max(highest, keys[row])
    shift = 0
    while highest >> shift > 0:
        starts[:] = 0
        for row in range(len(keys)):
            starts[(keys[row] >> shift) & DIGIT_MASK] += 1
        place = np.int64(0)
        for digit in range(DIGITS):
            many = starts[digit]
            starts[digit] = place
            place += many
        for row in range(len(keys)):
            spare[row] = order[row]
        for row in range(len(keys)):
            digit = (keys[spare[row]] >> shift) & DIGIT_MASK
            order[starts[digit]] = spare[row]
            starts[digit] += 1
        shift += DIGIT_BITS


@kernel
def pack(columns: NDArray[np.int64], whole: NDArray[np.int64]) -> bool:
    """Put the columns (columns, rows) of a key into one number a row, `whole` (rows,), that sorts as they do.

    There is at least one row. Gives False where they do not fit.
    """
    whole[:] = 0
    room = PACKED_BITS_MAX
    for column in range(columns.shape[0]):
        low = high = columns[column, 0]
        for row in range(len(whole)):
            low, high = min(low, columns[column, row]), max(high, columns[column, row])
        span, bits = high - low, 0
        if span < 0 or span >> room > 0:  # The first: it does not even fit in int64.
            return False
        while span >> bits > 0:
            bits += 1
        room -= bits
        for row in range(len(whole)):
            whole[row] = whole[row] << bits | (columns[column, row] - low)
    return True


def packed(keys: Sequence[NDArray[np.int64]]) -> NDArray[np.int64] | None:
    """Put the columns (rows,) of a key into one number a row that sorts as they do; None: it does not fit."""
    whole = np.empty(len(keys[0]), np.int64)
    return whole if pack(np.array(keys), whole) else None


def order_of(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the row numbers in ascending order of keys that are not negative."""
    order = np.empty(len(keys), np.int64)
    radix_order(keys, order, np.empty_like(order), np.empty(DIGITS, np.int64))
    return order
