"""The time of an event: exact to the nanosecond, or malformed, or out of range."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decode import timestamp
from engine.decode.timestamp import MALFORMED, OUT_OF_RANGE, event_time_ns
from engine.errors import LossReason
from tests import oracle_decode

T = 1_795_358_317


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1795358317", T * 10**9),
        ("1795358317.043607", T * 10**9 + 43_607_000),
        ("1795358317.123456789", T * 10**9 + 123_456_789),
        ("1795358317.1234567899", T * 10**9 + 123_456_789),  # cut, not rounded
        ("1795358317043.607", T * 10**9 + 43_607_000),
        ("1795358317043", T * 10**9 + 43_000_000),
        ("1795358317043607", T * 10**9 + 43_607_000),
        ("1795358317043607.001", T * 10**9 + 43_607_001),
        ("1795358317043607001", T * 10**9 + 43_607_001),
        ("1795358317043607001.9", T * 10**9 + 43_607_001),
        ("1.795358317043607e9", T * 10**9 + 43_607_000),
        ("1795358317043607E-6", T * 10**9 + 43_607_000),
        ("17953583170e-1", T * 10**9),
        ('"1795358317.043607"', T * 10**9 + 43_607_000),
        ('"1.795358317043607e+12"', T * 10**9 + 43_607_000),
        (r'"\u0031795358317"', T * 10**9),
    ],
)
def test_a_number_is_read_by_magnitude_and_to_the_nanosecond(text: str, expected: int) -> None:
    """Seconds, milliseconds, microseconds, nanoseconds; decimals exactly as written."""
    assert expected == event_time_ns(text.encode())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T14:38:37.043607Z", T * 10**9 + 43_607_000),
        ("2026-11-22t14:38:37.123456789z", T * 10**9 + 123_456_789),
        ("2026-11-22 16:08:37.5+01:30", T * 10**9 + 500_000_000),
        ("2026-11-22T09:38:37-05:00", T * 10**9),
        ("2026-11-22T14:38:37.0000000009-00:00", T * 10**9),
        ("2001-01-01T00:00:00Z", 978_307_200 * 10**9),
        ("2000-12-31T23:00:00-01:00", 978_307_200 * 10**9),
        ("2016-12-31T23:59:60.5Z", 1_483_228_800 * 10**9 + 500_000_000),
        ("2017-01-01T00:59:60+01:00", 1_483_228_800 * 10**9),
        ("2024-02-29T00:00:00Z", 1_709_164_800 * 10**9),
        ("2100-12-31T23:59:59.999999999Z", 4_133_980_800 * 10**9 - 1),
    ],
)
def test_an_rfc_3339_time_is_read_with_its_zone(text: str, expected: int) -> None:
    """Fractions to the nanosecond; a leap second is the first second of the next day."""
    assert expected == event_time_ns(json.dumps(text).encode())


@pytest.mark.parametrize(
    "text",
    [
        "null", "true", "false", "{}", "[1795358317]", "-1795358317", "-0", '""', '"NaN"', '"-1"',
        '"+1795358317"', '" 1795358317"', '"1_795_358_317"', '"0x6b"', '"1795358317."', '"١٧٩٥٣٥٨٣١٧"',
        '"now"', '"2026-11-22T14:38:37"', '"2026-11-22"', '"2026-11-22T14:38Z"',
        '"2026-13-22T14:38:37Z"', '"2026-02-29T14:38:37Z"', '"0000-01-01T00:00:00Z"',
        '"2026-11-22T24:00:00Z"', '"2026-11-22T14:60:00Z"', '"2026-11-22T14:38:60Z"',
        '"2026-11-22T23:59:61Z"', '"2026-11-22T14:38:37+24:00"', '"2026-11-22T14:38:37+01:60"',
        '"2026-11-22T14:38:37+0100"', '"2026-11-22T14:38:37.Z"', '"2026-11-22T14:38:37Z "', "1" * 65,
        "1795358317." + "0" * 60, '"' + "1" * 500 + '"', "", '"', '"\\', "\xff",
    ],
)  # fmt: skip
def test_what_is_no_time_is_malformed(text: str) -> None:
    """Naive, negative, not a number, absurdly long, or of another type."""
    assert MALFORMED == event_time_ns(text.encode("latin-1", "ignore") or text.encode())


@pytest.mark.parametrize(
    "text",
    ["0", "1", "978307199.999999999", "4133980800", "99999999999", "9223372036854775808", "1e400", "1e-400",
     "1e999999999999999999999", '"2000-12-31T23:59:59.999999999Z"', '"2101-01-01T00:00:00Z"',
     '"9999-12-31T23:59:59-23:59"', '"0001-01-01T00:00:00+23:59"', "1" * 64, "0e999999999999999999999"],
)  # fmt: skip
def test_a_time_outside_2001_to_2100_is_out_of_range(text: str) -> None:
    """Years before and after are refused, however the number is written."""
    assert OUT_OF_RANGE == event_time_ns(text.encode())


def twin(text: str) -> int:
    """Read the time through the oracle."""
    result = oracle_decode.event_time_ns(json.loads(text, parse_float=Decimal, parse_int=Decimal))
    if isinstance(result, LossReason):
        return OUT_OF_RANGE if result is LossReason.TIME_OUT_OF_RANGE else MALFORMED
    return result


@st.composite
def numbers(draw: st.DrawFn) -> str:
    """Numbers around every boundary, written in every way."""
    middle = draw(st.sampled_from([T, 978_307_200, 4_133_980_800, 100_000_000]))
    digits = str(max(0, middle + draw(st.integers(-2, 2)))) + draw(st.text("0123456789", max_size=14))
    point = draw(st.integers(1, len(digits)))
    plain = f"{int(digits[:point])}.{digits[point:]}" if point < len(digits) else str(int(digits))
    exponent = draw(st.sampled_from(["", "e0", "E+3", "e-2", "e10"]))
    return draw(st.sampled_from(["{}", '"{}"'])).format(plain + exponent)


@settings(max_examples=100, deadline=None)
@given(numbers())
def test_numbers_agree_with_exact_fractions(text: str) -> None:
    """The twin computes with fractions of whole numbers."""
    assert twin(text) == event_time_ns(text.encode())


@settings(max_examples=100, deadline=None)
@given(
    st.datetimes(),
    st.text("0123456789", max_size=12),
    st.sampled_from(["Z", "z", "+00:00", "-23:59", "+05:30", ""]),
    st.sampled_from("Tt _"),
)
def test_rfc_3339_agrees_with_datetime(when: object, fraction: str, zone: str, between: str) -> None:
    """The twin lets the standard library do calendars and zones."""
    text = json.dumps(str(when)[:19].replace(" ", between) + (f".{fraction}" if fraction else "") + zone)
    expected = twin(text)
    found = event_time_ns(text.encode())
    # In the first and last day of its calendar, datetime cannot move to UTC.
    assert expected == found or (found == OUT_OF_RANGE and str(when)[:4] in ("0001", "9999"))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40))
def test_no_bytes_raise(text: bytes) -> None:
    """Whatever the bytes, the answer is a time or a reason."""
    found = event_time_ns(text)
    assert found in (MALFORMED, OUT_OF_RANGE) or timestamp.FIRST_NS <= found < timestamp.END_NS
