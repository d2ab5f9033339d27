"""How much failures speak for an atom at one exact duration, against a smooth law around it.

For a candidate T, failures in [T - 20 ms, T + 100 ms) are a share of those within 2 s of T; a smooth law puts
3 % there. The e-value is a mixture over five larger shares. A Beta mixture over all shares was rejected: it
also grows where there are fewer than 3 %, and so beside every atom. A closer look (within 0.5 s) must agree,
or every peaked law would be an atom. Usual defaults have half of the prior weight.
Durations that are rounded make atoms everywhere. How many are whole or half seconds, or multiples of 5 and 6
s, is counted among the other failures of the row, and the share that is expected at T rises with it. Where
nothing else failed, what is usual in the deployment stands in, and before that a guess of 30 %.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.sequential import WEEK_S, log_mixture
from engine.judge.detection import MINUTE_NS, NS
from engine.judge.facts import DURATION_BINS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CELL_BINS = 10  # of 10 ms in a cell: candidates stand every 100 ms
CELLS = (DURATION_BINS - 1) // CELL_BINS  # what lasted longer is in the last bin, and no duration
CELLS_PER_S = 10
EARLY_BINS = 2  # the window of a candidate begins so many bins before it
WINDOW_BINS = EARLY_BINS + CELL_BINS
HALF_CELLS = 5
HALVES = CELLS // HALF_CELLS + 1  # multiples of 500 ms
WIDE, NEAR = 20, 5  # cells on either side of a candidate
WINDOW_CELLS = WINDOW_BINS / CELL_BINS
BLOCKS_NS = (60 * MINUTE_NS, 24 * 60 * MINUTE_NS)  # evidence begins anew so often: the past hides the new
USUAL_S = (5, 10, 15, 20, 30, 60, 90, 120)
WEIGHTS = (0.6, 0.2, 0.16, 0.04)  # prior: usual, less usual, every 100 ms in FINE_S, every 500 ms beyond
FINE_S = (2.5, 60.0)
LESS_USUAL_S = (1, 1.5, 2, 2.5, 3, 4, 6, 7, 8, 12, 25, 29, 32, 40, 45, 50, 64, 75, 100, 150, 160)
_HALF = np.arange(HALVES)
# What durations may be rounded to, each a set of multiples of 500 ms.
WHOLE, HALF, COARSE, MINUTE = range(4)
ROUND = np.array([_HALF % 2 == 0, _HALF >= 0, (_HALF % 10 == 0) | (_HALF % 12 == 0), _HALF % 120 == 0])
_ROUND_COLUMNS = ROUND.T.astype(np.float64)  # counts are far below 2^53, so their sums are exact


class AtomParams(NamedTuple):
    """Constants."""

    shares: tuple[float, ...] = (0.07, 0.2, 0.45, 0.8, 0.97)  # of the way from the null share to all
    near_share: float = 0.25  # a peak this sharp is still no atom
    near_level: float = 3.0  # ln of the evidence that the closer look must give
    whole_share: float = 0.6  # of rounded durations around a value, this many may be at it
    coarse_share: float = 0.95  # the same when values stand 5 or 6 s apart
    coarse_max: float = 0.35  # where more are so coarse, nothing can be said
    rounded_max: float = 0.5  # where more are rounded, nothing stands within half a second
    null_max: float = 0.97
    prior: float = 4.0  # failures that what is usual in the deployment counts for in a row
    guess: float = 2.0  # and that the guesses below count for in the deployment
    guess_whole: float = 0.3
    guess_coarse: float = 0.05
    guess_minutes: float = 0.5  # above `coarse_max`: all at whole minutes, and nothing else, says nothing
    values_min: int = 3  # so many other round values are rounding; fewer may be atoms themselves
    hits_min: int = 5
    suspect_gap: float = 10.0  # a candidate so far below the level is followed
    suspects_max: int = 64
    fresh_ns: tuple[int, int] = (10 * MINUTE_NS, 6 * 60 * MINUTE_NS)  # an atom lives on for 5 usual gaps
    gaps: int = 5
    rows_max: int = 256
    rows_for_totals: int = 72


class Blocks(NamedTuple):
    """Failures since each block began, by slot."""

    cells: NDArray[np.uint16]  # (blocks, slots, CELLS)
    late: NDArray[np.uint16]  # the same: those in the last EARLY_BINS of the cell
    halves: NDArray[np.uint16]  # (blocks, slots, HALVES): those at exact multiples of 500 ms


class Pairs(NamedTuple):
    """Candidates that a slice hit: arrays of shape (pairs,), each pair once, sorted."""

    slot: NDArray[np.int64]
    cell: NDArray[np.int64]


class Evidence(NamedTuple):
    """What the best block of each pair says; arrays of shape (pairs,)."""

    log_e: NDArray[np.float64]  # with the prior weight
    log_e_near: NDArray[np.float64]
    hits: NDArray[np.float64]
    failures: NDArray[np.float64]  # of the row, whatever they lasted


def log_weights(known_s: Sequence[float]) -> NDArray[np.float64]:
    """Give ln of the prior weight of each candidate; -inf: none. `known_s` are timeouts of the register."""
    weight = np.zeros(CELLS)
    grid = np.arange(CELLS)
    is_fine = (grid >= FINE_S[0] * CELLS_PER_S) & (grid < FINE_S[1] * CELLS_PER_S)
    is_coarse = (grid >= FINE_S[1] * CELLS_PER_S) & (grid % HALF_CELLS == 0)
    for mask, share in ((is_fine, WEIGHTS[2]), (is_coarse, WEIGHTS[3])):
        weight[mask] += share / np.count_nonzero(mask)
    for among, share in ((USUAL_S, WEIGHTS[0]), (LESS_USUAL_S, WEIGHTS[1])):
        weight[[round(CELLS_PER_S * one) for one in among]] += share / len(among)
    cells = sorted({round(CELLS_PER_S * one) for one in known_s if 1.0 <= one < CELLS / CELLS_PER_S})
    weight[cells] += 1.0 / len(USUAL_S)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(weight / (1.0 + len(cells) / len(USUAL_S))))


def alarm_level(slots: int, pages_per_week: float) -> float:
    """Give ln of the evidence that is enough: every block that begins is one more try of every row."""
    tries = sum(WEEK_S * NS / block_ns for block_ns in BLOCKS_NS)
    return math.log(max(slots, 1) * tries / pages_per_week)


def evidence_of(
    blocks: Blocks,
    pairs: Pairs,
    totals: NDArray[np.int64],
    log_weight: NDArray[np.float64],
    params: AtomParams,
) -> Evidence:
    """Weigh the candidates `pairs`; `totals` are the slots of the whole deployment, one per operation."""
    slots, row = np.unique(pairs.slot, return_inverse=True)
    cells = blocks.cells[:, slots]
    through = np.zeros((*cells.shape[:2], CELLS + 1), np.int64)
    np.cumsum(cells, axis=2, dtype=np.int64, out=through[:, :, 1:])
    before = np.maximum(pairs.cell - 1, 0)
    hits = cells[:, row, pairs.cell].astype(np.float64) + blocks.late[:, pairs.slot, before]

    def around(width: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        first, end = np.maximum(pairs.cell - width, 0), np.minimum(pairs.cell + width, CELLS)
        return through[:, row, end] - through[:, row, first], WINDOW_CELLS / (end - first)

    failures = through[:, :, -1]
    whole, coarse = _rounded(blocks, slots, row, pairs, totals, params)
    many, uniform = around(WIDE)
    rounded = params.whole_share * np.maximum(whole - coarse, 0.0) + params.coarse_share * coarse
    null = (1.0 - np.maximum(whole, coarse)) * uniform + rounded
    wide = _log_e(hits, many, np.clip(null, uniform, params.null_max), params)
    few, _ = around(NEAR)
    wide = np.where(coarse > params.coarse_max, -np.inf, wide)
    near_null = np.clip(whole + (1.0 - whole) * params.near_share, params.near_share, params.null_max)
    # Where most are rounded the wide look has to do.
    near = np.where(whole > params.rounded_max, params.near_level, _log_e(hits, few, near_null, params))
    best = np.argmax(wide, axis=0)
    at = np.arange(len(row))
    return Evidence(
        wide[best, at] + log_weight[pairs.cell], near[best, at], hits[best, at],
        failures[best, row].astype(np.float64),
    )  # fmt: skip


def _log_e(
    hits: NDArray[np.float64], trials: NDArray[np.int64], null: NDArray[np.float64], params: AtomParams
) -> NDArray[np.float64]:
    """Give ln of the e-value of `hits` in `trials`, arrays of one shape, against at most the share `null`."""
    p0 = null[..., None]
    p1 = p0 + (1.0 - p0) * np.array(params.shares)
    misses = np.maximum(trials - hits, 0.0)[..., None]
    return log_mixture(hits[..., None] * np.log(p1 / p0) + misses * np.log((1.0 - p1) / (1.0 - p0)))


class _Rounding(NamedTuple):
    """What is known of rounding: arrays of shape (blocks, slots, ...)."""

    at_halves: NDArray[np.int64]  # (blocks, slots, HALVES): at each multiple of 500 ms
    inside: NDArray[np.float64]  # (blocks, slots, sets): how many are rounded so
    values: NDArray[np.float64]  # the same: at how many different durations
    outside: NDArray[np.float64]  # the same: how many are not


def _rounded(
    blocks: Blocks, slots: NDArray[np.int64], row: NDArray[np.int64], pairs: Pairs,
    totals: NDArray[np.int64], params: AtomParams,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Give the shares of rounded and of coarsely rounded durations, (blocks, pairs), without those at T.

    What counts as rounded depends on T: whole seconds at a whole second, half ones at a half, else nothing.
    """
    mine = _rounding(*_halves_of(blocks, slots))
    pooled = _rounding(*(one.sum(axis=1, keepdims=True) for one in _halves_of(blocks, totals)))
    is_half = pairs.cell % HALF_CELLS == 0
    half = pairs.cell // HALF_CELLS
    first = np.zeros_like(row)
    shares = []
    for rounding, guess, values_min in (
        (WHOLE, params.guess_whole, params.values_min),
        (HALF, params.guess_whole, params.values_min),
        (COARSE, params.guess_coarse, params.values_min),
        (MINUTE, params.guess_minutes, 1),  # Who rounds to minutes has few values to show.
    ):
        usual = _share(pooled, rounding, (first, half), (guess, params.guess), values_min)
        share = _share(mine, rounding, (row, half), (usual, params.prior), values_min)
        shares.append(np.where(ROUND[rounding, half] & is_half, share, 0.0))
    whole = np.where(ROUND[WHOLE, half], shares[WHOLE], shares[HALF])
    return whole, np.maximum(np.minimum(shares[COARSE], whole), shares[MINUTE])


