"""Durations, sizes and dates as people write them in files, and the integers the engine computes with.

`5s`, `200ms`, `4h`, `1h30m` become nanoseconds, `64MiB` becomes bytes, `2026-06-01` and RFC 3339 times
become nanoseconds since the epoch. All arithmetic is exact. A bare number is refused: nobody can tell 30
seconds from 30 minutes. Every function raises `ValueError` with a sentence for the person who wrote the
text.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3_600 * 1_000_000_000,
    "d": 86_400 * 1_000_000_000,
    "w": 7 * 86_400 * 1_000_000_000,
}
UNIT_BYTES = {
    "B": 1,
    "kB": 1_000,
    "MB": 1_000_000,
    "GB": 1_000_000_000,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
DURATION_MAX_NS = 3_660 * UNIT_NS["d"]  # ten years: longer is a slip of the pen
BYTES_MAX = 1 << 50
FIRST_YEAR, LAST_YEAR = 2001, 2100  # the same years in which an event may lie

_DURATION = re.compile(r"(?:[0-9]{1,18}(?:\.[0-9]{1,18})?(?:ns|us|ms|s|m|h|d|w))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|m|h|d|w)")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?(B|kB|MB|GB|KiB|MiB|GiB)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?"
    r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_duration(text: str) -> int:
    """Give nanoseconds for `5s`, `1.5h` or `1h30m`; zero is `0s`."""
    if not _DURATION.fullmatch(text):
        message = "is not a duration"
        raise ValueError(message)
    total = sum(
        (Fraction(amount) * UNIT_NS[unit] for amount, unit in _DURATION_PART.findall(text)), start=Fraction(0)
    )
    if total.denominator != 1:
        message = "is finer than a nanosecond"
        raise ValueError(message)
    if total > DURATION_MAX_NS:
        message = "is longer than ten years"
        raise ValueError(message)
    return int(total)


def format_duration(duration_ns: int) -> str:
    """Write nanoseconds in the largest unit that is exact: `90m`, `1500ms`; `parse_duration` undoes it."""
    if duration_ns == 0:
        return "0s"
    for unit in ("d", "h", "m", "s", "ms", "us"):
        if duration_ns % UNIT_NS[unit] == 0:
            return f"{duration_ns // UNIT_NS[unit]}{unit}"
    return f"{duration_ns}ns"


def parse_size(text: str) -> int:
    """Give bytes for `64MiB` or `512kB`."""
    match = _SIZE.fullmatch(text)
    if not match:
        message = "is not a size"
        raise ValueError(message)
    total = Fraction(match[1]) * UNIT_BYTES[match[2]]
    if total.denominator != 1:
        message = "is not a whole number of bytes"
        raise ValueError(message)
    if total > BYTES_MAX:
        message = "is larger than a pebibyte"
        raise ValueError(message)
    return int(total)


def parse_time(value: str | date | datetime) -> int:
    """Give nanoseconds since the epoch of a date (its midnight in UTC) or of a time with a zone."""
    moment = _moment(value)
    if moment.tzinfo is None:
        message = "has no time zone"
        raise ValueError(message)
    if not FIRST_YEAR <= moment.year < LAST_YEAR:
        message = f"lies outside {FIRST_YEAR} to {LAST_YEAR}"
        raise ValueError(message)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000


def _moment(value: str | date | datetime) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    try:
        if _DATE.fullmatch(value):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        if _TIME.fullmatch(value):
            return datetime.fromisoformat(value.upper())
    except ValueError as error:
        message = f"is not a date ({error})"
        raise ValueError(message) from None
    message = "is not a date"
    raise ValueError(message)
