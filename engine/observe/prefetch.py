"""A hint to the processor: this row of a table is needed soon.

A table of calls is larger than the caches, and its rows are met in no order. The hint is asked for some rows
ahead, and changes nothing that can be seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

if TYPE_CHECKING:
    from collections.abc import Callable

BYTE, FLAG = ir.IntType(8), ir.IntType(32)
FOR_WRITING, KEEP_IN_ALL_CACHES, DATA = 1, 3, 1


def _prefetch(_typing: Any, array: Any, _row: Any) -> tuple[Any, Callable[[Any, Any, Any, Any], Any]]:
    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        table = make_array(array)(context, builder, value=args[0])
        stride = builder.extract_value(table.strides, 0)
        first = builder.bitcast(table.data, BYTE.as_pointer())
        place = builder.gep(first, [builder.mul(args[1], stride)])
        hint = ir.FunctionType(ir.VoidType(), [BYTE.as_pointer(), FLAG, FLAG, FLAG])
        function = cgutils.get_or_insert_function(builder.module, hint, "llvm.prefetch.p0i8")
        flags = [ir.Constant(FLAG, one) for one in (FOR_WRITING, KEEP_IN_ALL_CACHES, DATA)]
        builder.call(function, [place, *flags])
        return context.get_dummy_value()

    return types.void(array, types.intp), emit


def _nothing(_array: Any, _row: int) -> None:
    """Stand in where kernels are not compiled."""


prefetch: Callable[[Any, int], None] = _nothing if numba.config.DISABLE_JIT else intrinsic(_prefetch)
