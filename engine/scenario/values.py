"""Values of a scenario as people write them, and the numbers that are computed with.

Times and durations become seconds, rates calls a second, ratios 0 to 1. A number without its unit is refused
where a unit is meant: nobody can tell 40 a minute from 40 a second. Every reader raises `FaultError` with
what is wrong and what to write.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, TypeVar

from engine.decode.fields import CODE_DIGITS_MAX
from engine.durations import parse_duration, parse_time
from engine.fields import FaultError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

T = TypeVar("T")

PERIODS_S = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
COUNT_MAX = 10**9
NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?")
_RATIO = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)%")
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)/([a-z]+)")
_TIME_OF_DAY = re.compile(r"([01]?[0-9]|2[0-4]):([0-5][0-9])")


def duration(text: str) -> float:
    """Give the seconds of `90s`, `1h30m` or `250ms`."""
    try:
        return parse_duration(text) / 1e9
    except ValueError as error:
        raise FaultError(f"`{text}` {error}", "write it as 90s, 12m, 1h30m or 250ms") from None


def longer_than_nothing(text: str) -> float:
    """Give the seconds of a duration that is not zero."""
    seconds = duration(text)
    if seconds <= 0:
        raise FaultError("it must be longer than 0s")
    return seconds


def ratio(text: str) -> float:
    """Give 0.05 for `5%`."""
    found = _RATIO.fullmatch(text)
    if not found or float(found[1]) > 100:  # noqa: PLR2004 - 100 %
        raise FaultError(f"`{text}` is not a ratio", "write it as 5% or 0.5%, at most 100%")
    return float(found[1]) / 100


def per_second(text: str) -> float:
    """Give calls a second for `40/min`, `2/s`, `300/h` or `5000/d`."""
    found = _RATE.fullmatch(text)
    if not found or found[2] not in PERIODS_S:
        raise FaultError(f"`{text}` is not a rate", "write it as 40/min, 2/s or 300/h")
    return float(found[1]) / PERIODS_S[found[2]]


def number(text: str) -> float:
    """Give a number that is not negative."""
    if not NUMBER.fullmatch(text) or float(text) < 0:
        raise FaultError(f"`{text}` is not a number", "write it as 2 or 1.5")
    return float(text)


def positive(text: str) -> float:
    """Give a number above 0."""
    value = number(text)
    if not 0 < value < math.inf:
        raise FaultError("it must be more than 0")
    return value


def unit_number(text: str) -> float:
    """Give a number from 0 to 1."""
    value = number(text)
    if value > 1:
        raise FaultError(f"`{text}` is more than 1", "write it as 0.82")
    return value


def count(text: str) -> int:
    """Give a whole number from 0."""
    if not text.isdecimal() or int(text) > COUNT_MAX:
        raise FaultError(f"`{text}` is not a whole number", "write it as 80")
    return int(text)


def code(text: str) -> int:
    """Give a code of at most six digits."""
    if not text.isdecimal() or len(text) > CODE_DIGITS_MAX:
        raise FaultError(f"`{text}` is not a code", "write it as 503")
    return int(text)


def counted_from_one(text: str) -> int:
    """Give a whole number from 1."""
    value = count(text)
    if value < 1:
        raise FaultError("it must be at least 1")
    return value


def words(text: str) -> str:
    """Give a text that says something."""
    if not text.strip():
        raise FaultError("it is empty", "write a text, in double quotes if it holds blanks")
    return text


def time_ns(text: str) -> int:
    """Give a time with its zone, in ns since the epoch."""
    try:
        return parse_time(text)
    except ValueError as error:
        raise FaultError(f"`{text}` {error}", "write it as 2026-01-05T08:00:00Z") from None


def time_of_day(text: str) -> float:
    """Give seconds since midnight for `08:30`; `24:00` is the midnight after."""
    found = _TIME_OF_DAY.fullmatch(text)
    seconds = int(found[1]) * 3600 + int(found[2]) * 60 if found else math.inf
    if seconds > PERIODS_S["d"]:
        raise FaultError(f"`{text}` is not a time of day", "write it as 08:30")
    return seconds


def one_of(choices: Collection[str]) -> Callable[[str], str]:
    """Give a reader that takes one of some words."""

    def read(text: str) -> str:
        if text not in choices:
            raise FaultError(f"`{text}` is none of {', '.join(choices)}", did_you_mean(text, choices))
        return text

    return read


def flag(text: str) -> bool:
    """Give True for `yes` and False for `no`."""
    return one_of(("yes", "no"))(text) == "yes"
