"""Alerts to every Alertmanager, by its API v2.

Each Alertmanager has a queue and a send loop of its own, so a dead one delays no other. A queue holds one
entry per alert and the newest state wins, so an outage does not make it grow. Nothing is retried: whatever
fails is counted, and the periodic resend is the retry. Resends are driven by `update` alone: an engine that
no longer steps lets its alerts, and above all its watchdog, run out after `ends_after_ns`.

Rejected: one queue for all peers (the slowest sets the pace); a timer of the sink's own (it would keep the
watchdog of a stuck engine alive); resolving on shutdown (the next process would have to page again).
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
import ssl
import time
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import orjson
from yarl import URL

from engine.deliver.fingerprint import Labels, fingerprint, full_labels
from engine.deliver.timestamps import rfc3339
from engine.errors import DeliveryError
from engine.judge.lifecycle import FIRING, RESOLVED, Alert
from engine.secret_file import SecretError, read_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.settings import AlertmanagerSettings

NS_PER_S = 1_000_000_000
API_PATH = "/api/v2/alerts"
ANSWER_BYTES_MAX = 2048  # of an answer's text that is read, for the log
OK_FROM, OK_BEFORE, UNAUTHORIZED = 200, 300, 401

log = logging.getLogger(__name__)


class PeerStats(NamedTuple):
    """Counters of one Alertmanager since the start; `*_by_reason` are (reason, count)."""

    peer: str
    alerts_sent: int
    batches_failed_by_reason: tuple[tuple[str, int], ...]
    alerts_dropped_by_reason: tuple[tuple[str, int], ...]
    queue_alerts: int
    queue_alerts_max: int
    batches: int  # answered or failed
    latency_s: float  # sum over these
    last_success_s: float  # wall clock, 0: none yet


class Posting(NamedTuple):
    """One alert on its way, under its fingerprint."""

    fingerprint: str
    labels: Labels  # full, as they are sent
    alert: Alert


class Handed(NamedTuple):
    """What was last handed over of one alert; times are wall clock."""

    state: str
    fired_ns: int
    since_ns: int  # first handed over in this state
    queued_ns: int


class PostingQueue:
    """Alerts waiting for one Alertmanager: one per fingerprint, the newest state wins, firing ones first.

    When full, the oldest resolved entry is dropped, and only if there is none the oldest firing one: a
    resolution that gets lost comes about by `endsAt` anyway, a page that gets lost does not.
    """

    def __init__(self, alerts_max: int) -> None:
        self.alerts_max = alerts_max
        self._firing: dict[str, Posting] = {}
        self._resolved: dict[str, Posting] = {}

    def __len__(self) -> int:
        return len(self._firing) + len(self._resolved)

    def put(self, posting: Posting) -> int:
        """Add or replace an entry; return how many others were dropped for it."""
        is_firing = posting.alert.state == FIRING
        mine, other = (self._firing, self._resolved) if is_firing else (self._resolved, self._firing)
        other.pop(posting.fingerprint, None)
        mine[posting.fingerprint] = posting
        dropped = 0
        while len(self) > self.alerts_max:
            victims = self._resolved or self._firing
            del victims[next(iter(victims))]
            dropped += 1
        return dropped

    def take(self, alerts_max: int) -> list[Posting]:
        """Remove and return up to `alerts_max` entries, oldest first, firing before resolved."""
        taken: list[Posting] = []
        for waiting in (self._firing, self._resolved):
            keys = list(itertools.islice(waiting, alerts_max - len(taken)))
            taken += [waiting.pop(key) for key in keys]
        return taken


class Peer:
    """One Alertmanager: its queue, its send loop's state and its counters."""

    def __init__(self, url: str, settings: AlertmanagerSettings) -> None:
        parsed = _peer_url(url)
        self.name = str(parsed)
        self.post_url = URL(self.name.rstrip("/") + API_PATH)
        self.queue = PostingQueue(settings.queue_alerts_max)
        self.batch_alerts_max = settings.batch_alerts_max
        self.wake = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self.in_flight = 0
        self.alerts_sent = 0
        self.batches = 0
        self.latency_s = 0.0
        self.last_success_s = 0.0
        self.last_trouble = ""
        self.batches_failed: dict[str, int] = {}
        self.alerts_dropped: dict[str, int] = {}

    def put(self, posting: Posting) -> None:
        """Queue one alert and wake the send loop."""
        self.drop("queue_full", self.queue.put(posting))
        self.idle.clear()
        self.wake.set()

    def drop(self, reason: str, alerts: int) -> None:
        """Count alerts that are not known to have arrived."""
        if alerts:
            self.alerts_dropped[reason] = self.alerts_dropped.get(reason, 0) + alerts

    def succeed(self, alerts: int, now_s: float) -> None:
        """Count a batch that was accepted, and say so if the one before was not."""
        self.alerts_sent += alerts
        self.last_success_s = now_s
        if self.last_trouble:
            log.info("Alertmanager %s accepts alerts again", self.name)
            self.last_trouble = ""

    def fail(self, reason: str, text: str, alerts: int) -> None:
        """Count a failed batch, and log it when the text differs from that of the failure before."""
        self.batches_failed[reason] = self.batches_failed.get(reason, 0) + 1
        self.drop(reason, alerts)
        trouble = f"{reason}: {text}" if text else reason
        if trouble != self.last_trouble:
            log.warning("Alertmanager %s did not take a batch of %d alerts: %s", self.name, alerts, trouble)
            self.last_trouble = trouble

    def stats(self) -> PeerStats:
        """Give the counters as they stand."""
        return PeerStats(
            self.name,
            self.alerts_sent,
            tuple(sorted(self.batches_failed.items())),
            tuple(sorted(self.alerts_dropped.items())),
            len(self.queue),
            self.queue.alerts_max,
            self.batches,
            self.latency_s,
            self.last_success_s,
        )


