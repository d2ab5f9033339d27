"""Atoms among failures, followed from slice to slice: counts in blocks of time, and what may be an atom.

A timing row is (window row, operation). The whole deployment and single labels are watched, up to a bound;
what does not fit counts in the total. A candidate that is suspected is followed with its failures to 10 ms,
so that the page can say at which duration they stop and since when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from detectors.atom_evidence import (
    BLOCKS_NS,
    CELL_BINS,
    CELLS,
    EARLY_BINS,
    HALF_CELLS,
    HALVES,
    WINDOW_BINS,
    AtomParams,
    Blocks,
    Evidence,
    Pairs,
    alarm_level,
    evidence_of,
)
from detectors.watched_rows import with_slots

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary

COUNT_MAX = 60_000  # when a count is so high, all of its row are halved
SHOWN_RATIO = 0.1  # of the failures of an atom: fewer before it are chance


class Suspects(NamedTuple):
    """What may be an atom: arrays of shape (suspects_max,); slot -1 is free."""

    slot: NDArray[np.int64]
    cell: NDArray[np.int64]
    since_ns: NDArray[np.int64]
    last_ns: NDArray[np.int64]
    bins: NDArray[np.int64]  # (suspects, WINDOW_BINS): failures since then, by 10 ms
    hits: NDArray[np.int64]  # in the block that speaks
    failures: NDArray[np.int64]  # of the row in that block
    log_e: NDArray[np.float64]
    is_atom: NDArray[np.bool_]


class AtomState(NamedTuple):
    """What is carried."""

    slot: NDArray[np.int32]  # (timing rows,); -1: not watched
    block: tuple[int, ...]  # number of the current block of each length
    blocks: Blocks
    suspects: Suspects


class Found(NamedTuple):
    """Failures of the slice in watched rows: arrays of shape (facts,)."""

    slot: NDArray[np.int64]
    bin: NDArray[np.int64]
    counted: NDArray[np.int64]


def new_atoms(params: AtomParams) -> AtomState:
    """Give the state before the first slice."""
    none = np.full(params.suspects_max, -1, np.int64)
    bins = np.zeros((params.suspects_max, WINDOW_BINS), np.int64)
    zero = np.zeros(params.suspects_max, np.int64)
    is_atom = np.zeros(params.suspects_max, np.bool_)
    suspects = Suspects(none, none, none, none, bins, zero, zero, np.zeros(params.suspects_max), is_atom)
    return AtomState(np.zeros(0, np.int32), (-1,) * len(BLOCKS_NS), _no_blocks(0), suspects)


def take_slice(
    state: AtomState,
    summary: WindowSummary,
    log_weight: NDArray[np.float64],
    pages_per_week: float,
    params: AtomParams,
) -> AtomState:
    """Add the failures of a slice, and look at the candidates that they hit."""
    state = _begun(_grown(state, summary, params), summary.start_ns)
    facts = summary.facts.failures
    if not len(facts.row):
        return state._replace(suspects=_fresh(state.suspects, summary.end_ns, params))
    slot = state.slot[facts.row]
    keep = (slot >= 0) & (facts.bin < CELLS * CELL_BINS) & (facts.counted > 0)
    if keep.any():
        found = Found(
            slot[keep].astype(np.int64),
            facts.bin[keep].astype(np.int64),
            facts.counted[keep].astype(np.int64),
        )
        state = state._replace(blocks=_added(state.blocks, found))
        pairs = _pairs(found, log_weight)
        totals = state.slot[(facts.timing_row == 0) & (state.slot >= 0)].astype(np.int64)
        evidence = evidence_of(state.blocks, pairs, totals, log_weight, params)
        enough = alarm_level(state.blocks.cells.shape[1], pages_per_week)
        suspects = _suspected(state.suspects, pairs, evidence, enough, summary, params)
        state = state._replace(suspects=_followed(suspects, found, summary.end_ns))
    return state._replace(suspects=_fresh(state.suspects, summary.end_ns, params))


def duration_s(bins: NDArray[np.int64], cell: int) -> float:
    """Give where the failures of a candidate begin, in seconds to 10 ms."""
    first = int(np.argmax(bins >= max(SHOWN_RATIO * float(bins.sum()), 1.0)))
    return (cell * CELL_BINS - EARLY_BINS + first) / 100.0


def _no_blocks(slots: int) -> Blocks:
    blocks = len(BLOCKS_NS)
    return Blocks(
        np.zeros((blocks, slots, CELLS), np.uint16),
        np.zeros((blocks, slots, CELLS), np.uint16),
        np.zeros((blocks, slots, HALVES), np.uint16),
    )


def _grown(state: AtomState, summary: WindowSummary, params: AtomParams) -> AtomState:
    """Take up new timing rows."""
    facts, labels = summary.facts.failures, summary.windows.labels
    if len(state.slot) == len(facts.timing_row):
        return state
    fresh = [labels[row] for row in facts.timing_row[len(state.slot) :].tolist()]
    slot = with_slots(state.slot, fresh, params.rows_max, params.rows_for_totals)
    missing = int(np.count_nonzero(slot >= 0)) - state.blocks.cells.shape[1]
    if missing == 0:
        return state._replace(slot=slot)
    more = _no_blocks(missing)
    blocks = Blocks(*(np.concatenate(pair, axis=1) for pair in zip(state.blocks, more, strict=True)))
    return state._replace(slot=slot, blocks=blocks)


def _begun(state: AtomState, start_ns: int) -> AtomState:
    """Begin the blocks anew whose time is over."""
    block = tuple(start_ns // block_ns for block_ns in BLOCKS_NS)
    if block == state.block:
        return state
    is_over = np.array(block) != np.array(state.block)
    blocks = Blocks(*(np.where(is_over[:, None, None], np.uint16(0), one) for one in state.blocks))
    return state._replace(block=block, blocks=blocks)


def _added(blocks: Blocks, found: Found) -> Blocks:
    """Count failures in every block."""
    cell = found.bin // CELL_BINS
    is_late = found.bin % CELL_BINS >= CELL_BINS - EARLY_BINS
    is_half = found.bin % (CELL_BINS * HALF_CELLS) == 0
    every = np.ones(len(cell), np.bool_)
    half = cell // HALF_CELLS
    added = []
    for table, column, pick in (
        (blocks.cells, cell, every), (blocks.late, cell, is_late), (blocks.halves, half, is_half),
    ):  # fmt: skip
        new = table.copy()
        flat = found.slot[pick] * table.shape[2] + column[pick]
        where, index = np.unique(flat, return_inverse=True)
        many = np.bincount(index, weights=found.counted[pick], minlength=len(where)).astype(np.int64)
        for block in new:
            held = block.reshape(-1)
            held[where] = np.minimum(held[where] + many, np.iinfo(np.uint16).max)
        added.append(new)
    full = (added[0] >= COUNT_MAX).any(axis=2)
    if full.any():
        for new in added:
            new[full] //= 2
    return Blocks(*added)


def _pairs(found: Found, log_weight: NDArray[np.float64]) -> Pairs:
    """Give the candidates whose window holds a failure of the slice."""
    cell = found.bin // CELL_BINS
    after = found.bin % CELL_BINS >= CELL_BINS - EARLY_BINS
    flat = np.unique(
        np.concatenate(
            [found.slot * CELLS + cell, (found.slot * CELLS + cell + 1)[after & (cell + 1 < CELLS)]]
        )
    )
    flat = flat[np.isfinite(log_weight[flat % CELLS])]
    return Pairs(flat // CELLS, flat % CELLS)


def _suspected(
    suspects: Suspects,
    pairs: Pairs,
    evidence: Evidence,
    enough: float,
    summary: WindowSummary,
    params: AtomParams,
) -> Suspects:
    """Note what the evidence says of candidates that are followed, and follow new ones."""
    keys = suspects.slot * CELLS + suspects.cell
    flat = pairs.slot * CELLS + pairs.cell
    is_atom = (
        (evidence.log_e >= enough)
        & (evidence.log_e_near >= params.near_level)
        & (evidence.hits >= params.hits_min)
    )
    wanted = np.flatnonzero(evidence.log_e >= enough - params.suspect_gap)
    fields = Suspects(
        suspects.slot.copy(), suspects.cell.copy(), suspects.since_ns.copy(), suspects.last_ns.copy(),
        suspects.bins.copy(), suspects.hits.copy(), suspects.failures.copy(), suspects.log_e.copy(),
        suspects.is_atom.copy(),
    )  # fmt: skip
    for pair in wanted[np.argsort(-evidence.log_e[wanted], kind="stable")][: params.suspects_max].tolist():
        known = np.flatnonzero((keys == flat[pair]) & (fields.slot >= 0))
        if len(known):
            at = int(known[0])
        else:
            # The one that matters least gives way; an atom never does for a mere suspicion.
            worth = np.where(fields.slot < 0, -np.inf, fields.log_e + 1e6 * fields.is_atom)
            at = int(np.argmin(worth))
            if worth[at] >= evidence.log_e[pair] + 1e6 * is_atom[pair]:
                continue
            keys[at] = flat[pair]
            fields.slot[at], fields.cell[at] = pairs.slot[pair], pairs.cell[pair]
            fields.since_ns[at], fields.bins[at], fields.is_atom[at] = summary.start_ns, 0, False
        fields.last_ns[at] = summary.end_ns
        fields.hits[at], fields.failures[at] = evidence.hits[pair], evidence.failures[pair]
        fields.log_e[at] = evidence.log_e[pair]
        fields.is_atom[at] |= is_atom[pair]
    return fields


def _followed(suspects: Suspects, found: Found, end_ns: int) -> Suspects:
    """Add the failures of the slice to the candidates that are followed."""
    offset = found.bin[None, :] - (suspects.cell[:, None] * CELL_BINS - EARLY_BINS)
    inside = (suspects.slot[:, None] == found.slot[None, :]) & (offset >= 0) & (offset < WINDOW_BINS)
    if not inside.any():
        return suspects
    suspect, fact = np.nonzero(inside)
    bins, last_ns = suspects.bins.copy(), suspects.last_ns.copy()
    np.add.at(bins, (suspect, offset[suspect, fact]), found.counted[fact])
    last_ns[suspect] = end_ns
    return suspects._replace(bins=bins, last_ns=last_ns)


def _fresh(suspects: Suspects, end_ns: int, params: AtomParams) -> Suspects:
    """Let go of what has not been hit for several of its usual gaps."""
    used = suspects.slot >= 0
    if not used.any():
        return suspects
    gap_ns = (suspects.last_ns - suspects.since_ns) / np.maximum(suspects.bins.sum(axis=1) - 1, 1)
    stale = used & (end_ns - suspects.last_ns > np.clip(params.gaps * gap_ns, *params.fresh_ns))
    if not stale.any():
        return suspects
    return suspects._replace(slot=np.where(stale, -1, suspects.slot), is_atom=suspects.is_atom & ~stale)
