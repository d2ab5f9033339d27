"""When the rows of a log happened, read lightly: good enough to order files by.

It is the first `"time":` of a row. A kernel reads plain numbers, which is nearly every row; the few others
are read as text. Both give the same: whole numbers exactly, others as a double. Where a `{` before it may
have begun another object, or what follows is no time, the row is parsed for its own `time`, as the decoder
does. A row that says its time twice, no object before it, is ordered by the first; a decoder takes the last.
Of rows that came as columns it is the column, and only where the line of such a row could say something else
(a list or a map, a stage of that name, what is no text) the line is written and read.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from engine.kernel import kernel
from engine.source.columns import ENCODER, STAGE_OF, Numbers, Others, RowColumns, Texts, Words, is_there

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.source.columns import Column
    from engine.source.lines import Rows

TEXT_MAX = 64  # characters of a time, as in the decoder
EVENT_TIME = re.compile(rb'"time"\s*:\s*(?:"([^"]{1,64})"|(-?[0-9][0-9.eE+-]{0,63}))')
NS = 1_000_000_000
DAY_S = 86_400
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
YEAR_2100_NS = 4_200_000_000_000_000_000  # twice as much still fits

NO_TIME, UNSURE = -1, -2
NAME = np.frombuffer(b'"time":', np.uint8)
ZERO, NINE, POINT, BRACE = ord("0"), ord("9"), ord("."), ord("{")
DIGITS_MAX = 19  # below 2^64
WHOLE_MAX = 1 << 53  # as a double; beyond it, only whole numbers are read here
THOUSANDS_END = 10**17  # from here on, a whole number is one of nanoseconds
GOES_ON = np.frombuffer(b"0123456789eE+-.", np.uint8)
POWERS = np.array([float(10**power) for power in range(DIGITS_MAX + 1)])


class OwnTime(msgspec.Struct):
    """The `time` of a row itself, not that of something in it."""

    time: msgspec.Raw = msgspec.Raw(b"")


OWN_TIME = msgspec.json.Decoder(OwnTime)


def event_time_ns(row: bytes) -> int | None:
    """Find the event's time, good enough to order by; None if there is none."""
    found = EVENT_TIME.search(row)
    if found is not None and row.count(b"{", 0, found.start()) <= 1:
        time_ns = _time_ns((found[1] or found[2]).decode("ascii", "replace"))
        if time_ns is not None:
            return time_ns
    try:
        own = bytes(OWN_TIME.decode(row).time)
        text = msgspec.json.decode(own, type=str) if own.startswith(b'"') else own.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return _time_ns(text) if len(text) <= TEXT_MAX else None


def _time_ns(text: str) -> int | None:
    """Read a number or RFC 3339; None if it is no time."""
    try:
        number = int(text) if text.isdigit() else float(text)
    except ValueError:
        try:
            # Its letters may be small. A leap second, which it does not know, is ordered by the one before.
            moment = dt.datetime.fromisoformat(text.upper().replace(":60", ":59"))
        except ValueError:
            return None
        if moment.tzinfo is None:
            return None
        # What an int64 cannot hold, the years 1 and 9999 among it, orders nothing.
        since = moment - EPOCH
        time_ns = (since.days * DAY_S + since.seconds) * NS + since.microseconds * 1000
        return time_ns if 0 <= time_ns < YEAR_2100_NS else None
    for below, unit_ns in ((1e11, NS), (1e14, 1_000_000), (1e17, 1_000), (YEAR_2100_NS, 1)):
        if 0 <= number < below:
            time_ns = int(number) * unit_ns + int(number % 1 * unit_ns)
            return time_ns if number < YEAR_2100_NS // unit_ns else None
    return None


def event_times(rows: Rows) -> NDArray[np.int64]:
    """Give the time of every row as `event_time_ns` does, NO_TIME if there is none; shape (rows,)."""
    times = np.empty(len(rows.start), np.int64)
    plain_times(np.frombuffer(rows.data, np.uint8), rows.start, rows.end, times)
    for row in np.flatnonzero(times == UNSURE).tolist():
        found = event_time_ns(rows.data[rows.start[row] : rows.end[row]])
        times[row] = NO_TIME if found is None else found
    return times


