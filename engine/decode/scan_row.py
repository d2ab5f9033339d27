"""One row of JSON to the state of the frame: keys are predicted, values go by the kind of their field.

A writer puts the same fields in the same order, row after row. So each word remembers which key came after
it last time, and that key's text is compared first; a miss costs one look-up. The type of an event takes the
place of its key in this chain, since what follows depends on it. No schema is learned, no code is made.
A row is right, as far as this file sees, or unsure: see `engine.decode.scan_text`.
"""

from __future__ import annotations

import numpy as np

from engine.decode.identity import ID_BYTES_MAX
from engine.decode.memory import load, load8, load32, signed, store, store_float
from engine.decode.scan_frame import (
    CALL_AT,
    CALL_BYTES,
    CODE,
    DURATION_MS,
    EVENT_AT,
    EVENT_BYTES,
    FIRST_FIELD,
    FIRST_STAGE,
    HAS_VECTORS,
    KEYS,
    KIND_BITS,
    KIND_CALL,
    KIND_CODE,
    KIND_DURATION,
    KIND_EVENT,
    KIND_LATENCY,
    KIND_SCORE,
    KIND_SKIPPED,
    KIND_TIME,
    KIND_TYPE,
    KIND_WORD,
    LAST_TYPE,
    MEASURE_MS,
    MEASURE_ROW,
    MEASURE_STAGE,
    MEASURES,
    MISSING,
    NEXT_BYTES,
    NEXT_LENGTH,
    NEXT_TEXT_MAX,
    NEXT_WORD,
    NOTED,
    REMEMBERED_OF,
    ROW,
    SCORE,
    SLOT_BITS,
    SLOT_STAGE,
    TIME_NS,
    TYPE_WORD,
    VALUE_WORD,
    WORD,
    WORD_FIELD,
    WORD_LENGTH,
    WORD_MISSES,
    WORD_NEXT,
    WORD_OTHER,
    WORD_STAGE,
    WORD_TYPE,
)
from engine.decode.scan_numbers import digits_at, float_of, number_at, time_number_at, time_text_at
from engine.decode.scan_phrases import end_note, extend_note, phrase_at
from engine.decode.scan_text import (
    CLOSE_ARRAY,
    CLOSE_OBJECT,
    COLON,
    COMMA,
    ESCAPED,
    LETTER_N,
    NULL,
    OPEN_ARRAY,
    OPEN_OBJECT,
    QUOTE,
    UNSURE,
    next_byte,
    skip_space,
    skip_value,
    string_end,
)
from engine.decode.scan_words import address_of, copy_text, is_same, word_at
from engine.kernel import inlined_kernel, kernel

CODE_DIGITS_MAX = 6
CLOSED = -1  # instead of the address of a word: the object has no further field
STAGE_BITS = 62  # of stages that a row is checked for; of more, rows are parsed


@inlined_kernel
def key_after(
    at: int, end: int, opening: int, previous: int, frame: int, has_vectors: int
) -> tuple[int, int]:
    """Read from behind a value, or from an opening bracket, to the next value.

    `opening` is the bracket or a comma, `previous` the word whose value was read. Give the address of the
    word of the key (0: not known; CLOSED: there is no further key) and where its value is, or UNSURE.
    """
    following = previous + WORD_NEXT
    length = load(following + NEXT_LENGTH)
    if length != 0 and is_same(at, following, length, has_vectors):
        return load(following + NEXT_WORD), at + length
    return key_anew(at, end, opening, previous, frame, has_vectors)


@kernel
def key_anew(at: int, end: int, opening: int, previous: int, frame: int, has_vectors: int) -> tuple[int, int]:
    """Do what `key_after` does where another key comes than last time, and remember it."""
    other = previous + WORD_OTHER
    length = load(other + NEXT_LENGTH)
    if length != 0 and is_same(at, other, length, has_vectors):
        return load(other + NEXT_WORD), at + length
    begin = at
    at = skip_space(at, end)
    code = load8(at)
    at += 1
    if code == CLOSE_OBJECT and opening == COMMA:
        return CLOSED, at
    if code != opening:
        return 0, UNSURE
    at = skip_space(at, end)
    code = load8(at)
    at += 1
    if code == CLOSE_OBJECT and opening == OPEN_OBJECT:
        return CLOSED, at
    if code != QUOTE:
        return 0, UNSURE
    quote, kind = string_end(at, end, has_vectors)
    if kind in (UNSURE, ESCAPED):  # An escaped name may be that of a field.
        return 0, UNSURE
    word = word_at(at, quote - at, frame)
    at = skip_space(quote + 1, end)
    if load8(at) != COLON:
        return 0, UNSURE
    at = skip_space(at + 1, end)
    if word == 0:
        return 0, at
    word = address_of(word, frame)
    misses = load(previous + WORD_MISSES)
    store(previous + WORD_MISSES, misses + 1)
    if at - begin <= NEXT_TEXT_MAX and misses % REMEMBERED_OF == 0:
        remember_next(begin, at - begin, previous, word)
    return word, at


