"""Keys of calls and events, eight at a time: the hash of `engine.decode.identity`, side by side in vectors.

SipHash is a chain of short steps, each waiting for the one before: one id at a time takes a fifth of the
whole scan. So ids wait in a queue until there are eight, and are hashed together, each in a lane of its own.
The framing of platform and tenant, the same for all calls of a tenant, was hashed when the labels were
learned: an id goes on from there. Messages are copied when queued, so that the row may be forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from engine.decode.memory import load, load64, signed, store
from engine.decode.scan_frame import (
    LABEL_PREFIX_BYTES,
    LANE_BYTES,
    LANES,
    QUEUE_KEY,
    QUEUE_MESSAGE,
    QUEUE_STATE,
    QUEUE_TARGET,
    QUEUE_WAITING,
    QUEUE_WORDS,
    WORD,
)
from engine.decode.scan_words import FIRST_BYTES
from engine.decode.siphash import sip_round
from engine.kernel import inlined_kernel, kernel

if TYPE_CHECKING:
    from engine.decode.memory import Codegen

VECTOR = ir.VectorType(ir.IntType(64), LANES)
U1, LAST_SHIFT = np.uint64(1), np.uint64(56)


def _vector(value: int) -> Any:
    return ir.Constant(VECTOR, [value] * LANES)


def _rotated(builder: Any, lanes: Any, bits: int) -> Any:
    return builder.or_(builder.shl(lanes, _vector(bits)), builder.lshr(lanes, _vector(64 - bits)))


def _round(builder: Any, state: list[Any]) -> list[Any]:
    """Emit `engine.decode.siphash.sip_round` for all lanes."""
    v0, v1, v2, v3 = state
    v0 = builder.add(v0, v1)
    v1 = builder.xor(_rotated(builder, v1, 13), v0)
    v0 = _rotated(builder, v0, 32)
    v2 = builder.add(v2, v3)
    v3 = builder.xor(_rotated(builder, v3, 16), v2)
    v0 = builder.add(v0, v3)
    v3 = builder.xor(_rotated(builder, v3, 21), v0)
    v2 = builder.add(v2, v1)
    v1 = builder.xor(_rotated(builder, v1, 17), v2)
    return [v0, v1, _rotated(builder, v2, 32), v3]


@intrinsic  # type: ignore[untyped-decorator]
def hash_vectors(_context: Any, _queue: Any, _words_max: Any) -> Codegen:
    """Hash the lanes of a queue, none of more words than `words_max`; a lane stands still at its end."""

    def emit(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        def at(place: int) -> Any:
            address = builder.add(args[0], ir.Constant(ir.IntType(64), place))
            return builder.inttoptr(address, VECTOR.as_pointer())

        def loaded(pointer: Any) -> Any:
            value = builder.load(pointer)
            value.align = WORD
            return value

        words = loaded(at(QUEUE_WORDS))
        state = [
            cgutils.alloca_once_value(builder, loaded(at(QUEUE_STATE + LANE_BYTES * v))) for v in range(4)
        ]
        with cgutils.for_range(builder, args[1]) as loop:
            place = builder.mul(loop.index, ir.Constant(ir.IntType(64), LANE_BYTES))
            address = builder.add(builder.add(args[0], ir.Constant(ir.IntType(64), QUEUE_MESSAGE)), place)
            message = loaded(builder.inttoptr(address, VECTOR.as_pointer()))
            splat = builder.insert_element(_vector(0), loop.index, ir.Constant(ir.IntType(32), 0))
            number = builder.shuffle_vector(
                splat, _vector(0), ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            )
            is_on = builder.icmp_unsigned("<", number, words)
            before = [builder.load(one) for one in state]
            after = _round(builder, [*before[:3], builder.xor(before[3], message)])
            after[0] = builder.xor(after[0], message)
            for one, old, new in zip(state, before, after, strict=True):
                builder.store(builder.select(is_on, new, old), one)
        last = [builder.load(one) for one in state]
        last[2] = builder.xor(last[2], _vector(0xFF))
        for _ in range(3):
            last = _round(builder, last)
        key = builder.xor(builder.xor(last[0], last[1]), builder.xor(last[2], last[3]))
        key = builder.select(builder.icmp_unsigned("==", key, _vector(0)), _vector(1), key)
        written = builder.store(key, at(QUEUE_KEY))
        written.align = WORD
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@kernel
def hash_words(queue: int) -> None:
    """Do what `hash_vectors` does, one lane after the other."""
    for lane in range(queue, queue + LANES * WORD, WORD):
        state = lane + QUEUE_STATE
        v0, v1, v2, v3 = (load64(state), load64(state + LANE_BYTES), load64(state + 2 * LANE_BYTES),
                          load64(state + 3 * LANE_BYTES))  # fmt: skip
        for word in range(load(lane + QUEUE_WORDS)):
            message = load64(lane + QUEUE_MESSAGE + word * LANE_BYTES)
            v0, v1, v2, v3 = sip_round(v0, v1, v2, v3 ^ message)
            v0 ^= message
        v2 ^= np.uint64(0xFF)
        for _ in range(3):
            v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
        store(lane + QUEUE_KEY, signed(max(v0 ^ v1 ^ v2 ^ v3, U1)))


@inlined_kernel
def queue_id(
    queue: int, labels: int, state: int, at: int, length: int, target: int, has_vectors: int
) -> None:
    """Queue an id of `length` bytes; its key will be at `target`, at the latest after `flush_ids`.

    `state` is where SipHash stood after the framing that `labels` ask for, with the bytes that filled no
    word: these go before the id, and the length of all goes behind it.
    """
    if length == 0:
        store(target, 0)
        return
    waiting = load(queue + QUEUE_WAITING)
    lane = queue + waiting * WORD
    for place in range(4):
        store(lane + QUEUE_STATE + place * LANE_BYTES, load(state + place * WORD))
    rest, framing = load64(state + 4 * WORD), load(labels + LABEL_PREFIX_BYTES)
    total = np.uint64(framing + length) << LAST_SHIFT
    shift = np.uint64(8 * (framing & 7))
    back = np.uint64(63) - shift
    message = lane + QUEUE_MESSAGE
    while length >= WORD:
        word = load64(at)
        store(message, signed(rest | (word << shift)))
        rest = (word >> U1) >> back
        message += LANE_BYTES
        at += WORD
        length -= WORD
    word = load64(at) & FIRST_BYTES[length]
    rest |= word << shift
    if (framing & 7) + length >= WORD:
        store(message, signed(rest))
        rest = (word >> U1) >> back
        message += LANE_BYTES
    store(message, signed(rest | total))
    store(lane + QUEUE_WORDS, (message - lane - QUEUE_MESSAGE) // LANE_BYTES + 1)
    store(lane + QUEUE_TARGET, target)
    store(queue + QUEUE_WAITING, waiting + 1)
    if waiting + 1 == LANES:
        flush_ids(queue, has_vectors)


@kernel
def flush_ids(queue: int, has_vectors: int) -> None:
    """Hash what waits in a queue, and write the keys to their targets."""
    waiting = load(queue + QUEUE_WAITING)
    store(queue + QUEUE_WAITING, 0)
    words_max = 0
    for place in range(0, waiting * WORD, WORD):
        words_max = max(words_max, load(queue + QUEUE_WORDS + place))
    if has_vectors:
        hash_vectors(queue, words_max)
    else:
        hash_words(queue)
    for place in range(0, waiting * WORD, WORD):
        store(load(queue + QUEUE_TARGET + place), load(queue + QUEUE_KEY + place))
