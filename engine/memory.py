"""Memory that an array can get more of: rows are added behind those it has, which are not copied.

The system maps pages when they are first written to, and makes room for more of them by moving the table of
pages. An array that stands in such memory has to be let go before, since what it points to may move. Where
the system cannot do that, or somebody still holds the array, its rows are copied: slower, and no less right.
Rejected: a larger array to copy to, whose pause grows with the array; room for as many rows as there may ever
be, which is too much to ask of the system for every partition.
"""

from __future__ import annotations

import contextlib
import mmap
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Memory = mmap.mmap
NUMBER = np.dtype(np.int64)
HUGE_FROM_BYTES = 4 << 20  # as numpy does it


def new_rows(rows: int, columns: int) -> NDArray[np.int64]:
    """Make an array (int64, C order) of zeros in memory of its own."""
    return _array(_map(rows, columns), rows, columns)


def growing(array: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give an array in memory of its own: the same one if it has it, else a copy."""
    if _own(array) is not None:
        return array
    copy = new_rows(*array.shape)
    copy[...] = array
    return copy


def memory_of(array: NDArray[np.int64]) -> Memory:
    """Give the memory of an array, or of a copy if it has none of its own."""
    memory = _own(growing(array))
    assert memory is not None
    return memory


def longer(memory: Memory, rows: int, columns: int) -> NDArray[np.int64]:
    """Make an array of so many rows of what is in a memory, with zeros behind; the memory is used up."""
    try:
        memory.resize(rows * columns * NUMBER.itemsize)
    except (BufferError, SystemError, ValueError, OSError):
        return _copied(memory, rows, columns)
    return _array(memory, rows, columns)


def _copied(memory: Memory, rows: int, columns: int) -> NDArray[np.int64]:
    array = new_rows(rows, columns)
    before = np.frombuffer(memory, NUMBER)
    array.reshape(-1)[: len(before)] = before
    return array


def _map(rows: int, columns: int) -> Memory:
    size = rows * columns * NUMBER.itemsize
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _own(array: NDArray[np.int64]) -> Memory | None:
    """Find what an array of `_array` stands in."""
    view = getattr(array.base, "base", None)
    memory = view.obj if isinstance(view, memoryview) else None
    return memory if isinstance(memory, mmap.mmap) else None


def _array(memory: Memory, rows: int, columns: int) -> NDArray[np.int64]:
    """Lay an array over a memory, which does not move while there is one; `np.ndarray` would let it."""
    if len(memory) >= HUGE_FROM_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, NUMBER).reshape(rows, columns)