@kernel
def remember_next(begin: int, length: int, previous: int, word: int) -> None:
    """Put what came behind a word before what came there last time; what came before that is forgotten."""
    following = previous + WORD_NEXT
    for place in range(0, NEXT_BYTES, WORD):
        store(previous + WORD_OTHER + place, load(following + place))
    copy_text(begin, following, length)
    store(following + NEXT_LENGTH, length)
    store(following + NEXT_WORD, word)


@kernel
def read_row(at: int, end: int, frame: int) -> bool:
    """Read the row from `at` to `end` into the frame; False: unsure."""
    has_vectors = load(frame + HAS_VECTORS)
    at = next_byte(at, end)
    previous, opening = load(frame + FIRST_FIELD), OPEN_OBJECT
    seen = 0  # bits of the fields that were there
    while at < end:
        word, at = key_after(at, end, opening, previous, frame, has_vectors)
        opening = COMMA
        if at == UNSURE:
            return False
        if word == CLOSED:
            if load(frame + NOTED) != 0:
                end_note(frame)
            return skip_space(at, end) == end
        field = load(word + WORD_FIELD) if word != 0 else 0
        kind, bit = field & 0xFF, field >> (2 * KIND_BITS)
        if field == 0:
            at = skip_value(at, end, has_vectors)
            previous = behind_bracket(previous, frame + FIRST_FIELD)
        elif seen & bit:
            return False  # The last of two wins, which is for the parser to find out.
        else:
            seen |= bit
            previous = word
            at = field_at(at, end, field, frame, has_vectors)
        if at == UNSURE:
            return False
        if load(frame + NOTED) != 0:
            extend_note(at, seen, word if kind == KIND_WORD else 0, frame)
        elif kind == KIND_WORD and load(frame + VALUE_WORD) != 0:
            length, more, last = phrase_at(at, seen, frame, has_vectors)
            if length != 0:
                at += length
                seen |= more
                previous = last
        elif kind == KIND_TYPE and load(frame + TYPE_WORD) != 0:
            previous = load(frame + TYPE_WORD)
    return False


@inlined_kernel
def behind_bracket(previous: int, first: int) -> int:
    """Keep the word to predict by behind an unknown key, but not the one before the first key of all.

    What follows that one begins with a bracket, and must never be taken for what follows a comma.
    """
    return load(first + WORD) if previous == load(first) else previous


@inlined_kernel
def field_at(at: int, end: int, field: int, frame: int, has_vectors: int) -> int:
    """Read the value of a known field into the frame; give where it ends."""
    kind, slot = field & 0xFF, (field >> KIND_BITS) & 0xFF
    code = load8(at)
    if kind == KIND_WORD and code == QUOTE:
        return word_value_at(at + 1, end, slot, frame, has_vectors)
    if kind == KIND_SKIPPED:
        return skip_value(at, end, has_vectors)
    if code == LETTER_N:
        store(frame + VALUE_WORD, 0)
        return at + 4 if load32(at) == NULL else UNSURE
    if kind == KIND_TIME:
        return time_at(at, frame)
    if kind == KIND_TYPE and code == QUOTE:
        return type_at(at + 1, end, frame, has_vectors)
    if kind == KIND_CALL and code == QUOTE:
        return id_at(at + 1, end, frame + CALL_AT, frame + CALL_BYTES, has_vectors)
    if kind == KIND_EVENT and code == QUOTE:
        return id_at(at + 1, end, frame + EVENT_AT, frame + EVENT_BYTES, has_vectors)
    if kind == KIND_LATENCY and code == OPEN_OBJECT:
        return latencies_at(at, end, frame, has_vectors)
    if kind == KIND_CODE:
        return code_at(at, frame)
    if kind == KIND_DURATION:
        return quantity_at(at, frame + DURATION_MS)
    return quantity_at(at, frame + SCORE) if kind == KIND_SCORE else UNSURE


@inlined_kernel
def word_value_at(at: int, end: int, slot: int, frame: int, has_vectors: int) -> int:
    """Read a value that may be a known word; it goes to its slot, or the slot is marked as missing."""
    quote, kind = string_end(at, end, has_vectors)
    if kind == UNSURE:
        return UNSURE
    word = word_at(at, quote - at, frame) if kind != ESCAPED else 0
    store(frame + VALUE_WORD, word)
    if word == 0:
        store(frame + MISSING, load(frame + MISSING) | (1 << slot))
    else:
        keys = frame + KEYS + (slot >> 2) * WORD
        store(keys, load(keys) | (word << ((slot & 3) * SLOT_BITS)))
    return quote + 1


