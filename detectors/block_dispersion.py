"""How much more than by chance values move from one block of ten minutes to the next.

Turns of one call are slow together, and a host is slow for a minute: such values tell less than they count.
The shares above the median and above q90 of two neighbouring blocks are compared; the square of their
difference over what independent values allow is one on average, and more if values come in bursts. A single
pair counts nine at most, so that a shift of all values, which is to be told, hardly makes itself unlikely.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.rows import grown

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARES = np.array([0.5, 0.1])
VALUES_MIN = 30.0  # of a block
SQUARE_MAX = 9.0
VARIANCE = 1.33  # of a mean of the squares for both shares, over independent values; of one square: 2
PAIRS_BEFORE = 6.0  # that count as independent before anything is known
PAIRS_MAX = 144.0  # a day; older ones fade


class Dispersion(NamedTuple):
    """By slot. `factor` is what counts are divided by: 1 unless more is sure."""

    block: NDArray[np.int32]  # (slots, bins) of the block before
    mean: NDArray[np.float64]
    pairs: NDArray[np.float64]

    @property
    def factor(self) -> NDArray[np.float64]:
        """Give the mean less its own chance error, at least 1."""
        known = PAIRS_BEFORE + self.pairs
        mean = (PAIRS_BEFORE + self.pairs * self.mean) / known
        return np.asarray(np.maximum(mean / (1.0 + np.sqrt(VARIANCE / known)), 1.0))


def new_dispersion(slots: int, bins: int) -> Dispersion:
    """Know nothing."""
    return Dispersion(np.zeros((slots, bins), np.int32), np.ones(slots), np.zeros(slots))


def grown_dispersion(dispersion: Dispersion, slots: int) -> Dispersion:
    """Give room for `slots` slots."""
    return Dispersion(
        grown(dispersion.block, slots, 0), grown(dispersion.mean, slots, 1), grown(dispersion.pairs, slots, 0)
    )


def compared(dispersion: Dispersion, block: NDArray[np.int32]) -> Dispersion:
    """Give what is known after the block (slots, bins)."""
    first, second = dispersion.block.astype(np.float64), block.astype(np.float64)
    many = np.minimum(first.sum(axis=1), second.sum(axis=1))
    at = np.flatnonzero(many >= VALUES_MIN)
    if not len(at):
        return dispersion._replace(block=block)
    square = np.minimum(_squares(first[at], second[at]).mean(axis=1), SQUARE_MAX)
    pairs, mean = dispersion.pairs.copy(), dispersion.mean.copy()
    pairs[at] = np.minimum(pairs[at] + 1.0, PAIRS_MAX)
    mean[at] += (square - mean[at]) / pairs[at]
    return Dispersion(block, mean, pairs)


def _squares(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the squares (slots, shares); the bin that a share ends in counts as far as it is above."""
    pooled = first + second
    total = pooled.sum(axis=1)
    above = total[:, None] - np.cumsum(pooled, axis=1)  # of values in higher bins
    squares = []
    for share in SHARES:
        weight = np.clip((share * total[:, None] - above) / np.maximum(pooled, 1e-9), 0.0, 1.0)
        mean = (pooled * weight).sum(axis=1) / total
        variance = (pooled * weight**2).sum(axis=1) / total - mean**2
        shares = [(one * weight).sum(axis=1) / one.sum(axis=1) for one in (first, second)]
        by_chance = variance * (1.0 / first.sum(axis=1) + 1.0 / second.sum(axis=1))
        squares.append((shares[0] - shares[1]) ** 2 / np.maximum(by_chance, 1e-12))
    return np.stack(squares, axis=1)
