"""Observe, rule by rule: watermarks, lateness, idleness, healing, bounds, partitions."""

from __future__ import annotations

import numpy as np
import pytest

from engine.app import REPLAY_HASH_KEY, build_line, load_configuration
from engine.decode.events import Cause
from engine.errors import LossReason, SourceError
from engine.observe.observer import Observer
from engine.observe.summary import Count
from engine.observe.wire import from_bytes, to_bytes
from engine.settings import EngineSettings, Settings
from tests import oracle_observe as oracle
from tests.observe_driver import Causes, Driver, Series, Stages
from tests.observe_events import Event, S, T
from tests.observe_facts import facts_of

T0 = 1_800_000_000 * S
BUSY = Cause(declined=True, outcome="", platform="", code=503, reason="", limit="")


def started(at_s: float, call: int, partition: int = 0) -> Event:
    return Event(T0 + int(at_s * S), T.CALL_STARTED, call, partition=partition, series=("acme",))


def ended(at_s: float, call: int, partition: int = 0, duration_ms: float = float("nan")) -> Event:
    return Event(T0 + int(at_s * S), T.CALL_ENDED, call, partition=partition, series=("acme",),
                 duration_ms=duration_ms)  # fmt: skip


def declined(at_s: float, call: int, partition: int = 0) -> Event:
    return Event(T0 + int(at_s * S), T.CALL_DECLINED, call, partition=partition, series=("acme",), cause=BUSY)


def heartbeat(at_s: float, call: int) -> Event:
    return Event(T0 + int(at_s * S), T.CALL_HEARTBEAT, call, series=("acme",))


def listed(at_s: float, *calls: int, partition: int = 0, **labels: str) -> Event:
    return Event(T0 + int(at_s * S), T.CALLS_LISTED, partition=partition, series=("acme",), listed=calls,
                 labels=tuple(labels.items()))  # fmt: skip


def total(driver: Driver, column: Count) -> int:
    """Add up a column over the newest revisions."""
    return sum(amount for key, amount in facts_of(driver.summaries).items()
               if key[0] == "count" and key[3] == column.name)  # fmt: skip


def levels(driver: Driver) -> list[int]:
    """Give the level at the end of each slice that changed it."""
    facts, level, found = facts_of(driver.summaries), 0, []
    for start in sorted({int(str(key[1])) for key in facts}):
        level += sum(n for key, n in facts.items() if key[:2] == ("bin", start) and key[4] == "level")
        found.append(level)
    return found


def test_a_slice_closes_when_the_watermark_has_passed_its_end() -> None:
    """The newest time less the bound has to reach the end of the slice, and not before."""
    driver = Driver(is_live=True)
    driver.feed([started(1, 1), started(9.9, 2)])
    assert driver.summaries == []
    driver.feed([started(10, 3)])
    assert [one.start_ns for one in driver.summaries] == [T0]
    assert driver.observer.watermark_ns == T0 + 5 * S


def test_a_declined_attempt_is_an_arrival_and_nothing_else() -> None:
    """Started and declined in one slice: no level, no age, no end; it counts where it asked to be let in."""
    driver = Driver()
    driver.feed([started(1, 1), declined(2, 1)])
    driver.finish()
    (one,) = driver.summaries
    assert one.counts[0, [Count.STARTED, Count.DECLINED, Count.ADMITTED]].tolist() == [1, 1, 0]
    assert one.bin_arrivals.tolist() == [1]
    assert one.bin_declines.tolist() == [1]
    assert one.bin_level.tolist() == [0]
    assert len(one.end_count) == 0


def test_a_decline_in_a_later_slice_leaves_flight() -> None:
    """It was counted as admitted, so it has to leave, marked as never admitted."""
    driver = Driver()
    driver.feed([started(1, 1), declined(7, 1)])
    driver.finish()
    assert levels(driver) == [1, 0]
    assert driver.summaries[1].end_kind.tolist() == [1]
    assert driver.summaries[1].end_start_ns.tolist() == [T0]


def test_the_first_decline_of_a_series_and_cause_is_told_at_once() -> None:
    """Before its slice closes; once a slice."""
    driver = Driver()
    driver.feed([declined(1, 1), declined(2, 2)])
    driver.feed([declined(3, 3), declined(6, 4)])
    assert [(one.time_ns, one.slice_end_ns) for one in driver.declines] == [
        (T0 + 1 * S, T0 + 5 * S),
        (T0 + 6 * S, T0 + 10 * S),
    ]
    assert driver.declines[0].values == ("acme",)
    assert driver.declines[0].cause == BUSY


