"""The latencies of a slice: one sketch for every series and stage in it, in pages of one octave.

A latency finds the place of its (series, stage) by one probe, the page of its octave in a row of numbers,
and its counter in that page. A stage keeps to a few octaves, so that all pages that a slice touches stay in
the processor's nearest caches, and a series that is met once costs one page and not a whole sketch.
The memory is used again by the next slice. Rejected: a hash key for every bucket, which spreads a slice
over more memory than the caches hold; dense sketches, which are larger than the caches with a hundred series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.kernel import kernel
from engine.observe.latency import OCTAVE_BITS, OCTAVE_MASK, OCTAVES, PER_OCTAVE
from engine.observe.tally import EMPTY, KEY, SUM, home_of, new_tally

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.observe.tally import Tally

STAGE_BITS = 16
STAGE_MASK = (1 << STAGE_BITS) - 1
PLACES, PAGES = range(2)
PLACES_MIN, PAGES_MIN = 128, 512
ROOMY = 8  # memory with more than so many times the room that a slice needed is given up


class Sketches(NamedTuple):
    """Sketches by place. Page 0 is none."""

    place_of: Tally  # from the key below to the place; its last row is not used
    key: NDArray[np.int64]  # (places,): series << STAGE_BITS | stage
    sum_us: NDArray[np.int64]  # (places,)
    page_of: NDArray[np.int32]  # (places, OCTAVES)
    counts: NDArray[np.int32]  # (pages, PER_OCTAVE)
    used: NDArray[np.int64]  # (2,): places, pages


def new_sketches(places: int = PLACES_MIN, pages: int = PAGES_MIN) -> Sketches:
    """Make room for so many sketches and pages, all empty."""
    return Sketches(
        new_tally(places),
        np.zeros(places, np.int64),
        np.zeros(places, np.int64),
        np.zeros((places, OCTAVES), np.int32),
        np.zeros((pages, PER_OCTAVE), np.int32),
        np.array([0, 1], np.int64),
    )


@kernel
def has_pages(sketches: Sketches, latencies: int) -> bool:
    """Say whether there is room for so many more latencies, whatever they are of."""
    used = sketches.used
    return bool(
        used[PLACES] + latencies <= len(sketches.key) and used[PAGES] + latencies <= len(sketches.counts)
    )


@kernel
def place_of(sketches: Sketches, series: int, stage: int) -> int:
    """Give the place of a sketch, a new one if need be; the caller has seen to the room."""
    key = series << STAGE_BITS | stage
    table = sketches.place_of
    row = home_of(table, key)
    while table[row, KEY] != key:
        if table[row, KEY] == EMPTY:
            place = sketches.used[PLACES]
            table[row, KEY], table[row, SUM] = key, place
            sketches.key[place] = key
            sketches.used[PLACES] += 1
            return int(place)
        row = (row + 1) & (len(table) - 2)
    return int(table[row, SUM])


@kernel
def add_latency(sketches: Sketches, series: int, stage: int, bucket: int, micros: int) -> None:
    """Count one latency."""
    place = place_of(sketches, series, stage)
    sketches.sum_us[place] += micros
    octave = bucket >> OCTAVE_BITS
    page = sketches.page_of[place, octave]
    if page == 0:
        page = np.int32(sketches.used[PAGES])
        sketches.page_of[place, octave] = page
        sketches.used[PAGES] += 1
    sketches.counts[page, bucket & OCTAVE_MASK] += 1


def emptied(sketches: Sketches) -> Sketches:
    """Empty sketches for the next slice: the same memory, unless most of it was of no use."""
    places, pages = sketches.used.tolist()
    if len(sketches.key) > ROOMY * (places + PLACES_MIN) or len(sketches.counts) > ROOMY * (
        pages + PAGES_MIN
    ):
        return new_sketches(max(2 * places, PLACES_MIN), max(2 * pages, PAGES_MIN))
    sketches.place_of[:, KEY] = EMPTY
    sketches.sum_us[:places] = 0
    sketches.page_of[:places] = 0
    sketches.counts[:pages] = 0
    sketches.used[:] = 0, 1
    return sketches


def grown_sketches(sketches: Sketches, latencies: int) -> Sketches:
    """Give room for so many more latencies: the same sketches if they have it, else a larger copy."""
    if has_pages(sketches, latencies):
        return sketches
    places, pages = sketches.used.tolist()
    larger = new_sketches(2 * places + latencies + PLACES_MIN, 2 * pages + latencies + PAGES_MIN)
    for key in sketches.key[:places].tolist():
        place_of(larger, key >> STAGE_BITS, key & STAGE_MASK)
    larger.sum_us[:places] = sketches.sum_us[:places]
    larger.page_of[:places] = sketches.page_of[:places]
    larger.counts[:pages] = sketches.counts[:pages]
    larger.used[PAGES] = pages
    return larger
