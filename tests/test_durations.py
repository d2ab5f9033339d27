"""Durations, sizes and dates: exact both ways, and never guessed."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.durations import (
    BYTES_MAX,
    DURATION_MAX_NS,
    format_duration,
    parse_duration,
    parse_size,
    parse_time,
)


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("0s", 0),
        ("1ns", 1),
        ("200ms", 200_000_000),
        ("5s", 5_000_000_000),
        ("1.5s", 1_500_000_000),
        ("10m", 600_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("4h", 14_400_000_000_000),
        ("1w", 604_800_000_000_000),
        ("0.1us", 100),
    ],
)
def test_a_duration_is_read_exactly(text: str, duration_ns: int) -> None:
    assert duration_ns == parse_duration(text)


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "5 s", "-5s", "5S", "1e3s", "5s ", "five", "0.1ns", "4000d", "9" * 40 + "s", "5\u0665s"],
)
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is "):
        parse_duration(text)


@given(st.integers(0, DURATION_MAX_NS))
def test_a_duration_written_and_read_is_the_same(duration_ns: int) -> None:
    assert duration_ns == parse_duration(format_duration(duration_ns))


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("1B", 1), ("512kB", 512_000), ("64MiB", 64 << 20), ("1.5 GiB", 3 << 29), ("1GB", 1_000_000_000)],
)
def test_a_size_is_read_exactly(text: str, size_bytes: int) -> None:
    assert size_bytes == parse_size(text)


@pytest.mark.parametrize("text", ["", "64", "64mib", "64 MB s", "-1B", "0.5B", "99999999GiB"])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is "):
        parse_size(text)


@given(st.integers(0, BYTES_MAX))
def test_a_size_in_bytes_is_itself(size_bytes: int) -> None:
    assert size_bytes == parse_size(f"{size_bytes}B")


@pytest.mark.parametrize(
    ("value", "time_ns"),
    [
        (date(2026, 6, 1), 1_780_272_000_000_000_000),
        ("2026-06-01", 1_780_272_000_000_000_000),
        ("2026-06-01T00:00:00Z", 1_780_272_000_000_000_000),
        ("2026-06-01T02:00:00+02:00", 1_780_272_000_000_000_000),
        (datetime(2026, 6, 1, 0, 0, 0, 250_000, tzinfo=UTC), 1_780_272_000_250_000_000),
    ],
)
def test_a_date_is_its_midnight_in_utc_and_a_time_has_a_zone(value: str | date, time_ns: int) -> None:
    assert time_ns == parse_time(value)


@pytest.mark.parametrize(
    "value",
    ["", "yesterday", "20260601", "2026-W23", "2026-13-01", "2026-06-01T00:00:00", "2026-06-01T25:00:00Z",
     "1999-01-01", "2100-01-01", datetime(2026, 6, 1, tzinfo=UTC).replace(tzinfo=None)],
)  # fmt: skip
def test_a_date_that_is_unclear_or_out_of_range_is_refused(value: str | date) -> None:
    with pytest.raises(ValueError, match=r"is |has |lies "):
        parse_time(value)
