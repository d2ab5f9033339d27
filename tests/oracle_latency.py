"""Slow, obvious twins of engine/observe/latency.py, with the bounds and the search that Prometheus uses."""

from __future__ import annotations

import bisect
import math
from typing import TYPE_CHECKING

from engine.observe.latency import BUCKET_FIRST, BUCKETS, FRACTION_BOUNDS, bucket_upper_s

if TYPE_CHECKING:
    from collections.abc import Sequence


def bucket_index(value_s: float) -> int:
    """Do as Prometheus does: split off the exponent, search the bounds."""
    fraction, exponent = math.frexp(value_s)
    return bisect.bisect_left(FRACTION_BOUNDS, fraction) + (exponent - 1) * len(FRACTION_BOUNDS)


def bucket_number(value_s: float) -> int:
    """Clip the index to the dense buckets."""
    if not value_s > 0:
        return 0
    if math.isinf(value_s):
        return BUCKETS - 1
    return min(max(bucket_index(value_s) - BUCKET_FIRST, 0), BUCKETS - 1)


def add_values(values_s: Sequence[float]) -> list[int]:
    """Count values one by one."""
    counts = [0] * BUCKETS
    for value_s in values_s:
        counts[bucket_number(value_s)] += 1
    return counts


def merge(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """Add two sketches."""
    return [a + b for a, b in zip(one, other, strict=True)]


def quantile(counts: Sequence[int], q: float) -> float:
    """Write out every value's bucket and take the nearest rank."""
    buckets = [bucket for bucket, count in enumerate(counts) for _ in range(count)]
    if not buckets:
        return math.nan
    rank = max(math.ceil(q * len(buckets)), 1)
    return bucket_upper_s(buckets[rank - 1]) * 2 ** (-1 / 64)


def exact_quantile(values_s: Sequence[float], q: float) -> float:
    """Take the nearest rank of the values themselves."""
    return sorted(values_s)[max(math.ceil(q * len(values_s)), 1) - 1]