class AlertmanagerSink:
    """Sends the current alerts to every Alertmanager of the settings; with none configured it does nothing.

    All methods belong to the event loop's thread. `clock_ns` is the wall clock.
    """

    def __init__(
        self, settings: AlertmanagerSettings, external_url: str, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._settings = settings
        self._external_url = external_url.rstrip("/")
        self._clock_ns = clock_ns
        self._peers = tuple(Peer(url, settings) for url in dict.fromkeys(settings.urls))
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self._headers: dict[str, str] = {}
        self._alerts: tuple[Alert, ...] = ()
        self._handed: dict[Labels, Handed] = {}
        self._postings: dict[Labels, tuple[str, Labels]] = {}
        self._due_ns = 0
        self._handed_at_ns = 0

    async def start(self) -> None:
        """Read the secrets and start a send loop per peer; raises DeliveryError for a file that is no use."""
        if not self._peers:
            return
        self._headers = _headers(self._settings)
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_ns / 1e9)
        connector = aiohttp.TCPConnector(ssl=_tls_context(self._settings))
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)
        self._tasks = [
            asyncio.create_task(self._send_loop(peer), name=f"alertmanager {peer.name}")
            for peer in self._peers
        ]

    def update(self, alerts: tuple[Alert, ...], now_ns: int) -> None:
        """Hand over the alerts as they stand at wall clock `now_ns`: changes go at once, others when due.

        Never blocks. Pending alerts are not sent. An alert that is no longer handed over is forgotten, not
        resolved.
        """
        is_clock_back = now_ns < self._handed_at_ns
        if alerts is self._alerts and now_ns < self._due_ns and not is_clock_back:
            return
        self._alerts, self._handed_at_ns = alerts, now_ns
        handed: dict[Labels, Handed] = {}
        for alert in alerts:
            if alert.state in {FIRING, RESOLVED}:
                handed[alert.labels] = self._hand_over(alert, now_ns)
        self._handed = handed
        self._postings = {labels: made for labels, made in self._postings.items() if labels in handed}
        oldest_ns = min((entry.queued_ns for entry in handed.values()), default=now_ns)
        self._due_ns = oldest_ns + self._settings.resend_ns

    def _hand_over(self, alert: Alert, now_ns: int) -> Handed:
        before = self._handed.get(alert.labels)
        if before is None or (before.state, before.fired_ns) != (alert.state, alert.fired_ns):
            self._queue(alert)
            return Handed(alert.state, alert.fired_ns, now_ns, now_ns)
        # A wall clock that was set back must not hold resends up until it has caught up.
        if 0 <= now_ns - before.queued_ns < self._settings.resend_ns:
            return before
        since_ns = min(before.since_ns, now_ns)
        if alert.state == FIRING or now_ns - since_ns < self._settings.resolved_resend_ns:
            self._queue(alert)
        return Handed(alert.state, alert.fired_ns, since_ns, now_ns)

    def _queue(self, alert: Alert) -> None:
        made = self._postings.get(alert.labels)
        if made is None:
            sent = full_labels(alert.labels, self._settings.external_labels)
            made = self._postings[alert.labels] = (fingerprint(sent), sent)
        posting = Posting(*made, alert)
        for peer in self._peers:
            peer.put(posting)

    async def drain(self, deadline_s: float) -> None:
        """Send what is queued until the event loop's clock shows `deadline_s`; count the rest, and end.

        Nothing is resolved: alerts run out by `endsAt`, or the next process goes on with them.
        """
        loop = asyncio.get_running_loop()
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
        if self._session is not None:
            await self._session.close()
            self._session = None

    def stats(self) -> tuple[PeerStats, ...]:
        """Give the counters of every peer."""
        return tuple(peer.stats() for peer in self._peers)

    async def _send_loop(self, peer: Peer) -> None:
        while True:
            await peer.wake.wait()
            peer.wake.clear()
            while batch := peer.queue.take(peer.batch_alerts_max):
                await self._send(peer, batch)
            peer.idle.set()

    async def _send(self, peer: Peer, batch: list[Posting]) -> None:
        loop = asyncio.get_running_loop()
        peer.in_flight = len(batch)
        begun_s = loop.time()
        try:
            body = encode_batch(batch, self._external_url, self._clock_ns(), self._settings.ends_after_ns)
            await self._post(peer, body, len(batch))
        except TimeoutError:
            peer.fail("timeout", "", len(batch))
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            peer.fail("connection", str(error), len(batch))
        except Exception as error:
            # Whatever it is, it must cost one batch and not the send loop.
            log.exception("Alertmanager %s: sending failed in an unforeseen way", peer.name)
            peer.fail("internal", type(error).__name__, len(batch))
        peer.in_flight = 0
        peer.batches += 1
        peer.latency_s += loop.time() - begun_s

    async def _post(self, peer: Peer, body: bytes, alerts: int) -> None:
        assert self._session is not None, "start() comes first"
        async with self._session.post(
            peer.post_url, data=body, headers=self._headers, allow_redirects=False
        ) as answer:
            if OK_FROM <= answer.status < OK_BEFORE:
                peer.succeed(alerts, self._clock_ns() / 1e9)
                return
            # 400 means that at least one alert was refused; Alertmanager has taken the others of the batch.
            text = (await answer.content.read(ANSWER_BYTES_MAX)).decode("utf-8", "replace").strip()
            peer.fail(f"http_{answer.status}", text, alerts)
            if answer.status == UNAUTHORIZED:
                self._renew_headers()

    def _renew_headers(self) -> None:
        try:
            self._headers = _headers(self._settings)  # The password may have been rotated.
        except DeliveryError as error:
            log.warning("The Alertmanager password cannot be read again: %s", error)


