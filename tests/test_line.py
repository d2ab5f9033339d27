"""The line as a whole: the same alerts however events come, nothing lost, numbers that can be counted."""

from __future__ import annotations

import asyncio
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.app import REPLAY_HASH_KEY, Configuration, build_line, load_configuration
from engine.config_files import config_path
from engine.deliver.jsonl import alert_change_line
from engine.errors import LossReason
from engine.judge.lifecycle import RESOLVED
from engine.judge.windows import WINDOWS_NS
from engine.observe.latency import RELATIVE_ERROR_MAX
from engine.source.contract import RawBatch
from engine.source.file import FileSource
from engine.source.order_times import event_time_ns
from tests import oracle_judge, oracle_latency
from tests.line_runs import Run, run_all
from tests.line_traffic import (
    REGISTER,
    START_NS,
    Event,
    S,
    Story,
    Traffic,
    batches_of,
    disordered,
    event,
    make_story,
    with_duplicates,
)

BOUND_NS = 5 * S
SEEDS = (1, 2, 3)


@cache
def story(seed: int) -> Story:
    """Make the traffic of one seed, once."""
    return make_story(Traffic(seed))


@cache
def in_order(seed: int) -> Run:
    """Run it in order, from one partition, in one go."""
    return run_all(batches_of(story(seed).events, rows_max=1 << 20), REGISTER)


def lines_of(
    events: list[Event], partitions: int = 1, rows_max: int = 500, seed: int | None = None
) -> list[bytes]:
    """Run events and give the alert changes."""
    return run_all(batches_of(events, partitions, rows_max, seed), REGISTER).lines()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_traffic_approaches_and_reaches_its_limit(seed: int) -> None:
    """Or the comparisons below would compare nothing."""
    names = [dict(change.labels)["alertname"] for change in in_order(seed).changes]

    assert {"CallLimitApproaching", "CallLimitReached", "CallgaugeWatchdog"} <= set(names)
    assert names.index("CallLimitApproaching") < names.index("CallLimitReached")


@settings(max_examples=12)
@given(st.sampled_from(SEEDS), st.integers(1, 1200), st.integers(0, 2**32 - 1))
def test_the_split_into_batches_changes_nothing(seed: int, rows_max: int, split: int) -> None:
    assert in_order(seed).lines() == lines_of(list(story(seed).events), 1, rows_max, split)


