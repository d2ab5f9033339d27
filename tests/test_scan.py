"""The scanner's kernels against their slow twins, with vectors and without, next to memory not ours."""

from __future__ import annotations

import ctypes
import json
import mmap
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.decode.fast_decoder import CAN_SCAN
from engine.decode.memory import differing, special
from engine.decode.scan_numbers import float_of, number_at, time_number_at, time_text_at
from engine.decode.scan_text import READ_BEYOND_BYTES, UNSURE, skip_value, string_end
from engine.decode.siphash import absorbed, hash_key
from engine.decode.timestamp import event_time_ns
from engine.kernel import kernel
from tests import oracle_scan

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not CAN_SCAN, reason="addresses need compiled kernels, little-endian")

PROT_NONE = 0
WAYS = st.sampled_from((0, 1))
PIECES = st.sampled_from(
    [b'"', b"\\", b"\\u00e9", b"\\ud83d", b"\\n", b"\x1f", b"\x7f", "é".encode(), "€".encode(), "😀".encode(),
     b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"a", b"text of some length ",
     b"{", b"}", b"[", b"]", b",", b":", b"0", b"12", b"-", b".", b"e5", b"true", b"null", b"fals", b" "]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=14).map(b"".join)
DIGITS = st.text("0123456789", min_size=1, max_size=21)


@kernel
def text_end(at: int, end: int, has_vectors: int) -> tuple[int, int]:
    """Call the inlined kernel as others do."""
    return string_end(at, end, has_vectors)


class Guarded:
    """Memory whose last byte before a page that cannot be read is the last that a kernel may read."""

    def __init__(self, text: bytes, beyond: bytes = b"") -> None:
        page = mmap.PAGESIZE
        pages = (len(text) + READ_BEYOND_BYTES) // page + 2
        self._map = mmap.mmap(-1, pages * page)
        first = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        assert protect(ctypes.c_void_p(first + (pages - 1) * page), page, PROT_NONE) == 0
        padded = text + (beyond * READ_BEYOND_BYTES)[:READ_BEYOND_BYTES].ljust(READ_BEYOND_BYTES, b"\0")
        place = (pages - 1) * page - len(padded)
        self._map[place : place + len(padded)] = padded
        self.at = first + place
        self.end = self.at + len(text)


@given(st.binary(min_size=64, max_size=64), st.binary(min_size=64, max_size=64), st.booleans())
def test_masks_mark_the_bytes_that_their_twins_mark(one: bytes, other: bytes, is_near: bool) -> None:
    """Both ways give the same bits."""
    other = one[:20] + other[20:22] + one[22:] if is_near else other
    left, right = (np.frombuffer(text, np.uint8) for text in (one, other))
    for way in (0, 1):
        assert oracle_scan.special(one) == int(special(left.ctypes.data, way))
        assert oracle_scan.differing(one, other) == int(differing(left.ctypes.data, right.ctypes.data, way))


@given(
    DIGITS, st.one_of(st.none(), DIGITS), st.sampled_from(["", "-", "+"]), st.sampled_from(list(",}] e.E"))
)
def test_numbers_are_those_of_the_twin(whole: str, fraction: str | None, sign: str, behind: str) -> None:
    text = (sign + whole + ("." + fraction if fraction is not None else "") + behind).encode()
    memory = Guarded(text)
    end, value, places, is_negative = number_at(memory.at)
    found = None if end == UNSURE else (end - memory.at, int(value), places, is_negative)
    assert oracle_scan.number_at(text) == found


@given(st.integers(0, 10**19 - 1), st.integers(0, 19))
def test_a_float_is_rounded_once(value: int, places: int) -> None:
    assert oracle_scan.float_of(value, places) == float_of(np.uint64(value), places)


@given(st.integers(52, 63), st.integers(0, 2**10), st.sampled_from([1, 5, 25, 125, 625]), st.integers(0, 6))
def test_a_float_between_two_others_goes_to_the_even_one(bits: int, odd: int, five: int, places: int) -> None:
    """Ties, and what is one off a tie."""
    for value in (((1 << bits) + odd) * five + off for off in (-1, 0, 1)):
        if value < 10**19:
            assert oracle_scan.float_of(value, places) == float_of(np.uint64(value), places)


