"""What the HTTP server answers, all of it read from one published snapshot: nothing here changes the engine.

What has an effect is on a listener of its own (`engine/web/admin.py`). Answers are for machines that must
not depend on us: `/api/v1/headroom` says in so many words that a client which cannot reach it, or finds it
too old, should let the call through.
"""

from __future__ import annotations

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import web

from engine.decode.events import LABELS
from engine.deliver.families import headroom_ratio
from engine.deliver.fingerprint import Labels, fingerprint, full_labels
from engine.web import pages
from engine.web.answers import json_answer, moment
from engine.web.guard import KNOWN, Policy, Route
from engine.web.releases import ReleaseRoutes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from engine.judge.lifecycle import Alert
    from engine.judge.snapshot import LimitStatus, Snapshot

SCRAPES_MAX = 8  # under way or waiting; more get 503, so that a flood of scrapes cannot pile up
HEADROOM_MAX_AGE_S = 5  # a forecast is not newer than the last slice
PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
ADVICE = "Let the call through when this cannot be reached or data_age_seconds is too high for you."


def nothing() -> str:
    """Stand in for an engine that only its end can hurt."""
    return ""


def as_it_is(_: str, value: str) -> str:
    """Stand in for an engine that hides nothing."""
    return value


class Sources(NamedTuple):
    """What the server reads, and the one thing it may call."""

    get_snapshot: Callable[[], Snapshot | None]
    render_metrics: Callable[[str], tuple[bytes, str]]  # Accept header -> body, content type; any thread
    not_ready_because: Callable[[], str]  # "": ready
    reload: Callable[[], Awaitable[None]]  # raises CallgaugeError when the old settings stay
    external_labels: Mapping[str, str]
    clock_ns: Callable[[], int]
    not_healthy_because: Callable[[], str] = nothing  # what only a restart mends; "": healthy
    shown: Callable[[str, str], str] = as_it_is  # label, value -> what stands for it in snapshots


