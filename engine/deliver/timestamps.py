"""Times as people and other programs read them: RFC 3339, UTC, with the zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NS_PER_US = 1000


def rfc3339(time_ns: int) -> str:
    """Write a time to the microsecond, rounded down: `2026-03-01T12:00:00.000000Z`."""
    moment = _EPOCH + timedelta(microseconds=time_ns // _NS_PER_US)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
