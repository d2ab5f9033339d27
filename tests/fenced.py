"""Memory between fences: a page that cannot be read on one side of it, known bytes round what is written."""

from __future__ import annotations

import ctypes
import mmap
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROT_NONE = 0
FENCE = 0xA5
FENCE_BYTES = 256


class Fenced:
    """Bytes right behind a page that cannot be read, or right before one, `beyond` bytes of noise between.

    A kernel that reads a byte too far ends the process, so what is wrong cannot be missed.
    """

    def __init__(self, text: bytes, beyond: int, *, is_at_start: bool) -> None:
        """Lay the bytes down; `view` is them."""
        page = mmap.PAGESIZE
        size = len(text) + beyond
        pages = -(-max(size, 1) // page)
        self._map = mmap.mmap(-1, (pages + 2) * page)
        first = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        for fence in (first, first + (pages + 1) * page):
            assert protect(ctypes.c_void_p(fence), page, PROT_NONE) == 0
        place = page if is_at_start else (pages + 1) * page - size
        self._map[place : place + size] = text + bytes([FENCE]) * beyond
        self.view = memoryview((ctypes.c_uint8 * len(text)).from_address(first + place)).cast("B")


class FencedArray:
    """An array to write to, with known bytes on both sides."""

    def __init__(self, shape: tuple[int, ...], kind: type[Any]) -> None:
        """Make it; what is in it does not matter."""
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        self._bytes = np.full(size + 2 * FENCE_BYTES, FENCE, np.uint8)
        inside: NDArray[Any] = self._bytes[FENCE_BYTES : FENCE_BYTES + size].view(kind)
        self.array = inside.reshape(shape)

    def check(self) -> None:
        """Fail if anything was written beside it."""
        assert (self._bytes[:FENCE_BYTES] == FENCE).all(), "it wrote before the array"
        assert (self._bytes[-FENCE_BYTES:] == FENCE).all(), "it wrote beyond the array"
