"""Numbers and times of a row, exactly: eight digits at a time, floats rounded as IEEE 754 asks.

A decimal of at most 19 digits is a uint64 over a power of ten. Up to 2^53 that is one exact division. Above,
the 128-bit product with a power of five settles the rounding (Lemire, "Number parsing at a gigabyte per
second", 2021): writers of 17 digits, as Python is one, are the rule and not the exception. Exponents and
longer numbers are left to the parser.
Times follow `engine.decode.timestamp`: numbers of four magnitudes and RFC 3339; what is out of range, and the
rarer ways to write it, is left to it.
"""

from __future__ import annotations

import numpy as np

from engine.decode.memory import (
    float_from_bits,
    leading_zeros,
    load8,
    load64,
    product_high,
    signed,
    trailing_zeros,
)
from engine.decode.timestamp import DAY_S, END_NS, FIRST_NS, HOUR_S, MINUTE_S, S
from engine.kernel import inlined_kernel, kernel

UNSURE = -1
DIGITS_MAX = 19  # of a number; any of so many is below 2^64
WHOLE_MAX = np.uint64(1 << 53)  # whole numbers up to here are doubles
TIE_PLACES_MAX = 4
EXACT_POWER_MAX = 22  # 10**22 is the largest power of ten that is a double

ZERO, MINUS, PLUS, POINT = ord("0"), ord("-"), ord("+"), ord(".")
LETTER_E, LOWER = ord("e"), 0x20
POWERS = np.array([10**power for power in range(DIGITS_MAX + 1)], np.uint64)
ENDS = np.array([END_NS // 10**power for power in range(10)], np.uint64)
FLOAT_POWERS = 10.0 ** np.arange(EXACT_POWER_MAX + 1)


def _five_power(power: int) -> int:
    """Give 5**-power, for power >= 0, as 128 bits of which the highest is set, rounded up."""
    bits = (5**power).bit_length()
    return -(-(1 << (127 + bits)) // 5**power) if power else 1 << 127


FIVES = [_five_power(power) for power in range(DIGITS_MAX + 1)]
FIVES_HIGH = np.array([five >> 64 for five in FIVES], np.uint64)
FIVES_LOW = np.array([five & (1 << 64) - 1 for five in FIVES], np.uint64)

U0, U1 = np.uint64(0), np.uint64(1)
TEXT_ZEROS = np.uint64(0x3030_3030_3030_3030)
SIXES = np.uint64(0x0606_0606_0606_0606)
HIGH_HALVES = np.uint64(0xF0F0_F0F0_F0F0_F0F0)
PAIRS = np.uint64(0x0000_00FF_0000_00FF)
HUNDREDS, ONES = np.uint64(0x000F_4240_0000_0064), np.uint64(0x0000_2710_0000_0001)
TEN, EIGHT, SIXTEEN, HALF = np.uint64(10), np.uint64(8), np.uint64(16), np.uint64(32)


@inlined_kernel
def value_of(word: np.uint64, count: int) -> np.uint64:
    """Give the value of the first `count` bytes of a word, 1 to 8 digits less their ASCII code.

    They are moved to the top, so that zeros stand before them, and added up in pairs, fours and eights.
    """
    word <<= np.uint64(64 - 8 * count)
    word = word * TEN + (word >> EIGHT)
    return (((word & PAIRS) * HUNDREDS + ((word >> SIXTEEN) & PAIRS) * ONES) >> HALF) & np.uint64(0xFFFF_FFFF)


@inlined_kernel
def eight_digits(at: int) -> tuple[np.uint64, int]:
    """Read the digits at `at`, up to eight; give their value and how many there are.

    A byte that is no digit leaves a bit in its upper half, or gets one when six is added.
    """
    word = load64(at) ^ TEXT_ZEROS
    count = trailing_zeros(((word + SIXES) | word) & HIGH_HALVES) >> 3
    if count == 0:
        return U0, 0
    return value_of(word, count), count


@inlined_kernel
def digits_at(at: int) -> tuple[np.uint64, int]:
    """Read the digits at `at`; give their value and how many there are, more than DIGITS_MAX: too many."""
    value, count = eight_digits(at)
    if count == 8:  # noqa: PLR2004 (there may be more)
        more, further = eight_digits(at + 8)
        value = value * POWERS[further] + more
        count += further
        if further == 8:  # noqa: PLR2004 (see above)
            more, further = eight_digits(at + 16)
            value = value * POWERS[min(further, 3)] + more
            count += further
    return value, count


@inlined_kernel
def number_at(at: int) -> tuple[int, np.uint64, int, int]:
    """Read the JSON number at `at`: where it ends (or UNSURE), its digits, decimal places, whether negative.

    Latencies are short decimals: up to seven bytes are read as one word, the point taken out of it.
    """
    word = load64(at) ^ TEXT_ZEROS
    others = ((word + SIXES) | word) & HIGH_HALVES
    whole = trailing_zeros(others) >> 3
    places = trailing_zeros(others >> np.uint64(min(8 * whole + 8, 63))) >> 3
    digits = whole + places
    if (
        digits < 7 and whole > 0 and places > 0  # noqa: PLR2004 (with the point and the byte behind)
        and load8(at + whole) == POINT and (whole == 1 or load8(at) != ZERO)
        and load8(at + digits + 1) | LOWER != LETTER_E
    ):  # fmt: skip
        mask = (U1 << np.uint64(8 * whole)) - U1
        word = (word & mask) | ((word >> EIGHT) & ~mask)
        return at + digits + 1, value_of(word, digits), places, 0
    return long_number_at(at)


@kernel
def long_number_at(at: int) -> tuple[int, np.uint64, int, int]:
    """Do what `number_at` does, for any number."""
    is_negative = int(load8(at) == MINUS)
    at += is_negative
    value, count = digits_at(at)
    if count == 0 or count > DIGITS_MAX or (count > 1 and load8(at) == ZERO):
        return UNSURE, U0, 0, 0
    at += count
    places = 0
    code = load8(at)
    if code == POINT:
        fraction, places = digits_at(at + 1)
        if places == 0 or count + places > DIGITS_MAX:
            return UNSURE, U0, 0, 0
        value = value * POWERS[places] + fraction
        at += 1 + places
        code = load8(at)
    if code | LOWER == LETTER_E:
        return UNSURE, U0, 0, 0
    return at, value, places, is_negative


@inlined_kernel
def float_of(value: np.uint64, places: int) -> float:
    """Give the double nearest to value / 10**places, ties to even; places is at most DIGITS_MAX."""
    if value <= WHOLE_MAX:
        return float(float(value) / FLOAT_POWERS[places])
    return long_float_of(value, places)


@kernel
def long_float_of(value: np.uint64, places: int) -> float:
    """Do what `float_of` does, for any value but 0.

    The product is that of the value, its highest bit moved to the top, and 128 bits of the power; 55 bits of
    it are 53 and two to round by. The second half of the power is only looked at where it can matter.
    """
    if places == 0:
        return float(value)
    shift = leading_zeros(value)
    value <<= np.uint64(shift)
    high, low = product_high(value, FIVES_HIGH[places]), value * FIVES_HIGH[places]
    if high & np.uint64(0x1FF) == np.uint64(0x1FF):
        more = product_high(value, FIVES_LOW[places])
        low += more
        high += np.uint64(low < more)
    top = signed(high >> np.uint64(63))
    mantissa = high >> np.uint64(top + 9)
    # A tie is exact, and only small powers of five divide exactly.
    may_tie = low <= U1 and places <= TIE_PLACES_MAX and mantissa & np.uint64(3) == U1
    if may_tie and mantissa << np.uint64(top + 9) == high:
        mantissa &= ~U1
    mantissa = (mantissa + (mantissa & U1)) >> U1
    exponent = ((-217706 * places) >> 16) + 63 + top - shift + 1023
    if mantissa >= np.uint64(1 << 53):
        mantissa = np.uint64(1 << 52)
        exponent += 1
    bits = (mantissa & np.uint64((1 << 52) - 1)) | (np.uint64(exponent) << np.uint64(52))
    return float(float_from_bits(bits))


@kernel
def to_places(fraction: np.uint64, digits: int, places: int) -> np.uint64:
    """Write a fraction of so many digits with so many places; what is finer is cut off."""
    if digits > places:
        return np.uint64(fraction // POWERS[digits - places])
    return np.uint64(fraction * POWERS[places - digits])


@kernel
def time_number_at(at: int) -> tuple[int, int]:
    """Read a time that is a number: where it ends, or UNSURE, and its nanoseconds since 1970."""
    whole, count = digits_at(at)
    if count == 0 or count > DIGITS_MAX or load8(at) == ZERO:
        return UNSURE, 0
    at += count
    places = 9 if count <= 11 else 6 if count <= 14 else 3 if count <= 17 else 0  # noqa: PLR2004 (magnitudes)
    if whole >= ENDS[places]:
        return UNSURE, 0
    time_ns = signed(whole * POWERS[places])  # int() would stay unsigned in numba
    code = load8(at)
    if code == POINT:
        fraction, digits = digits_at(at + 1)
        if digits == 0 or digits > DIGITS_MAX:
            return UNSURE, 0
        at += 1 + digits
        code = load8(at)
        time_ns += signed(to_places(fraction, digits, places))
    if code | LOWER == LETTER_E or time_ns < FIRST_NS:
        return UNSURE, 0
    return at, time_ns


@kernel
def two_digits(at: int) -> int:
    """Read exactly two digits; what they are not gives a negative number."""
    tens, ones = load8(at) - ZERO, load8(at + 1) - ZERO
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else -1_000_000  # noqa: PLR2004 (digits)


@kernel
def days_from_civil(year: int, month: int, day: int) -> int:
    """Count the days since 1970-01-01 of a date of the Gregorian calendar, or UNSURE if there is none.

    Years begin in March here, so that the leap day is the last one.
    """
    is_leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    if month < 1 or month > 12 or day < 1:  # noqa: PLR2004 (months)
        return UNSURE
    length = 28 + int(is_leap) if month == 2 else 30 + ((month + month // 8) & 1)  # noqa: PLR2004 (February)
    if day > length:
        return UNSURE
    of_march = (month + 9) % 12
    year -= int(month <= 2)  # noqa: PLR2004 (January and February)
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * of_march + 2) // 5 + day - 1 - 719_468


@kernel
def time_text_at(at: int) -> tuple[int, int]:
    """Read an RFC 3339 time, `at` its first digit: where it ends, or UNSURE, and its nanoseconds since 1970.

    Only the usual way to write it: `T`, `Z` or an offset, no leap second.
    """
    century, year = two_digits(at), two_digits(at + 2)
    days = days_from_civil(century * 100 + year, two_digits(at + 5), two_digits(at + 8))
    hour, minute, second = two_digits(at + 11), two_digits(at + 14), two_digits(at + 17)
    # Dashes, T and colons where they belong; nanoseconds of other centuries may not fit.
    is_form = load8(at + 4) == MINUS and load8(at + 7) == MINUS and load8(at + 10) == ord("T")
    is_form = is_form and load8(at + 13) == ord(":") and load8(at + 16) == ord(":")
    if not is_form or century not in (20, 21) or min(year, days, hour, minute, second) < 0:
        return UNSURE, 0
    if hour > 23 or minute > 59 or second > 59:  # noqa: PLR2004 (of a day)
        return UNSURE, 0
    at += 19
    time_ns = (days * DAY_S + hour * HOUR_S + minute * MINUTE_S + second) * S
    if load8(at) == POINT:
        fraction, digits = digits_at(at + 1)
        if digits == 0 or digits > DIGITS_MAX:
            return UNSURE, 0
        at += 1 + digits
        time_ns += signed(to_places(fraction, digits, 9))
    code = load8(at)
    if code == ord("Z"):
        at += 1
    elif code in (PLUS, MINUS):
        hours, minutes = two_digits(at + 1), two_digits(at + 4)
        is_offset = load8(at + 3) == ord(":") and 0 <= hours <= 23 and 0 <= minutes <= 59  # noqa: PLR2004
        if not is_offset:
            return UNSURE, 0
        offset_ns = (hours * HOUR_S + minutes * MINUTE_S) * S
        time_ns += offset_ns if code == MINUS else -offset_ns
        at += 6
    else:
        return UNSURE, 0
    return (at, time_ns) if FIRST_NS <= time_ns < END_NS else (UNSURE, 0)
