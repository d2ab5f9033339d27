"""One stretch of traffic of one limit, with the truth about it, and many of them side by side."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.leadtime.feed import Calls
from bench.leadtime.traffic import STEP_S

HISTORY_WEEKS = 6  # what a seasonal baseline may learn from; apart from every week that is scored


class Stream(NamedTuple):
    """Calls of one limit and what is true of them; seconds since the stream's begin."""

    calls: Calls
    cap: float
    first_step: int  # of the week, from Monday on: when the stream begins
    stop_s: float
    onset_s: float  # of the cause; in ordinary weeks 0
    decline_s: float = np.inf  # the first declined attempt
    losses_s: NDArray[np.float64] = np.zeros(0)  # all of them, for an hour after it
    oracle_s: float = np.inf  # when an oracle that knows the cause and its size is sure of it
    history: tuple[float, ...] = (1.0,) * HISTORY_WEEKS  # level of the weeks before, oldest first


def cut(calls: Calls, until_s: float) -> Calls:
    """Give the calls that begin before `until_s`."""
    many = int(np.searchsorted(calls.start_s, until_s))
    return Calls(calls.start_s[:many], calls.end_s[:many], calls.is_declined[:many])


def steps_of(stop_s: float) -> int:
    """Give how many evaluations there are until `stop_s`."""
    return int(np.ceil(stop_s / STEP_S))


def levels(streams: list[Stream], steps: int) -> NDArray[np.float64]:
    """Give the calls in flight at the end of each evaluation; (streams, steps)."""
    at_s = (np.arange(steps) + 1) * STEP_S
    found = np.empty((len(streams), steps))
    for row, stream in zip(found, streams, strict=True):
        begun = np.searchsorted(stream.calls.start_s, at_s, side="right")
        row[:] = begun - np.searchsorted(np.sort(stream.calls.end_s), at_s, side="right")
    return found