def _halves_of(blocks: Blocks, slots: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give how many failures of some slots are at each multiple of 500 ms, and how many at none."""
    at_halves = blocks.halves[:, slots].astype(np.int64)
    many = blocks.cells[:, slots].sum(axis=2, dtype=np.int64)
    return at_halves, np.maximum(many - at_halves.sum(axis=2), 0)


def _rounding(at_halves: NDArray[np.int64], elsewhere: NDArray[np.int64]) -> _Rounding:
    inside = at_halves @ _ROUND_COLUMNS
    outside = (at_halves.sum(axis=2) + elsewhere)[:, :, None] - inside
    return _Rounding(at_halves, inside, (at_halves > 0) @ _ROUND_COLUMNS, outside)


def _share(
    known: _Rounding,
    rounding: int,
    at: tuple[NDArray[np.int64], NDArray[np.int64]],
    prior: tuple[NDArray[np.float64] | float, float],
    values_min: int,
) -> NDArray[np.float64]:
    """Give the share that is rounded so of what is not at T (`at`: slot and multiple of 500 ms).

    It is drawn to `prior`, a share and for how many it counts. One or two other values may be atoms as well:
    only several values are rounding.
    """
    row, half = at
    own = known.at_halves[:, row, half]
    others = known.inside[:, row, rounding] - own
    values = known.values[:, row, rounding] - (own > 0)
    rounded = others * np.minimum(values / values_min, 1.0)
    share, weight = prior
    return np.asarray((weight * share + rounded) / (weight + others + known.outside[:, row, rounding]))
