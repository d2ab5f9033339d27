"""From facts by local ids to the summary of a slice: names and rows in order, sums as of the slow twin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from engine.observe.merge import Header, Names
from engine.observe.order import Ranks, kind_ranks
from engine.observe.outcomes import (
    add_caller,
    add_cause,
    add_count,
    add_end,
    add_failure,
    add_score,
    add_side,
    add_to_bin,
)
from engine.observe.sketches import add_latency, grown_sketches, new_sketches
from engine.observe.summary import Count, EndKind
from engine.observe.tally import cleared, keys_in, new_tally
from engine.observe.unload import unloaded
from tests import oracle_unload as oracle
from tests.summaries import SLICE_NS, declined, ended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.observe.sketches import Sketches
    from engine.observe.summary import SliceSummary
    from engine.observe.tally import Tally

SERIES = [("d",), ("b",), ("a",), ("b",), ("c",)]  # two ids of one name, as nothing rules out
ONCE = [("d",), ("b",), ("a",), ("e",), ("c",)]
CAUSES = [ended(), declined(), ended("failed"), declined(), ended("timeout")]
STAGES = ["tts", "asr", "llm", "asr"]
SERIES_IDS, CAUSE_IDS, STAGE_IDS = (st.integers(0, len(one) - 1) for one in (SERIES, CAUSES, STAGES))
AMOUNTS = st.integers(-2, 2)
AGES = st.integers(-1, 4) | st.just(1 << 19)

FACTS = st.one_of(
    st.tuples(st.just("count"), SERIES_IDS, st.integers(0, len(Count) - 1), AMOUNTS),
    st.tuples(st.just("bin"), SERIES_IDS, st.integers(0, 49), st.integers(0, 4), AMOUNTS),
    st.tuples(st.just("end"), SERIES_IDS, AGES, AGES, st.integers(0, len(EndKind) - 1)),
    st.tuples(st.sampled_from(["cause", "side"]), SERIES_IDS, CAUSE_IDS),
    st.tuples(st.just("failure"), SERIES_IDS, CAUSE_IDS, st.integers(0, 1), st.integers(0, 9)),
    st.tuples(st.just("caller"), SERIES_IDS, CAUSE_IDS, CAUSE_IDS),
    st.tuples(st.just("score"), SERIES_IDS, STAGE_IDS, st.integers(0, 100)),
    st.tuples(st.just("latency"), SERIES_IDS, STAGE_IDS, st.integers(0, 200), st.integers(0, 9)),
)


def names_of(series: Sequence[Any]) -> tuple[Names, Ranks]:
    """Give names and their order as a decoder's tables do."""

    def places(names: Sequence[Any]) -> np.ndarray:
        found = np.zeros(len(names), np.int64)
        found[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
        return found

    names = Names(series.__getitem__, CAUSES.__getitem__, STAGES.__getitem__)
    return names, Ranks(kind_ranks(), places(series), np.append(places(CAUSES), -1))


def counted(facts: Sequence[tuple[Any, ...]]) -> tuple[Tally, Sketches]:
    """Count facts as kernels do while a slice is absorbed."""
    tally, sketches = new_tally(8 * len(facts)), new_sketches()
    for kind, series, *rest in facts:
        if kind == "latency":
            sketches = grown_sketches(sketches, 1)
            add_latency(sketches, series, *rest)
        elif kind == "end":
            start, answer, how = rest
            add_end(tally, series, how, start, answer)
        elif kind == "failure":
            cause, answered, bin_index = rest
            add_failure(tally, series, cause, answered, bin_index)
        else:
            add: Any = {
                "count": add_count, "bin": add_to_bin, "cause": add_cause, "side": add_side,
                "caller": add_caller, "score": add_score,
            }[kind]  # fmt: skip
            add(tally, series, *rest)
    return tally, sketches


def told(facts: Sequence[tuple[Any, ...]], start_ns: int) -> list[tuple[Any, ...]]:
    """Say the same to the twin: ages as the starts of slices, each latency in its bucket and in the sum."""

    def start_of(age: int, oldest: int) -> int:
        return start_ns - age * SLICE_NS if 0 <= age <= oldest else -1

    found: list[tuple[Any, ...]] = []
    for fact in facts:
        kind, series, *rest = fact
        if kind in ("count", "bin"):
            found.append(fact)
        elif kind == "end":
            start, answer, how = rest
            times = start_of(start, (1 << 20) - 2), start_of(answer, (1 << 16) - 2)
            found.append((kind, series, *times, how, 1))
        elif kind == "latency":
            stage, bucket, micros = rest
            found += [("bucket", series, stage, bucket, 1), ("sum", series, stage, micros)]
        else:
            found.append((*fact, 1))
    return found


def rows_of(*columns: np.ndarray) -> list[tuple[int, ...]]:
    """Read rows of equally long columns."""
    return list(zip(*(column.tolist() for column in columns), strict=True))


def in_rows(one: SliceSummary) -> dict[str, Any]:
    """Read a summary as the twin writes it."""
    return {
        "count": one.counts.tolist(),
        "bin": rows_of(one.bin_series, one.bin_index, one.bin_arrivals, one.bin_level, one.bin_answers,
                       one.bin_answered_level, one.bin_declines),
        "end": rows_of(one.end_series, one.end_start_ns, one.end_answer_ns, one.end_kind, one.end_count),
        "cause": rows_of(one.cause_series, one.cause_index, one.cause_count),
        "side": rows_of(one.side_series, one.side_cause, one.side_count),
        "failure": rows_of(one.failure_series, one.failure_cause, one.failure_answered, one.failure_bin,
                           one.failure_count),
        "caller": rows_of(one.caller_series, one.caller_cause, one.caller_end, one.caller_count),
        "score": rows_of(one.score_series, one.score_stage, one.score_bin, one.score_count),
        "bucket": rows_of(one.latency_series, one.latency_stage, one.latency_bucket, one.latency_count),
        "sum": rows_of(one.sum_series, one.sum_stage, one.sum_us),
    }  # fmt: skip


@given(st.lists(FACTS, max_size=60), st.integers(0, 3), st.sampled_from([SERIES, ONCE]))
@example([("end", 0, 1, -1, 0), ("end", 0, -1, -1, 0), ("end", 0, 0, 0, 0)], 0, ONCE)
@example([("bin", 1, 7, 1, 2), ("bin", 3, 7, 1, -2)], 3, SERIES)
@example([("latency", 1, 1, 9, 3), ("latency", 3, 3, 9, 4), ("latency", 3, 1, 8, 0)], 3, SERIES)
def test_a_slice_says_by_name_and_in_order_what_was_counted(
    facts: list[tuple[Any, ...]], slices: int, series: list[tuple[str, ...]]
) -> None:
    """Also near the beginning of time, where the start of a call may lie before it."""
    start_ns = slices * SLICE_NS
    tally, sketches = counted(facts)
    names, ranks = names_of(series)

    found = unloaded(
        Header("calls", 0, start_ns, SLICE_NS, 0, ("tenant",)), tally, sketches, names, ranks, ()
    )

    lists, expected = oracle.unloaded(told(facts, start_ns), series, CAUSES, STAGES)
    expected["count"] = oracle.table_of(expected["count"], len(lists["s"]))
    expected["bin"] = oracle.bins_of(expected["bin"])
    assert (lists["s"], lists["c"], lists["t"]) == (
        list(found.series),
        list(found.causes),
        list(found.stages),
    )
    assert expected == in_rows(found)


def test_a_summary_keeps_none_of_the_memory_in_which_it_was_counted() -> None:
    facts = [("count", 0, 0, 1), ("bin", 1, 7, 1, 2), ("end", 0, 1, 1, 0), ("cause", 2, 1),
             ("latency", 1, 1, 9, 3)]  # fmt: skip
    tally, sketches = counted(facts)
    names, ranks = names_of(ONCE)

    header = Header("calls", 0, SLICE_NS, SLICE_NS, 0, ("tenant",))
    one = unloaded(header, tally, sketches, names, ranks, ())

    arrays = [column for column in one if isinstance(column, np.ndarray)]
    kept = [array if array.base is None else array.base for array in arrays]
    assert [array.nbytes for array in arrays] == [whole.nbytes for whole in kept]


def test_a_cleared_tally_is_the_same_memory_unless_it_has_too_little_or_too_much() -> None:
    tally, _ = counted([("count", 0, 0, 1)])

    same = cleared(tally, 1)
    assert same is tally
    assert keys_in(same) == 0
    assert same[:-1].tolist() == new_tally(1)[:-1].tolist()
    assert len(cleared(tally, 10_000)) == len(new_tally(10_000))
    assert len(cleared(new_tally(10_000), 1)) == len(new_tally(1))
