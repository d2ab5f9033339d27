"""Time zones as the core can use them: every change of the offset to UTC, looked up once when settings load.

The core reads no files, and the time zone database is one; so a zone crosses into it as numbers.
"""

from __future__ import annotations

import functools
import zoneinfo
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from engine.durations import FIRST_YEAR, LAST_YEAR
from engine.settings import UTC_NAME, UTC_OFFSETS, UtcOffsets

NS = 1_000_000_000
DAY_S = 86_400  # two changes of one zone are further apart than this


@functools.lru_cache(maxsize=16)
def utc_offsets(name: str) -> UtcOffsets:
    """Give a zone's (from_ns, offset_ns), ascending; raises `ValueError` for a name that is no zone."""
    if name == UTC_NAME:
        return UTC_OFFSETS
    try:
        zone = ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # By what the name looks like, and whether it names a folder.
        message = "is not a time zone"
        if not zoneinfo.available_timezones():
            message = "cannot be looked up: this machine has no time zone data (install tzdata)"
        raise ValueError(message) from None
    start, end = (round(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (FIRST_YEAR, LAST_YEAR))
    found = [(0, _offset_s(zone, start))]
    for day in range(start, end, DAY_S):
        if _offset_s(zone, day + DAY_S) != found[-1][1]:
            changed = _first_change_s(zone, day, day + DAY_S)
            found.append((changed, _offset_s(zone, changed)))
    return tuple((from_s * NS, offset_s * NS) for from_s, offset_s in found)


def _offset_s(zone: ZoneInfo, at_s: int) -> int:
    offset = datetime.fromtimestamp(at_s, zone).utcoffset()
    assert offset is not None
    return round(offset.total_seconds())


def _first_change_s(zone: ZoneInfo, low_s: int, high_s: int) -> int:
    """Find the first second with another offset than `low_s`, by halving."""
    before = _offset_s(zone, low_s)
    while high_s - low_s > 1:
        middle_s = (low_s + high_s) // 2
        if _offset_s(zone, middle_s) == before:
            low_s = middle_s
        else:
            high_s = middle_s
    return high_s