def column_times(columns: RowColumns) -> NDArray[np.int64]:
    """Give the time of every row as `event_times` does of its line of JSON; shape (rows,)."""
    times = np.full(columns.rows, NO_TIME, np.int64)
    unsure = np.zeros(columns.rows, np.bool_)
    for name, column in columns.fields.items():
        if name == "time":
            times, by_line = _times_in(column)
            unsure |= by_line
        elif isinstance(column, Others) or name == STAGE_OF + "time":
            unsure |= is_there(column)
        elif isinstance(column, Texts):
            unsure |= is_there(column) if column.is_json else ~column.is_plain()
        elif isinstance(column, Words):
            unsure |= np.array([*(not text.isascii() for text in column.texts), False])[column.code]
    for row in np.flatnonzero(unsure).tolist():
        found = event_time_ns(columns.text(row))
        times[row] = NO_TIME if found is None else found
    return times


def _times_in(column: Column) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Read a column of times; say in which rows only the line can tell."""
    if isinstance(column, Numbers) and column.values.dtype == np.int64:
        times = whole_times(np.where(column.is_null, NO_TIME, column.values))
        return times, np.zeros(len(times), np.bool_)
    there = is_there(column)
    times = np.full(len(there), NO_TIME, np.int64)
    if not isinstance(column, Texts):
        return times, there
    by_line = ~column.is_plain()
    for row in np.flatnonzero(there & ~by_line).tolist():
        found = event_time_ns(b'{"time":' + ENCODER.encode(column.value(row)) + b"}")
        times[row] = NO_TIME if found is None else found
    return times, by_line


def whole_times(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the nanoseconds that whole numbers say, as `event_time_ns` does; NO_TIME if none."""
    units = [NS, 1_000_000, 1_000]
    unit_ns = np.select([numbers < 10**11, numbers < 10**14, numbers < THOUSANDS_END], units, 1)
    fits = (numbers >= 0) & (numbers < YEAR_2100_NS // unit_ns)
    return np.where(fits, np.where(fits, numbers, 0) * unit_ns, NO_TIME)


@kernel
def plain_times(
    data: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64], times: NDArray[np.int64]
) -> None:
    """Write the time of row data[start[i]:end[i]], uint8, to times[i], int64: UNSURE if not a plain number.

    `start`, `end` and `times` have the shape (rows,) and belong to the caller.
    """
    for row in range(len(start)):
        times[row] = plain_time(data, start[row], end[row])


@kernel
def plain_time(data: NDArray[np.uint8], at: int, end: int) -> int:
    """Give the time of data[at:end]: UNSURE if its first `"time"` is not followed by a plain number.

    So too if it may be the time of something else, behind a second `{`.
    """
    matched, braces = 0, 0
    while matched < len(NAME):
        if at >= end:
            return UNSURE
        braces += int(data[at] == BRACE)
        if data[at] == NAME[matched]:
            matched += 1
        elif matched == len(NAME) - 1:
            return UNSURE  # The name, and something else than a colon.
        else:
            matched = int(data[at] == NAME[0])
        at += 1
    if braces > 1:
        return UNSURE
    value = np.uint64(0)
    digits, places, points = 0, 0, 0
    while at < end and digits < DIGITS_MAX:
        code = data[at]
        if code == POINT and points == 0 and digits > 0:
            points = 1
        elif ZERO <= code <= NINE:
            value = np.uint64(value * np.uint64(10) + np.uint64(code - ZERO))
            digits += 1
            places += points
        else:
            break
        at += 1
    if digits == 0 or (places > 0 and value > np.uint64(WHOLE_MAX)):
        return UNSURE
    if at < end:
        for code in GOES_ON:
            if data[at] == code:
                return UNSURE
    if places > 0:
        return decimal_ns(float(value) / POWERS[places])
    # Near the end of the microseconds, a double is rounded up to nanoseconds.
    is_rounded = np.uint64(WHOLE_MAX) < value < np.uint64(THOUSANDS_END)
    if is_rounded or value >= np.uint64(YEAR_2100_NS):
        return NO_TIME
    number = np.int64(value)
    unit_ns = unit_of(float(number))
    return int(number * unit_ns) if number < YEAR_2100_NS // unit_ns else NO_TIME


@kernel
def decimal_ns(number: float) -> int:
    """Give the nanoseconds that a number with decimals says; NO_TIME: too large."""
    unit_ns = unit_of(number)
    if number >= float(YEAR_2100_NS // unit_ns):
        return NO_TIME
    whole = np.int64(number)
    return int(whole * unit_ns + np.int64((number - whole) * unit_ns))


@kernel
def unit_of(number: float) -> int:
    """Give the unit of a time that is not negative, in nanoseconds, by its magnitude."""
    if number < 1e11:  # noqa: PLR2004 (as in event_time_ns)
        return NS
    if number < 1e14:  # noqa: PLR2004
        return 1_000_000
    return 1_000 if number < 1e17 else 1  # noqa: PLR2004
