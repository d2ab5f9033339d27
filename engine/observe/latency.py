"""The latency sketch: counts in the buckets of Prometheus native histograms, schema 5, values in seconds.

Bucket `index` holds (2^((index - 1) / 32), 2^(index / 32)], 32 to an octave, so sketch, exposition and PromQL
agree bucket by bucket and merging is adding. Dense bucket number = index - BUCKET_FIRST. Bucket 0 also takes
all below 2^-14 s (61 us), zero included; the last one all above 2^12 s (68 min).
Guarantee: `quantile(counts, q)` differs from the true nearest-rank quantile by a factor of at most 2^(1/64),
1.09 % (stated: 1.1 %), for values between those two bounds. It reports the geometric midpoint of the bucket.
The index needs no logarithm: the exponent bits give the octave, a table over the top 6 bits of the mantissa
gives the one bound that may lie in that cell, and one compare decides. In cells of 5 bits two bounds may lie.
Rejected: DDSketch and t-digest, which merge or expose inexactly here; a search of the bounds: it costs more.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from engine.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = 5
PER_OCTAVE = 1 << SCHEMA
OCTAVE_FIRST, OCTAVE_LAST = -14, 12
BUCKET_FIRST = OCTAVE_FIRST * PER_OCTAVE
BUCKETS = OCTAVE_LAST * PER_OCTAVE - BUCKET_FIRST + 1
OCTAVES = (BUCKETS + PER_OCTAVE - 1) // PER_OCTAVE
OCTAVE_BITS = SCHEMA
OCTAVE_MASK = PER_OCTAVE - 1
LATENCY_MAX_S = float(2**OCTAVE_LAST)
RELATIVE_ERROR_MAX = 2.0 ** (1 / 64) - 1

# The bounds inside one octave as Prometheus has them, for a fraction in [0.5, 1): its last digits, not ours.
FRACTION_BOUNDS = (
    0.5, 0.5109485743270583, 0.5221368912137069, 0.5335702003384117,
    0.5452538663326288, 0.5571933712979462, 0.5693943173783458, 0.5818624293887887,
    0.5946035575013605, 0.6076236799902344, 0.620928906036742, 0.6345254785958666,
    0.6484197773255048, 0.6626183215798706, 0.6771277734684463, 0.6919549409819159,
    0.7071067811865475, 0.7225904034885232, 0.7384130729697496, 0.7545822137967112,
    0.7711054127039704, 0.7879904225539431, 0.805245165974627, 0.8228777390769823,
    0.8408964152537144, 0.8593096490612387, 0.8781260801866495, 0.8973545375015533,
    0.9170040432046711, 0.9370838170551498, 0.9576032806985735, 0.9785720620876999,
)  # fmt: skip

MANTISSA_BITS = 52
MANTISSA_MASK = (1 << MANTISSA_BITS) - 1
EXPONENT_BIAS = 1023
CELL_SHIFT = MANTISSA_BITS - 6
CELLS = 64


def _mantissa_bounds() -> NDArray[np.int64]:
    """Give the mantissa bits of each bound, and one that no mantissa exceeds."""
    bits = np.array(FRACTION_BOUNDS).view(np.int64) & MANTISSA_MASK
    return np.append(bits, np.int64(1 << MANTISSA_BITS))


def _bounds_below_cell(mantissa_bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give for each cell of the mantissa how many bounds lie below its start."""
    starts = np.arange(CELLS, dtype=np.int64) << CELL_SHIFT
    return np.searchsorted(mantissa_bounds, starts, side="left").astype(np.int64)


MANTISSA_BOUNDS = _mantissa_bounds()
BOUNDS_BELOW_CELL = _bounds_below_cell(MANTISSA_BOUNDS)


def bucket_upper_s(bucket: int) -> float:
    """Give the upper bound of a dense bucket, in seconds; it belongs to the bucket."""
    octave, step = divmod(bucket + BUCKET_FIRST, PER_OCTAVE)
    return math.ldexp(FRACTION_BOUNDS[step], octave + 1)


UPPER_S: NDArray[np.float64] = np.array([bucket_upper_s(bucket) for bucket in range(BUCKETS)])
UPPER_S.setflags(write=False)


@kernel
def bucket_index(value_s: float) -> int:
    """Give Prometheus' bucket index of a positive, finite, normal value in seconds."""
    bits = np.float64(value_s).view(np.int64)
    mantissa = bits & MANTISSA_MASK
    step = BOUNDS_BELOW_CELL[mantissa >> CELL_SHIFT]
    if mantissa > MANTISSA_BOUNDS[step]:
        step += 1
    return int(((bits >> MANTISSA_BITS) - EXPONENT_BIAS) * PER_OCTAVE + step)


@kernel
def bucket_number(value_s: float) -> int:
    """Give the dense bucket of a value in seconds: 0 for zero and below, the last for what is too large."""
    if not value_s > UPPER_S[0]:
        return 0
    if value_s >= LATENCY_MAX_S:
        return BUCKETS - 1
    return bucket_index(value_s) - BUCKET_FIRST


@kernel
def add_values(counts: NDArray[np.int64], values_s: NDArray[np.float64]) -> None:
    """Count values in seconds (float64, (n,)) in a sketch `counts` (int64, (BUCKETS,)), in place."""
    for i in range(len(values_s)):
        counts[bucket_number(values_s[i])] += 1


@kernel
def merge(into: NDArray[np.int64], other: NDArray[np.int64]) -> None:
    """Add the sketch `other` to `into`, both int64 (BUCKETS,); as if all values had been added there."""
    for i in range(len(into)):
        into[i] += other[i]


@kernel
def quantile(counts: NDArray[np.int64], q: float) -> float:
    """Give the q-quantile in seconds of a sketch (int64, (BUCKETS,)); NaN when it is empty.

    Nearest rank: the smallest value that has at least q * n values at or below it, and at least one.
    Reports the geometric midpoint of the bucket that holds it.
    """
    total = 0
    for i in range(len(counts)):
        total += counts[i]
    if total == 0:
        return np.nan
    return value_of_rank(counts, max(math.ceil(q * total), 1))


@kernel
def value_of_rank(counts: NDArray[np.int64], rank: int, first: int = 0) -> float:
    """Give the value in seconds that has `rank` - 1 before it; `counts` are of the buckets from `first`."""
    seen = 0
    for i in range(len(counts)):
        seen += counts[i]
        if seen >= rank:
            return float(UPPER_S[first + i] * MIDPOINT)
    return float(UPPER_S[first + len(counts) - 1] * MIDPOINT)


MIDPOINT = 2.0 ** (-0.5 / PER_OCTAVE)


def new_sketch() -> NDArray[np.int64]:
    """Make an empty sketch, int64 (BUCKETS,)."""
    return np.zeros(BUCKETS, np.int64)
