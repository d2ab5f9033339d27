"""Slice summaries written by hand, for the tests of what judge makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engine.decode.events import Cause, EventType, Note
from engine.observe.latency import bucket_number
from engine.observe.summary import Count, SliceSummary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

S = 1_000_000_000
SLICE_NS = 5 * S
LABELS = ("tenant", "trunk", "provider", "release")
ACME = ("acme", "sip-1", "", "")
GLOBEX = ("globex", "sip-1", "", "")


def declined(code: int = 503, reason: str = "", limit: str = "") -> Cause:
    """Make the cause of a declined attempt."""
    return Cause(declined=True, outcome="", platform="", code=code, reason=reason, limit=limit)


def ended(outcome: str = "completed", reason: str = "", platform: str = "") -> Cause:
    """Make the cause of an end."""
    return Cause(declined=False, outcome=outcome, platform=platform, code=0, reason=reason, limit="")


def note(kind: EventType, time_ns: int = 0, labels: Sequence[tuple[str, str]] = (), **fields: object) -> Note:
    """Make a note; a name that Python has taken is given with `_` behind it."""
    return Note(
        time_ns, int(kind), tuple(labels), tuple((name.rstrip("_"), one) for name, one in fields.items())
    )


def summary(
    start_ns: int = 0,
    series: Sequence[tuple[str, ...]] = (ACME,),
    counts: Sequence[Mapping[Count, int]] = (),
    bins: Sequence[tuple[int, int, int, int, int, int]] = (),
    ends: Sequence[tuple[int, int, int, int, int]] = (),
    **more: object,
) -> SliceSummary:
    """Make a summary.

    Rows are (series, ...): `bins` (bin, arrivals, level, answers, answered level), `ends` (start_ns,
    answer_ns, kind, count); in `more`, `causes` (Cause, count), `latency` (stage, seconds, count), others.
    """
    table = np.zeros((len(series), len(Count)), np.int64)
    for row, given in enumerate(counts):
        for name, value in given.items():
            table[row, name] = value
    causes: Sequence[tuple[int, Cause, int]] = more.pop("causes", ())  # type: ignore[assignment]
    latency: Sequence[tuple[int, str, float, int]] = more.pop("latency", ())  # type: ignore[assignment]
    stages = tuple(sorted({one[1] for one in latency}))
    names = tuple(sorted({one[1] for one in causes}))
    stage = np.array([stages.index(one[1]) for one in latency], np.int16)

    def column(rows: Sequence[tuple[int, ...]], at: int, kind: type[np.generic]) -> NDArray[Any]:
        return np.array([row[at] for row in rows], kind)

    made = SliceSummary(
        topic="calls", partition=0, start_ns=start_ns, slice_ns=SLICE_NS, revision=0, labels=LABELS,
        series=tuple(series), counts=table,
        bin_series=column(bins, 0, np.int32), bin_index=column(bins, 1, np.int16),
        bin_arrivals=column(bins, 2, np.int32), bin_level=column(bins, 3, np.int32),
        bin_answers=column(bins, 4, np.int32), bin_answered_level=column(bins, 5, np.int32),
        end_series=column(ends, 0, np.int32), end_start_ns=column(ends, 1, np.int64),
        end_answer_ns=column(ends, 2, np.int64), end_kind=column(ends, 3, np.uint8),
        end_count=column(ends, 4, np.int32),
        bin_declines=np.zeros(len(bins), np.int32),
        side_series=np.zeros(0, np.int32), side_cause=np.zeros(0, np.int32), side_count=np.zeros(0, np.int64),
        failure_series=np.zeros(0, np.int32), failure_cause=np.zeros(0, np.int32),
        failure_answered=np.zeros(0, np.uint8), failure_bin=np.zeros(0, np.int32),
        failure_count=np.zeros(0, np.int64), caller_series=np.zeros(0, np.int32),
        caller_cause=np.zeros(0, np.int32), caller_end=np.zeros(0, np.int32),
        caller_count=np.zeros(0, np.int64), score_series=np.zeros(0, np.int32),
        score_stage=np.zeros(0, np.int16), score_bin=np.zeros(0, np.int16), score_count=np.zeros(0, np.int64),
        causes=names, cause_series=np.array([one[0] for one in causes], np.int32),
        cause_index=np.array([names.index(one[1]) for one in causes], np.int32),
        cause_count=np.array([one[2] for one in causes], np.int64),
        stages=stages, latency_series=np.array([one[0] for one in latency], np.int32), latency_stage=stage,
        latency_bucket=np.array([bucket_number(one[2]) for one in latency], np.int16),
        latency_count=np.array([one[3] for one in latency], np.int64),
        sum_series=np.array([one[0] for one in latency], np.int32), sum_stage=stage,
        sum_us=np.array([round(one[2] * 1e6) * one[3] for one in latency], np.int64), notes=(),
    )  # fmt: skip
    return made._replace(**more)  # type: ignore[arg-type]


def calls_started(
    start_ns: int, count: int = 1, series: tuple[str, ...] = ACME, at_bin: int = 0
) -> SliceSummary:
    """Make a summary of calls that start together, and hold on."""
    counts = {Count.STARTED: count, Count.ADMITTED: count}
    return summary(start_ns, (series,), [counts], [(0, at_bin, count, count, 0, 0)])
