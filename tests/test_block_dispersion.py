"""What comes in bursts is told apart from what comes one by one, by neighbouring blocks of ten minutes."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.block_dispersion import Dispersion, compared, grown_dispersion, new_dispersion

BINS = 100


def after(blocks: int, wobble: float, many: int = 600) -> Dispersion:
    """Compare blocks whose values move together by `wobble` standard deviations from block to block."""
    rng = np.random.default_rng(3)
    found = new_dispersion(1, BINS)
    for _ in range(blocks):
        values = rng.normal(50.0 + 12.0 * wobble * rng.standard_normal(), 12.0, many)
        block = np.bincount(values.astype(np.int64).clip(0, BINS - 1), minlength=BINS)
        found = compared(found, block[None, :].astype(np.int32))
    return found


@pytest.mark.parametrize("blocks", [3, 12, 100])
def test_independent_values_count_in_full(blocks: int) -> None:
    assert after(blocks, 0.0).factor[0] < 1.2


def test_values_that_move_together_count_for_less() -> None:
    assert after(60, 0.1).factor[0] > 2.0


def test_a_single_shift_hardly_makes_itself_unlikely() -> None:
    calm = after(36, 0.0)
    shifted = np.zeros((1, BINS), np.int32)
    shifted[0, 80] = 600

    assert compared(calm, shifted).factor[0] < 1.3


def test_blocks_with_few_values_say_nothing() -> None:
    found = after(20, 1.0, many=10)

    assert found.pairs.tolist() == [0.0]
    assert found.factor.tolist() == [1.0]


def test_new_slots_count_in_full() -> None:
    assert grown_dispersion(after(5, 0.5), 2).factor[1] == 1.0
