"""Observe as a whole against its slow twin: the facts are the same however events come."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decode.events import Cause
from engine.observe.merge import difference, merge_summaries
from engine.observe.wire import from_bytes, to_bytes
from tests import oracle_observe as oracle
from tests.observe_driver import Driver
from tests.observe_events import Event, S, T
from tests.observe_facts import Key, facts_of, facts_of_one, nonzero

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.observe.summary import SliceSummary

START = 1_800_000_000 * S  # a full minute
CAUSES = [
    Cause(declined=False, outcome="completed", platform="", code=0, reason="", limit=""),
    Cause(declined=False, outcome="failed", platform="", code=500, reason="", limit=""),
    Cause(declined=True, outcome="", platform="", code=503, reason="busy", limit=""),
]
CRM = "dependency:crm"
SIDES = {
    T.TRANSFER_ENDED: [
        Cause(False, "timeout", "", 504, "", "", "transfer"), Cause(False, "ok", "", 0, "", "", "transfer"),
    ],
    T.DEPENDENCY_CALLED: [
        Cause(False, "error", "", 0, "", "", CRM, "open"), Cause(False, "ok", "", 0, "", "", CRM),
        Cause(False, "throttled", "", 429, "", "", CRM, "closed"),
    ],
}  # fmt: skip
KINDS = [
    T.CALL_STARTED, T.CALL_STARTED, T.CALL_ANSWERED, T.CALL_ENDED, T.CALL_ENDED, T.CALL_DECLINED,
    T.CALL_HEARTBEAT, T.TURN_COMPLETED, T.CALL_QUEUED, T.AGENT_JOINED, T.TRANSFER_ENDED,
    T.DEPENDENCY_CALLED, T.QUALITY_SCORED,
]  # fmt: skip
WITH_LATENCY = (T.CALL_ANSWERED, T.CALL_ENDED, T.TURN_COMPLETED)
TENTHS = st.integers(0, 400)


@st.composite
def an_event(draw: st.DrawFn, tenths: st.SearchStrategy[int] = TENTHS) -> Event:
    """Draw an event within 40 s (by default) of few calls, so that they meet each other in every way."""
    kind = draw(st.sampled_from(KINDS))
    call = draw(st.integers(1, 5))
    event_id = draw(st.integers(0, 3)) * 10 + call if kind not in oracle.BY_STATE else 0
    possible = SIDES.get(kind, CAUSES if kind in (T.CALL_ENDED, T.CALL_DECLINED) else [None])
    cause = draw(st.sampled_from(possible))
    latency = st.tuples(st.sampled_from(["llm", "setup"]), st.sampled_from([0.0, 5.5, 900.0, 5e6]))
    latencies = draw(st.lists(latency, max_size=2 if kind in WITH_LATENCY else 0))
    if kind == T.QUALITY_SCORED:
        latencies = draw(st.lists(st.tuples(st.just("metric:csat"), st.sampled_from([0.0, 0.5, 1.0]))))
    return Event(
        time_ns=START + draw(tenths) * S // 10, type_id=kind, call=call, event_id=event_id,
        series=(draw(st.sampled_from(["acme", "globex"])),), cause=cause,
        duration_ms=draw(st.sampled_from([float("nan"), 0.0, 7000.0])), latencies=tuple(sorted(latencies)),
    )  # fmt: skip


def by_time(events: Sequence[Event]) -> list[Event]:
    """Put events in the order of their times."""
    return sorted(events, key=lambda one: one.time_ns)


def cut(events: Sequence[Event], sizes: int) -> list[Sequence[Event]]:
    """Cut events into batches of sizes that a seed decides."""
    chooser, batches, at = np.random.default_rng(sizes), [], 0
    while at < len(events):
        size = int(chooser.choice([1, 2, 3, 7, 50]))
        batches.append(events[at : at + size])
        at += size
    return batches


def disordered(events: Sequence[Event], seed: int, bound_ns: int = 5 * S) -> list[Event]:
    """Disorder events so that none is more than the bound behind a newer one."""
    chooser = np.random.default_rng(seed)
    return [one for _, _, one in sorted((one.time_ns + int(chooser.integers(bound_ns)), place, one)
                                        for place, one in enumerate(events))]  # fmt: skip


def run(events: Sequence[Event], seed: int = 0) -> Driver:
    """Run an observer over the events, which may lie in several partitions, each in its own batches."""
    driver = Driver()
    lanes = defaultdict(list)
    for one in events:
        lanes[one.partition].append(one)
    driver.assigned = tuple(sorted(lanes)) or (0,)
    waiting = {number: cut(lane, seed + number) for number, lane in lanes.items()}
    chooser = np.random.default_rng(seed)
    while waiting:
        number = int(chooser.choice(sorted(waiting)))
        driver.feed(waiting[number].pop(0))
        if not waiting[number]:
            del waiting[number]
    driver.finish()
    return driver


def as_bytes(summaries: Sequence[SliceSummary]) -> list[bytes]:
    """Merge the newest revisions of each slice over partitions, and write them down."""
    slices: dict[int, dict[int, SliceSummary]] = defaultdict(dict)
    for one in sorted(summaries, key=lambda one: one.revision):
        slices[one.start_ns][one.partition] = one
    merged = [merge_summaries(list(slices[at].values())) for at in sorted(slices)]
    return [to_bytes(one._replace(partition=0, revision=0)) for one in merged if one.series or one.notes]


@given(st.lists(an_event(), max_size=40))
@settings(max_examples=100)
def test_the_facts_are_those_of_the_twin(events: list[Event]) -> None:
    """For events in order of time, whatever a call goes through."""
    events = by_time(events)
    expected, twins = oracle.observe(events)
    driver = run(events)
    assert facts_of(driver.summaries) == expected
    assert driver.observer.calls_in_flight == sum(
        entry.flying for twin in twins.values() for entry in twin.calls.values()
    )


@given(st.lists(an_event(st.integers(0, 2000)), max_size=40))
@settings(max_examples=100)
def test_late_events_amend_as_the_twin_says(events: list[Event]) -> None:
    """Events in any order over 200 s: some come late and amend, some too late and are lost."""
    expected, twins = oracle.observe(events)
    driver = run(events)
    assert facts_of(driver.summaries) == expected
    losses = sum((twin.lost for twin in twins.values()), Counter())
    assert int(driver.observer.losses.sum()) == losses.total()


@given(st.lists(an_event(st.integers(0, 60_000)), max_size=30), st.integers(0, 3))
@settings(max_examples=60)
def test_calls_heal_as_the_twin_says(events: list[Event], seed: int) -> None:
    """Over 100 minutes heartbeats stop and tombstones go; sweeps in between change nothing."""
    events = by_time(events)
    expected, twins = oracle.observe(events)
    driver = run(events, seed)
    assert facts_of(driver.summaries) == expected
    healed = sum((twin.healed for twin in twins.values()), Counter())
    assert {cause: count for cause, count in driver.observer.healed.items() if count} == dict(healed)


@given(st.lists(an_event(), max_size=40), st.integers(1, 1000))
@settings(max_examples=60)
def test_batches_do_not_matter(events: list[Event], seed: int) -> None:
    """The same summaries and revisions in the same order for any cut of one stream, in any disorder."""
    one, other = run(events, 0), run(events, seed)
    assert [to_bytes(each) for each in one.summaries] == [to_bytes(each) for each in other.summaries]


@given(st.lists(an_event(), max_size=40), st.integers(0, 1000))
@settings(max_examples=80)
def test_disorder_within_the_bound_does_not_matter(events: list[Event], seed: int) -> None:
    """Not a byte of the summaries changes."""
    in_order = run(by_time(events))
    assert as_bytes(run(disordered(events, seed), seed).summaries) == as_bytes(in_order.summaries)


@given(st.lists(an_event(), max_size=40), st.integers(0, 1000), st.integers(2, 4))
@settings(max_examples=80)
def test_partitions_do_not_matter(events: list[Event], seed: int, partitions: int) -> None:
    """Split by call over partitions, disordered and merged again, not a byte of the summaries changes."""
    whole = run(by_time(events))
    split = [one._replace(partition=one.call % partitions) for one in disordered(events, seed)]
    parted = run(split, seed)
    assert as_bytes(parted.summaries) == as_bytes(whole.summaries)
    assert parted.observer.calls_in_flight == whole.observer.calls_in_flight


@given(st.lists(an_event(), max_size=30))
@settings(max_examples=50)
def test_a_second_delivery_changes_nothing(events: list[Event]) -> None:
    """Every event of a call twice in a row, of other events those with an id: the second is a duplicate."""
    events = by_time(events)
    twice = [one for each in events for one in
             ([each, each] if each.event_id or each.type_id in oracle.BY_STATE else [each])]  # fmt: skip
    once = run(events)
    assert as_bytes(run(twice).summaries) == as_bytes(once.summaries)


@given(st.lists(an_event(), max_size=40), st.integers(0, 100))
@settings(max_examples=40)
def test_merging_is_exact_and_order_free(events: list[Event], seed: int) -> None:
    """Any grouping and any order of the parts of a slice give the same bytes."""
    parted = run([one._replace(partition=one.call % 4) for one in by_time(events)])
    slices = defaultdict(list)
    for one in parted.summaries:
        slices[one.start_ns].append(one)
    for parts in slices.values():
        expected: Counter[Key] = Counter()
        for one in parts:
            expected.update(facts_of_one(one))
        shuffled = [parts[at] for at in np.random.default_rng(seed).permutation(len(parts))]
        left = shuffled[0]
        for one in shuffled[1:]:
            left = merge_summaries([left, one])
        assert to_bytes(merge_summaries(parts)._replace(partition=9)) == to_bytes(left._replace(partition=9))
        assert nonzero(facts_of_one(left)) == nonzero(expected)
        expected.subtract(facts_of_one(parts[0]))
        assert nonzero(facts_of_one(difference(left, parts[0]))) == nonzero(expected)


@given(st.lists(an_event(), max_size=30))
@settings(max_examples=40)
def test_summaries_survive_the_wire(events: list[Event]) -> None:
    """What is read is what was written."""
    for one in run(by_time(events)).summaries:
        back = from_bytes(to_bytes(one))
        assert to_bytes(back) == to_bytes(one)
        assert facts_of_one(back) == facts_of_one(one)


def test_no_event_gives_no_summary() -> None:
    """An empty log is fine."""
    driver = Driver()
    assert driver.finish() == []
    assert driver.observer.watermark_ns == -1
