"""Tell the C library to give memory back: large arrays that come and go must not stay as holes in the heap.

glibc raises the size from which it maps memory afresh each time such a block is freed, up to 32 MB, and keeps
an arena for each thread. A service that makes and drops arrays of some megabytes at every slice is left
with holes; `make bench-smoke` prints what memory it takes. Elsewhere than on glibc nothing is done.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # names and numbers of mallopt(3)
# Above `kafka.fetch_bytes_max`: mapping each answer of a broker afresh costs more than reading it.
MAPPED_FROM_BYTES = 1280 * 1024
# Some answers: what is given back after each of them is cleared anew for the next one.
TRIMMED_ABOVE_BYTES = 4096 * 1024
ARENAS_MAX = 2


def return_freed_memory() -> bool:
    """Fix the thresholds; say whether the C library took them."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = (
        (M_MMAP_THRESHOLD, MAPPED_FROM_BYTES),
        (M_TRIM_THRESHOLD, TRIMMED_ABOVE_BYTES),
        (M_ARENA_MAX, ARENAS_MAX),
    )
    return all(mallopt(name, value) == 1 for name, value in options)