@given(st.integers(0, 4_200_000_000), st.sampled_from([1, 10**3, 10**6, 10**9]), st.one_of(st.none(), DIGITS))
def test_times_that_are_numbers_are_those_of_the_parser(
    seconds: int, unit: int, fraction: str | None
) -> None:
    text = str(seconds * unit) + (f".{fraction}" if fraction is not None else "")
    memory = Guarded(text.encode() + b",")
    end, time_ns = time_number_at(memory.at)
    expected = event_time_ns(text.encode())
    is_usual = expected > 0 and len(fraction or "") <= 19
    assert (len(text), expected) == (end - memory.at, time_ns) if is_usual else end == UNSURE


@given(
    st.sampled_from([1970, 2000, 2001, 2023, 2024, 2026, 2100, 2101, 2262]), st.integers(0, 13),
    st.integers(0, 32), st.integers(0, 24), st.sampled_from([0, 59, 60]),
    st.sampled_from(["", ".5", ".123456789", ".0000000019"]),
    st.sampled_from(["Z", "+00:00", "-05:30", "+23:59", "+24:00", "-00:60", "z", ""]),
)  # fmt: skip
def test_times_of_rfc_3339_are_those_of_the_parser(
    year: int, month: int, day: int, hour: int, minute: int, fraction: str, zone: str
) -> None:
    text = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:30{fraction}{zone}"
    memory = Guarded(text.encode() + b'"')
    end, time_ns = time_text_at(memory.at)
    expected = event_time_ns(json.dumps(text).encode())
    assert (
        (len(text), expected) == (end - memory.at, time_ns) if expected > 0 and zone != "z" else end == UNSURE
    )


@given(TEXTS, WAYS, st.sampled_from([b"", b'"', b'x"', b"}"]))
def test_strings_end_where_the_twin_says(text: bytes, way: int, beyond: bytes) -> None:
    """What stands behind the end of the row changes nothing, and neither does what cannot be read."""
    memory = Guarded(text, beyond)
    quote, kind = text_end(memory.at, memory.end, way)
    assert oracle_scan.string_end(text) == (None if kind == UNSURE else (quote - memory.at, kind))


@given(TEXTS, WAYS, st.sampled_from([b"", b"]", b"}", b'"', b"1"]))
def test_what_is_skipped_is_valid(text: bytes, way: int, beyond: bytes) -> None:
    """Nothing that is no JSON is passed, and what is passed is what the text begins with."""
    memory = Guarded(text, beyond)
    end = skip_value(memory.at, memory.end, way)
    if UNSURE < end <= memory.end:
        assert oracle_scan.is_json(text[: end - memory.at])


@pytest.mark.parametrize(
    "text",
    ['"a"', '"é\\n\\u00e9"', "true", "null", "false", "0", "-0", "1.5", "[]", "{}", "[1,2,[{}]]",
     '{"a":1,"b":[{"c":null}]}', '{ "a" :\t[ 1 ,\n2 ] }', '"' + "x" * 200 + '"'],
)  # fmt: skip
@pytest.mark.parametrize("way", [0, 1])
def test_usual_values_are_skipped(text: str, way: int) -> None:
    memory = Guarded(text.encode())
    assert memory.end == skip_value(memory.at, memory.end, way)


@given(st.binary(max_size=40))
def test_a_hash_goes_on_from_where_the_framing_ended(framing: bytes) -> None:
    """The state and the rest are those of a hash that was interrupted."""
    key = bytes(range(16))
    state = absorbed(np.frombuffer(framing, np.uint8), hash_key(key))
    rest = framing[len(framing) // 8 * 8 :]
    assert int.from_bytes(rest, "little") == int(state[4])
    assert len(set(absorbed(np.frombuffer(b"\0" + framing, np.uint8), hash_key(key))[:4].tolist())) > 1


def kernel_names() -> Iterator[str]:
    """Name the kernels of the scanner's modules."""
    from engine.decode import memory, scan, scan_columns, scan_identity, scan_numbers, scan_phrases, scan_row
    from engine.decode import scan_text as text
    from engine.decode import scan_words as words

    readers = (scan_columns, scan_identity, scan_numbers, scan_phrases, scan_row, text, words)
    for module in (memory, scan, *readers):
        for name, value in vars(module).items():
            function: Any = getattr(value, "py_func", None)
            if function is not None and function.__module__ == module.__name__:
                yield name


def test_the_twins_list_no_kernel_that_is_gone() -> None:
    """A list of names that nothing holds to account would say less each year."""
    named = {
        *oracle_scan.PARTS,
        *oracle_scan.STEPS,
        *(one for some in oracle_scan.STEPS.values() for one in some),
    }
    others = {"key_behind_framing", "absorbed"}
    assert set(kernel_names()) == named - others
