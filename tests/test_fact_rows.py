"""From events to the facts of a slice: failures by duration, scores, dependencies, and their callers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engine.decode.events import Cause
from engine.judge.declines import Classifier
from engine.judge.fact_rows import DEPENDENCIES_MAX, FactRows, meaning_of
from engine.judge.series import SeriesIndex
from engine.limits import Guardrail, Register
from tests.line_runs import run_all, shipped_rules
from tests.line_traffic import START_NS, Event, S, batches_of, event

if TYPE_CHECKING:
    from engine.judge.facts import SliceFacts
    from engine.judge.windows import WindowSummary

REGISTER = Register(
    guardrails=(Guardrail(name="cost-cap", on_check_error="open", because="a caller is worth it"),)
)
ACME: dict[str, Any] = {"tenant": "acme"}


def slices_of(events: list[Event], partitions: int = 1) -> list[WindowSummary]:
    """Give the slices of events, and of a row that closes them."""
    last = event(START_NS + 60 * S, "call.queued", "last", **ACME)
    told = sorted([*events, last], key=lambda one: one.time_ns)
    return run_all(batches_of(told, partitions), REGISTER).recorder.summaries


def first_of(events: list[Event], partitions: int = 1) -> SliceFacts:
    """Give the facts of the first slice."""
    return slices_of(events, partitions)[0].facts


def call(name: str, at_s: float, *between: Event, answered: bool = True, **ended: Any) -> list[Event]:
    """Tell a call that begins after the start, and ends as said."""
    told = [event(START_NS + int(at_s * S), "call.started", name, **ACME)]
    if answered:
        told.append(event(START_NS + int((at_s + 0.5) * S), "call.answered", name, **ACME))
    if ended:
        given = {name: value for name, value in ended.items() if name != "end_s"}
        told.append(event(START_NS + int(ended["end_s"] * S), "call.ended", name, **given, **ACME))
    return [*told, *between]


def failures_of(facts: SliceFacts) -> set[tuple[str, int, int]]:
    """Give (operation, bin, how many) of the total."""
    one = facts.failures
    rows = zip(one.row.tolist(), one.bin.tolist(), one.counted.tolist(), strict=True)
    return {(one.operation[row], bin_, many) for row, bin_, many in rows if one.timing_row[row] == 0}


def test_what_failed_says_how_long_it_had_lasted() -> None:
    """As the event says, else as was seen: from the answer if there was one, else from the start."""
    facts = first_of(
        call("a", 0.0, answered=False, end_s=3.001, outcome="failed")
        + call("b", 0.0, end_s=2.5, outcome="timeout")
        + call("c", 0.0, end_s=2.5, outcome="failed", duration_ms=15_003)
        + call("d", 0.0, end_s=2.5, outcome="completed", duration_ms=15_003)
        + [event(START_NS + S, "transfer.ended", "t", outcome="timeout", duration_ms=15_000, **ACME)]
        + [event(START_NS + S, "dependency.called", dependency="crm", outcome="error", duration_ms=999)]
    )

    assert failures_of(facts) == {
        ("setup", 300, 1), ("call", 200, 1), ("call", 1500, 1), ("transfer", 1500, 1),
        ("dependency:crm", 99, 1),
    }  # fmt: skip
    rows = set(facts.failures.timing_row.tolist())
    assert len(rows) == 2, "the total and the one tenant; the dependency's row has no label"


def test_ends_that_a_rule_puts_down_to_a_limit_are_no_failures() -> None:
    """The classifier of declines decides, as it does for the error ratio."""
    facts = first_of(call("a", 0.0, answered=False, end_s=1.0, outcome="failed", code=429))

    assert failures_of(facts) == set()


def test_scores_are_kept_by_metric_and_label_set() -> None:
    facts = first_of(
        [
            event(START_NS + S, "quality.scored", f"c{number}", metric=metric, score=score, **ACME)
            for number, (metric, score) in enumerate([("csat", 0.5), ("csat", 0.5), ("wer", 0.123)])
        ]
    )

    scores = facts.scores
    found = {
        (int(scores.score_row[row]), scores.metric[row], bin_, many)
        for row, bin_, many in zip(
            scores.row.tolist(), scores.bin.tolist(), scores.counted.tolist(), strict=True
        )
    }
    assert {(metric, bin_, many) for _, metric, bin_, many in found} == {("csat", 50, 2), ("wer", 12, 1)}
    assert {row for row, *_ in found} == {0, 1}


def test_a_dependency_says_what_became_of_its_callers() -> None:
    """By name; what is throttled is apart; callers count in the slice in which their calls end."""
    crm = {"dependency": "crm", **ACME}
    facts = first_of(
        call("a", 0.0, event(START_NS + S, "dependency.called", "a", outcome="error", fallback="open", **crm),
             end_s=2.0, outcome="abandoned")
        + call("b", 0.0, event(START_NS + S, "dependency.called", "b", outcome="timeout", **crm),
               end_s=2.0, outcome="failed")
        + call("c", 0.0, event(START_NS + S, "dependency.called", "c", outcome="ok", **crm),
               end_s=2.0, outcome="completed")
        + [event(START_NS + S, "dependency.called", dependency="cost-cap", outcome="throttled",
                 fallback="closed")]
    )  # fmt: skip

    use = facts.dependencies
    assert use.name == ("crm", "cost-cap")
    assert use.calls.tolist() == [3, 1]
    assert use.failed.tolist() == [2, 0]
    assert use.timeouts.tolist() == [1, 0]
    assert use.throttled.tolist() == [0, 1]
    assert use.opened.tolist() == [1, 0]
    assert use.closed.tolist() == [0, 1]
    assert use.policy.tolist() == [0, 1]
    assert (use.callers.tolist(), use.callers_failed.tolist()) == ([2, 0], [1, 0])
    assert use.callers_hung_up.tolist() == [1, 0]


def test_the_stream_says_what_calls_had_been_through() -> None:
    turn = event(START_NS + S, "turn.completed", "a", id="t", **ACME)
    agent = event(START_NS + S, "agent.joined", "b", **ACME)
    stream = slices_of(
        call("a", 0.0, turn, end_s=2.0, outcome="completed")
        + call("b", 0.0, agent, end_s=2.0, outcome="completed")
        + call("c", 0.0, answered=False, end_s=2.0, outcome="canceled")
        + call("d", 0.0)
    )[0].stream

    assert (stream.started, stream.answered, stream.ended) == (4, 3, 3)
    assert (stream.ended_answered, stream.ended_without_turn, stream.ended_without_agent) == (2, 1, 1)
    assert (stream.turns, stream.agents_joined, stream.in_flight) == (1, 1, 1)


def test_a_decline_is_in_the_bin_of_its_time_and_the_level_beside_it() -> None:
    limits = slices_of(
        [
            event(START_NS, "call.started", "a", trunk="sip-1"),
            event(START_NS + S, "call.started", "b", trunk="sip-1"),
            event(START_NS + S + 250_000_000, "call.declined", "b", trunk="sip-1", code=500),
        ]
    )[0].limits

    assert limits.declines_per_bin.shape == limits.level_per_bin.shape


def test_facts_do_not_depend_on_partitions() -> None:
    events = call("a", 0.0, end_s=2.0, outcome="failed") + call("b", 0.1, end_s=2.1, outcome="failed")
    one, two = first_of(events), first_of(events, partitions=3)

    assert failures_of(one) == failures_of(two)


def test_dependencies_are_bounded_and_keep_their_numbers() -> None:
    rows = FactRows(SeriesIndex(Register(), 8, 8))
    names = [f"d{number:03}" for number in range(2 * DEPENDENCIES_MAX)]
    numbers = [rows._dependency(cause_of(name)) for name in names]

    assert len(rows.dependencies) == DEPENDENCIES_MAX
    assert rows.dependencies[-1] == "__other__"
    assert numbers[: DEPENDENCIES_MAX - 1] == list(range(DEPENDENCIES_MAX - 1))
    assert set(numbers[DEPENDENCIES_MAX:]) == {DEPENDENCIES_MAX - 1}
    assert np.array_equal([rows._dependency(cause_of(name)) for name in names], numbers)


def cause_of(name: str, outcome: str = "error", code: int = 0) -> Cause:
    """Make the cause of a dependency's end."""
    return Cause(False, outcome, "", code, "", "", f"dependency:{name}")


def test_what_a_dependency_throttles_is_no_failure() -> None:
    classifier = Classifier(shipped_rules())

    assert meaning_of(cause_of("crm"), classifier) == (True, False, False)
    assert meaning_of(cause_of("crm", "timeout"), classifier) == (True, True, False)
    assert meaning_of(cause_of("crm", "throttled"), classifier) == (False, False, True)
    assert meaning_of(cause_of("crm", "ok"), classifier) == (False, False, False)
