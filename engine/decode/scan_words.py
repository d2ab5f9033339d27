"""Words and pairs: texts to what is known of them, by comparing bytes; a hash only says where to look.

Open addressing, at most half full, with a bound on how far a word may stand from its place: whoever chooses
labels cannot make look-ups long, and the hash is seeded with the deployment's key besides.
"""

from __future__ import annotations

import numpy as np

from engine.decode.memory import differing, load, load64, product_high, signed, store
from engine.decode.scan_frame import (
    HAS_VECTORS,
    PROBES_MAX,
    SEED,
    SLOT_BYTES,
    SLOT_FOUND,
    SLOT_LENGTH,
    SLOT_ONE,
    SLOT_OTHER,
    WORD,
    WORD_BYTES,
    WORD_MASK,
    WORD_SLOTS,
    WORD_TEXT_MAX,
    WORDS,
)
from engine.kernel import inlined_kernel, kernel

FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
ODD = np.uint64(0x9E37_79B9_7F4A_7C15)
OTHER_ODD = np.uint64(0xD1B5_4A32_D192_ED03)
NOTHING = np.uint64(0)


@inlined_kernel
def folded(one: np.uint64, other: np.uint64) -> np.uint64:
    """Mix two words into one: both halves of their product."""
    return np.uint64((one * other) ^ product_high(one, other))


@inlined_kernel
def head_of(at: int, length: int) -> tuple[np.uint64, np.uint64]:
    """Give the first sixteen bytes of a text of `length` bytes, zeros behind it."""
    # No branch: whether a label has more than eight bytes is anybody's guess.
    low = load64(at) & FIRST_BYTES[min(length, 8)]
    return low, load64(at + 8) & FIRST_BYTES[min(max(length - 8, 0), 8)]


@kernel
def copy_text(source: int, target: int, length: int) -> None:
    """Copy a text, and zeros behind it up to a whole word: what stood behind it is not ours to keep."""
    for place in range(0, length, WORD):
        rest = load64(source + place) & FIRST_BYTES[min(length - place, 8)]
        store(target + place, signed(rest))


@inlined_kernel
def hash_of(low: np.uint64, high: np.uint64, at: int, length: int, seed: int) -> np.uint64:
    """Hash a text, given its first sixteen bytes as well."""
    if length > 16:  # noqa: PLR2004 (bytes given)
        return hash_of_long(low, high, at, length, seed)
    return folded(low ^ np.uint64(seed), high ^ (np.uint64(length) * ODD) ^ OTHER_ODD)


@kernel
def hash_of_long(low: np.uint64, high: np.uint64, at: int, length: int, seed: int) -> np.uint64:
    """Hash a text of more than sixteen bytes."""
    mixed = folded(low ^ np.uint64(seed), high ^ (np.uint64(length) * ODD) ^ OTHER_ODD)
    for done in range(16, length, 16):
        more, further = head_of(at + done, length - done)
        mixed = folded(mixed ^ more, further ^ OTHER_ODD)
    return mixed


@inlined_kernel
def address_of(word: int, frame: int) -> int:
    """Give where a word stands, by its number."""
    return int(load(frame + WORDS) + word * WORD_BYTES)


@inlined_kernel
def is_same(at: int, text: int, length: int, has_vectors: int) -> bool:
    """Compare 1 to 64 bytes."""
    return bool(differing(at, text, has_vectors) << np.uint64(64 - length) == NOTHING)


@inlined_kernel
def word_at(at: int, length: int, frame: int) -> int:
    """Give the number of the word with the text at `at`; 0 if it is none."""
    if length > WORD_TEXT_MAX:
        return 0
    low, high = head_of(at, length)
    mask = load(frame + WORD_MASK)
    place = signed(hash_of(low, high, at, length, load(frame + SEED))) & mask
    slots = load(frame + WORD_SLOTS)
    while True:
        slot = slots + place * SLOT_BYTES
        word = load(slot + SLOT_FOUND)
        if word == 0:
            return 0
        is_head = load64(slot + SLOT_ONE) == low and load64(slot + SLOT_OTHER) == high
        if is_head and load(slot + SLOT_LENGTH) == length:
            # Sixteen bytes were compared; the others lie with the word.
            text = address_of(word, frame)
            if length <= 16 or is_same(at, text, length, load(frame + HAS_VECTORS)):  # noqa: PLR2004
                return int(word)
        place = (place + 1) & mask


@inlined_kernel
def pair_place(one: int, other: int, seed: int) -> int:
    """Say where to look for a pair first."""
    return signed(folded(np.uint64(one) ^ np.uint64(seed) ^ ODD, np.uint64(other) * OTHER_ODD + ODD))


@inlined_kernel
def pair_at(one: int, other: int, seed: int, slots: int, mask: int) -> int:
    """Give what is known of a pair; 0 if it is not known."""
    place = pair_place(one, other, seed) & mask
    while True:
        slot = slots + place * SLOT_BYTES
        found = load(slot + SLOT_FOUND)
        if found == 0 or (load(slot + SLOT_ONE) == one and load(slot + SLOT_OTHER) == other):
            return int(found)
        place = (place + 1) & mask


@kernel
def add_word(word: int, length: int, frame: int) -> bool:
    """Put a word of `length` bytes, by its number, into the table; False: its places are taken."""
    at = address_of(word, frame)
    low, high = head_of(at, length)
    mask = load(frame + WORD_MASK)
    place = signed(hash_of(low, high, at, length, load(frame + SEED)))
    for probe in range(PROBES_MAX):
        slot = load(frame + WORD_SLOTS) + ((place + probe) & mask) * SLOT_BYTES
        if load(slot + SLOT_FOUND) == 0:
            store(slot + SLOT_ONE, signed(low))
            store(slot + SLOT_OTHER, signed(high))
            store(slot + SLOT_LENGTH, length)
            store(slot + SLOT_FOUND, word)
            return True
    return False


@kernel
def add_pair(one: int, other: int, found: int, seed: int, slots: int, mask: int) -> bool:
    """Put a pair that is not known yet into a table; False: its place and those behind it are taken."""
    place = pair_place(one, other, seed)
    for probe in range(PROBES_MAX):
        slot = slots + ((place + probe) & mask) * SLOT_BYTES
        if load(slot + SLOT_FOUND) == 0:
            store(slot + SLOT_ONE, one)
            store(slot + SLOT_OTHER, other)
            store(slot + SLOT_FOUND, found)
            return True
    return False
