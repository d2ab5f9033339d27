"""Summaries as one Counter of facts, whose keys say everything."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from engine.observe.summary import Count, EndKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.observe.summary import SliceSummary

Key = tuple[object, ...]


def nonzero(facts: Counter[Key]) -> Counter[Key]:
    """Leave out what has come to zero."""
    return Counter({key: amount for key, amount in facts.items() if amount})


def facts_of(summaries: Iterable[SliceSummary]) -> Counter[Key]:
    """Write the newest revision of every slice of every partition as facts of the twin."""
    newest = {(one.partition, one.start_ns): one for one in sorted(summaries, key=lambda one: one.revision)}
    facts: Counter[Key] = Counter()
    for one in newest.values():
        facts.update(facts_of_one(one))
    return nonzero(facts)


def facts_of_one(one: SliceSummary) -> Counter[Key]:
    """Write one summary as facts of the twin."""
    facts: Counter[Key] = Counter()
    at, series = one.start_ns, one.series
    for row, column in zip(*one.counts.nonzero(), strict=True):
        facts["count", at, series[row], Count(column).name] += int(one.counts[row, column])
    for what in ("arrivals", "level", "answers", "answered_level", "declines"):
        amounts = getattr(one, f"bin_{what}")
        for row, bin_index, amount in zip(one.bin_series, one.bin_index, amounts, strict=True):
            facts["bin", at, series[row], int(bin_index), what] += int(amount)
    for row, start, answer, kind, amount in zip(
        one.end_series, one.end_start_ns, one.end_answer_ns, one.end_kind, one.end_count, strict=True
    ):
        facts["end", at, series[row], int(start), int(answer), EndKind(kind).name] += int(amount)
    for row, cause, amount in zip(one.cause_series, one.cause_index, one.cause_count, strict=True):
        facts["cause", at, series[row], one.causes[cause]] += int(amount)
    for row, stage, bucket, amount in zip(
        one.latency_series, one.latency_stage, one.latency_bucket, one.latency_count, strict=True
    ):
        facts["latency", at, series[row], one.stages[stage], int(bucket)] += int(amount)
    for row, cause, amount in zip(one.side_series, one.side_cause, one.side_count, strict=True):
        facts["side", at, series[row], one.causes[cause]] += int(amount)
    for row, cause, answered, place, amount in zip(
        one.failure_series, one.failure_cause, one.failure_answered, one.failure_bin, one.failure_count,
        strict=True,
    ):  # fmt: skip
        said = "yes" if answered else "no"
        facts["failure", at, series[row], one.causes[cause], said, int(place)] += int(amount)
    for row, cause, end, amount in zip(
        one.caller_series, one.caller_cause, one.caller_end, one.caller_count, strict=True
    ):
        facts["caller", at, series[row], one.causes[cause], one.causes[end]] += int(amount)
    for row, stage, place, amount in zip(
        one.score_series, one.score_stage, one.score_bin, one.score_count, strict=True
    ):
        facts["score", at, series[row], one.stages[stage], int(place)] += int(amount)
    for row, stage, amount in zip(one.sum_series, one.sum_stage, one.sum_us, strict=True):
        facts["sum", at, series[row], one.stages[stage]] += int(amount)
    return facts