@settings(max_examples=12)
@given(st.sampled_from(SEEDS), st.integers(1, 4), st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_the_split_over_partitions_changes_nothing(
    seed: int, partitions: int, rows_max: int, split: int
) -> None:
    assert in_order(seed).lines() == lines_of(list(story(seed).events), partitions, rows_max, split)


@settings(max_examples=12)
@given(st.sampled_from(SEEDS), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_disorder_within_the_bound_changes_nothing(seed: int, partitions: int, shuffle: int) -> None:
    events = disordered(story(seed).events, BOUND_NS, shuffle)

    assert list(story(seed).events) != events
    assert in_order(seed).lines() == lines_of(events, partitions, 300, shuffle)


@settings(max_examples=12)
@given(st.sampled_from(SEEDS), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_duplicates_change_nothing_and_are_counted(seed: int, partitions: int, again: int) -> None:
    events = disordered(with_duplicates(story(seed).events, again), BOUND_NS, again)

    run = run_all(batches_of(events, partitions, 300, again), REGISTER)

    assert in_order(seed).lines() == run.lines()
    more = len(events) - len(story(seed).events)
    assert more > 0
    assert run.observer.losses[LossReason.DUPLICATE] == more
    assert run.observer.rows_absorbed == len(story(seed).events)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_limits_are_used_for_is_what_counting_the_calls_gives(seed: int) -> None:
    """Levels, peaks, rates, ages and ends of every slice, from the calls alone."""
    events = disordered(story(seed).events, BOUND_NS, seed)
    recorder = run_all(batches_of(events, 3, 200), REGISTER).recorder
    named = [one.index for one in recorder.instances if not one.limit.is_implicit]
    assert len(named) == 3
    assert len(recorder.instances) > 3
    for summary in recorder.summaries:
        use = summary.limits
        cells = use.alive.shape[1]
        at = oracle_judge.Slice(summary.start_ns, summary.end_ns - summary.start_ns, cells)
        for row in range(len(use.level)):
            instance = recorder.instances[row]
            found = oracle_judge.Use(*(getattr(use, name)[row].tolist() for name in oracle_judge.Use._fields))
            expected = oracle_judge.limit_use(story(seed).calls, instance.limit, instance.split, at)
            if instance.limit.name != "trunk-cap":  # Declines are put down to one limit: the full one.
                expected = expected._replace(declined=0)
            assert expected == found, (instance.labels, summary.start_ns)


@pytest.mark.parametrize("seed", SEEDS)
def test_windows_are_what_counting_the_calls_gives(seed: int) -> None:
    recorder = run_all(batches_of(story(seed).events, 2, 200), REGISTER).recorder
    for summary, quantiles in list(zip(recorder.summaries, recorder.quantiles, strict=True))[::7]:
        view = summary.windows
        cells = summary.limits.alive.shape[1]
        at = oracle_judge.Slice(summary.start_ns, summary.end_ns - summary.start_ns, cells)
        stages = list(zip(view.latency_row.tolist(), view.latency_stage, strict=True))
        for row, labels in enumerate(view.labels):
            for window, window_ns in enumerate(WINDOWS_NS):
                facts = oracle_judge.window_facts(story(seed).calls, labels, window_ns, at)
                counted = (view.arrivals, view.ended, view.errors, view.declined)
                assert list(facts[:4]) == [int(one[row, window]) for one in counted], (labels, window)
                for stage, values in facts.latencies_s.items():
                    where = stages.index((row, stage))
                    assert len(values) == quantiles.values[where, window]
                    for q, found_s in ((0.5, quantiles.p50_s), (0.99, quantiles.p99_s)):
                        exact = oracle_latency.exact_quantile(values, q)
                        assert found_s[where, window] == pytest.approx(exact, rel=RELATIVE_ERROR_MAX)


def test_every_row_is_accounted_for_at_every_step_whatever_it_is() -> None:
    """Read = absorbed + held + lost; `Run.step` checks it after every batch."""
    events = with_duplicates(story(1).events, 5)
    bad = [
        b"",
        b"{",
        b"[]",
        b'{"type":"call.started"}',
        b'{"time":5,"type":"call.started","call_id":"x"}',
        b"\xff",
    ]
    for place, row in enumerate(bad * 10):
        events.insert(place * 40, Event(events[place * 40].time_ns, str(place), row))
    events.insert(2000, event(START_NS + 10 * S, "call.started", "much-too-late"))

    run = run_all(batches_of(events, 3, 71, 9), REGISTER)

    accounts = run.accounts()
    assert accounts.read == len(events)
    assert accounts.lost == len(events) - len(story(1).events)
    lost = {reason.name for reason in LossReason if run.decoder.losses[reason] + run.observer.losses[reason]}
    assert lost == {"NOT_JSON", "NOT_AN_OBJECT", "FIELD_MISSING", "TIME_OUT_OF_RANGE", "DUPLICATE", "LATE"}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_end_of_a_log_resolves_nothing(seed: int) -> None:
    events = [one for one in story(seed).events if one.time_ns < START_NS + 300 * S]
    run = Run(REGISTER)
    for raw in batches_of(events):
        run.step(raw)
    firing = {alert.labels for alert in run.judge.book.alerts() if alert.state == "firing"}

    step = run.finish()

    assert firing
    assert not [change for change in step.changes if change.state == RESOLVED]
    assert firing <= {alert.labels for alert in run.judge.book.alerts() if alert.state == "firing"}


def test_finishing_judges_the_slices_that_were_still_open() -> None:
    run = Run(REGISTER)
    for raw in batches_of(story(1).events):
        run.step(raw)
    before = len(run.recorder.summaries)

    run.finish()

    assert len(run.recorder.summaries) > before
    last = run.recorder.summaries[-1]
    assert last.start_ns <= story(1).events[-1].time_ns < last.end_ns


@pytest.mark.parametrize("late_s", [12, 30, 59])
def test_a_row_beyond_the_bound_amends_and_changes_neither_levels_nor_earlier_changes(late_s: int) -> None:
    """An attempt that is known only afterwards counts in windows and in the ages, from then on."""
    at = 2000
    now_ns = story(1).events[at].time_ns
    events = list(story(1).events)
    start = event(now_ns - late_s * S, "call.started", "late", tenant="acme", trunk="sip-2")
    events.insert(at, start)

    run, usual = run_all(batches_of(events, 1, 100), REGISTER), in_order(1)

    pairs = list(zip(run.recorder.summaries, usual.recorder.summaries, strict=True))
    named = [one.index for one in run.recorder.instances if not one.limit.is_implicit]
    differ = [
        new.start_ns
        for new, old in pairs
        for row in named
        if row < len(new.limits.level) and new.limits.level[row] != old.limits.level[row]
    ]
    assert differ == []  # It counts in no limit: the trunk has none, and it was not answered.
    arrivals = [new.end_ns for new, old in pairs if new.windows.arrivals[0, 2] > old.windows.arrivals[0, 2]]
    assert min(arrivals) > now_ns - BOUND_NS
    assert [new.stream.amended for new, _ in pairs if new.stream.amended] == [1]
    assert run.observer.rows_amended == 1
    earlier = [change for change in usual.changes if change.time_ns <= now_ns - BOUND_NS]
    assert earlier == run.changes[: len(earlier)]


def test_a_late_start_changes_the_level_only_from_the_slice_that_is_open_then() -> None:
    at = 2000
    now_ns = story(1).events[at].time_ns
    events = list(story(1).events)
    events.insert(at, event(now_ns - 30 * S, "call.started", "late", tenant="acme", trunk="sip-1"))

    run, usual = run_all(batches_of(events, 1, 100), REGISTER), in_order(1)

    trunk = [
        (
            new.start_ns,
            int(new.limits.level[0] - old.limits.level[0]),
            int(new.limits.alive[0].sum() - old.limits.alive[0].sum()),
        )
        for new, old in zip(run.recorder.summaries, usual.recorder.summaries, strict=True)
    ]
    more = [start_ns for start_ns, level, _ in trunk if level]
    assert {level for _, level, _ in trunk} == {0, 1}
    assert min(more) + 5 * S > now_ns - BOUND_NS
    assert [level for _, level, _ in trunk] == [alive for _, _, alive in trunk]


def test_a_cut_replays_exactly_what_lies_in_the_span() -> None:
    """As if the rows outside had never been in the log; their numbers do not appear anywhere."""
    from_ns, to_ns = START_NS + 60 * S, START_NS + 200 * S
    inside = [one for one in story(1).events if from_ns <= one.time_ns < to_ns]
    run = Run(REGISTER)
    run.cut(from_ns, to_ns)
    for raw in batches_of(disordered(story(1).events, BOUND_NS, 4), 2, 150):
        run.step(raw)
    run.finish()

    expected = run_all(batches_of(inside, 2, 150), REGISTER)

    assert expected.lines() == run.lines()
    assert run.accounts() == expected.accounts()
    assert run.pipeline.decoder.rows_read == len(inside)


@cache
def recorded_batches(name: str) -> tuple[RawBatch, ...]:
    """Read a bundled recording."""

    async def read() -> list[RawBatch]:
        source = FileSource([str(config_path(f"demo/{name}.events.jsonl.zst"))])
        await source.start()
        batches = []
        while (raw := await source.read()) is not None:
            batches.append(raw)
        await source.close()
        return batches

    return tuple(asyncio.run(read()))


def recorded_events(name: str) -> list[Event]:
    """Give the events of a recording with their times and calls."""
    rows = [
        raw.data[start:end]
        for raw in recorded_batches(name)
        for start, end in zip(raw.row_start.tolist(), raw.row_end.tolist(), strict=True)
    ]
    calls = [row.partition(b'"call_id":')[2].partition(b",")[0].decode() for row in rows]
    return [Event(event_time_ns(row) or 0, call, row) for call, row in zip(calls, rows, strict=True)]


@cache
def demo() -> Configuration:
    """Load what the demo runs with."""
    return load_configuration(None, str(config_path("demo/limits.yaml")), None)


@cache
def replayed(name: str) -> tuple[int, tuple[bytes, ...]]:
    """Replay a recording as it lies there; give the time of its first event, and the changes as lines."""
    pipeline = build_line(demo(), REPLAY_HASH_KEY).pipeline
    steps = [pipeline.step(raw) for raw in recorded_batches(name)] + [pipeline.finish()]
    changes = [change for step in steps for change in step.changes]
    return pipeline.first_event_ns, tuple(map(alert_change_line, changes))


def seconds_to(name: str, alertname: str, severity: str, run: Run) -> list[float]:
    """Say when an alert fired, in seconds after the first event."""
    first_ns = replayed(name)[0]
    wanted = {("alertname", alertname), ("severity", severity)}
    return [(one.time_ns - first_ns) / S for one in run.changes if wanted <= set(one.labels)]


@pytest.mark.parametrize("rows_max", [7, 90, 4096])
def test_a_row_that_is_lost_is_not_the_first_event_however_the_log_is_read(rows_max: int) -> None:
    """What people count from would otherwise depend on how many rows the first batch has."""
    events = recorded_events("sip-go-live")[:500]
    first_ns = min(one.time_ns for one in events)
    stale = event(first_ns - 3600 * S, "call.started", "stale", tenant="acme", trunk="sip-2")
    pipeline = build_line(demo(), REPLAY_HASH_KEY).pipeline
    assert pipeline.first_event_ns == -1

    for raw in batches_of([*events[:100], stale, *events[100:]], 1, rows_max):
        pipeline.step(raw)

    assert pipeline.observer.losses[LossReason.LATE] == 1
    assert abs(pipeline.first_event_ns - first_ns) < 1000  # times are read to the microsecond


SPREADS = [(1, 4096, 0), (1, 333, 4), (3, 1000, 4), (4, 57, 4)]


@pytest.mark.parametrize(("partitions", "rows_max", "disorder_s"), SPREADS)
def test_a_go_live_is_paged_before_its_first_decline_however_it_is_read(
    partitions: int, rows_max: int, disorder_s: int
) -> None:
    """From a cold start: within 255 s, and the first decline comes at 539 s."""
    events = disordered(recorded_events("sip-go-live"), disorder_s * S + 1, partitions)

    run = run_all(batches_of(events, partitions, rows_max, rows_max), demo().register)

    assert list(replayed("sip-go-live")[1]) == run.lines()
    (page,) = seconds_to("sip-go-live", "CallLimitApproaching", "critical", run)
    (reached,) = seconds_to("sip-go-live", "CallLimitReached", "critical", run)
    assert 0 < page <= 255
    assert 539 <= reached <= 539 + 5 + 5


@pytest.mark.parametrize(("partitions", "rows_max", "disorder_s"), SPREADS)
def test_nothing_pages_on_steady_traffic_however_it_is_read(
    partitions: int, rows_max: int, disorder_s: int
) -> None:
    events = disordered(recorded_events("sip-steady"), disorder_s * S + 1, partitions)

    run = run_all(batches_of(events, partitions, rows_max, rows_max), demo().register)

    assert list(replayed("sip-steady")[1]) == run.lines()
    assert [change for change in run.changes if ("severity", "critical") in change.labels] == []


def test_nothing_at_all_is_a_stream_too() -> None:
    run = run_all([], REGISTER)

    assert run.changes == []
    assert run.recorder.summaries == []
    assert np.isnan(run.publisher.publish(-1).quantiles.p50_s).all()
