"""Memory by address, for the scanner: loads and stores, masks over 64 bytes at once, products of 128 bits.

An address is a plain int64. An array handed to an inlined helper costs an atomic count of references at every
call, which made the scanner three times slower; an address costs nothing, and nothing checks it: whoever
calls these keeps to the bounds that `engine.decode.scan` sets. Each intrinsic is a few instructions of LLVM.
Masks exist twice: with vectors, which LLVM lowers to SSE2, AVX2 or AVX-512 as the processor has them, and
from plain 64-bit words for other machines; both give the same bits. Little-endian machines only.
Rejected: one compiled kernel for each instruction set, which compiles twice for what a branch can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from engine.kernel import inlined_kernel, kernel

if TYPE_CHECKING:
    from collections.abc import Callable

BYTE, WORD32, WORD, DOUBLE_WORD = (ir.IntType(bits) for bits in (8, 32, 64, 128))
BLOCK = ir.VectorType(BYTE, 64)
BLOCK_BYTES = 64

Codegen = tuple[Any, "Callable[[Any, Any, Any, Any], Any]"]


def _loaded(builder: Any, address: Any, kind: Any) -> Any:
    """Read without demanding alignment."""
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = 1
    return value


def _splat(code: int) -> Any:
    """Give a block of 64 equal bytes."""
    return ir.Constant(BLOCK, [code] * BLOCK_BYTES)


@intrinsic  # type: ignore[untyped-decorator]
def load8(_context: Any, _address: Any) -> Codegen:
    """Read one byte as int64."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.zext(_loaded(builder, args[0], BYTE), WORD)

    return types.int64(types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def load32(_context: Any, _address: Any) -> Codegen:
    """Read four bytes as int64."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.zext(_loaded(builder, args[0], WORD32), WORD)

    return types.int64(types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def load64(_context: Any, _address: Any) -> Codegen:
    """Read eight bytes as uint64."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _loaded(builder, args[0], WORD)

    return types.uint64(types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def load(_context: Any, _address: Any) -> Codegen:
    """Read an int64."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _loaded(builder, args[0], WORD)

    return types.int64(types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def store(_context: Any, _address: Any, _value: Any) -> Codegen:
    """Write an int64."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        written = builder.store(args[1], builder.inttoptr(args[0], WORD.as_pointer()))
        written.align = 1
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def store8(_context: Any, _address: Any, _value: Any) -> Codegen:
    """Write the lowest byte of an int64."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        builder.store(builder.trunc(args[1], BYTE), builder.inttoptr(args[0], BYTE.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def store_float(_context: Any, _address: Any, _value: Any) -> Codegen:
    """Write a float64."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        written = builder.store(args[1], builder.inttoptr(args[0], ir.DoubleType().as_pointer()))
        written.align = 1
        return context.get_dummy_value()

    return types.void(types.int64, types.float64), emit


@intrinsic  # type: ignore[untyped-decorator]
def float_from_bits(_context: Any, _bits: Any) -> Codegen:
    """Take the bits of a uint64 for a float64."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.uint64), emit


@intrinsic  # type: ignore[untyped-decorator]
def trailing_zeros(_context: Any, _word: Any) -> Codegen:
    """Count the zero bits below the lowest set one; 64 for 0."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), emit


@intrinsic  # type: ignore[untyped-decorator]
def leading_zeros(_context: Any, _word: Any) -> Codegen:
    """Count the zero bits above the highest set one; 64 for 0."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), emit


@intrinsic  # type: ignore[untyped-decorator]
def product_high(_context: Any, _one: Any, _other: Any) -> Codegen:
    """Give the upper 64 bits of a product of two uint64."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        whole = builder.mul(builder.zext(args[0], DOUBLE_WORD), builder.zext(args[1], DOUBLE_WORD))
        return builder.trunc(builder.lshr(whole, ir.Constant(DOUBLE_WORD, 64)), WORD)

    return types.uint64(types.uint64, types.uint64), emit


@intrinsic  # type: ignore[untyped-decorator]
def special_vector(_context: Any, _address: Any) -> Codegen:
    """See `special`; as signed bytes, what is not ASCII is negative, and so below 32 like the controls."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        block = _loaded(builder, args[0], BLOCK)
        quote = builder.icmp_unsigned("==", block, _splat(ord('"')))
        escape = builder.icmp_unsigned("==", block, _splat(ord("\\")))
        low = builder.icmp_signed("<", block, _splat(32))
        return builder.bitcast(builder.or_(builder.or_(quote, escape), low), WORD)

    return types.uint64(types.int64), emit


@intrinsic  # type: ignore[untyped-decorator]
def differing_vector(_context: Any, _one: Any, _other: Any) -> Codegen:
    """See `differing`."""

    def emit(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        one, other = (_loaded(builder, address, BLOCK) for address in args)
        return builder.bitcast(builder.icmp_unsigned("!=", one, other), WORD)

    return types.uint64(types.int64, types.int64), emit


@inlined_kernel
def signed(word: np.uint64) -> int:
    """Take a uint64 for an int64: compiled, `int()` leaves it unsigned, and mixed sums become floats."""
    return np.int64(word)  # type: ignore[return-value]  # compiled, this is what Python's int is


LOW_BITS = np.uint64(0x7F7F_7F7F_7F7F_7F7F)
HIGH_BITS = np.uint64(0x8080_8080_8080_8080)
QUOTES = np.uint64(0x2222_2222_2222_2222)
ESCAPES = np.uint64(0x5C5C_5C5C_5C5C_5C5C)
NOT_CONTROL = np.uint64(0xE0E0_E0E0_E0E0_E0E0)
GATHER = np.uint64(0x0102_0408_1020_4080)  # moves the lowest bits of eight bytes to the top byte


@kernel
def zero_bytes(word: np.uint64) -> np.uint64:
    """Set the highest bit of every byte that is zero, exactly; clear all others."""
    return np.uint64(~(((word & LOW_BITS) + LOW_BITS) | word | LOW_BITS))


@kernel
def gathered(high_bits: np.uint64) -> np.uint64:
    """Give the highest bits of eight bytes as eight bits."""
    return np.uint64(((high_bits >> np.uint64(7)) * GATHER) >> np.uint64(56))


@kernel
def special_words(address: int) -> np.uint64:
    """See `special`; eight words instead of a vector."""
    mask = np.uint64(0)
    for place in range(8):
        word = load64(address + 8 * place)
        found = zero_bytes(word ^ QUOTES) | zero_bytes(word ^ ESCAPES) | zero_bytes(word & NOT_CONTROL)
        mask |= gathered(found | (word & HIGH_BITS)) << np.uint64(8 * place)
    return mask


@kernel
def differing_words(one: int, other: int) -> np.uint64:
    """See `differing`; eight words instead of a vector."""
    mask = np.uint64(0)
    for place in range(8):
        equal = zero_bytes(load64(one + 8 * place) ^ load64(other + 8 * place))
        mask |= gathered(equal ^ HIGH_BITS) << np.uint64(8 * place)
    return mask


@inlined_kernel
def special(address: int, has_vectors: int) -> np.uint64:
    """Mark which of 64 bytes end a run of plain text: quotes, escapes, controls, and what is not ASCII."""
    if has_vectors:
        return np.uint64(special_vector(address))
    return special_words(address)


@inlined_kernel
def differing(one: int, other: int, has_vectors: int) -> np.uint64:
    """Mark which of the 64 bytes at two addresses differ."""
    if has_vectors:
        return np.uint64(differing_vector(one, other))
    return differing_words(one, other)
