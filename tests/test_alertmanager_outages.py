"""An Alertmanager that is away: what waits for it, what is told when it comes back, and what no longer is."""

import asyncio

import pytest

from engine.judge.lifecycle import PENDING, RESOLVED, Alert
from engine.settings import AlertmanagerSettings
from tests.alert_sinks import NOW, S, an_alert, drained, running, until_failed, until_sent
from tests.alertmanager_double import AlertmanagerDouble


async def test_a_peer_that_does_not_answer_in_time_is_tried_again() -> None:
    """The failure is counted, nothing is dropped, and no resend is needed."""
    async with AlertmanagerDouble() as double:
        double.release.clear()
        wanted = AlertmanagerSettings(urls=(double.url,), timeout_ns=S // 20, retry_ns=S // 100)
        async with running(wanted) as sink:
            sink.update((an_alert(),), NOW)
            assert () == (await until_failed(sink, 2)).alerts_dropped_by_reason
            double.release.set()
            await until_sent(sink, 1)


@pytest.mark.parametrize("status", [302, 404, 429, 500, 503])
async def test_a_refused_batch_is_counted_and_tried_again(status: int) -> None:
    """Any answer but 2xx is a failure with its own reason."""
    async with AlertmanagerDouble() as double:
        double.status = status
        async with running(AlertmanagerSettings(urls=(double.url,), retry_ns=S // 100)) as sink:
            sink.update((an_alert(), an_alert(tenant="b")), NOW)
            peer = await until_failed(sink, 3)
            assert [f"http_{status}"] == [reason for reason, _ in peer.batches_failed_by_reason]
            assert ((), 2) == (peer.alerts_dropped_by_reason, peer.queue_alerts)
            double.status = 200
            await until_sent(sink, 2)


async def test_a_redirect_is_not_followed() -> None:
    """Alerts go where the settings say, and nowhere else."""
    async with AlertmanagerDouble() as double, AlertmanagerDouble() as elsewhere:
        double.status, double.location = 307, f"{elsewhere.url}/api/v2/alerts"
        async with running(AlertmanagerSettings(urls=(double.url,))) as sink:
            sink.update((an_alert(),), NOW)
            (peer,) = await drained(sink)
        assert ["http_307"] == [reason for reason, _ in peer.batches_failed_by_reason]
        assert 0 == elsewhere.requests


async def test_what_is_queued_meanwhile_makes_no_more_tries_of_a_peer_that_is_down() -> None:
    """Each change is tried at once, and then all of them together every `retry`."""
    async with AlertmanagerDouble() as double:
        double.status = 503
        async with running(AlertmanagerSettings(urls=(double.url,), retry_ns=S // 5)) as sink:
            for number in range(20):
                before = double.requests
                sink.update((an_alert(tenant=str(number)),), NOW + number * S)
                await double.until(before + 1)
            before, begun_s = double.requests, asyncio.get_running_loop().time()
            await asyncio.sleep(1.0)
            waited_s = asyncio.get_running_loop().time() - begun_s
            assert double.requests <= before + 2 + 5 * waited_s


async def test_a_peer_that_is_back_is_told_everything() -> None:
    """It may have been restarted, and then holds nothing of what it took before."""
    async with AlertmanagerDouble() as double:
        async with running(AlertmanagerSettings(urls=(double.url,), retry_ns=S // 100)) as sink:
            before, since = an_alert(), an_alert(tenant="b")
            sink.update((before,), NOW)
            await until_sent(sink, 1)
            double.status = 500
            sink.update((before, since), NOW + S)
            await until_failed(sink, 1)
            double.status = 200
            await until_sent(sink, 3)
        assert ["", "", "b"] == sorted(alert.labels.get("tenant", "") for alert in double.alerts)


async def test_a_peer_that_is_down_is_tried_once_more_at_shutdown() -> None:
    """Whoever waits for us to end does not wait for a dead Alertmanager; what it did not take is counted."""
    async with AlertmanagerDouble() as double:
        double.status = 500
        async with running(AlertmanagerSettings(urls=(double.url,))) as sink:
            sink.update((an_alert(),), NOW)
            await until_failed(sink, 1)
            (peer,) = await drained(sink, 600.0)
        assert 2 == double.requests
        assert (("shutdown", 1),) == peer.alerts_dropped_by_reason


async def test_what_a_stuck_engine_left_waiting_is_not_told_later() -> None:
    """Nobody renews it: an Alertmanager that comes back must not take it for the state of now."""
    async with AlertmanagerDouble() as double:
        double.status = 500
        wanted = AlertmanagerSettings(urls=(double.url,), resend_ns=S // 20, retry_ns=S // 100)
        async with running(wanted) as sink:
            sink.update((an_alert(),), NOW)
            await asyncio.sleep(0.2)  # Longer than two resends.
            double.status = 200
            (peer,) = await drained(sink)
        assert (("stale", 1),) == peer.alerts_dropped_by_reason
        assert [] == double.alerts


async def test_a_page_that_was_over_before_anybody_took_it_is_told_and_then_resolved() -> None:
    """It fires and ends while Alertmanager is down: first that it fired, its end four resends later."""
    async with AlertmanagerDouble() as double:
        double.status = 503
        wanted = AlertmanagerSettings(urls=(double.url,), resend_ns=30 * S, retry_ns=S // 100)
        clock = [NOW]
        async with running(wanted, lambda: clock[0]) as sink:
            over = an_alert(state=RESOLVED)
            sink.update((an_alert(),), NOW)
            await until_failed(sink, 1)
            sink.update((over,), NOW + S)
            clock[0] = NOW + 20 * S
            double.status = 200
            await until_sent(sink, 1)
            assert [NOW + 380 * S] == [alert.ends_ns for alert in double.alerts]
            for seconds in (21, 31, 61, 139):  # It was taken at 20 s.
                clock[0] = NOW + seconds * S
                sink.update((over,), clock[0])
                await asyncio.sleep(0.05)
            assert 1 == (await until_sent(sink, 1)).alerts_sent
            sink.update((over,), NOW + 141 * S)
            await until_sent(sink, 2)
        assert over.resolved_ns == double.alerts[-1].ends_ns


@pytest.mark.parametrize("meanwhile", [(an_alert(state=PENDING),), ()], ids=["pending", "gone"])
async def test_a_page_that_nobody_has_heard_is_told_though_its_condition_came_and_went_again(
    meanwhile: tuple[Alert, ...],
) -> None:
    """A life that is pending takes the place of the one that was resolved: the page is owed all the same."""
    async with AlertmanagerDouble() as double:
        double.status = 503
        clock = [NOW]
        wanted = AlertmanagerSettings(urls=(double.url,), resend_ns=30 * S, retry_ns=S // 100)
        async with running(wanted, lambda: clock[0], lambda: clock[0] / S) as sink:
            over = an_alert(state=RESOLVED)
            sink.update((an_alert(),), NOW)
            await until_failed(sink, 1)
            sink.update((over,), NOW + 20 * S)
            for seconds in range(40, 420, 20):
                clock[0] = NOW + seconds * S
                sink.update(meanwhile if seconds < 60 else (), clock[0])
                await asyncio.sleep(0.01)
            double.status = 200
            await until_sent(sink, 1)
            assert [clock[0] + 360 * S] == [alert.ends_ns for alert in double.alerts]
            clock[0] += 121 * S
            sink.update((), clock[0])
            await until_sent(sink, 2)
            clock[0] += 60 * S
            sink.update((), clock[0])
            (peer,) = await drained(sink)
        assert (2, ()) == (peer.alerts_sent, peer.alerts_dropped_by_reason)
        assert over.resolved_ns == double.alerts[-1].ends_ns


async def test_a_page_that_nobody_has_heard_for_long_is_given_up() -> None:
    """After `resolved_resend` it is history, and counted as dropped."""
    async with AlertmanagerDouble() as double:
        double.status = 503
        clock = [NOW]
        wanted = AlertmanagerSettings(urls=(double.url,), resolved_resend_ns=60 * S, retry_ns=S // 100)
        async with running(wanted, lambda: clock[0], lambda: clock[0] / S) as sink:
            sink.update((an_alert(),), NOW)
            sink.update((an_alert(state=RESOLVED),), NOW)
            for seconds in (20, 40, 60, 80, 120):  # It is queued for the last time at 40 s.
                clock[0] = NOW + seconds * S
                sink.update((), clock[0])
                await asyncio.sleep(0.01)
            double.status = 200
            (peer,) = await drained(sink)
        assert (("stale", 1),) == peer.alerts_dropped_by_reason
        assert [] == double.alerts


async def test_no_more_pages_are_owed_than_a_queue_can_hold() -> None:
    """Conditions that flicker under ever new labels while nobody listens take no memory without bound."""
    async with AlertmanagerDouble() as double:
        double.status = 503
        wanted = AlertmanagerSettings(urls=(double.url,), queue_alerts_max=2, batch_alerts_max=2)
        async with running(wanted) as sink:
            tenants = "abc"
            sink.update(tuple(an_alert(tenant=one) for one in tenants), NOW)
            sink.update(tuple(an_alert(state=RESOLVED, tenant=one) for one in tenants), NOW)
            assert 3 == len(sink._handed)
            sink.update((), NOW + S)
            sink.update((), NOW + 60 * S)
            assert 2 == len(sink._handed)


async def test_a_page_that_one_peer_took_is_resolved_with_the_other_at_once() -> None:
    """The other was down all the while: telling it that the page fires would page a second time."""
    async with AlertmanagerDouble() as up, AlertmanagerDouble() as down:
        down.status = 503
        async with running(AlertmanagerSettings(urls=(up.url, down.url), retry_ns=S // 100)) as sink:
            sink.update((an_alert(),), NOW)
            await up.until(1)
            await down.until(2)
            sink.update((an_alert(state=RESOLVED),), NOW + S)
            await up.until(2)
            down.status = 200
            await drained(sink)
        assert [NOW + 360 * S, NOW - 5 * S] == [alert.ends_ns for alert in up.alerts]
        assert [NOW - 5 * S] == [alert.ends_ns for alert in down.alerts]
