"""What is usual by time of week: rates over time watched, kin days, daylight saving, surges."""

from datetime import UTC, datetime

import numpy as np
import pytest

from bench.leadtime.priming import baseline_from_counts
from engine.judge.baseline import (
    KEEP_A_DAY,
    SLOT_NS,
    WEEK_SLOTS,
    day_and_slot,
    faded,
    new_baseline,
    usual_at,
    with_slots,
)
from engine.settings import UTC_OFFSETS
from engine.zones import utc_offsets

MONDAY_NS = round(datetime(2026, 1, 5, tzinfo=UTC).timestamp()) * 1_000_000_000
ALL = np.arange(WEEK_SLOTS)
DAY = np.arange(288)
WORKDAY = 20.0 + 60.0 * np.exp(-0.5 * np.square((DAY - 144) / 40))
WEEKEND = 10.0 + 20.0 * np.exp(-0.5 * np.square((DAY - 220) / 30))
WEEK = np.concatenate([np.tile(WORKDAY, 5), np.tile(WEEKEND, 2)])


def weeks(many: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).poisson(np.tile(WEEK, many))[None, :].astype(float)


def test_five_weeks_give_the_rate_of_every_slot() -> None:
    usual = usual_at(baseline_from_counts(weeks(5), MONDAY_NS, UTC_OFFSETS), ALL)

    off = np.log(usual.rate_per_s[0] * 300.0 / WEEK)
    assert np.abs(off.mean()) < 0.05
    assert off.std() < 0.09
    assert usual.days.min() > 3.0


def test_a_working_day_leans_on_the_others_and_a_weekend_does_not() -> None:
    """Saturday has its own shape though five days of the week have another."""
    usual = usual_at(baseline_from_counts(weeks(5), MONDAY_NS, UTC_OFFSETS), ALL)
    saturday = slice(5 * 288, 6 * 288)

    assert usual.days[0, :288].mean() > 1.3 * usual.days[0, saturday].mean()
    off = np.log(usual.rate_per_s[0, saturday] * 300.0 / WEEKEND)
    assert np.abs(off.mean()) < 0.08
    assert off.std() < 0.2


def test_time_that_was_not_watched_pulls_nothing_down() -> None:
    """The second week was dark from Monday to Wednesday noon, and half of every slot after that."""
    counts, watched_s = weeks(3), np.full((1, 3 * WEEK_SLOTS), 300.0)
    dark = slice(WEEK_SLOTS, WEEK_SLOTS + 720)
    counts[0, dark], watched_s[0, dark] = 0.0, 0.0
    half = slice(WEEK_SLOTS + 720, 2 * WEEK_SLOTS)
    counts[0, half] = np.round(counts[0, half] / 2)
    watched_s[0, half] = 150.0
    usual = usual_at(baseline_from_counts(counts, MONDAY_NS, UTC_OFFSETS, watched_s), ALL)

    assert np.abs(np.log(usual.rate_per_s[0] * 300.0 / WEEK).mean()) < 0.05


def test_the_profile_is_by_local_time_over_the_change_of_clocks() -> None:
    """Traffic that follows the clock on the wall is seen at the same slot before and after."""
    offsets = utc_offsets("Europe/Berlin")
    start_ns = round(datetime(2026, 3, 9, tzinfo=UTC).timestamp()) * 1_000_000_000
    slots = [day_and_slot(start_ns + k * SLOT_NS, offsets)[1] for k in range(5 * WEEK_SLOTS)]
    counts = np.random.default_rng(2).poisson(WEEK[slots])[None, :].astype(float)
    usual = usual_at(baseline_from_counts(counts, start_ns, offsets), ALL)

    assert np.log(usual.rate_per_s[0] * 300.0 / WEEK).std() < 0.1


def test_the_hour_that_is_there_twice_counts_twice_and_the_missing_one_not_at_all() -> None:
    offsets = utc_offsets("Europe/Berlin")
    sunday_ns = round(datetime(2026, 10, 24, 22, tzinfo=UTC).timestamp()) * 1_000_000_000
    twice = baseline_from_counts(np.full((1, 300), 9.0), sunday_ns, offsets)
    spring_ns = round(datetime(2026, 3, 28, 23, tzinfo=UTC).timestamp()) * 1_000_000_000
    never = baseline_from_counts(np.full((1, 276), 9.0), spring_ns, offsets)
    at_two = 6 * 288 + 24

    assert twice.calls[0, at_two] == 18.0
    assert twice.watched_s[0, at_two] == 600.0
    assert never.watched_s[0, at_two] == 0.0
    assert never.watched_s[0, at_two - 12] == never.watched_s[0, at_two + 12] == 300.0


def test_old_weeks_fade() -> None:
    baseline = with_slots(new_baseline(1), 20_000, np.array([7]), np.array([[10.0]]), np.array([[300.0]]))

    assert faded(baseline, 20_028).calls[0, 7] == pytest.approx(10.0 * KEEP_A_DAY**28, rel=1e-5)
    assert faded(baseline, 19_000).calls[0, 7] == 10.0
    assert baseline.calls[0, 7] == 10.0


def test_a_surge_is_no_habit() -> None:
    """Ten times the usual for an hour is taken as little more than twice the usual."""
    counts = weeks(4)
    counts[0, 3 * WEEK_SLOTS + 144 : 3 * WEEK_SLOTS + 156] *= 10.0
    usual = usual_at(baseline_from_counts(counts, MONDAY_NS, UTC_OFFSETS), ALL)

    assert usual.rate_per_s[0, 150] * 300.0 < 1.7 * WEEK[150]


def test_nothing_is_usual_where_nothing_was_seen() -> None:
    usual = usual_at(new_baseline(2), ALL)

    assert not usual.rate_per_s.any()
    assert not usual.days.any()
    assert usual_at(new_baseline(0), ALL).calls.shape == (0, WEEK_SLOTS)
