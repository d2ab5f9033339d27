"""Local time in a scenario: the time of day and the day of the week, and when a quota begins anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from engine.fields import FaultError
from engine.scenario.values import time_of_day

if TYPE_CHECKING:
    from numpy.typing import NDArray

NS_PER_S = 1_000_000_000
SECONDS_PER_DAY = 86_400
SECONDS_PER_HOUR = 3_600
SATURDAY = 5


class Reset(NamedTuple):
    """When a day begins."""

    at_s: float  # local time, since midnight
    zone: ZoneInfo


def zone(text: str) -> ZoneInfo:
    """Give a time zone by its name."""
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        raise FaultError(f"`{text}` is not a time zone", "write it as Europe/Berlin") from None


def reset(text: str) -> Reset:
    """Read `00:00 Europe/Berlin`."""
    at, _, name = text.partition(" ")
    return Reset(time_of_day(at), zone(name or "UTC"))


def local_s(start_ns: int, at_s: NDArray[np.float64], where: ZoneInfo) -> NDArray[np.float64]:
    """Give local seconds since a local Monday's midnight, for times from `start_ns`, ascending or not.

    The offset is looked up for every hour: zones change theirs on whole hours.
    """
    absolute_s = start_ns / NS_PER_S + at_s
    hours = np.floor(absolute_s / SECONDS_PER_HOUR).astype(np.int64)
    shown, place = np.unique(hours, return_inverse=True)
    moments = [datetime.fromtimestamp(int(hour) * SECONDS_PER_HOUR, UTC).astimezone(where) for hour in shown]
    offset_s = np.array([(moment.utcoffset() or timedelta()).total_seconds() for moment in moments])
    monday = 4 * SECONDS_PER_DAY  # 1970-01-05
    return np.asarray(absolute_s + offset_s[place] - monday, np.float64)


def periods(start_ns: int, at_s: NDArray[np.float64], daily: Reset) -> NDArray[np.int64]:
    """Give the number of the day in which each time lies, by a daily reset."""
    since_s = local_s(start_ns, at_s, daily.zone) - daily.at_s
    return np.floor(since_s / SECONDS_PER_DAY).astype(np.int64)
