"""Facts of the newest slice alone, beside limits and windows: what sequential detectors add up themselves.

All are sparse or small: a detector that compares what is new with what it remembers must not read a window of
counts at each slice. Rows are numbered once and only ever appended, so that a detector's arrays can follow
them. Rejected: windows of these as well, which every detector would want with another length.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.observe.summary import DURATION_BIN_NS, DURATION_BINS, SCORE_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DURATION_BINS", "DURATION_BIN_NS", "SCORE_BINS"]
SETUP, CALL, TRANSFER, DEPENDENCY = "setup", "call", "transfer", "dependency"


class SliceLatency(NamedTuple):
    """Latencies of the slice; arrays of shape (facts,). `row` numbers latency rows of the `WindowView`."""

    row: NDArray[np.int32]
    bucket: NDArray[np.int16]  # dense bucket number, see engine/observe/latency.py
    counted: NDArray[np.int64]


class FailureDurations(NamedTuple):
    """How long what failed in the slice had lasted, to 10 ms.

    A timing row is (window row, operation): `timing_row[k]` is its window row and `operation[k]` one of
    "setup" (attempts that were never answered, from their start), "call" (answered ones, from the answer),
    "transfer" (dialling time) or "dependency:<name>". Facts have shape (facts,).
    """

    timing_row: NDArray[np.int32]
    operation: tuple[str, ...]
    row: NDArray[np.int32]  # timing row
    bin: NDArray[np.int32]  # of 10 ms
    counted: NDArray[np.int64]


class SliceScores(NamedTuple):
    """Quality scores of the slice.

    A score row is (window row, metric): `score_row[k]` is its window row, `metric[k]` the metric. Facts have
    shape (facts,); `bin` is round(100 x score).
    """

    score_row: NDArray[np.int32]
    metric: tuple[str, ...]
    row: NDArray[np.int32]  # score row
    bin: NDArray[np.int32]
    counted: NDArray[np.int64]


class DependencyUse(NamedTuple):
    """What was called in the slice and what became of it, over the whole deployment.

    Arrays of shape (dependencies,), by name; names are only ever appended. `failed` are errors and timeouts
    (decline rules may say otherwise), `throttled` is apart. `opened` and `closed` say what was done with
    failed or throttled ones: the call was let through, or turned away. `policy` is what the register says of
    a guardrail of this name: 0 nothing, 1 open, 2 closed. Callers are calls that ended in the slice after
    this dependency had failed them: all of them, those that failed, and those that hung up.
    """

    name: tuple[str, ...]
    calls: NDArray[np.int64]
    failed: NDArray[np.int64]
    timeouts: NDArray[np.int64]  # of `failed`
    throttled: NDArray[np.int64]
    opened: NDArray[np.int64]
    closed: NDArray[np.int64]
    policy: NDArray[np.int8]
    callers: NDArray[np.int64]
    callers_failed: NDArray[np.int64]
    callers_hung_up: NDArray[np.int64]


class SliceFacts(NamedTuple):
    """All of it. `ended`, `errors` and `declined` have shape (window rows,)."""

    ended: NDArray[np.int64]
    errors: NDArray[np.int64]
    declined: NDArray[np.int64]
    latency: SliceLatency
    failures: FailureDurations
    scores: SliceScores
    dependencies: DependencyUse


def no_facts(rows: int) -> SliceFacts:
    """Give the facts of a slice in which nothing happened, with `rows` window rows and no other rows yet."""
    none = np.zeros(0, np.int64)
    row = none.astype(np.int32)
    return SliceFacts(
        ended=np.zeros(rows, np.int64),
        errors=np.zeros(rows, np.int64),
        declined=np.zeros(rows, np.int64),
        latency=SliceLatency(row, none.astype(np.int16), none),
        failures=FailureDurations(row, (), row, row, none),
        scores=SliceScores(row, (), row, row, none),
        dependencies=DependencyUse(
            (), none, none, none, none, none, none, none.astype(np.int8), none, none, none
        ),
    )
