"""Alerts to every Alertmanager, by its API v2.

Each Alertmanager has a queue and a send loop of its own, so a dead one delays no other. A queue holds one
entry per alert and the newest state wins, so an outage does not make it grow. What fails waits and is tried
again (`retry`), as long as `update` renews it: an engine that no longer steps lets its alerts, and above all
its watchdog, run out after `ends_after`. An alert that was resolved before any Alertmanager took it as firing
is sent as firing first: somebody promised a page. It stays owed for `resolved_resend`, whatever becomes of it
meanwhile. Who owes what is in memory alone: after a restart nobody knows whether a page was told.

Rejected: one queue for all peers (the slowest sets the pace); a timer of the sink's own (it would keep the
watchdog of a stuck engine alive); resolving on shutdown (the next process would have to page again).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from typing import TYPE_CHECKING, NamedTuple

import aiohttp

from engine.deliver.access import Access, is_about_tls, read_access
from engine.deliver.fingerprint import Labels, fingerprint, full_labels
from engine.deliver.peer import Peer, PeerStats
from engine.deliver.postings import OWED, Posting, encode_batch
from engine.judge.lifecycle import FIRING, RESOLVED, Alert

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.settings import AlertmanagerSettings

ANSWER_BYTES_MAX = 2048  # of an answer's text that is read, for the log
OK_FROM, OK_BEFORE, BAD_REQUEST, UNAUTHORIZED, TOO_LARGE = 200, 300, 400, 401, 413
RENEWALS_MISSED_MAX = 2  # an entry that was not renewed for so long is what a stuck engine left behind
OWED_RESENDS = 4  # so much later its end is told: longer than Alertmanager gathers what it says of a group

log = logging.getLogger(__name__)


class Taken(NamedTuple):
    """When an Alertmanager, whichever, last took an alert as firing (wall clock), and of which life."""

    fired_ns: int
    taken_ns: int


class Handed(NamedTuple):
    """What was last handed over of one alert; times are wall clock."""

    state: str  # firing | resolved | owed
    alert: Alert  # as it was queued last
    since_ns: int  # first handed over in this state
    queued_ns: int


class AlertmanagerSink:
    """Sends the current alerts to every Alertmanager of the settings; with none configured it does nothing.

    All methods belong to the event loop's thread. `clock_ns` is the wall clock, `waited_s` one that never
    jumps.
    """

    def __init__(
        self,
        settings: AlertmanagerSettings,
        external_url: str,
        clock_ns: Callable[[], int] = time.time_ns,
        waited_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._external_url = external_url.rstrip("/")
        self._clock_ns, self._waited_s = clock_ns, waited_s
        self._peers = tuple(Peer(url, settings) for url in dict.fromkeys(settings.urls))
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self._access: Access | None = None
        self._alerts: tuple[Alert, ...] = ()
        self._handed: dict[Labels, Handed] = {}
        self._taken: dict[Labels, Taken] = {}
        self._postings: dict[Labels, tuple[str, Labels]] = {}
        self._due_ns = 0
        self._handed_at_ns = 0

    async def start(self) -> None:
        """Read the secrets and start a send loop per peer; raises DeliveryError for a file that is no use."""
        if not self._peers:
            return
        self._access = await asyncio.to_thread(read_access, self._settings)
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_ns / 1e9)
        self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        self._tasks = [
            asyncio.create_task(self._send_loop(peer), name=f"alertmanager {peer.name}")
            for peer in self._peers
        ]

    def update(self, alerts: tuple[Alert, ...], now_ns: int) -> None:
        """Hand over the alerts as they stand at wall clock `now_ns`: changes go at once, others when due.

        Never blocks. Pending alerts are not sent. An alert that is no longer handed over is forgotten, not
        resolved, but for one that is owed: it is told, and then its end.
        """
        is_clock_back = now_ns < self._handed_at_ns
        if alerts is self._alerts and now_ns < self._due_ns and not is_clock_back:
            return
        self._alerts, self._handed_at_ns = alerts, now_ns
        handed: dict[Labels, Handed] = {}
        for alert in alerts:
            if alert.state in {FIRING, RESOLVED, OWED}:
                handed[alert.labels] = self._hand_over(alert, now_ns)
        for labels, before in self._handed.items():
            if labels not in handed and self._is_kept(before, now_ns):
                # What a queue cannot hold is not renewed: there it is dropped as stale, and counted.
                if len(handed) >= self._settings.queue_alerts_max:
                    break
                handed[labels] = self._hand_over(before.alert, now_ns)
        self._handed = handed
        self._postings = {labels: made for labels, made in self._postings.items() if labels in handed}
        self._taken = {labels: taken for labels, taken in self._taken.items() if labels in handed}
        oldest_ns = min((entry.queued_ns for entry in handed.values()), default=now_ns)
        self._due_ns = oldest_ns + self._settings.resend_ns

    def _hand_over(self, alert: Alert, now_ns: int) -> Handed:
        before = self._handed.get(alert.labels)
        if alert.state == OWED:
            # Its end is told next, as ever. Without anybody to be told it is as good as told.
            alert = alert._replace(state=RESOLVED)
            state = OWED if self._peers and not self._is_taken(alert) else RESOLVED
        else:
            state = OWED if self._is_owed(alert, before, now_ns) else alert.state
        if before is None or (before.state, before.alert.fired_ns) != (state, alert.fired_ns):
            self._queue(alert, state)
            return Handed(state, alert, now_ns, now_ns)
        # A wall clock that was set back must not hold resends up until it has caught up.
        if 0 <= now_ns - before.queued_ns < self._settings.resend_ns:
            return before
        handed = Handed(state, alert, min(before.since_ns, now_ns), now_ns)
        if not self._is_told(alert, handed, now_ns):
            self._queue(alert, state)
        return handed

    def _is_owed(self, alert: Alert, before: Handed | None, now_ns: int) -> bool:
        """Say whether a resolved alert must be told as firing first, and stay so for a while."""
        if alert.state != RESOLVED or before is None or not self._peers:
            return False
        if before.alert.fired_ns != alert.fired_ns:
            return False
        if not self._is_taken(alert):
            return before.state != RESOLVED
        taken_ns = self._taken[alert.labels].taken_ns
        return before.state == OWED and 0 <= now_ns - taken_ns < OWED_RESENDS * self._settings.resend_ns

    def _is_kept(self, before: Handed, now_ns: int) -> bool:
        """Say whether an alert that is no longer handed over is owed still, or its end."""
        if before.state != OWED:
            return False
        return self._is_taken(before.alert) or now_ns - before.since_ns < self._settings.resolved_resend_ns

    def _is_taken(self, alert: Alert) -> bool:
        """Say whether an Alertmanager has taken this life of an alert as firing."""
        taken = self._taken.get(alert.labels)
        return taken is not None and taken.fired_ns == alert.fired_ns

    def _tell_all(self, peer: Peer, but: set[Labels]) -> None:
        """Queue all others for a peer that is back: an Alertmanager that was restarted knows no alerts."""
        for labels, handed in self._handed.items():
            if labels not in but and not self._is_told(handed.alert, handed, self._handed_at_ns):
                peer.put(self._posting(handed.alert, handed.state))

    def _is_told(self, alert: Alert, handed: Handed, now_ns: int) -> bool:
        """Say whether an alert need not be sent again: nobody asks for it, or its end is told in a while."""
        if handed.state == OWED:
            return self._is_taken(alert)
        return handed.state == RESOLVED and now_ns - handed.since_ns >= self._settings.resolved_resend_ns

    def _queue(self, alert: Alert, state: str) -> None:
        for peer in self._peers:
            peer.put(self._posting(alert, state))

    def _posting(self, alert: Alert, state: str) -> Posting:
        made = self._postings.get(alert.labels)
        if made is None:
            sent = full_labels(alert.labels, self._settings.external_labels)
            made = self._postings[alert.labels] = (fingerprint(sent), sent)
        said = alert._replace(state=FIRING, resolved_ns=-1) if state == OWED else alert
        return Posting(*made, said, self._waited_s())

    async def drain(self, deadline_s: float) -> None:
        """Send what is queued until the event loop's clock shows `deadline_s`; count the rest, and end.

        A peer that is down is tried once more, not until the deadline.
        Nothing is resolved: alerts run out by `endsAt`, or the next process goes on with them.
        """
        loop = asyncio.get_running_loop()
        for peer in self._peers:
            peer.hurry()
        pending = [asyncio.create_task(peer.idle.wait()) for peer in self._peers if self._tasks]
        if pending:
            _, late = await asyncio.wait(pending, timeout=max(0.0, deadline_s - loop.time()))
            for waiter in late:
                waiter.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *pending, return_exceptions=True)
        self._tasks = []
        for peer in self._peers:
            peer.drop("shutdown", len(peer.queue.take(peer.queue.alerts_max)) + peer.in_flight)
            peer.in_flight = 0
            peer.wake_in(0.0)  # Nothing waits any more: no timer is left behind.
        if self._session is not None:
            await self._session.close()
            self._session = None

    def stats(self) -> tuple[PeerStats, ...]:
        """Give the counters of every peer."""
        return tuple(peer.stats() for peer in self._peers)

    async def _send_loop(self, peer: Peer) -> None:
        """Send what is queued; what fails is tried again with the next put, or `retry` after it was tried."""
        loop = asyncio.get_running_loop()
        while True:
            await peer.wake.wait()
            peer.wake.clear()
            begun_s = loop.time()
            while batch := peer.queue.take(peer.batch_alerts_max):
                begun_s = loop.time()
                if not await self._send(peer, batch):
                    break
            if not peer.wake.is_set():
                peer.idle.set()
            peer.wake_in(max(begun_s + self._settings.retry_ns / 1e9 - loop.time(), 0.0))

    async def _send(self, peer: Peer, batch: list[Posting]) -> bool:
        """Send a batch; say whether the next one may follow at once."""
        begun_s = self._waited_s()
        patience_s = RENEWALS_MISSED_MAX * self._settings.resend_ns / 1e9
        fresh = [one for one in batch if begun_s - one.queued_s <= patience_s]
        peer.drop("stale", len(batch) - len(fresh))
        if not fresh:
            return True
        peer.in_flight = len(fresh)
        has_arrived = False
        try:
            body = encode_batch(fresh, self._external_url, self._clock_ns(), self._settings.ends_after_ns)
            has_arrived = await self._post(peer, body, len(fresh))
        except TimeoutError:
            peer.fail("timeout", "", len(fresh))
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            peer.fail("connection", str(error), len(fresh))
            if is_about_tls(error):
                await self._renew_access()
        except Exception as error:
            # Whatever it is, it must cost one batch and not the send loop.
            log.exception("Alertmanager %s: sending failed in an unforeseen way", peer.name)
            peer.fail("internal", type(error).__name__, len(fresh))
        peer.in_flight = 0
        peer.batches += 1
        peer.latency_s += self._waited_s() - begun_s
        if not has_arrived:
            peer.try_again(fresh)
            return len(fresh) > peer.batch_alerts_max  # It was too large, and goes in parts.
        for one in fresh:
            if one.alert.state == FIRING:
                self._taken[one.alert.labels] = Taken(one.alert.fired_ns, self._clock_ns())
        if peer.is_down:
            peer.is_down = False
            self._tell_all(peer, {one.alert.labels for one in fresh})
        return True

    async def _post(self, peer: Peer, body: bytes, alerts: int) -> bool:
        """Post a batch; say whether there is nothing left to send of it."""
        assert self._session is not None, "start() comes first"
        assert self._access is not None, "start() comes first"
        async with self._session.post(
            peer.post_url, data=body, headers=self._access.headers, ssl=self._access.tls,
            allow_redirects=False,
        ) as answer:  # fmt: skip
            if OK_FROM <= answer.status < OK_BEFORE:
                peer.succeed(alerts, self._clock_ns() / 1e9)
                return True
            text = (await answer.content.read(ANSWER_BYTES_MAX)).decode("utf-8", "replace").strip()
            peer.fail(f"http_{answer.status}", text, alerts)
            if answer.status == UNAUTHORIZED:
                await self._renew_access()
            if answer.status == TOO_LARGE and alerts > 1:
                peer.batch_alerts_max = alerts // 2
                return False
            if answer.status in {BAD_REQUEST, TOO_LARGE}:
                # At least one alert was refused, and would be again; Alertmanager has taken the others.
                peer.drop(f"http_{answer.status}", alerts)
                return True
            return False

    async def _renew_access(self) -> None:
        """Read password and certificates again: they may have been rotated. Never raises."""
        try:
            self._access = await asyncio.to_thread(read_access, self._settings)
        except Exception as error:  # noqa: BLE001  # It must cost a batch and not the send loop.
            log.warning("password or certificates for Alertmanager cannot be read again: %s", error)
