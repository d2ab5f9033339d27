"""The slow twins of the scanner's kernels: bytes, `json`, exact fractions; the whole's twin is `JsonDecoder`.

Kernels take addresses; these take bytes and give what the kernel would, an address as the number of bytes
behind the first. Parts of the scan that mean nothing by themselves are named in PARTS: they are compared as a
whole, row by row and batch by batch, with the parser (tests/test_scan_decoder.py, tests/test_parquet.py).
"""

from __future__ import annotations

import json
import re
from fractions import Fraction

from tests.oracle_decode import siphash

# Of engine.decode.scan, scan_columns, scan_row, scan_phrases, scan_words: twin is the parser, JsonDecoder.
PARTS = (
    "scan_rows", "row_address", "clear", "finish", "cause_of", "measure", "queue_ids",
    "key_after", "key_anew", "remember_next", "read_row", "behind_bracket", "field_at", "word_value_at",
    "type_at", "time_at", "id_at", "code_at", "quantity_at", "measure_at", "latencies_at", "measures_at",
    "phrase_of", "phrase_at", "is_text", "miss_phrase", "extend_note", "end_note",
    "word_at", "add_word", "pair_at", "add_pair", "pair_place", "address_of", "copy_text", "head_of",
    "hash_of", "hash_of_long", "folded", "is_same", "queue_id", "flush_ids",
    "scan_columns", "read_columns", "word_in", "words_in", "id_in", "number_in", "quantity_in",
    "latencies_in", "time_in", "written_time", "magnified",
)  # fmt: skip
# Steps of kernels that have a twin here.
STEPS = {
    "special": ("special_words", "zero_bytes", "gathered"),
    "differing": ("differing_words",),
    "number_at": ("long_number_at", "digits_at", "eight_digits", "value_of", "signed"),
    "float_of": ("long_float_of",),
    "time_text_at": ("two_digits", "days_from_civil"),
    "time_number_at": ("to_places",),
    "string_end": ("long_string_end", "escape_bytes", "hex_digit", "character_bytes"),
    "skip_value": ("skip_scalar", "skip_key", "skip_space", "next_byte"),
    "key_behind_framing": ("absorbed", "hash_words"),
}

NUMBER = re.compile(rb"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?")
PLAIN, ENCODED, ESCAPED, UNSURE = 0, 1, 2, -1


def special(block: bytes) -> int:
    """Mark quotes, backslashes, controls and what is not ASCII."""
    return sum(1 << place for place, code in enumerate(block) if code in b'"\\' or not 32 <= code < 128)


def differing(one: bytes, other: bytes) -> int:
    """Mark the bytes that differ."""
    return sum(1 << place for place, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])


def number_at(text: bytes) -> tuple[int, int, int, int] | None:
    """Give the end, the digits as a number, the decimal places and the sign; None: left to the parser."""
    found = NUMBER.match(text)
    if found is None:
        return None
    sign, whole, fraction = found.groups()
    follows = text[found.end() : found.end() + 1]
    is_cut = follows in (b"e", b"E") or follows.isdigit() or (follows == b"." and fraction is None)
    if is_cut or len(whole + (fraction or b"")) > 19:
        return None
    return found.end(), int(whole + (fraction or b"")), len(fraction or b""), len(sign)


def float_of(value: int, places: int) -> float:
    """Divide exactly, and round once."""
    return float(Fraction(value, 10**places))


def is_json(text: bytes) -> bool:
    """Say whether a text is one value of strict JSON."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        json.loads(text.decode(), parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return text == text.strip()


def string_end(text: bytes) -> tuple[int, int] | None:
    """Give where the quote is that closes a string, and how it is written; None: it is not valid."""
    quote = re.match(rb'(?:[^"\\]|\\.)*"', text, re.DOTALL)
    if quote is None or not is_json(b'"' + quote.group()):
        return None
    inner = quote.group()[:-1]
    if re.search(rb"\\u[dD][89a-fA-F]", inner):  # Of pairs, the scanner is not sure.
        return None
    return len(inner), ESCAPED if b"\\" in inner else PLAIN if inner.isascii() else ENCODED


def key_behind_framing(framing: bytes, name: bytes, key: bytes) -> int:
    """Hash an id behind the framing of its labels; 0 is no key."""
    return siphash(framing + name, key, 1, 3) or 1
