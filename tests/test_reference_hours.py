"""What is kept of an hour that is over is what was counted in it."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.reference_hours import (
    BLOCK_NS,
    BLOCKS_AN_HOUR,
    DAY_HOURS,
    Hours,
    counted,
    hour_before,
    new_hours,
    turned,
)

NOT_IN_DOUBT = np.zeros(2, np.bool_)


def at_block(hours: Hours, block: int) -> Hours:
    """Give the memory as it is in the middle of a block."""
    return turned(hours, block * BLOCK_NS + BLOCK_NS // 2, NOT_IN_DOUBT)[0]


def filled(many: list[list[int]], last_block: int) -> Hours:
    """Count `many` (slots, bins) in every block from the first to the last one."""
    hours, table = new_hours(len(many), len(many[0]), DAY_HOURS), np.array(many)
    slot, bins = np.indices(table.shape).reshape(2, -1)
    for block in range(last_block + 1):
        hours = counted(at_block(hours, block), slot, bins, table.reshape(-1))
    return hours


def test_an_hour_of_more_values_than_a_bin_holds_keeps_its_shape() -> None:
    """Of the first row 80 % lie in one bin; the second is small, and kept as it is."""
    hours = at_block(filled([[20_000, 80_000], [1, 4]], last_block=5), 6)

    rows = hour_before(hours, 1)

    assert (rows[0] / rows[0].sum()).round(4).tolist() == [0.2, 0.8]
    assert rows[1].tolist() == [6.0, 24.0]


@pytest.mark.parametrize("last_block", range(5 * BLOCKS_AN_HOUR, 6 * BLOCKS_AN_HOUR))
@pytest.mark.parametrize("gap", [2, 6, 9, 14, 18, 6 * 23])
def test_an_hour_is_kept_wherever_in_it_a_gap_begins(last_block: int, gap: int) -> None:
    hours = at_block(filled([[0, 100]], last_block), last_block + gap)

    hour = hours.block // BLOCKS_AN_HOUR
    assert hour_before(hours, hour - 4)[0, 1] == 100 * BLOCKS_AN_HOUR
    if hour > 5:
        assert hour_before(hours, hour - 5)[0, 1] == 100 * (last_block + 1 - 5 * BLOCKS_AN_HOUR)


def test_hours_of_a_gap_are_empty() -> None:
    hours = at_block(filled([[0, 100]], last_block=35), 35 + 30)

    assert [int(hour_before(hours, ago).sum()) for ago in range(1, 7)] == [0, 0, 0, 0, 600, 600]
