"""One Alertmanager: what waits for it, what became of what was sent, and its counters."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from yarl import URL

from engine.addresses import web_url
from engine.deliver.postings import Posting, PostingQueue
from engine.errors import DeliveryError

if TYPE_CHECKING:
    from engine.settings import AlertmanagerSettings

API_PATH = "/api/v2/alerts"

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


class Peer:
    """One Alertmanager: its queue, its send loop's state and its counters."""

    def __init__(self, url: str, settings: AlertmanagerSettings) -> None:
        parsed = peer_url(url)
        self.name = str(parsed)
        self.post_url = URL(self.name.rstrip("/") + API_PATH)
        self.queue = PostingQueue(settings.queue_alerts_max)
        self.batch_alerts_max = settings.batch_alerts_max
        self.wake = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self.retry: asyncio.TimerHandle | None = None
        self.in_flight = 0
        self.alerts_sent = 0
        self.batches = 0
        self.latency_s = 0.0
        self.last_success_s = 0.0
        self.last_trouble = ""
        self.is_down = False  # what was sent last did not arrive
        self.batches_failed: dict[str, int] = {}
        self.alerts_dropped: dict[str, int] = {}

    def put(self, posting: Posting) -> None:
        """Queue one alert and wake the send loop."""
        self.drop("queue_full", self.queue.put(posting))
        self.idle.clear()
        self.wake.set()

    def try_again(self, batch: list[Posting]) -> None:
        """Queue a batch that did not arrive once more; `wake_in` says when it is sent."""
        self.is_down = True
        self.drop("queue_full", self.queue.put_back(batch))

    def wake_in(self, delay_s: float) -> None:
        """Wake the send loop for what waits, if there is anything."""
        if self.retry is not None:
            self.retry.cancel()
        self.retry = None
        if len(self.queue):
            self.retry = asyncio.get_running_loop().call_later(delay_s, self.wake.set)

    def hurry(self) -> None:
        """Try what waits once more, now; `idle` is set when that is done."""
        if len(self.queue) or self.in_flight:
            self.idle.clear()
            self.wake.set()

    def drop(self, reason: str, alerts: int) -> None:
        """Count alerts that are given up and not known to have arrived."""
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


def peer_url(url: str) -> URL:
    """Read the address of an Alertmanager; raises DeliveryError for one that is no use."""
    parsed = web_url(url)
    if parsed is None:
        msg = "not the address of an Alertmanager"
        raise DeliveryError(msg, where="alertmanager.urls", hint="write it as http://host:9093")
    if parsed.user or parsed.password:
        msg = "a password does not belong in an address"
        hint = "use alertmanager.username and alertmanager.password_file"
        raise DeliveryError(msg, where=f"alertmanager.urls: {parsed.host}", hint=hint)
    return parsed