@inlined_kernel
def type_at(at: int, end: int, frame: int, has_vectors: int) -> int:
    """Read the type of an event, often that of the row before; unsure if it is none that can be taken."""
    word = load(frame + LAST_TYPE)
    length = load(word + WORD_LENGTH) + 1
    if is_same(at, word, length, has_vectors):
        store(frame + TYPE_WORD, word)
        return int(at + length)
    quote, kind = string_end(at, end, has_vectors)
    if kind in (UNSURE, ESCAPED):
        return UNSURE
    number = word_at(at, quote - at, frame)
    word = address_of(number, frame)
    if number == 0 or load(word + WORD_TYPE) == 0:
        return UNSURE
    store(frame + TYPE_WORD, word)
    store(frame + LAST_TYPE, word)
    return quote + 1


@inlined_kernel
def time_at(at: int, frame: int) -> int:
    """Read the time of an event."""
    if load8(at) == QUOTE:
        at, time_ns = time_text_at(at + 1)
        if at == UNSURE or load8(at) != QUOTE:
            return UNSURE
        at += 1
    else:
        at, time_ns = time_number_at(at)
    store(frame + TIME_NS, time_ns)
    return at


@inlined_kernel
def id_at(at: int, end: int, where: int, length: int, has_vectors: int) -> int:
    """Read an id of 1 to 256 bytes: only where it stands, and how long it is."""
    quote, kind = string_end(at, end, has_vectors)
    if kind in (UNSURE, ESCAPED) or quote == at or quote - at > ID_BYTES_MAX:
        return UNSURE
    store(where, at)
    store(length, quote - at)
    return quote + 1


@kernel
def code_at(at: int, frame: int) -> int:
    """Read a code of at most six digits, a number or its text."""
    is_text = int(load8(at) == QUOTE)
    at += is_text
    value, count = digits_at(at)
    if count == 0 or count > CODE_DIGITS_MAX:
        return UNSURE
    store(frame + CODE, signed(value))
    if is_text:
        return at + count + 1 if load8(at + count) == QUOTE else UNSURE
    stop, value, places, _ = number_at(at)
    return UNSURE if stop == UNSURE or places else stop


@inlined_kernel
def quantity_at(at: int, where: int) -> int:
    """Read a number that is not negative."""
    at, value, places, is_negative = number_at(at)
    if at == UNSURE or (is_negative and value != np.uint64(0)):
        return UNSURE
    store_float(where, float_of(value, places))
    return at


@inlined_kernel
def measure_at(at: int, stage: int, count: int, frame: int) -> tuple[int, int]:
    """Read one latency of a stage; negative is how a platform says "not measured". `count` are before it."""
    at, value, places, is_negative = number_at(at)
    if at == UNSURE or (is_negative and value != np.uint64(0)):
        return at, count
    store(load(frame + MEASURE_ROW) + count * WORD, load(frame + ROW))
    store(load(frame + MEASURE_STAGE) + count * WORD, stage)
    store_float(load(frame + MEASURE_MS) + count * WORD, float_of(value, places))
    return at, count + 1


@kernel
def latencies_at(at: int, end: int, frame: int, has_vectors: int) -> int:
    """Read an object of stages with a number or an array of numbers each.

    A stage that is not known is marked as missing; one that comes twice makes the row unsure.
    """
    previous, opening = load(frame + FIRST_STAGE), OPEN_OBJECT
    seen, count = 0, load(frame + MEASURES)
    while at < end:
        word, at = key_after(at, end, opening, previous, frame, has_vectors)
        opening = COMMA
        if word == CLOSED:
            store(frame + MEASURES, count)
            return at
        if at == UNSURE:
            return UNSURE
        stage = -1
        if word != 0:
            previous = word
            stage = load(word + WORD_STAGE) - 1
        else:
            previous = behind_bracket(previous, frame + FIRST_STAGE)
        if stage < 0 or stage > STAGE_BITS:
            store(frame + MISSING, load(frame + MISSING) | (1 << SLOT_STAGE))
        else:
            bit = 1 << stage
            if seen & bit:
                return UNSURE
            seen |= bit
        if load8(at) == OPEN_ARRAY:
            at, count = measures_at(at + 1, end, stage, count, frame)
        else:
            at, count = measure_at(at, stage, count, frame)
        if at == UNSURE:
            return UNSURE
    return UNSURE


@kernel
def measures_at(at: int, end: int, stage: int, count: int, frame: int) -> tuple[int, int]:
    """Read an array of latencies, `at` behind the bracket; `count` measures are before it."""
    at = skip_space(at, end)
    if load8(at) == CLOSE_ARRAY:
        return at + 1, count
    while at < end:
        at, count = measure_at(skip_space(at, end), stage, count, frame)
        if at == UNSURE:
            return UNSURE, count
        at = skip_space(at, end)
        code = load8(at)
        at += 1
        if code == CLOSE_ARRAY:
            return at, count
        if code != COMMA:
            return UNSURE, count
    return UNSURE, count