class Routes:
    """The handlers, and the thread in which metrics are written."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._releases = ReleaseRoutes(sources.get_snapshot, self._age_s)
        # A thread of its own: scrapes must not take the threads in which the engine works.
        self._scraper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics")
        self._scrapes = 0
        self._fingerprints: dict[Labels, tuple[str, Labels]] = {}

    def table(self) -> list[Route]:
        """List method, path, handler and policy of everything there is."""
        return [
            Route("GET", "/", self.index, Policy.READ),
            Route("GET", "/metrics", self.metrics, Policy.READ),
            Route("GET", "/-/healthy", self.healthy, Policy.OPEN),
            Route("GET", "/-/ready", self.ready, Policy.OPEN),
            Route("GET", "/api/v1/headroom", self.headroom, Policy.READ),
            Route("GET", "/api/v1/alerts", self.alerts, Policy.READ),
            *self._releases.table(),
            Route("GET", "/alerts/{fingerprint}", self.alert, Policy.READ),
        ]

    def close(self) -> None:
        """Let go of the thread."""
        self._scraper.shutdown(wait=False, cancel_futures=True)

    async def metrics(self, request: web.Request) -> web.Response:
        """Write the metrics in the format that the Accept header prefers."""
        if self._scrapes >= SCRAPES_MAX:
            return web.Response(status=503, text="too many scrapes at once\n")
        self._scrapes += 1
        try:
            body, content_type = await asyncio.get_running_loop().run_in_executor(
                self._scraper, self._sources.render_metrics, request.headers.get("Accept", "")
            )
        finally:
            self._scrapes -= 1
        return web.Response(body=body, headers={"Content-Type": content_type, "Vary": "Accept"})

    async def healthy(self, request: web.Request) -> web.Response:
        """Say whether only a restart would help; of a dead broker it would not."""
        because = self._sources.not_healthy_because()
        if because:
            why = f": {because}" if request[KNOWN] else ""
            return web.Response(status=503, text=f"callgauge is not healthy{why}\n")
        return web.Response(text="callgauge is healthy.\n")

    async def ready(self, request: web.Request) -> web.Response:
        """Say whether the engine is at work, and if not why, but the latter not to strangers."""
        because = self._sources.not_ready_because()
        if because:
            why = f": {because}" if request[KNOWN] else ""
            return web.Response(status=503, text=f"callgauge is not ready{why}\n")
        return web.Response(text="callgauge is ready.\n")

    async def headroom(self, request: web.Request) -> web.Response:
        """Give the limits: all, those named by `limit=`, or those a call may meet that has `tenant=acme`."""
        unknown = sorted(set(request.query) - {"limit", *LABELS})
        if unknown:
            text = f"unknown parameter {unknown[0]!r}; there are limit, {', '.join(LABELS)}"
            return json_answer({"error": text}, status=400)
        names = request.query.getall("limit", [])
        given = [(name, value) for name, value in request.query.items() if name != "limit"]
        asked = [(name, self._sources.shown(name, value)) for name, value in given]
        snapshot = self._sources.get_snapshot()
        chosen = [
            _limit_fields(status)
            for status in (snapshot.limits if snapshot else ())
            if (not names or status.limit in names) and _may_count(status, asked)
        ]
        answer = {
            "fail_open": True,
            "advice": ADVICE,
            "data_age_seconds": self._age_s(snapshot),
            "watermark": moment(snapshot.watermark_ns) if snapshot else None,
            "limits": chosen,
        }
        return json_answer(answer, cache=f"private, max-age={HEADROOM_MAX_AGE_S}")

    async def alerts(self, _: web.Request) -> web.Response:
        """Give the alerts that are pending, firing, or were resolved a short while ago."""
        snapshot = self._sources.get_snapshot()
        return json_answer(
            {
                "data_age_seconds": self._age_s(snapshot),
                "alerts": [_alert_fields(key, labels, alert) for key, labels, alert in self._named(snapshot)],
            }
        )

    async def index(self, _: web.Request) -> web.Response:
        """Write the page with all limits and alerts."""
        snapshot = self._sources.get_snapshot()
        named = [(key, alert) for key, _, alert in self._named(snapshot)]
        return _page(pages.index_page(snapshot.limits if snapshot else (), named, self._age_s(snapshot)))

    async def alert(self, request: web.Request) -> web.Response:
        """Write the page that `generatorURL` leads to."""
        wanted = request.match_info["fingerprint"]
        snapshot = self._sources.get_snapshot()
        for key, labels, alert in self._named(snapshot):
            if snapshot and key == wanted:
                limits = [status for status in snapshot.limits if _speaks_of(alert, status)]
                return _page(pages.alert_page(alert, labels, limits, self._age_s(snapshot)))
        return _page(pages.unknown_alert_page(), status=404)

    def _named(self, snapshot: Snapshot | None) -> list[tuple[str, Labels, Alert]]:
        """Give (fingerprint, labels as sent, alert), computing each fingerprint once."""
        alerts = snapshot.alerts if snapshot else ()
        before, self._fingerprints = self._fingerprints, {}
        for alert in alerts:
            named = before.get(alert.labels)
            if named is None:
                sent = full_labels(alert.labels, self._sources.external_labels)
                named = (fingerprint(sent), sent)
            self._fingerprints[alert.labels] = named
        return [(*self._fingerprints[alert.labels], alert) for alert in alerts]

    def _age_s(self, snapshot: Snapshot | None) -> float | None:
        if snapshot is None or snapshot.watermark_ns < 0:
            return None
        return max(0, self._sources.clock_ns() - snapshot.watermark_ns) / 1e9


def _may_count(status: LimitStatus, asked: list[tuple[str, str]]) -> bool:
    """Say whether a call with these labels may count under the limit: nothing it says speaks against it."""
    values = dict(status.applies_to) | {name: (value,) for name, value in status.split}
    return all(name not in values or value in values[name] for name, value in asked)


def _speaks_of(alert: Alert, status: LimitStatus) -> bool:
    labels = dict(alert.labels)
    return labels.get("limit") == status.limit and all(
        labels.get(name, "") == text for name, text in status.split
    )


def _limit_fields(status: LimitStatus) -> dict[str, object]:
    """Give one limit; what is not known, or not in sight within the horizon, becomes null."""
    return {
        "limit": status.limit,
        "labels": dict(status.split),
        "applies_to": dict(status.applies_to),
        "kind": status.kind,
        "owner": status.owner,
        "state": status.state,
        "measured": not math.isnan(status.used),
        "used": status.used,
        "unseen_use": status.unseen_use,
        "peak": status.peak,
        "value": status.value,
        "headroom_ratio": headroom_ratio(status),
        "expected_used": status.expected_used,
        "probability": status.probability,
        "time_to_limit_seconds": status.time_to_limit_s,
        "time_to_limit_seconds_low": status.time_to_limit_s_low,
        "time_to_limit_seconds_high": status.time_to_limit_s_high,
        "offered_load": status.offered_load,
        "holding_seconds": status.holding_s,
        "safe_load": status.safe_load,
        "declined_total": status.declined_total,
    }


def _alert_fields(key: str, labels: Labels, alert: Alert) -> dict[str, object]:
    return {
        "fingerprint": key,
        "state": alert.state,
        "labels": dict(labels),
        "annotations": dict(alert.annotations),
        "active_at": moment(alert.active_ns),
        "fired_at": moment(alert.fired_ns),
        "found_at": moment(alert.found_ns),
        "resolved_at": moment(alert.resolved_ns),
    }


def _page(html: str, status: int = 200) -> web.Response:
    return web.Response(text=html, status=status, content_type="text/html", headers=PAGE_HEADERS)
