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
def span_of(key: NDArray[np.int64], span: NDArray[np.int64]) -> None:
    """Write the least and the greatest of a key (rows,) to `span` (2,); there is at least one row."""
    low = high = key[0]
    for row in range(1, len(key)):
        low, high = min(low, key[row]), max(high, key[row])
    span[0], span[1] = low, high


@kernel
def append_key(whole: NDArray[np.int64], key: NDArray[np.int64], low: int, bits: int) -> None:
    """Put so many bits of what a key (rows,) is above `low` behind what is in `whole` (rows,)."""
    for row in range(len(key)):
        whole[row] = whole[row] << bits | (key[row] - low)


def packed(keys: Sequence[NDArray[np.int64]]) -> NDArray[np.int64] | None:
    """Put the columns (rows,) of a key into one number a row that sorts as they do; None: it does not fit."""
    spans = np.empty((len(keys), 2), np.int64)
    for key, span in zip(keys, spans, strict=True):
        span_of(key, span)
    bounds = spans.tolist()
    bits = [(high - low).bit_length() for low, high in bounds]
    if sum(bits) > PACKED_BITS_MAX:
        return None
    whole = np.zeros(len(keys[0]), np.int64)
    for key, (low, _), width in zip(keys, bounds, bits, strict=True):
        append_key(whole, key, low, width)
    return whole


def order_of(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the row numbers in ascending order of keys that are not negative."""
    order = np.empty(len(keys), np.int64)
    radix_order(keys, order, np.empty_like(order), np.empty(DIGITS, np.int64))
    return order
