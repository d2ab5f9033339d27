"""Raw calls to the sequence of slices that detectors see: a slow and obvious twin of what judge derives.

Written from the contract of `LimitUse` alone, without the engine's code, for benchmarks and tests of
detectors. Many streams go side by side, one limit instance each, so that weeks of traffic cost minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.judge.facts import no_facts
from engine.judge.occupancy import LimitUse
from engine.judge.windows import StreamUse, WindowSummary, WindowView

NS = 1_000_000_000
AGE_S = 1800.0  # ages are told apart up to here


class Calls(NamedTuple):
    """Calls of one limit: seconds since the same origin for all streams of a feed.

    `end_s` inf: never ends.
    """

    start_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    is_declined: NDArray[np.bool_]  # an attempt that never took a place; its end is ignored


class Feed(NamedTuple):
    """What to feed: streams side by side, their caps and priors, and the time grid."""

    streams: tuple[Calls, ...]
    caps: NDArray[np.float64]
    stop_s: float
    slice_s: int = 5
    origin_s: int = 1_767_225_600  # a multiple of a minute; slice 0 starts here
    expected_holding_s: float = np.nan


def slices(feed: Feed) -> Iterator[WindowSummary]:
    """Give one summary per slice from 0 to `stop_s`."""
    rows = len(feed.streams)
    cells = round(AGE_S / feed.slice_s)
    table = call_table(feed)
    begins = np.argsort(table["start"], kind="stable")
    finishes = np.flatnonzero(~table["declined"])
    finishes = finishes[np.argsort(table["end"][finishes], kind="stable")]
    count = int(feed.stop_s // feed.slice_s)
    grid = np.arange(count + 1)
    begin_at = np.searchsorted(table["start"][begins], grid)
    finish_at = np.searchsorted(table["end"][finishes], grid)
    alive = np.zeros((rows, cells), np.int32)
    first_ns = np.full(rows, -1, np.int64)
    for k in range(count):
        new = begins[begin_at[k] : begin_at[k + 1]]
        gone = finishes[finish_at[k] : finish_at[k + 1]]
        older = alive
        alive = np.zeros_like(older)
        alive[:, 1:] = older[:, :-1]
        alive[:, -1] += older[:, -1]
        admitted = new[~table["declined"][new]]
        alive[:, 0] += np.bincount(table["row"][admitted], minlength=rows).astype(np.int32)
        ended = np.zeros_like(alive)
        np.add.at(ended, (table["row"][gone], np.minimum(k - table["start"][gone], cells - 1)), 1)
        alive -= ended
        arrivals = np.bincount(table["row"][new], minlength=rows)
        end_ns = (feed.origin_s + (k + 1) * feed.slice_s) * NS
        first_ns = np.where((first_ns < 0) & (arrivals > 0), end_ns, first_ns)
        declined = arrivals - np.bincount(table["row"][admitted], minlength=rows)
        yield summary_of(feed, end_ns, first_ns, alive, ended, (arrivals, declined))


def call_table(feed: Feed) -> dict[str, NDArray[np.int32]]:
    """Put all streams' calls into columns: row, slice of the start, slice of the end, declined."""
    far = 2**30
    return {
        "row": np.repeat(
            np.arange(len(feed.streams), dtype=np.int32), [len(s.start_s) for s in feed.streams]
        ),
        "start": np.concatenate([np.floor(s.start_s / feed.slice_s).astype(np.int32) for s in feed.streams]),
        "end": np.concatenate(
            [np.floor(np.minimum(s.end_s / feed.slice_s, far)).astype(np.int32) for s in feed.streams]
        ),
        "declined": np.concatenate([s.is_declined for s in feed.streams]),
    }


def summary_of(
    feed: Feed,
    end_ns: int,
    first_ns: NDArray[np.int64],
    alive: NDArray[np.int32],
    ended: NDArray[np.int32],
    attempts: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> WindowSummary:
    """Wrap one slice; `attempts` = (arrivals, declined)."""
    rows = len(feed.streams)
    level = alive.sum(axis=1, dtype=np.int64)
    use = LimitUse(
        value=feed.caps.copy(),
        declared=feed.caps.copy(),
        first_ns=first_ns,
        level=level,
        level_peak=level,
        arrivals=attempts[0],
        arrivals_per_bin=np.zeros((rows, 0), np.int32),
        level_per_bin=np.zeros((rows, 0), np.int32),
        declines_per_bin=np.zeros((rows, 0), np.int32),
        rate_peak=np.zeros(rows, np.int64),
        ended=ended.sum(axis=1, dtype=np.int64),
        ended_by_age=ended,
        healed_by_age=np.zeros_like(ended),
        alive=alive,
        age_unknown=np.zeros(rows, np.int64),
        declined=attempts[1],
        unseen_use=np.zeros(rows),
        reported_use=np.full(rows, np.nan),
        expected_holding_s=np.full(rows, feed.expected_holding_s),
        is_concurrency=np.ones(rows, np.bool_),
    )
    slice_ns = feed.slice_s * NS
    windows = WindowView(
        labels=(),
        arrivals_in_slice=np.zeros(0, np.int64),
        arrivals=np.zeros((0, 3), np.int64),
        ended=np.zeros((0, 3), np.int64),
        errors=np.zeros((0, 3), np.int64),
        declined=np.zeros((0, 3), np.int64),
        latency_row=np.zeros(0, np.int32),
        latency_stage=(),
    )
    stream = StreamUse(int(attempts[0].sum()), int(attempts[0].sum()), 0, 0, 0, 0)
    start_ns = end_ns - slice_ns
    first = feed.origin_s * NS
    return WindowSummary(
        start_ns,
        end_ns,
        first,
        is_partial=False,
        limits=use,
        windows=windows,
        stream=stream,
        facts=no_facts(0),
        notes=(),
    )
