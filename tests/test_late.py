"""What came after its slice was judged, and is told with the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine.decode.events import EventType
from engine.judge.declines import Classifier, Rule
from engine.judge.late import late_told, with_late
from engine.judge.roll import Roller, StreamCounters
from engine.limits import Limit, Register
from engine.observe.merge import difference
from engine.settings import EngineSettings
from tests.line_runs import run_all
from tests.line_traffic import START_NS, Event, S, batches_of, event
from tests.summaries import ACME, SLICE_NS, calls_started, declined, ended, note, summary

if TYPE_CHECKING:
    from engine.judge.windows import WindowSummary
    from tests.line_runs import Run

REGISTER = Register(limits=(Limit(name="trunk-cap", kind="concurrency", value=50.0),))
LABELS: dict[str, Any] = {"tenant": "acme"}
LATE_S = 23  # so long after its time a row comes: its slice is judged


def run_with(*late: Event) -> Run:
    """Run a minute of traffic, after whose 40th second rows come that should have come before."""
    calls = [event(START_NS + second * S, "call.started", f"c-{second}", **LABELS) for second in range(60)]
    return run_all(batches_of([*calls[:40], *late, *calls[40:]], rows_max=5), REGISTER)


def slices_of(*late: Event) -> list[WindowSummary]:
    """Give what was judged."""
    return run_with(*late).recorder.summaries


def late(kind: str, call: str = "", **fields: Any) -> Event:
    """Make a row of the slice in which second 15 was."""
    return event(START_NS + (39 - LATE_S) * S, kind, call, **fields, **LABELS)


def test_a_decline_that_comes_late_is_told_with_the_next_slice_and_once() -> None:
    run = run_with(late("call.declined", "c-15", code=503, limit="trunk-cap"))

    told = [int(one.limits.declined[0]) for one in run.recorder.summaries]
    assert sum(told) == 1
    assert told[(39 - LATE_S) // 5] == 0
    (page,) = [one for one in run.changes if ("alertname", "CallLimitReached") in one.labels]
    assert page.state == "firing"
    assert "1 call, some of them told late, in the last 5 s" in dict(page.annotations)["description"]


def test_a_page_says_late_of_declines_and_not_of_other_rows() -> None:
    now = event(START_NS + 40 * S, "call.declined", "c-40", code=503, limit="trunk-cap", **LABELS)
    run = run_with(now, late("turn.completed", "c-15", latency_ms={"llm": 300}))

    assert sum(one.stream.amended for one in run.recorder.summaries) == 1
    (page,) = [one for one in run.changes if ("alertname", "CallLimitReached") in one.labels]
    assert "1 call in the last 5 s" in dict(page.annotations)["description"]


@pytest.mark.parametrize(("late_s", "blamed"), [(30, "carrier"), (200, "trunk-cap")])
def test_whose_decline_it_was_long_ago_does_not_go_by_what_is_full_now(late_s: int, blamed: str) -> None:
    """Of a minute ago it does: the fullest one is blamed, and without knowledge the first."""
    full = Limit(name="carrier", kind="concurrency", value=1.0)
    settings = EngineSettings(hidden_cap_instances_max=0, late_ns=600 * S)
    roller = Roller(
        settings, Register((*REGISTER.limits, full)), Classifier((Rule("capacity", codes=(503,)),))
    )
    roller.take([calls_started(0)])
    many = late_s * S // SLICE_NS
    for _ in roller.close_until(many * SLICE_NS, StreamCounters()):
        pass

    roller.take([summary(0, causes=[(0, declined(), 1)])._replace(partition=1)])
    (rolled,) = roller.close_until((many + 1) * SLICE_NS, StreamCounters())

    names = [one.name for one in roller.index.instances]
    assert {names[row] for row in np.flatnonzero(rolled.declines.by_instance)} == {blamed}


def test_scores_that_come_late_are_told_with_the_next_slice() -> None:
    facts = [one.facts.scores for one in slices_of(late("quality.scored", "c-15", score=0.25))]

    # One of the total, and one of its label set.
    assert {bin_ for one in facts for bin_ in one.bin.tolist()} == {25}
    assert {int(one.counted.sum()) for one in facts if len(one.bin)} == {2}


def test_calls_of_dependencies_that_come_late_are_told_with_the_next_slice() -> None:
    ended_late = late("dependency.called", "c-15", dependency="llm", outcome="timeout")

    uses = [one.facts.dependencies for one in slices_of(ended_late)]

    assert sum(int(one.timeouts.sum()) for one in uses) == 1


def test_arrivals_and_durations_that_come_late_make_no_surge() -> None:
    slices = slices_of(late("call.started", "late"), late("call.ended", "c-3", outcome="failed"))

    assert sum(int(one.limits.arrivals[0]) for one in slices) == 60
    assert not any(len(one.facts.failures.bin) for one in slices)


def test_what_an_addition_takes_back_stays_told_and_nothing_else_is_told_again() -> None:
    before = summary(causes=[(0, declined(), 3), (0, ended(), 2)])
    after = summary(causes=[(0, declined(), 1), (0, ended(), 4)])._replace(revision=1)

    told = late_told(difference(after, before), 50 * S)

    assert told is not None
    causes = {told.causes[row]: int(many) for row, many in enumerate(told.cause_count)}
    assert {one: many for one, many in causes.items() if many} == {ended(): 2}
    assert not told.counts.any()
    own = calls_started(50 * S, 2)
    assert with_late(own, [told]) is own, "declines are put down to limits apart"


@pytest.mark.parametrize(
    "addition", [calls_started(0, 5), summary(series=(ACME,))._replace(notes=(note(EventType.CHANGE_MADE),))]
)
def test_nothing_is_told_of_what_amends_windows_alone(addition: Any) -> None:
    assert late_told(addition, 50 * S) is None
    assert with_late(None, []) is None
