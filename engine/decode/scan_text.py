"""Strings, white space and values that are skipped: strict JSON, or "not sure".

Everything takes an address and gives the address behind what it read, or UNSURE. A row about which the
scanner is unsure is read by the parser, so refusing costs time and never a row: numbers with an exponent,
surrogate escapes and deep nesting are refused here although they may be valid. What is accepted is valid,
also inside fields that nobody wants: half a row of a broken disk must not pass for a whole one.
Nothing reads further than 128 bytes behind `end`, the end of the row.
"""

from __future__ import annotations

import numpy as np

from engine.decode.memory import load8, load32, special, trailing_zeros
from engine.decode.scan_numbers import number_at
from engine.kernel import inlined_kernel, kernel

UNSURE = -1
READ_BEYOND_BYTES = 128  # behind the end of a row
DEPTH_MAX = 16  # of nested values that are skipped

# How a string is written.
PLAIN, ENCODED, ESCAPED = 0, 1, 2  # ASCII; valid UTF-8 beyond it; with valid escapes

QUOTE, COMMA, COLON, ESCAPE = ord('"'), ord(","), ord(":"), ord("\\")
OPEN_OBJECT, CLOSE_OBJECT, OPEN_ARRAY, CLOSE_ARRAY = ord("{"), ord("}"), ord("["), ord("]")
SPACE, TAB, LINE_FEED, CARRIAGE_RETURN = ord(" "), ord("\t"), ord("\n"), ord("\r")
TRUE, NULL, FALS = (int.from_bytes(word, "little") for word in (b"true", b"null", b"fals"))
E, LETTER_N, LETTER_T, LETTER_F, LETTER_U = ord("e"), ord("n"), ord("t"), ord("f"), ord("u")
SIMPLE_ESCAPES = sum(1 << (ord(letter) - 64) for letter in "bfnrt\\")  # of letters from 64 on
SLASH = ord("/")


@inlined_kernel
def next_byte(at: int, end: int) -> int:
    """Go to the next byte that is no white space; nearly always that is at once.

    Kept as a branch: a place that is computed instead makes everything behind it wait, which took a fifth.
    """
    return skip_space(at, end) if load8(at) <= SPACE else at


@kernel
def skip_space(at: int, end: int) -> int:
    """Go to the next byte that is no white space of JSON, or to `end`."""
    while at < end:
        code = load8(at)
        if code not in (SPACE, LINE_FEED, CARRIAGE_RETURN, TAB):
            break
        at += 1
    return at


@inlined_kernel
def string_end(at: int, end: int, has_vectors: int) -> tuple[int, int]:
    """Find the closing quote of the string whose first byte is at `at`; give where, and how it is written.

    The kind is UNSURE if the string is not valid or has no end.
    """
    mask = special(at, has_vectors)
    if mask != np.uint64(0):
        quote = at + trailing_zeros(mask)
        if load8(quote) == QUOTE and quote < end:
            return quote, PLAIN
    return long_string_end(at, end, has_vectors)


@kernel
def long_string_end(at: int, end: int, has_vectors: int) -> tuple[int, int]:
    """Do what `string_end` does, for strings of any length with anything in them."""
    kind = PLAIN
    while at < end:
        mask = special(at, has_vectors)
        if mask == np.uint64(0):
            at += 64
            continue
        at += trailing_zeros(mask)
        if at >= end:
            break
        code = load8(at)
        if code == QUOTE:
            return at, kind
        length = 0
        if code == ESCAPE:
            length = escape_bytes(at)
            kind = ESCAPED
        elif code >= 128:  # noqa: PLR2004 (beyond ASCII)
            length = character_bytes(at)
            kind = max(kind, ENCODED)
        if length == 0:
            break
        at += length
    return at, UNSURE


@kernel
def escape_bytes(at: int) -> int:
    """Give the length of the escape at `at`, a backslash; 0 if it is none, or half of a surrogate pair."""
    code = load8(at + 1)
    if code in (QUOTE, SLASH):
        return 2
    if code >= 64 and (SIMPLE_ESCAPES >> (code - 64)) & 1 and code < 128:  # noqa: PLR2004 (see the constant)
        return 2
    if code != LETTER_U:
        return 0
    value = 0
    for place in range(2, 6):
        digit = hex_digit(load8(at + place))
        if digit < 0:
            return 0
        value = value * 16 + digit
    return 0 if 0xD800 <= value <= 0xDFFF else 6  # noqa: PLR2004 (surrogates)


