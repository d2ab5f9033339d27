"""What Alertmanager is told and when: nothing of the past, declines early, nothing by who owns nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.app import Configuration
from engine.commands.checkpoints import Resumed
from engine.commands.duty import Duty
from engine.deliver.handover import BEHIND_NS_MAX, CATCH_UP_NS_MAX, EARLY_ALERTS_MAX, PRESENT_NS, Handover
from engine.deliver.postings import OWED
from engine.judge.lifecycle import FIRING, RESOLVED, Alert, AlertChange
from engine.judge.snapshot import Snapshot
from engine.settings import KafkaSettings, Settings
from engine.source.contract import RawBatch, tick
from tests.line_runs import shipped_rules
from tests.line_traffic import REGISTER
from tests.snapshots import a_snapshot, an_alert

S = 1_000_000_000
NOW_NS = 1_800_000_000 * S
HOUR_NS = 3600 * S
ALL = (0, 1)


def received(ns: int, caught_up: tuple[int, ...] = (), assigned: tuple[int, ...] = ALL) -> RawBatch:
    """Give a tick."""
    return tick("calls", ns, assigned, caught_up)


def picture(behind_ns: int, *alerts: Alert, now_ns: int = NOW_NS) -> Snapshot:
    """Give a snapshot whose watermark is so far behind."""
    return a_snapshot(watermark_ns=now_ns - behind_ns, alerts=alerts)


def reached(limit: str = "sip-trunk", fired_ns: int = NOW_NS) -> Alert:
    """Give an alert that fires before its slice is closed."""
    labels = (("alertname", "CallLimitReached"), ("limit", limit), ("severity", "critical"))
    return Alert(labels, (("summary", "declined"),), FIRING, fired_ns, fired_ns, fired_ns, -1)


def caught_up() -> Handover:
    """Give a handover of a member that has read its partitions to their end once."""
    handover = Handover()
    assert handover.alerts(received(NOW_NS, ALL), picture(0), ()) is not None
    return handover


def test_nothing_is_handed_over_while_old_events_are_read_again() -> None:
    """Alerts of that time have fired and gone; declines of that time too."""
    handover = Handover()
    old = picture(HOUR_NS, an_alert())
    assert handover.alerts(received(NOW_NS), old, (reached(),)) is None
    assert handover.alerts(received(NOW_NS + S, caught_up=(0,)), old, ()) is None
    assert handover.is_catching_up


def test_the_end_of_every_partition_ends_the_catching_up_for_good() -> None:
    """Later lag is lag, and no reason to keep pages back."""
    handover, old = Handover(), picture(HOUR_NS, an_alert())
    assert old.alerts == handover.alerts(received(NOW_NS, caught_up=ALL), old, ())
    assert old.alerts == handover.alerts(received(NOW_NS + S), old, ())


def test_a_watermark_close_to_the_present_ends_it_too() -> None:
    """A busy topic is never read to its end. Of a clock that was set back since nothing follows."""
    for behind_ns, is_handed in ((BEHIND_NS_MAX, False), (BEHIND_NS_MAX - 1, True), (-1, False)):
        near = picture(behind_ns, an_alert())
        assert is_handed == (Handover().alerts(received(NOW_NS), near, ()) is not None)


def test_late_pages_are_better_than_none() -> None:
    """After two minutes of catching up, what fires is handed over whatever the lag."""
    handover, old = Handover(), picture(HOUR_NS, an_alert())
    assert handover.alerts(received(NOW_NS), old, ()) is None
    assert handover.alerts(received(NOW_NS + CATCH_UP_NS_MAX - 1), old, ()) is None
    assert old.alerts == handover.alerts(received(NOW_NS + CATCH_UP_NS_MAX), old, ())


def test_a_member_that_owns_nothing_hands_nothing_over_and_starts_anew_when_it_does() -> None:
    """Its alerts are those of the new owner; when the partitions come back, old events come with them."""
    handover, old = caught_up(), picture(HOUR_NS, an_alert())
    assert handover.alerts(received(NOW_NS + S, assigned=()), old, ()) is None
    assert handover.is_catching_up
    assert handover.alerts(received(NOW_NS + HOUR_NS), old, ()) is None
    assert handover.alerts(received(NOW_NS + HOUR_NS + CATCH_UP_NS_MAX), old, ()) is not None


def test_a_decline_is_told_before_its_slice_is_closed_and_until_the_slice_has_it() -> None:
    """It stays in every handover in between, and gives way to the alert of the closed slice."""
    handover, early = caught_up(), reached(fired_ns=NOW_NS + 5 * S)
    before = picture(0, an_alert())
    assert (an_alert(), early) == handover.alerts(received(NOW_NS + S), before, (early,))
    assert (an_alert(), early) == handover.alerts(received(NOW_NS + 2 * S), before, ())
    closed = picture(0, an_alert(), reached(fired_ns=NOW_NS + 5 * S), now_ns=NOW_NS + 5 * S)
    assert closed.alerts == handover.alerts(received(NOW_NS + 6 * S), closed, ())
    assert closed.alerts == handover.alerts(received(NOW_NS + 7 * S), closed, ())


def test_a_decline_that_was_told_early_is_forgotten_with_the_partitions() -> None:
    """They are read again from a checkpoint: if it is still there, it comes again."""
    handover, early = caught_up(), reached(fired_ns=NOW_NS + 5 * S)
    assert (early,) == handover.alerts(received(NOW_NS + S), picture(0), (early,))
    assert handover.alerts(received(NOW_NS + S, assigned=()), picture(0), ()) is None
    assert () == handover.alerts(received(NOW_NS + 2 * S, ALL), picture(0), ())


def test_a_decline_that_the_closed_slice_did_not_confirm_is_let_go() -> None:
    """When its slice is closed without the alert, as for a late row, it is not kept alive."""
    handover, early = caught_up(), reached(fired_ns=NOW_NS + 5 * S)
    handover.alerts(received(NOW_NS + S), picture(0), (early,))
    assert () == handover.alerts(received(NOW_NS + 6 * S), picture(0, now_ns=NOW_NS + 5 * S), ())


def test_a_resolved_alert_gives_way_to_the_decline_that_comes_again() -> None:
    """One identity is handed over once, in its newest state."""
    handover, early = caught_up(), reached(fired_ns=NOW_NS + 5 * S)
    resolved = reached(fired_ns=NOW_NS - HOUR_NS)._replace(state="resolved", resolved_ns=NOW_NS - S)
    assert (early,) == handover.alerts(received(NOW_NS + S), picture(0, resolved), (early,))


def test_declines_of_the_past_do_not_come_back() -> None:
    """An early alert whose slice is closed already is not handed over."""
    handover = caught_up()
    assert () == handover.alerts(received(NOW_NS + S), picture(0), (reached(fired_ns=NOW_NS),))


def test_early_alerts_are_bounded() -> None:
    """A flood of declines on many limits costs no memory; their slices bring them a few seconds later."""
    handover = caught_up()
    flood = tuple(reached(f"limit-{n}", NOW_NS + 5 * S) for n in range(EARLY_ALERTS_MAX + 5))
    handed = handover.alerts(received(NOW_NS + S), picture(0), flood)
    assert flood[:EARLY_ALERTS_MAX] == handed


def test_pages_of_the_past_are_not_sent_even_then() -> None:
    """Who catches up for long is told of the present alone."""
    handover = Handover()
    past = an_alert()._replace(found_ns=NOW_NS - PRESENT_NS)
    handover.alerts(received(NOW_NS), picture(HOUR_NS, past), ())
    assert () == handover.alerts(received(NOW_NS + CATCH_UP_NS_MAX), picture(HOUR_NS, past), ())


def test_what_a_checkpoint_says_is_firing_is_sent_on_while_the_past_is_read() -> None:
    """As it was: it does not run out, what has happened meanwhile does not resolve it, nothing else fires."""
    handover, firing = Handover(), an_alert()
    handover.restore((firing,))
    ended = firing._replace(state="resolved", resolved_ns=NOW_NS - HOUR_NS)
    assert (firing,) == handover.alerts(received(NOW_NS), picture(HOUR_NS, reached()), ())
    assert (firing,) == handover.alerts(
        received(NOW_NS + S), picture(HOUR_NS, ended, reached()), (reached(),)
    )
    caught = picture(0, ended, reached())
    assert caught.alerts == handover.alerts(received(NOW_NS + 2 * S, ALL), caught, ())


def test_what_was_restored_is_sent_before_it_runs_out_and_not_at_once() -> None:
    """It may have been resolved since, and that was told: to send it again would page again."""
    handover, firing = Handover(), an_alert()
    handover.restore((firing,), NOW_NS + 2 * S)
    assert handover.alerts(received(NOW_NS), picture(HOUR_NS), ()) is None
    assert (firing,) == handover.alerts(received(NOW_NS + 2 * S), picture(HOUR_NS), ())
    ended = picture(0, firing._replace(state="resolved", resolved_ns=NOW_NS))
    assert ended.alerts == handover.alerts(received(NOW_NS + 3 * S, ALL), ended, ())


def test_when_alerts_were_last_told_is_known_and_catching_up_is_no_telling() -> None:
    """A checkpoint that is cut meanwhile must not say that its alerts were just sent."""
    handover = Handover()
    handover.restore((an_alert(),), NOW_NS + 2 * S, told_ns=NOW_NS - HOUR_NS)
    handover.alerts(received(NOW_NS), picture(HOUR_NS), ())
    assert handover.told_ns == NOW_NS - HOUR_NS
    handover.alerts(received(NOW_NS + 2 * S), picture(HOUR_NS), ())
    assert handover.told_ns == NOW_NS + 2 * S
    handover.alerts(received(NOW_NS + 3 * S, assigned=()), picture(HOUR_NS), ())
    assert handover.told_ns == NOW_NS + 2 * S


def test_what_an_old_checkpoint_says_is_firing_waits_a_little_for_what_was_missed() -> None:
    """It may have been resolved since, and that was told; who cannot catch up in time sends it again."""
    firing, ended = an_alert(), an_alert()._replace(state="resolved", resolved_ns=NOW_NS - HOUR_NS)
    for is_caught_up in (True, False):
        handover = Handover()
        handover.restore((firing,), NOW_NS - S, 15 * S)
        assert handover.alerts(received(NOW_NS - S, assigned=()), picture(HOUR_NS), ()) is None
        assert handover.alerts(received(NOW_NS), picture(HOUR_NS), ()) is None
        assert handover.alerts(received(NOW_NS + 15 * S - 1), picture(HOUR_NS), ()) is None
        at_end = ALL if is_caught_up else ()
        handed = handover.alerts(received(NOW_NS + 15 * S, at_end), picture(HOUR_NS, ended), ())
        assert handed == ((ended,) if is_caught_up else (firing,))


@pytest.mark.parametrize(("age_s", "told_after_s"), [(240, 60), (298, 15), (310, 15), (370, 15), (3600, 15)])
def test_whatever_the_age_of_a_checkpoint_a_start_has_a_moment_to_read_what_was_missed(
    age_s: int, told_after_s: int
) -> None:
    """Then it sends again what may run out: five minutes and a start of 15 s after it was sent last."""
    configuration = Configuration(
        Settings(kafka=KafkaSettings(topic="calls")), REGISTER, shipped_rules(), Path("limits.yaml")
    )
    duty, firing = Duty(configuration), (an_alert(),)
    duty.begin(configuration, bytes(16))
    # It was written later, while catching up: that says nothing of when its alerts were sent.
    duty.take_over(Resumed(firing=firing, written_ns=NOW_NS - S, told_ns=NOW_NS - age_s * S))
    assert duty.checkpoints.told_ns == NOW_NS - age_s * S
    for after_ns, told in ((0, None), (told_after_s * S - 1, None), (told_after_s * S, firing)):
        raw = received(NOW_NS + after_ns)
        assert duty.alerts(raw, *duty.step(raw)) == told


def test_what_was_restored_is_sent_on_even_when_catching_up_takes_too_long() -> None:
    """Late pages of the present come beside it; that it is over is said when it is known."""
    handover, firing = Handover(), an_alert()
    handover.restore((firing,))
    page = reached()._replace(found_ns=NOW_NS + CATCH_UP_NS_MAX - S)
    ended = firing._replace(state="resolved", found_ns=NOW_NS + CATCH_UP_NS_MAX - S)
    handover.alerts(received(NOW_NS), picture(HOUR_NS), ())
    handed = handover.alerts(received(NOW_NS + CATCH_UP_NS_MAX), picture(HOUR_NS, ended, page), ())
    assert handed == (page, firing)


def test_what_was_restored_belongs_to_the_next_assignment_alone() -> None:
    """A tick from before it does not take it away, and a loss after it does."""
    handover, firing = Handover(), an_alert()
    handover.restore((firing,))
    assert handover.alerts(received(NOW_NS, assigned=()), picture(HOUR_NS), ()) is None
    assert (firing,) == handover.alerts(received(NOW_NS + S), picture(HOUR_NS), ())
    assert handover.alerts(received(NOW_NS + 2 * S, assigned=()), picture(HOUR_NS), ()) is None
    assert handover.alerts(received(NOW_NS + 3 * S), picture(HOUR_NS), ()) is None


def test_what_fires_and_ends_within_one_step_is_owed_its_page_but_not_of_a_time_that_is_caught_up_with() -> (
    None
):
    """A stall of minutes is read in one batch; an Alertmanager that is told of the end alone pages nobody."""
    fired = reached()
    ended = fired._replace(state=RESOLVED, resolved_ns=NOW_NS + S)
    changes = tuple(
        AlertChange(NOW_NS, one.state, one.labels, one.annotations, one.fired_ns) for one in (fired, ended)
    )
    told = caught_up().alerts(received(NOW_NS + S, ALL), picture(0, ended), (), changes)
    behind = Handover().alerts(received(NOW_NS + S, ALL), picture(0, ended), (), changes)
    later = caught_up().alerts(received(NOW_NS + S, ALL), picture(0, ended), (), changes[1:])

    assert [[one.state for one in alerts or ()] for alerts in (told, behind, later)] == [
        [OWED], [RESOLVED], [RESOLVED],
    ]  # fmt: skip
