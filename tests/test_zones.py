"""Time zones as numbers: offsets are those of the time zone database at every moment."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.judge.baseline import day_and_slot, local_ns
from engine.zones import utc_offsets

NS = 1_000_000_000
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
)


@given(at_s=st.integers(978_307_200, 4_102_444_799), name=st.sampled_from(ZONES))
def test_local_time_is_that_of_the_database(at_s: int, name: str) -> None:
    offset = datetime.fromtimestamp(at_s, ZoneInfo(name)).utcoffset()
    assert offset is not None

    assert local_ns(at_s * NS, utc_offsets(name)) == (at_s + round(offset.total_seconds())) * NS


@pytest.mark.parametrize(
    "name", ["Europe/Berln", "", "/etc/passwd", "../zone", "Europe", "a" * 300, "nul\0l"]
)
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone"):
        utc_offsets(name)


def test_the_same_hour_of_the_clock_is_the_same_slot_before_and_after_the_change() -> None:
    """Monday 9:00 in Berlin: 8:00 UTC in winter, 7:00 in summer."""
    offsets = utc_offsets("Europe/Berlin")
    winter = round(datetime(2026, 3, 23, 8, tzinfo=UTC).timestamp()) * NS
    summer = round(datetime(2026, 3, 30, 7, tzinfo=UTC).timestamp()) * NS

    assert day_and_slot(winter, offsets)[1] == day_and_slot(summer, offsets)[1] == 9 * 12