@kernel
def hex_digit(code: int) -> int:
    """Give the value of a hexadecimal digit, or UNSURE."""
    if ord("0") <= code <= ord("9"):
        return code - ord("0")
    letter = code | 0x20
    return letter - ord("a") + 10 if ord("a") <= letter <= ord("f") else UNSURE


@kernel
def character_bytes(at: int) -> int:
    """Give the length of the UTF-8 character at `at`, which is beyond ASCII; 0 if it is none (RFC 3629)."""
    first, second = load8(at), load8(at + 1)
    length = 2 + (first >= 0xE0) + (first >= 0xF0)  # noqa: PLR2004 (of three bytes, of four)
    if first < 0xC2 or first > 0xF4:  # noqa: PLR2004 (overlong; beyond Unicode)
        return 0
    # The second byte keeps out overlong forms, surrogates, and what is beyond Unicode.
    lowest = 0xA0 if first == 0xE0 else 0x90 if first == 0xF0 else 0x80  # noqa: PLR2004
    highest = 0x9F if first == 0xED else 0x8F if first == 0xF4 else 0xBF  # noqa: PLR2004
    if second < lowest or second > highest:
        return 0
    for place in range(2, length):
        if load8(at + place) & 0xC0 != 0x80:  # noqa: PLR2004 (the mark of a further byte)
            return 0
    return int(length)


@kernel
def skip_scalar(at: int) -> int:
    """Go behind the number, `true`, `false` or `null` at `at`; UNSURE if it is none."""
    code = load8(at)
    if code == LETTER_T:
        return at + 4 if load32(at) == TRUE else UNSURE
    if code == LETTER_N:
        return at + 4 if load32(at) == NULL else UNSURE
    if code == LETTER_F:
        return at + 5 if load32(at) == FALS and load8(at + 4) == E else UNSURE
    return number_at(at)[0]


@kernel
def skip_key(at: int, end: int, has_vectors: int) -> int:
    """Go from the opening quote of a key to the value behind its colon; UNSURE if there is none."""
    if load8(at) != QUOTE:
        return UNSURE
    at, kind = string_end(at + 1, end, has_vectors)
    if kind == UNSURE:
        return UNSURE
    at = skip_space(at + 1, end)
    return skip_space(at + 1, end) if load8(at) == COLON else UNSURE


@kernel
def skip_value(at: int, end: int, has_vectors: int) -> int:
    """Go behind the value at `at`, which is read as strictly as any other; UNSURE if it is not valid.

    `kinds` is a stack of bits: of each open bracket, whether it is an object.
    """
    depth = 0
    kinds = 0
    while at < end:
        code = load8(at)
        if code == QUOTE:
            at, kind = string_end(at + 1, end, has_vectors)
            if kind == UNSURE:
                return UNSURE
            at += 1
        elif code in (OPEN_OBJECT, OPEN_ARRAY):
            if depth == DEPTH_MAX:
                return UNSURE
            at = skip_space(at + 1, end)
            if load8(at) != code + 2:  # The closing bracket stands two places behind in ASCII.
                depth += 1
                kinds = (kinds << 1) | (code == OPEN_OBJECT)
                if code == OPEN_OBJECT:
                    at = skip_key(at, end, has_vectors)
                    if at == UNSURE:
                        return UNSURE
                continue
            at += 1
        else:
            at = skip_scalar(at)
            if at == UNSURE:
                return UNSURE
        is_next = False
        while depth > 0 and not is_next:
            at = skip_space(at, end)
            code = load8(at)
            at += 1
            if code == COMMA:
                at = skip_space(at, end)
                if kinds & 1:
                    at = skip_key(at, end, has_vectors)
                    if at == UNSURE:
                        return UNSURE
                is_next = True
            elif code == (CLOSE_OBJECT if kinds & 1 else CLOSE_ARRAY):
                depth -= 1
                kinds >>= 1
            else:
                return UNSURE
        if depth == 0:
            return at
    return UNSURE
