"""SipHash-1-3: a keyed 64-bit hash of byte strings, for identities that cannot be guessed or made to collide.

Whoever sends events chooses the call ids. With a known hash he could make two calls one, or fill one place of
the table of calls; with SipHash he would need the deployment's key. The variant with one round per word and
three at the end is what Rust and CPython use for their tables, and takes half the rounds of SipHash-2-4.
Reference: Aumasson, Bernstein, "SipHash: a fast short-input PRF" (2012).
Rejected: `hash()`, which differs from run to run; wyhash and xxh3, for which colliding inputs are published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engine.kernel import allocating_kernel, kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

HASH_KEY_BYTES = 16


def hash_key(key: bytes) -> NDArray[np.uint64]:
    """Give the two words, uint64 shape (2,), of a key of 16 bytes."""
    assert len(key) == HASH_KEY_BYTES, "a SipHash key has 16 bytes"
    return np.frombuffer(key, "<u8").astype(np.uint64)


@kernel
def rotated(word: np.uint64, bits: int) -> np.uint64:
    """Rotate 64 bits to the left, 0 < bits < 64."""
    return np.uint64((word << np.uint64(bits)) | (word >> np.uint64(64 - bits)))


@kernel
def sip_round(
    v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Mix the four words of the state once."""
    v0 += v1
    v1 = rotated(v1, 13) ^ v0
    v0 = rotated(v0, 32)
    v2 += v3
    v3 = rotated(v3, 16) ^ v2
    v0 += v3
    v3 = rotated(v3, 21) ^ v0
    v2 += v1
    v1 = rotated(v1, 17) ^ v2
    v2 = rotated(v2, 32)
    return v0, v1, v2, v3


@kernel
def siphash13(data: NDArray[np.uint8], start: int, end: int, key: NDArray[np.uint64]) -> np.uint64:
    """Hash data[start:end], uint8, with the two words of `key`."""
    v0 = key[0] ^ np.uint64(0x736F6D6570736575)
    v1 = key[1] ^ np.uint64(0x646F72616E646F6D)
    v2 = key[0] ^ np.uint64(0x6C7967656E657261)
    v3 = key[1] ^ np.uint64(0x7465646279746573)
    word = np.uint64(0)
    for at in range(start, end):
        shift = 8 * ((at - start) & 7)
        word |= np.uint64(data[at]) << np.uint64(shift)
        if shift == 56:  # noqa: PLR2004 (bits: the eighth byte)
            v3 ^= word
            v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
            v0 ^= word
            word = np.uint64(0)
    word |= np.uint64((end - start) & 0xFF) << np.uint64(56)
    v3 ^= word
    v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    v0 ^= word
    v2 ^= np.uint64(0xFF)
    for _ in range(3):
        v0, v1, v2, v3 = sip_round(v0, v1, v2, v3)
    return np.uint64(v0 ^ v1 ^ v2 ^ v3)


@kernel
def hash_spans(
    data: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64], key: NDArray[np.uint64],
    hashes: NDArray[np.uint64],
) -> None:  # fmt: skip
    """Write the hash of each data[start[i]:end[i]] to hashes[i]; 0 for an empty span, and for no other.

    `data` is uint8, `start`, `end` int64 and `hashes` uint64 of shape (spans,), owned by the caller.
    """
    for i in range(len(start)):
        hashes[i] = np.uint64(0)
        if end[i] > start[i]:
            # 0 says "none", so the one message in 2^64 that hashes to it shares a hash with another.
            hashes[i] = max(siphash13(data, start[i], end[i], key), np.uint64(1))


@allocating_kernel
def absorbed(data: NDArray[np.uint8], key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Give where the hash of a message that begins with `data` stands behind it, uint64 of shape (5,).

    That is the four words of the state behind the last full word, and the bytes that filled no word.
    """
    v0 = key[0] ^ np.uint64(0x736F6D6570736575)
    v1 = key[1] ^ np.uint64(0x646F72616E646F6D)
    v2 = key[0] ^ np.uint64(0x6C7967656E657261)
    v3 = key[1] ^ np.uint64(0x7465646279746573)
    word = np.uint64(0)
    for at in range(len(data)):
        word |= np.uint64(data[at]) << np.uint64(8 * (at & 7))
        if at & 7 == 7:  # noqa: PLR2004 (the eighth byte)
            v0, v1, v2, v3 = sip_round(v0, v1, v2, v3 ^ word)
            v0 ^= word
            word = np.uint64(0)
    state = np.empty(5, np.uint64)
    state[0], state[1], state[2], state[3], state[4] = v0, v1, v2, v3, word
    return state