def test_a_decline_that_comes_in_disorder_is_told_if_it_is_earlier_than_the_one_that_was() -> None:
    driver = Driver()
    driver.feed([declined(3, 1), declined(4, 2)])
    driver.feed([declined(1, 3), declined(2, 4)])
    assert [one.time_ns for one in driver.declines] == [T0 + 3 * S, T0 + 1 * S]


def test_a_late_end_frees_capacity_in_the_oldest_open_slice() -> None:
    """The count goes to the slice of its time, in a new revision; the past level stays."""
    driver = Driver(is_live=True)
    driver.feed([started(1, 1), started(40, 2), ended(12, 1)])
    driver.finish()
    amended = [one for one in driver.summaries if one.start_ns == T0 + 10 * S]
    assert [one.counts[0, [Count.ENDED, Count.AMENDED]].tolist() for one in amended] == [[1, 1]]
    assert all(not one.bin_level.any() for one in amended)
    (freed,) = [one for one in driver.summaries if (one.bin_level < 0).any()]
    assert (freed.start_ns, freed.bin_index.tolist(), freed.end_start_ns.tolist()) == (T0 + 35 * S, [0], [T0])


def test_a_late_start_enters_with_its_true_age() -> None:
    """An amended arrival and ADMITTED in its slice; the level rises in the oldest open slice."""
    driver = Driver(is_live=True)
    driver.feed([started(1, 1), started(40, 2), started(2, 3), ended(44, 3)])
    driver.finish()
    revisions = [one for one in driver.summaries if one.start_ns == T0]
    assert [one.revision for one in revisions] == [0, 1]
    assert [int(one.counts[0, Count.ADMITTED]) for one in revisions] == [1, 2]
    assert revisions[1].bin_level.tolist() == [1, 0]
    last = driver.summaries[-1]
    assert (last.start_ns, last.end_start_ns.tolist()) == (T0 + 40 * S, [T0])


def test_an_end_that_is_too_late_is_lost_and_still_frees_capacity() -> None:
    """Counted as LATE; its call leaves flight as healed."""
    driver = Driver(is_live=True)
    driver.feed([started(1, 1), started(200, 2), ended(50, 1), started(51, 3)])
    driver.finish()
    assert driver.observer.losses[LossReason.LATE] == 2
    assert driver.observer.healed["late"] == 1
    assert driver.observer.calls_in_flight == 1


def test_an_end_without_a_start_counts_by_its_duration() -> None:
    """It never was in flight; the start slice follows from the duration."""
    driver = Driver()
    driver.feed([ended(21, 1, duration_ms=13_000), ended(22, 2)])
    driver.finish()
    (one,) = driver.summaries
    assert one.end_start_ns.tolist() == [-1, T0 + 5 * S]
    assert one.end_kind.tolist() == [3, 3]
    assert not one.bin_level.any()


def test_heartbeats_that_stop_end_a_call() -> None:
    """Three missed of the observed interval, found by the next sweep; one that never sent any stays."""
    driver = Driver()
    driver.feed([started(1, 1), started(1, 2), heartbeat(10, 1), heartbeat(20, 1), started(130, 3)])
    driver.finish()
    assert driver.observer.healed == {"heartbeat": 1, "ttl": 0, "listed": 0, "late": 0}
    assert driver.observer.calls_in_flight == 2


def test_a_call_without_an_end_is_given_up_after_its_time_to_live() -> None:
    """Also when a silence of hours has no slice of its own; the end that comes at last counts as one."""
    driver = Driver(EngineSettings(call_ttl_ns=100 * S))
    driver.feed([started(1, 1), started(7200, 2), ended(7201, 1)])
    driver.finish()
    healing = [one for one in driver.summaries if one.counts[:, Count.HEALED_TTL].any()]
    assert [one.start_ns for one in healing] == [T0 + 120 * S]
    assert driver.observer.calls_in_flight == 1
    assert total(driver, Count.ENDED) == 1


def test_the_time_to_live_can_differ_by_series() -> None:
    """A limit's max_duration is given by label values."""
    driver = Driver()
    driver.observer = Observer(EngineSettings(), driver.series, driver.causes, driver.stages,
                               lambda values: 60 * S if values == ("acme",) else 10**6 * S)  # fmt: skip
    driver.feed([started(1, 1), started(1, 2)._replace(series=("globex",)), started(300, 3)])
    driver.finish()
    assert driver.observer.healed["ttl"] == 1


