"""Slices of level, arrivals and declines by bin, from lists of calls: all that the hidden cap detector sees.

Many streams go side by side, one limit instance each, so that months of traffic cost a minute. All else in
these slices is empty.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.judge.facts import no_facts
from engine.judge.occupancy import LimitUse
from engine.judge.windows import StreamUse, WindowSummary, WindowView
from engine.limits import Limit, LimitInstance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

NS = 1_000_000_000
SLICE_S = 5
BINS_PER_S = 10
CHUNK_S = 1800  # bins are made for so long at a time
ORIGIN_S = 1_767_225_600


class Calls(NamedTuple):
    """Attempts of one stream, in order of time; seconds since the origin."""

    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    is_declined: NDArray[np.bool_]


def poisson(
    rng: np.random.Generator,
    rate: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    highest: float,
    s: float,
) -> NDArray[np.float64]:
    """Draw the times of Poisson arrivals at `rate` a second, which is at most `highest`, in `s` seconds."""
    times = np.sort(rng.random(rng.poisson(highest * s)) * s)
    return times[rng.random(len(times)) * highest < rate(times)]


def admitted(
    start_s: NDArray[np.float64], holding_s: NDArray[np.float64], cap: Callable[[float], float]
) -> Calls:
    """Let calls in as long as fewer than `cap` (a function of time) are up."""
    up: list[float] = []
    is_declined = np.zeros(len(start_s), np.bool_)
    for number, (begin, held) in enumerate(zip(start_s.tolist(), holding_s.tolist(), strict=True)):
        while up and up[0] <= begin:
            heapq.heappop(up)
        if len(up) >= cap(begin):
            is_declined[number] = True
        else:
            heapq.heappush(up, begin + held)
    return Calls(start_s, start_s + holding_s, is_declined)


def unseen(calls: Calls) -> Calls:
    """Leave out what was declined: no event was sent."""
    kept = ~calls.is_declined
    return Calls(calls.start_s[kept], calls.end_s[kept], calls.is_declined[kept])


class Feed(NamedTuple):
    """Streams side by side; what the register says of each (NaN: nothing)."""

    streams: Sequence[Calls]
    declared: NDArray[np.float64]
    stop_s: float


def instances(streams: int, register: Sequence[Limit] = ()) -> tuple[LimitInstance, ...]:
    """Give implicit limits, one per stream, or those of `register`."""
    trunk = Limit(name="inferred:trunk", kind="concurrency", split_by=("trunk",), set_by="inferred")
    if register:
        return tuple(LimitInstance(row, limit) for row, limit in enumerate(register))
    return tuple(LimitInstance(row, trunk, (("trunk", f"sip-{row}"),)) for row in range(streams))


def slices(feed: Feed, learned: Callable[[], NDArray[np.float64]] | None = None) -> Iterator[WindowSummary]:
    """Give one summary per slice; `learned` are the values in force where the register has none."""
    rows, level = len(feed.streams), np.zeros(len(feed.streams), np.int64)
    for begin_s in range(0, int(feed.stop_s), CHUNK_S):
        length_s = min(CHUNK_S, int(feed.stop_s) - begin_s)
        arrivals, declines, change = (np.zeros((rows, length_s * BINS_PER_S), np.int32) for _ in range(3))
        for row, calls in enumerate(feed.streams):
            kept = ~calls.is_declined
            _count(arrivals[row], calls.start_s, begin_s, 1)
            _count(declines[row], calls.start_s[~kept], begin_s, 1)
            _count(change[row], calls.start_s[kept], begin_s, 1)
            _count(change[row], np.sort(calls.end_s[kept]), begin_s, -1)
        levels = np.asarray(level[:, None] + np.cumsum(change, axis=1), np.int32)
        level = levels[:, -1].astype(np.int64)
        bins = SLICE_S * BINS_PER_S
        for at in range(0, levels.shape[1] - bins + 1, bins):
            end_s = ORIGIN_S + begin_s + at // BINS_PER_S + SLICE_S
            cut = (array[:, at : at + bins] for array in (arrivals, levels, declines))
            value = (
                feed.declared
                if learned is None
                else np.where(np.isnan(feed.declared), learned(), feed.declared)
            )
            yield summary_of(end_s, value, feed.declared, *cut)


def _count(into: NDArray[np.int32], times_s: NDArray[np.float64], begin_s: int, weight: int) -> None:
    """Add sorted times to their bins, in place."""
    first, last = np.searchsorted(times_s, (begin_s, begin_s + len(into) / BINS_PER_S))
    places = ((times_s[first:last] - begin_s) * BINS_PER_S).astype(np.int64)
    into += weight * np.bincount(np.minimum(places, len(into) - 1), minlength=len(into)).astype(np.int32)


def summary_of(
    end_s: int,
    value: NDArray[np.float64],
    declared: NDArray[np.float64],
    arrivals: NDArray[np.int32],
    level: NDArray[np.int32],
    declines: NDArray[np.int32],
) -> WindowSummary:
    """Wrap one slice."""
    rows, cells = len(level), 1
    nothing, none = np.zeros(rows, np.int64), np.zeros((rows, cells), np.int32)
    use = LimitUse(
        value=np.array(value, np.float64),
        declared=np.array(declared, np.float64),
        first_ns=nothing + ORIGIN_S * NS,
        level=level[:, -1].astype(np.int64),
        level_peak=level.max(axis=1).astype(np.int64),
        arrivals=arrivals.sum(axis=1, dtype=np.int64),
        arrivals_per_bin=arrivals,
        level_per_bin=level,
        declines_per_bin=declines,
        rate_peak=nothing,
        ended=nothing,
        ended_by_age=none,
        healed_by_age=none,
        alive=none,
        age_unknown=nothing,
        declined=declines.sum(axis=1, dtype=np.int64),
        unseen_use=np.zeros(rows),
        reported_use=np.full(rows, np.nan),
        expected_holding_s=np.full(rows, np.nan),
        is_concurrency=np.ones(rows, np.bool_),
    )
    empty, windows = np.zeros(0, np.int64), np.zeros((0, 3), np.int64)
    view = WindowView((), empty, windows, windows, windows, windows, empty.astype(np.int32), ())
    stream = StreamUse(int(use.arrivals.sum()), int(use.arrivals.sum()), 0, 0, 0, 0)
    start_ns = (end_s - SLICE_S) * NS
    return WindowSummary(
        start_ns, end_s * NS, ORIGIN_S * NS, is_partial=False, limits=use, windows=view, stream=stream,
        facts=no_facts(0), notes=(),
    )  # fmt: skip
