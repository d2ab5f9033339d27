"""How many bytes can be reached from an object: its arrays, and the Python objects that hold them."""

from __future__ import annotations

import gc
import sys
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

# What the program is made of is not state.
NOT_STATE = (type, ModuleType, FunctionType, BuiltinFunctionType)


class Reached:
    """Bytes of arrays, and of everything else."""

    def __init__(self, *roots: object) -> None:
        """Walk all that the roots lead to; what several lead to is counted once."""
        self.array_bytes = self.object_bytes = 0
        seen: set[int] = set()
        waiting: list[Any] = list(roots)
        while waiting:
            one = waiting.pop()
            if id(one) in seen or isinstance(one, NOT_STATE) or type(one).__module__.startswith("numba"):
                continue
            seen.add(id(one))
            if isinstance(one, np.ndarray):
                if one.base is None:
                    self.array_bytes += one.nbytes
                elif one.dtype != object:
                    waiting.append(one.base)
                continue
            self.object_bytes += sys.getsizeof(one, 0)
            if isinstance(one, MethodType):
                waiting.append(one.__self__)
                continue
            waiting += gc.get_referents(one)
