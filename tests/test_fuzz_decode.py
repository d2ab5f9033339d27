"""The fuzz between fences, in every run; whole rounds of it in the long ones."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from engine.decode.fast_decoder import CAN_SCAN
from tests.fenced import FencedArray
from tests.fuzz_decode import fuzz_fences, one_round

pytestmark = pytest.mark.skipif(not CAN_SCAN, reason="addresses need compiled kernels, little-endian")


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(1, 5))
def test_a_round_finds_no_difference(seed: int) -> None:
    """Both decoders, fences, and record batches against aiokafka."""
    assert one_round(seed).taken > 0


@pytest.mark.parametrize("seed", range(10, 13))
def test_nothing_is_read_or_written_beside_a_buffer(seed: int) -> None:
    """Rows up to the last byte before a page that cannot be read, and from the first byte behind one."""
    fuzz_fences(seed)


@pytest.mark.parametrize("place", [-1, 4])
def test_a_fence_sees_a_word_that_is_written_beside_it(place: int) -> None:
    """Or the fuzz would find nothing."""
    fenced = FencedArray((4,), np.int64)
    fenced.check()
    ctypes.c_int64.from_address(fenced.array.ctypes.data + 8 * place).value = 0
    with pytest.raises(AssertionError, match="it wrote"):
        fenced.check()


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_thousands_of_rounds_find_no_difference() -> None:
    """About two hours."""
    for seed in range(1000, 3000):
        one_round(seed)
