"""What values looked like before: counts by bin of earlier today and of past hours, and what to expect now.

A reference is the same hour yesterday, or of the same weekday, if enough values were seen then; else earlier
today: all but the newest ten to twenty minutes, so that a slow change is not learned at once, fading over six
hours, and nothing while the row is in doubt. Arrays are replaced hour by hour and block by block, never
written to. Rejected: a decayed average of all hours, which takes every evening for a change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.rows import add_to_bins, grown
from engine.judge.detection import MINUTE_NS

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_NS = 10 * MINUTE_NS
HOUR_NS = 60 * MINUTE_NS
BLOCKS_AN_HOUR = HOUR_NS // BLOCK_NS
KEEP_A_BLOCK = 0.5 ** (1 / 36)  # earlier today: half-life six hours
COUNT_MAX = 65_535
VALUES_MIN = 60.0  # of a reference
DAY_HOURS, WEEK_HOURS = 24, 168


class Hours(NamedTuple):
    """Counts by slot and bin. `past` is a ring by hour; `past_hour` says which hour each place holds."""

    block: int  # number of the block that is counted, since 1970-01-01; -1: none yet
    newest: NDArray[np.int32]  # (slots, bins) of that block
    waiting: NDArray[np.int32]  # of the block before
    earlier: NDArray[np.float32]  # before these, fading
    hour: NDArray[np.int32]  # of the hour so far, the newest block not included
    past: tuple[NDArray[np.uint16], ...]
    past_hour: NDArray[np.int64]


def new_hours(slots: int, bins: int, kept: int) -> Hours:
    """Give a memory of `kept` hours that has seen nothing."""
    blank = np.zeros((slots, bins), np.int32)
    nothing = np.zeros((0, bins), np.uint16)
    return Hours(
        -1, blank, blank, blank.astype(np.float32), blank, (nothing,) * kept, np.full(kept, -1, np.int64)
    )


def grown_hours(hours: Hours, slots: int) -> Hours:
    """Give the memory room for `slots` slots in all; new ones are empty."""
    return hours._replace(
        newest=grown(hours.newest, slots, 0),
        waiting=grown(hours.waiting, slots, 0),
        earlier=grown(hours.earlier, slots, 0),
        hour=grown(hours.hour, slots, 0),
        past=tuple(grown(one, slots, 0) for one in hours.past),
    )


def counted(hours: Hours, slot: NDArray[np.int64], bins: NDArray[np.int64], many: NDArray[np.int64]) -> Hours:
    """Give the memory with the facts of one slice in it."""
    if not len(slot):
        return hours
    newest = hours.newest.copy()
    add_to_bins(newest, slot, bins, many)
    return hours._replace(newest=newest)


def block_of(end_ns: int) -> int:
    """Give the number of the block that a slice which ends at `end_ns` is counted in."""
    return (end_ns - 1) // BLOCK_NS


def turned(hours: Hours, end_ns: int, in_doubt: NDArray[np.bool_]) -> tuple[Hours, bool]:
    """Give the memory as it is at the slice that ends at `end_ns`, and whether a block was closed."""
    block = block_of(end_ns)
    if block == hours.block:
        return hours, False
    if hours.block < 0:
        return hours._replace(block=block), False
    while hours.block < block:
        hours = _close_block(hours, in_doubt)
        if hours.block % BLOCKS_AN_HOUR == 0:  # In a long gap the hours from here on are empty.
            hours = hours._replace(block=max(hours.block, block - BLOCKS_AN_HOUR - 2))
    return hours, True


def _close_block(hours: Hours, in_doubt: NDArray[np.bool_]) -> Hours:
    fade = np.float32(KEEP_A_BLOCK)
    learned = np.where(in_doubt[:, None], hours.earlier, fade * hours.earlier + hours.waiting)
    waiting = np.where(in_doubt[:, None], 0, hours.newest)
    hour = hours.hour + hours.newest
    hours = hours._replace(
        block=hours.block + 1,
        newest=np.zeros_like(hours.newest),
        waiting=waiting.astype(np.int32),
        earlier=learned.astype(np.float32),
        hour=hour,
    )
    return _leave_hour(hours) if hours.block % BLOCKS_AN_HOUR == 0 else hours


def _leave_hour(hours: Hours) -> Hours:
    """Put the hour that is over into the ring."""
    over = (hours.block - 1) // BLOCKS_AN_HOUR
    place = over % len(hours.past)
    past_hour = hours.past_hour.copy()
    past_hour[place] = over
    fullest = np.maximum(hours.hour.max(axis=1, keepdims=True, initial=0), COUNT_MAX)
    kept = np.rint(hours.hour * (COUNT_MAX / fullest)).astype(np.uint16)  # A row keeps its shape.
    past = (*hours.past[:place], kept, *hours.past[place + 1 :])
    return hours._replace(past=past, past_hour=past_hour, hour=np.zeros_like(hours.hour))


def hour_before(hours: Hours, ago: int) -> NDArray[np.float64]:
    """Give the counts of the hour `ago` hours before this one, (slots, bins); zeros if it is not known."""
    wanted = hours.block // BLOCKS_AN_HOUR - ago
    place = wanted % len(hours.past)
    found = np.zeros(hours.newest.shape)
    if ago <= len(hours.past) and hours.past_hour[place] == wanted:
        known = hours.past[place]
        found[: len(known)] = known
    return found


class Expected(NamedTuple):
    """What a reference says, by slot: `cut` is the bin of each rank, `share` how much lies above it."""

    cut: NDArray[np.int64]  # (slots, ranks)
    share: NDArray[np.float64]  # (slots, ranks)
    values: NDArray[np.float64]  # (slots,): that it rests on; 0: there is none
    mean_bin: NDArray[np.float64]  # (slots,)


def expected(counts: NDArray[np.float64], ranks: NDArray[np.float64]) -> Expected:
    """Read a reference off its counts (slots, bins); slots with too few values have none."""
    total = counts.sum(axis=1)
    is_known = total >= VALUES_MIN
    above = total[:, None] - np.cumsum(counts, axis=1)  # of values in higher bins
    wanted = (1.0 - ranks)[None, :] * total[:, None]
    cut = np.stack([(above > one[:, None]).sum(axis=1) for one in wanted.T], axis=1)
    cut = np.minimum(cut, counts.shape[1] - 1)
    found = np.take_along_axis(above, cut, axis=1)
    share = (found + 0.5) / (total[:, None] + 1.0)
    places = np.arange(counts.shape[1])
    mean_bin = (counts * places).sum(axis=1) / np.maximum(total, 1.0)
    return Expected(cut, share, np.where(is_known, total, 0.0), mean_bin)


def first_known(one: Expected, other: Expected) -> Expected:
    """Take the first reference where there is one, else the other."""
    is_known = one.values > 0
    return Expected(
        np.where(is_known[:, None], one.cut, other.cut),
        np.where(is_known[:, None], one.share, other.share),
        np.where(is_known, one.values, other.values),
        np.where(is_known, one.mean_bin, other.mean_bin),
    )
