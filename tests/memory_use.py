"""What a process holds: pages, what malloc has given out, and blocks of Python's own allocator."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from typing import Any, NamedTuple

import numpy as np

MB = 1 << 20
NUMPY_KEPT_BYTES, NUMPY_KEPT_EACH = 1024, 7  # arrays below this size, so many of each

# `struct mallinfo2` of glibc 2.33 and newer.
MALLINFO = (
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
)  # fmt: skip
_MallInfo: Any = type(
    "mallinfo2", (ctypes.Structure,), {"_fields_": [(name, ctypes.c_size_t) for name in MALLINFO]}
)


class MemoryUse(NamedTuple):
    """Pages stay with a process that has freed what was on them; what is given out does not."""

    resident_mb: float
    malloc_bytes: int  # arrays, what kernels ask for, and what libraries of C and C++ do
    blocks: int  # Python's objects


def resident_bytes() -> int:
    """Give the memory that is in use now."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize()


def resident_mb() -> float:
    """Give the memory that is in use now."""
    return resident_bytes() / MB


def fill_numpy_cache() -> None:
    """Let numpy keep all that it ever keeps of freed small arrays: rare sizes would look like a leak."""
    _ = [np.empty(size, np.uint8) for size in range(NUMPY_KEPT_BYTES) for _ in range(NUMPY_KEPT_EACH)]


def memory_use() -> MemoryUse:
    """Say what is held now, without what only waits to be collected."""
    gc.collect()
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _MallInfo
    found = mallinfo()
    return MemoryUse(resident_mb(), found.uordblks + found.hblkhd, sys.getallocatedblocks())