def encode_batch(batch: list[Posting], external_url: str, now_ns: int, ends_after_ns: int) -> bytes:
    """Encode alerts as the JSON array that `POST /api/v2/alerts` takes, as of wall clock `now_ns`.

    Event time may lie ahead of the wall clock; nothing that is sent does, but the `endsAt` of firing alerts.
    """
    postable = []
    for posting in batch:
        alert = posting.alert
        starts_ns = min(alert.fired_ns, now_ns)
        is_firing = alert.state == FIRING
        ends_ns = now_ns + ends_after_ns if is_firing else max(starts_ns, min(alert.resolved_ns, now_ns))
        # Only here: how old the data is depends on when it is said; all else is as a replay says it.
        age_s = max(now_ns - alert.found_ns, 0) // NS_PER_S
        postable.append(
            {
                "labels": dict(posting.labels),
                "annotations": dict(alert.annotations) | {"data_age_seconds": str(age_s)},
                "startsAt": rfc3339(starts_ns),
                "endsAt": rfc3339(ends_ns),
                "generatorURL": f"{external_url}/alerts/{posting.fingerprint}",
            }
        )
    return orjson.dumps(postable)


def _peer_url(url: str) -> URL:
    try:
        parsed = URL(url)
    except ValueError:
        parsed = URL()
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        msg = "not the address of an Alertmanager"
        raise DeliveryError(msg, where=f"alertmanager.urls: {url}", hint="write it as http://host:9093")
    if parsed.user or parsed.password:
        msg = "a password does not belong into an address"
        hint = "use alertmanager.username and alertmanager.password_file"
        raise DeliveryError(msg, where=f"alertmanager.urls: {parsed.with_user(None)}", hint=hint)
    return parsed


def _headers(settings: AlertmanagerSettings) -> dict[str, str]:
    """Give what every request carries; raises DeliveryError when the password cannot be read."""
    headers = {"Content-Type": "application/json"}
    if not settings.username:
        return headers
    password = ""
    if settings.password_file:
        try:
            password = read_secret(settings.password_file)
        except SecretError as error:
            hint = "alertmanager.password_file must be a text file that callgauge may read"
            what = "the Alertmanager password cannot be read"
            raise DeliveryError(what, where=settings.password_file, cause=str(error), hint=hint) from None
    credentials = base64.b64encode(f"{settings.username}:{password}".encode()).decode()
    return {**headers, "Authorization": f"Basic {credentials}"}


def _tls_context(settings: AlertmanagerSettings) -> ssl.SSLContext:
    names = (settings.ca_file, settings.cert_file, settings.key_file)
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file or None)
    except (OSError, ssl.SSLError) as error:
        where = ", ".join(name for name in names if name)
        hint = "alertmanager.ca_file, cert_file and key_file must be PEM files that callgauge may read"
        what = "the TLS files for Alertmanager cannot be used"
        raise DeliveryError(what, where=where, cause=str(error), hint=hint) from error
    return context