@pytest.mark.parametrize("partitions", [1, 2])
def test_a_list_of_live_calls_heals_what_was_lost(partitions: int) -> None:
    """Not listed: taken out. Listed and unknown: in flight with unknown age. In every partition alike."""
    events = [started(1, 1), started(2, 2), started(1, 3)._replace(series=("globex",)), started(29, 4),
              listed(30, 2, 9, tenant="acme"), started(31, 5), started(100, 6)]  # fmt: skip
    events = [one._replace(partition=one.call % partitions) for one in events]
    expected, _ = oracle.observe(events)
    driver = Driver()
    driver.assigned = tuple(range(partitions))
    for one in events:
        driver.feed([one])
    driver.finish()
    assert facts_of(driver.summaries) == expected
    assert driver.observer.healed["listed"] == 1
    assert total(driver, Count.OPENED_UNKNOWN) == 1


def test_a_list_with_a_label_that_series_do_not_keep_heals_nothing() -> None:
    """Nothing can be said to match."""
    driver = Driver()
    driver.feed([started(1, 1), listed(30, region="lab"), started(100, 6)])
    driver.finish()
    assert driver.observer.calls_in_flight == 2


@pytest.mark.parametrize("word", ["__number__", "__address__", "__other__"])
def test_a_list_of_a_label_that_many_values_share_heals_nothing(word: str) -> None:
    """Calls of other tenants have the same word; what nobody knows is opened all the same."""
    driver = Driver()
    rows = [started(1, 1), started(2, 2), listed(30, 1, 9, tenant=word), started(100, 6)]
    driver.feed([one._replace(series=(word,)) for one in rows])
    driver.finish()
    assert driver.observer.healed["listed"] == 0
    assert driver.observer.calls_in_flight == 4


def test_offsets_below_the_next_expected_are_duplicates() -> None:
    """A redelivery after a rebuild changes nothing; gaps are fine."""
    driver = Driver()
    events = [started(1, 1), ended(2, 1)]
    driver.batch(events, np.array([5, 9]), -1)
    driver.batch(events, np.array([5, 9]), -1)
    driver.finish()
    assert driver.observer.losses[LossReason.DUPLICATE] == 2
    assert total(driver, Count.STARTED) == 1


def test_a_lagging_partition_holds_the_engine_back() -> None:
    """A partition that has sent nothing and is not at its log's end is waited for, however long."""
    driver = Driver()
    driver.assigned = (0, 1)
    driver.feed([started(100, 1)], received_ns=T0 + 101 * S)
    for at_s in range(102, 200, 7):
        driver.tick(T0 + at_s * S, caught_up=(0,))
    assert driver.observer.watermark_ns == -1
    driver.feed([started(50, 2, partition=1)], received_ns=T0 + 200 * S)
    assert driver.observer.watermark_ns == T0 + 45 * S


def test_a_partition_is_idle_after_it_was_caught_up_for_a_while() -> None:
    """Ten seconds of receipt time at the log's end; then the others decide."""
    driver = Driver()
    driver.assigned = (0, 1)
    driver.feed([started(1, 1)], received_ns=T0 + 1 * S, caught_up=(0, 1))
    driver.feed([started(2, 2, partition=1)], received_ns=T0 + 2 * S, caught_up=(0, 1))
    driver.feed([started(9, 3, partition=1)], received_ns=T0 + 10 * S,
                caught_up=(0, 1))  # fmt: skip
    assert driver.observer.watermark_ns == T0 - 4 * S
    driver.feed([started(11, 4, partition=1)], received_ns=T0 + 11 * S, caught_up=(0, 1))
    assert driver.observer.watermark_ns == T0 + 6 * S
    assert [(one.partition, one.start_ns) for one in driver.summaries] == [(0, T0), (1, T0)]


def test_when_every_partition_is_idle_receipt_time_closes() -> None:
    """The last slices of a quiet topic close, and the watermark never goes back."""
    driver = Driver()
    driver.feed([started(1, 1)], received_ns=T0 + 1 * S, caught_up=(0,))
    driver.tick(T0 + 10 * S, (0,))
    assert driver.summaries == []
    driver.tick(T0 + 20 * S, (0,))
    assert driver.observer.watermark_ns == T0 + 5 * S
    assert [one.start_ns for one in driver.summaries] == [T0]
    driver.feed([started(20.5, 2)], received_ns=T0 + 21 * S)
    assert driver.observer.watermark_ns == T0 + int(15.5 * S)


def test_a_partition_that_is_read_elsewhere_is_dropped_with_its_state() -> None:
    """Its held rows are a loss with a reason; when it comes back it starts anew."""
    driver = Driver()
    driver.assigned = (0, 1)
    driver.feed([started(1, 1)])
    driver.feed([started(1, 2, partition=1)])
    driver.assigned = (0,)
    driver.feed([started(20, 3)])
    assert driver.observer.losses[LossReason.REVOKED] == 1
    driver.finish()
    assert driver.observer.calls_in_flight == 2
    assert set(driver.observer.partition_watermarks) == {0}


