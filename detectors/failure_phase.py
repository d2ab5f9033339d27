"""Failures on phase: at the same moment of every minute, five minutes or hour, as of a job or a token.

Each cycle says one thing: in which part of it failures stood out most from what its traffic lets expect. That
a burst lasts, or has many calls, does not count; only that the same part of the cycle stands out again and
again does. The null share of a part (with its neighbour, for what falls on a border) is that of its time or
1.5 times that of its traffic, if more: of the calls that ended then or of those that came then, because what
fails at once fails when a dialler begins a batch, and good calls end minutes later. Rejected: a Rayleigh test
on every failure, which takes one outage of a minute for a rhythm.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from detectors.rows import grown
from detectors.sequential import WEEK_S, log_mixture
from detectors.watched_rows import with_slots
from engine.judge.detection import MINUTE_NS, NS
from engine.kernel import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.judge.windows import WindowSummary

CYCLES_NS = (MINUTE_NS, 5 * MINUTE_NS, 60 * MINUTE_NS)
PARTS_NS = (5 * NS, 10 * NS, 30 * NS)
BLOCKS_NS = (6 * 60 * MINUTE_NS, 24 * 60 * MINUTE_NS, 7 * 24 * 60 * MINUTE_NS)  # evidence begins anew
PARTS = tuple(cycle // part for cycle, part in zip(CYCLES_NS, PARTS_NS, strict=True))
FIRST = tuple(sum(PARTS[:number]) for number in range(len(PARTS)))
COLUMNS = sum(PARTS)
COUNTED = ("errors", "ended", "arrived", "traffic", "arrivals", "hits", "cycles")  # fields of the state


class PhaseParams(NamedTuple):
    """Constants."""

    shares: tuple[float, ...] = (0.3, 0.6, 0.95)  # of the way from the null share to all
    traffic_factor: float = 1.5
    null_max: float = 0.9
    hits_min: int = 4
    fresh_cycles: int = 3
    rows_max: int = 256


class PhaseState(NamedTuple):
    """By slot (a watched window row); columns are the parts of every cycle, side by side."""

    slot: NDArray[np.int32]  # (window rows,)
    cycle: tuple[int, ...]  # number of the current cycle of each length; -1: none yet
    block: tuple[int, ...]
    errors: NDArray[np.int32]  # (slots, COLUMNS) in the current cycles
    ended: NDArray[np.int32]
    arrived: NDArray[np.int32]
    traffic: NDArray[np.int64]  # ends of past cycles, in the block
    arrivals: NDArray[np.int64]  # likewise
    hits: NDArray[np.int32]  # cycles in which this part or the next stood out, in the block
    cycles: NDArray[np.int64]  # (slots, cycles): in which anything stood out
    part: NDArray[np.int32]  # (slots, cycles): the part that is on phase; -1: none
    last_ns: NDArray[np.int64]  # (slots, cycles): when it last was


def new_phase() -> PhaseState:
    """Give the state before the first slice."""
    many = len(CYCLES_NS)
    table = np.zeros((0, COLUMNS), np.int32)
    each = np.zeros((0, many), np.int64)
    return PhaseState(
        np.zeros(0, np.int32), (-1,) * many, (-1,) * many, table, table, table,
        table.astype(np.int64), table.astype(np.int64), table, each, each.astype(np.int32), each,
    )  # fmt: skip


def take_slice(
    state: PhaseState, summary: WindowSummary, pages_per_week: float, params: PhaseParams
) -> PhaseState:
    """Add a slice; look at the cycles that are over."""
    state = _grown(state, summary, params)
    for number, cycle_ns in enumerate(CYCLES_NS):
        cycle = summary.start_ns // cycle_ns
        if cycle != state.cycle[number]:
            state = _ended(state, number, summary, pages_per_week, params)
    columns = np.array([FIRST[number] + _part(number, summary) for number in range(len(CYCLES_NS))])
    ended, errors, arrived = state.ended.copy(), state.errors.copy(), state.arrived.copy()
    assert len(state.slot) <= len(summary.facts.ended), "windows are only ever appended"
    count_parts(state.slot, summary.facts.ended, columns, ended)
    count_parts(state.slot, summary.facts.errors, columns, errors)
    count_parts(state.slot, summary.windows.arrivals_in_slice, columns, arrived)
    return state._replace(ended=ended, errors=errors, arrived=arrived)


@kernel
def count_parts(
    slot: NDArray[np.int32], many: NDArray[np.int64], columns: NDArray[np.int64], table: NDArray[np.int32]
) -> None:
    """Add what a slice has of each row (rows,) to some columns of `table` (slots, COLUMNS)."""
    for row in range(len(slot)):
        if slot[row] >= 0:
            for column in columns:
                table[slot[row], column] += many[row]


def moment(number: int, part: int, summary: WindowSummary) -> str:
    """Say where in a cycle a part lies, with the one after it."""
    width_s = _width_ns(number, summary) // NS
    first_s, end_s = part * width_s, (part + 2) * width_s
    if CYCLES_NS[number] == MINUTE_NS:
        return f"second {first_s} to {end_s}"
    return f"{first_s // 60} min {first_s % 60} s to {end_s // 60} min {end_s % 60} s"


def _width_ns(number: int, summary: WindowSummary) -> int:
    """Give how long a part is: no shorter than a slice, which has no parts."""
    return max(PARTS_NS[number], summary.end_ns - summary.start_ns)


def _part(number: int, summary: WindowSummary) -> int:
    return int(summary.start_ns % CYCLES_NS[number] // _width_ns(number, summary))


def _grown(state: PhaseState, summary: WindowSummary, params: PhaseParams) -> PhaseState:
    """Take up new window rows."""
    if len(state.slot) == len(summary.windows.labels):
        return state
    slot = with_slots(state.slot, summary.windows.labels[len(state.slot) :], params.rows_max, 0)
    slots = int(np.count_nonzero(slot >= 0))
    if slots == len(state.errors):
        return state._replace(slot=slot)
    return state._replace(
        slot=slot,
        errors=grown(state.errors, slots, 0),
        ended=grown(state.ended, slots, 0),
        arrived=grown(state.arrived, slots, 0),
        traffic=grown(state.traffic, slots, 0),
        arrivals=grown(state.arrivals, slots, 0),
        hits=grown(state.hits, slots, 0),
        cycles=grown(state.cycles, slots, 0),
        part=grown(state.part, slots, -1),
        last_ns=grown(state.last_ns, slots, -1),
    )


def _ended(
    state: PhaseState, number: int, summary: WindowSummary, pages_per_week: float, params: PhaseParams
) -> PhaseState:
    """Take the cycle that is over, and begin the next one."""
    parts = CYCLES_NS[number] // _width_ns(number, summary)
    columns = slice(FIRST[number], FIRST[number] + parts)
    cycle = summary.start_ns // CYCLES_NS[number]
    fresh = {name: getattr(state, name).copy() for name in COUNTED}
    errors, ended, arrived = (table[:, columns] for table in (state.errors, state.ended, state.arrived))
    for name in ("errors", "ended", "arrived"):
        fresh[name][:, columns] = 0
    part, last_ns = state.part.copy(), state.last_ns.copy()
    if state.cycle[number] >= 0:
        stood_out = _stood_out(errors, _share(ended, arrived))
        rows = np.flatnonzero(stood_out >= 0)
        best = stood_out[rows]
        hits = fresh["hits"][:, columns]
        hits[rows, best] += 1
        hits[rows, (best - 1) % parts] += 1
        fresh["cycles"][rows, number] += 1
        fresh["traffic"][:, columns] += ended
        fresh["arrivals"][:, columns] += arrived
        tries = WEEK_S * NS / BLOCKS_NS[number] * parts * max(len(hits), 1)
        often = hits[rows].max(axis=1, initial=0) >= params.hits_min
        rows, best = rows[often], best[often]
        share = _share(fresh["traffic"][rows, columns], fresh["arrivals"][rows, columns], beside=1)
        log_e, where = _on_phase(hits[rows], share, fresh["cycles"][rows, number], params)
        again = log_e >= math.log(tries / pages_per_week)
        again &= (best == where) | ((best - 1) % parts == where)
        part[rows[again], number] = where[again]
        last_ns[rows[again], number] = summary.start_ns
    stale = summary.start_ns - last_ns[:, number] > params.fresh_cycles * CYCLES_NS[number]
    part[stale, number] = -1
    block = summary.start_ns // BLOCKS_NS[number]
    if block != state.block[number]:
        for name in ("hits", "traffic", "arrivals"):
            fresh[name][:, columns] = 0
        fresh["cycles"][:, number] = 0
    return state._replace(
        cycle=_put(state.cycle, number, cycle), block=_put(state.block, number, block),
        part=part, last_ns=last_ns, **fresh,
    )  # fmt: skip


def _share(
    ended: NDArray[np.integer[Any]], arrived: NDArray[np.integer[Any]], beside: int = 0
) -> NDArray[np.float64]:
    """Give the share that each part, with so many after it (0 or 1), has of the ends or arrivals, if more."""
    shares = []
    for table in (ended, arrived):
        part = table + np.roll(table, -1, axis=1) if beside else table
        shares.append(part / np.maximum(table.sum(axis=1, keepdims=True), 1))
    return np.asarray(np.maximum(shares[0], shares[1]))


def _stood_out(errors: NDArray[np.int32], share: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give, by slot, the part in which failures stood out most; -1: none did, or several alike."""
    expected = share * errors.sum(axis=1, keepdims=True)
    excess = np.where(errors > 0, (errors - expected) / np.sqrt(expected + 1.0), -np.inf)
    is_top = excess >= excess.max(axis=1, keepdims=True) - 1e-9
    # Two neighbours are one burst across a border; it is where it begins.
    begins = is_top & ~np.roll(is_top, 1, axis=1)
    is_one = (begins.sum(axis=1) == 1) & (is_top.sum(axis=1) <= 2)  # noqa: PLR2004 - neighbours.
    return np.where((excess.max(axis=1) > 0.0) & is_one, begins.argmax(axis=1), -1)


def _on_phase(
    hits: NDArray[np.int32],
    share: NDArray[np.float64],
    cycles: NDArray[np.int64],
    params: PhaseParams,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give ln of the evidence of the best part of every slot, and the part; each counts with the next."""
    null = np.maximum(2.0 / hits.shape[1], params.traffic_factor * share)
    p0 = np.minimum(null, params.null_max)[..., None]
    p1 = p0 + (1.0 - p0) * np.array(params.shares)
    misses = np.maximum(cycles[:, None] - hits, 0)[..., None]
    log_e = log_mixture(hits[..., None] * np.log(p1 / p0) + misses * np.log((1.0 - p1) / (1.0 - p0)))
    where = log_e.argmax(axis=1)
    return log_e.max(axis=1), where


def _put(values: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
    return (*values[:at], int(value), *values[at + 1 :])
