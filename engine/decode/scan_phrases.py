"""Phrases: the labels of a row come in runs that were there before, and are then compared as one text.

Behind the name of a tenant the same trunk, region and release follow nearly always. So a word remembers the
fields that followed it when it was a value: their text, and what they came to. If the same bytes follow
again they mean the same, and the run is passed in one or two comparisons. Without this the labels of a row
take as long as all the rest. A phrase holds only fields whose values are known words.
Where a phrase begins right and then differs, it is cut to what was right, so that in the end it holds what
its word determines. One that misses altogether is noted anew, each time only when twice as many rows in turn
have missed: where any tenant may follow a platform, nothing is gained by writing down the last one.
"""

from __future__ import annotations

from engine.decode.memory import differing, load, store, trailing_zeros
from engine.decode.scan_frame import (
    KEYS,
    KEYS_AFTER,
    KEYS_BEFORE,
    NOTE_BEGIN,
    NOTE_END,
    NOTE_KEY,
    NOTE_LIMIT,
    NOTED,
    PHRASE_BYTES,
    PHRASE_KEYS,
    PHRASE_LAST,
    PHRASE_LENGTH,
    PHRASE_MISSES,
    PHRASE_PATIENCE,
    PHRASE_SEEN,
    PHRASE_TEXT,
    PHRASE_TEXT_MAX,
    PHRASES,
    SEEN_AFTER,
    SEEN_BEFORE,
    VALUE_WORD,
    WORD,
)
from engine.decode.scan_words import copy_text, is_same
from engine.kernel import inlined_kernel, kernel

BLOCK_BYTES = 64
PATIENCE_MAX = 1 << 20
CUT_BYTES_MIN = 8  # no field is shorter
NO_LIMIT = 1 << 62


@inlined_kernel
def phrase_of(word: int, frame: int) -> int:
    """Give the address of the phrase that belongs to a word, by its number."""
    return int(load(frame + PHRASES) + word * PHRASE_BYTES)


@inlined_kernel
def phrase_at(at: int, seen: int, frame: int, has_vectors: int) -> tuple[int, int, int]:
    """Pass the phrase of the last value's word, if it stands at `at`: its length, fields, last key; or zeros.

    What it comes to is added to the frame.
    """
    phrase = phrase_of(load(frame + VALUE_WORD), frame)
    length, more = load(phrase + PHRASE_LENGTH), load(phrase + PHRASE_SEEN)
    # A field that comes twice is told where fields are read one by one.
    if length == 0 or seen & more or not is_text(at, phrase + PHRASE_TEXT, length, has_vectors):
        miss_phrase(at, seen, phrase, frame, has_vectors)
        return 0, 0, 0
    for place in range(0, 4 * WORD, WORD):
        store(frame + KEYS + place, load(frame + KEYS + place) | load(phrase + PHRASE_KEYS + place))
    store(phrase + PHRASE_MISSES, 0)
    return length, more, load(phrase + PHRASE_LAST)


@inlined_kernel
def is_text(at: int, text: int, length: int, has_vectors: int) -> bool:
    """Compare a text of up to 128 bytes."""
    if length <= BLOCK_BYTES:
        return is_same(at, text, length, has_vectors)
    if not is_same(at, text, BLOCK_BYTES, has_vectors):
        return False
    return is_same(at + BLOCK_BYTES, text + BLOCK_BYTES, length - BLOCK_BYTES, has_vectors)


@kernel
def miss_phrase(at: int, seen: int, phrase: int, frame: int, has_vectors: int) -> None:
    """Count a miss; if it is time, begin to note the phrase anew: what is right of it, or whatever comes."""
    misses = load(phrase + PHRASE_MISSES) + 1
    store(phrase + PHRASE_MISSES, misses)
    length = load(phrase + PHRASE_LENGTH)
    right = trailing_zeros(differing(at, phrase + PHRASE_TEXT, has_vectors))
    if right == BLOCK_BYTES:
        right += trailing_zeros(differing(at + BLOCK_BYTES, phrase + PHRASE_TEXT + BLOCK_BYTES, has_vectors))
    if CUT_BYTES_MIN <= right < length:
        store(frame + NOTE_LIMIT, at + right)
    elif misses > load(phrase + PHRASE_PATIENCE):
        store(frame + NOTE_LIMIT, NO_LIMIT)
        store(phrase + PHRASE_PATIENCE, min(2 * load(phrase + PHRASE_PATIENCE) + 1, PATIENCE_MAX))
    else:
        return
    store(phrase + PHRASE_MISSES, 0)
    store(frame + NOTED, phrase)
    store(frame + NOTE_BEGIN, at)
    store(frame + NOTE_END, at)
    store(frame + SEEN_BEFORE, seen)
    store(frame + SEEN_AFTER, seen)
    for place in range(0, 4 * WORD, WORD):
        store(frame + KEYS_BEFORE + place, load(frame + KEYS + place))
        store(frame + KEYS_AFTER + place, load(frame + KEYS + place))


@kernel
def extend_note(at: int, seen: int, key: int, frame: int) -> None:
    """Take the field that ends at `at` into the phrase being noted, or end it: there, or before the field.

    `key` is the word of the field's key; 0: the field belongs in no phrase.
    """
    is_right = key != 0 and load(frame + VALUE_WORD) != 0 and at <= load(frame + NOTE_LIMIT)
    if is_right and at - load(frame + NOTE_BEGIN) <= PHRASE_TEXT_MAX:
        store(frame + NOTE_END, at)
        store(frame + NOTE_KEY, key)
        store(frame + SEEN_AFTER, seen)
        for place in range(0, 4 * WORD, WORD):
            store(frame + KEYS_AFTER + place, load(frame + KEYS + place))
    else:
        end_note(frame)


@kernel
def end_note(frame: int) -> None:
    """Write the phrase that was noted, which may have come to nothing."""
    phrase, begin = load(frame + NOTED), load(frame + NOTE_BEGIN)
    length = load(frame + NOTE_END) - begin
    store(frame + NOTED, 0)
    store(phrase + PHRASE_LENGTH, length)
    copy_text(begin, phrase + PHRASE_TEXT, length)
    store(phrase + PHRASE_SEEN, load(frame + SEEN_AFTER) ^ load(frame + SEEN_BEFORE))
    for place in range(0, 4 * WORD, WORD):
        keys = load(frame + KEYS_AFTER + place) ^ load(frame + KEYS_BEFORE + place)
        store(phrase + PHRASE_KEYS + place, keys)
    store(phrase + PHRASE_LAST, load(frame + NOTE_KEY))
