"""When an event happened: the text of its `time` to int64 nanoseconds, exactly.

A number below 1e11 is seconds, below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds. Its text
is read, never a float: a double has 53 bits, and seconds since 1970 with microseconds need 51 of them.
What is finer than a nanosecond is cut off, never rounded, so that an event does not move into the next slice.
A leap second, 23:59:60, is the first second of the next day, as POSIX counts.
Rejected: `datetime`, which stops at microseconds, and `Decimal` for every row, which takes longer.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal

import msgspec

MALFORMED = -1
OUT_OF_RANGE = -2

S = 1_000_000_000
MINUTE_S = 60
HOUR_S = 3600
DAY_S = 86_400
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
FIRST_NS = (date(2001, 1, 1).toordinal() - EPOCH_ORDINAL) * DAY_S * S
END_NS = (date(2101, 1, 1).toordinal() - EPOCH_ORDINAL) * DAY_S * S  # the year 2100 is in

TEXT_BYTES_MAX = 64  # of a number or an RFC 3339 time; a longer one is malformed
QUOTED_BYTES_MAX = 2 + 6 * TEXT_BYTES_MAX  # as JSON, where every character may be an escape

NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
# Enough digits for any text that is let in, and no exceptions: what overflows is infinite, hence out of
# range.
EXACT = Context(prec=2 * TEXT_BYTES_MAX, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])


def event_time_ns(text: bytes) -> int:
    """Give the nanoseconds since 1970 of a JSON value, or MALFORMED or OUT_OF_RANGE, which are negative."""
    whole, dot, fraction = text.partition(b".")
    # Plain decimals first, which is nearly every row.
    if whole.isdigit() and (fraction.isdigit() if dot else True) and len(text) <= TEXT_BYTES_MAX:
        value = int(whole)
        places = _places(value)
        time_ns = value * 10**places
        if places and dot:
            time_ns += int(fraction[:places].ljust(places, b"0"))
        return time_ns if FIRST_NS <= time_ns < END_NS else OUT_OF_RANGE
    if not text.startswith(b'"'):
        return _number_ns(text.decode("ascii", "replace"))
    if len(text) > QUOTED_BYTES_MAX:
        return MALFORMED
    try:
        inner = msgspec.json.decode(text, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return MALFORMED
    return _number_ns(inner) if NUMBER.fullmatch(inner) else _rfc3339_ns(inner)


def _places(value: int) -> int:
    """How many decimal places a time of this magnitude is away from nanoseconds."""
    if value < 10**11:
        return 9
    if value < 10**14:
        return 6
    return 3 if value < 10**17 else 0


def _checked(time_ns: int) -> int:
    return time_ns if FIRST_NS <= time_ns < END_NS else OUT_OF_RANGE


def _number_ns(text: str) -> int:
    if len(text) > TEXT_BYTES_MAX or not NUMBER.fullmatch(text):
        return MALFORMED
    value = EXACT.create_decimal(text)
    if value >= END_NS:  # Before the integer is made: 1e999999 would be a large one.
        return OUT_OF_RANGE
    scaled: Decimal = value.scaleb(_places(int(value)), EXACT)
    return _checked(int(scaled))


def _rfc3339_ns(text: str) -> int:
    match = RFC3339.fullmatch(text) if len(text) <= TEXT_BYTES_MAX else None
    if match is None:
        return MALFORMED
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    fraction, sign, offset_hour, offset_minute = match.groups()[6:]
    try:
        days = date(year, month, day).toordinal() - EPOCH_ORDINAL
    except ValueError:
        return MALFORMED
    hours_offset, minutes_offset = int(offset_hour or 0), int(offset_minute or 0)
    if max(hour, hours_offset) >= DAY_S // HOUR_S or max(minute, minutes_offset) >= HOUR_S // MINUTE_S:
        return MALFORMED
    offset_s = (hours_offset * HOUR_S + minutes_offset * MINUTE_S) * (-1 if sign == "-" else 1)
    total_s = days * DAY_S + hour * HOUR_S + minute * MINUTE_S + second - offset_s
    # Leap seconds are only ever put in before midnight UTC.
    if second > MINUTE_S or (second == MINUTE_S and total_s % DAY_S != 0):
        return MALFORMED
    return _checked(total_s * S + int((fraction or "")[:9].ljust(9, "0")))