@pytest.mark.parametrize("start_first", [True, False])
def test_a_topic_that_is_not_keyed_by_call_is_noticed(start_first: bool) -> None:
    """An end whose start lies in another partition, whichever of them is read first."""
    driver = Driver()
    driver.assigned = (0, 1)
    halves = [[started(1, 7), started(30, 8)], [ended(9, 7, partition=1), started(30, 9, partition=1)]]
    for half in halves if start_first else halves[::-1]:
        driver.feed(half)
    driver.finish()
    assert driver.observer.unkeyed_calls == 1


def test_held_rows_are_bounded() -> None:
    """Rows beyond the bound are lost with a reason, and move the watermark, so that room is made again."""
    driver = Driver(EngineSettings(held_rows_max=10))
    driver.feed([started(1 + n / 100, n + 1) for n in range(30)])
    assert driver.observer.rows_held == 10
    assert driver.observer.losses[LossReason.HELD_ROWS_FULL] == 20
    driver.feed([started(20, 99)])
    driver.feed([started(21, 100)])
    assert driver.observer.rows_held == 1
    driver.finish()


def test_the_table_of_calls_is_bounded() -> None:
    """Calls beyond the bound are not tracked and counted as lost; ends of others still work."""
    driver = Driver(EngineSettings(calls_max=5))
    driver.feed([started(n / 10, n + 1) for n in range(9)])
    driver.feed([ended(2, 1), started(3, 20)])
    driver.finish()
    assert driver.observer.losses[LossReason.CALLS_FULL] == 5
    assert driver.observer.calls_in_flight == 4


def test_notes_are_bounded_by_slice() -> None:
    """The rest of a slice's notes are refused with a reason."""
    driver = Driver(EngineSettings(notes_max=2))
    driver.feed([Event(T0 + n * S, T.CHANGE_MADE, event_id=n + 1) for n in range(4)])
    driver.finish()
    assert driver.observer.losses[LossReason.HELD_ROWS_FULL] == 2
    assert [len(one.notes) for one in driver.summaries] == [2]


def test_a_note_comes_once() -> None:
    """Redelivered with its id it is a duplicate, also in a later slice."""
    driver = Driver()
    note = Event(T0, T.LOAD_PLANNED, event_id=5)
    driver.feed([note, note, note._replace(time_ns=T0 + 6 * S)])
    driver.finish()
    assert [len(one.notes) for one in driver.summaries] == [1]
    assert driver.observer.losses[LossReason.DUPLICATE] == 2


def test_lateness_by_platform_needs_the_label() -> None:
    """It is never ignored; the line keeps the label."""
    with pytest.raises(AssertionError, match="platform"):
        Observer(EngineSettings(late_by_platform_ns={"x": 1}), Series(), Causes(), Stages())


def test_the_line_keeps_the_platform_where_lateness_differs_by_it() -> None:
    """Nobody has to name the label among those of the series."""
    engine = EngineSettings(late_by_platform_ns={"twilio": 1800 * S})
    configuration = load_configuration(None, None, None)._replace(settings=Settings(engine=engine))
    line = build_line(configuration, REPLAY_HASH_KEY)
    assert "platform" in line.pipeline.decoder.series.labels


def test_lateness_can_differ_by_platform() -> None:
    """Summaries of one platform may come half an hour late and still amend."""
    driver = Driver(is_live=True)
    driver.series.labels = ("platform",)
    allowance = EngineSettings(late_by_platform_ns={"slow": 1800 * S})
    driver.observer = Observer(allowance, driver.series, driver.causes, driver.stages)
    driver.feed([started(200 * n, n + 1) for n in range(6)])
    driver.feed([ended(20, 8)._replace(series=("slow",)), ended(20, 9)])
    driver.finish()
    assert driver.observer.rows_amended == 1
    assert driver.observer.losses[LossReason.LATE] == 1


@pytest.mark.parametrize("damage", [b"", b"no summary", b"cgss\x07", b"cgss\x01garbage"])
def test_bytes_that_are_no_summary_are_refused(damage: bytes) -> None:
    """With a message, not with a wrong summary."""
    with pytest.raises(SourceError):
        from_bytes(damage)


def test_a_summary_with_a_wrong_row_number_is_refused() -> None:
    """Every number that points somewhere is checked."""
    driver = Driver()
    driver.feed([started(1, 1)])
    (one,) = driver.finish()
    with pytest.raises(SourceError, match="bin_series"):
        from_bytes(to_bytes(one._replace(bin_series=one.bin_series + 1)))
