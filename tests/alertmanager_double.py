"""An Alertmanager for unit tests: a real HTTP server that keeps the contract of API v2 as version 0.25 does.

It takes the good alerts of a batch and answers 400 for the bad ones, 415 for another content type, 401
without the password. It can be told to fail or to hang. What it cannot do is group, route and notify.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
from datetime import datetime
from typing import Any, NamedTuple, Self

from aiohttp import web

LABEL_NAME = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]*$")
RFC3339 = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")


class Received(NamedTuple):
    """One alert of an accepted request."""

    labels: dict[str, str]
    annotations: dict[str, str]
    starts_ns: int
    ends_ns: int
    generator_url: str


class AlertmanagerDouble:
    """Use as `async with AlertmanagerDouble() as double`; `alerts` are all it took, in order."""

    def __init__(self, *, password: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.password = password
        self._tls = tls
        self.status = 200
        self.location = ""  # where a redirect leads
        self.alerts_max = 1 << 20  # in one batch; more is answered with 413
        self.release = asyncio.Event()
        self.release.set()
        self.requests = 0
        self.batches: list[int] = []
        self.alerts: list[Received] = []
        self.arrived = asyncio.Event()
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/api/v2/alerts", self._post)
        app.router.add_post("/prefix/api/v2/alerts", self._post)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        scheme = "https" if self._tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release.set()
        await self._runner.cleanup()

    async def until(self, requests: int) -> None:
        """Wait until that many requests were answered or are held."""
        async with asyncio.timeout(20):
            while self.requests < requests:
                self.arrived.clear()
                await self.arrived.wait()

    def _authorization(self) -> str:
        return "Basic " + base64.b64encode(f"engine:{self.password}".encode()).decode()

    async def _post(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests += 1
        self.arrived.set()
        await self.release.wait()
        if self.password and request.headers.get("Authorization") != self._authorization():
            return web.Response(status=401, text="Unauthorized")
        if request.content_type != "application/json":
            return web.Response(status=415, text="unsupported media type")
        if self.status != 200:
            headers = {"Location": self.location} if self.location else {}
            return web.Response(status=self.status, text="told to fail", headers=headers)
        try:
            alerts = json.loads(body)
            if len(alerts) > self.alerts_max:
                return web.Response(status=413, text="too large")
            taken, refused = self._take(alerts)
        except (KeyError, TypeError, ValueError) as error:
            return web.Response(status=400, text=f"unmarshal error: {error}")
        self.batches.append(taken)
        return web.Response(status=400, text=refused) if refused else web.Response()

    def _take(self, alerts: list[dict[str, Any]]) -> tuple[int, str]:
        parsed = [_parse(alert) for alert in alerts]
        refused = ""
        for alert in parsed:
            bad = [name for name in alert.labels if not LABEL_NAME.match(name)]
            if bad:
                refused = f'invalid label set: invalid name "{bad[0]}"'
            elif alert.ends_ns < alert.starts_ns:
                refused = "start time must be before end time"
            else:
                self.alerts.append(alert)
        return len(parsed), refused


def _parse(alert: dict[str, Any]) -> Received:
    texts = [*alert["labels"].values(), *alert["annotations"].values()]
    if not all(isinstance(text, str) for text in texts):
        msg = "cannot unmarshal number into a label or annotation"
        raise TypeError(msg)
    return Received(
        alert["labels"],
        alert["annotations"],
        _time_ns(alert["startsAt"]),
        _time_ns(alert["endsAt"]),
        alert["generatorURL"],
    )


def _time_ns(text: str) -> int:
    if not RFC3339.match(text):
        msg = f"not RFC 3339 with a zone: {text}"
        raise ValueError(msg)
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
