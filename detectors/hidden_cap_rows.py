"""Which instance speaks of a ceiling when several hold the same calls, and what the register says of it.

All calls of a platform with one trunk are also all calls of that trunk: both rows see the ceiling, and one
page is enough. Rows that had the same level in every bin of the slice hold the same calls, whatever their
labels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.occupancy import LimitUse
    from engine.limits import LimitInstance

NARROWER_RATIO = 0.8  # of the evidence for all calls is enough for those on which the cap sits
AGREES = 1.0  # calls by which a value may differ and still be the same
NULL_VALUED, SPLIT, TOTAL, VALUED = range(4)  # whose word is worth most, first


class Covered(NamedTuple):
    """One slice, and what is known of each row without inference."""

    use: LimitUse
    limits: tuple[LimitInstance, ...]
    known: NDArray[np.float64]  # value of the register or a fresh report; NaN: none


class Word(NamedTuple):
    """A limit of the register over the same calls that says something else."""

    name: str
    value: float  # NaN: there is none


def covered_by(
    use: LimitUse,
    limits: tuple[LimitInstance, ...],
    learned: NDArray[np.float64],
    is_implicit: NDArray[np.bool_],
) -> Covered:
    """Tell what the register and reports say from what was inferred; an implicit limit is in no register."""
    is_inferred = np.isnan(use.declared) & (use.value == learned)
    return Covered(use, limits, np.where(is_inferred | is_implicit, np.nan, use.value))


def same_calls(covered: Covered, row: int) -> list[int]:
    """List the other rows that hold the same calls as this one."""
    use = covered.use
    same = use.is_concurrency & (use.level == use.level[row]) & (use.arrivals == use.arrivals[row])
    same &= (use.level_per_bin == use.level_per_bin[row]).all(axis=1)
    return [int(other) for other in np.flatnonzero(same) if other != row]


def rank(covered: Covered, row: int) -> tuple[int, int]:
    """Say whose word is worth most, least first: who has an owner, then who names a place to look at."""
    limit = covered.limits[row].limit
    if not limit.is_implicit:
        return (NULL_VALUED if math.isnan(covered.known[row]) else VALUED), row
    return (SPLIT if limit.split_by else TOTAL), row


def is_known(covered: Covered, row: int, value: float) -> bool:
    """Say whether the register, or a report, has this value for these calls."""
    return any(abs(covered.known[one] - value) <= AGREES for one in (row, *same_calls(covered, row)))


def speaks_for(covered: Covered, row: int, value: float) -> bool:
    """Say whether a ceiling at `value` is news, and this row the one to tell it."""
    if is_known(covered, row, value) or covered.known[row] < value:
        return False
    return all(rank(covered, row) < rank(covered, other) for other in same_calls(covered, row))


def is_explained(covered: Covered, row: int, strength: NDArray[np.float64]) -> bool:
    """Say whether a cap on some of these calls, or on more than these, is what makes them look capped.

    When most calls of a platform go over a trunk that is full, its declines come while much is going on; and
    a trunk that has most of the calls seems full when the platform is. Where as much speaks for either, the
    narrower one is taken.
    """
    return _any_other(covered, row, strength >= NARROWER_RATIO * strength[row], 1) or _any_other(
        covered, row, NARROWER_RATIO * strength > strength[row], -1
    )


def _any_other(covered: Covered, row: int, is_stronger: NDArray[np.bool_], side: int) -> bool:
    """Say whether a stronger row holds a part of these calls (`side` 1), or these and others (-1)."""
    use = covered.use
    found = is_stronger & _holds(covered, row, side)
    found &= (use.level_per_bin != use.level_per_bin[row]).any(axis=1)
    mine = covered.limits[row].limit
    # Other values of the same label are other calls, however few there are in this slice.
    return any(covered.limits[one].limit.name != mine.name for one in np.flatnonzero(found))


def overlapping(covered: Covered, row: int) -> NDArray[np.bool_]:
    """Say which rows hold these calls, a part of them, or these and others."""
    return _holds(covered, row, 1) | _holds(covered, row, -1)


def _holds(covered: Covered, row: int, side: int) -> NDArray[np.bool_]:
    """Say which rows hold no other calls than these (`side` 1), or all of these (-1)."""
    use = covered.use
    found = use.is_concurrency.copy()
    for counts in (use.level_per_bin, use.arrivals_per_bin, use.declines_per_bin):
        found &= (side * counts <= side * counts[row]).all(axis=1)
    return found


def contradicted(covered: Covered, row: int, value: float) -> Word:
    """Give the lowest limit of the register over the same calls that says more than `value`."""
    rows = [one for one in (row, *same_calls(covered, row)) if covered.known[one] > value + AGREES]
    if not rows:
        return Word("", math.nan)
    lowest = min(rows, key=lambda one: (covered.known[one], one))
    return Word(covered.limits[lowest].name, float(covered.known[lowest]))
