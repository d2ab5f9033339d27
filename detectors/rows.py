"""Detector state that follows rows which are only ever appended."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from engine.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def grown(array: NDArray[Scalar], rows: int, fill: float) -> NDArray[Scalar]:
    """Give `array` with `rows` rows along its first axis, new ones filled with `fill`.

    A copy only if it grew.
    """
    missing = rows - len(array)
    if missing <= 0:
        return array
    return np.concatenate([array, np.full((missing, *array.shape[1:]), fill, array.dtype)])


@kernel
def add_to_bins(
    table: NDArray[np.int32], row: NDArray[np.int64], bins: NDArray[np.int64], many: NDArray[np.int64]
) -> None:
    """Add facts (facts,) to their bins in `table` (rows, bins)."""
    for k in range(len(row)):
        table[row[k], bins[k]] += many[k]
