"""A real Alertmanager holds our alerts with the right labels, once, and resolves them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import yaml

from engine.config_files import config_path
from engine.deliver.alertmanager import AlertmanagerSink
from engine.deliver.fingerprint import fingerprint, full_labels
from engine.judge.lifecycle import FIRING, RESOLVED, Alert
from engine.settings import AlertmanagerSettings
from tests.integration.conftest import StartWeb
from tests.integration.servers import Web, wait_until

S = 1_000_000_000
NOBODY = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}
EXTERNAL_URL = "http://callgauge.example:9810"


def an_alert(name: str, severity: str = "critical", **labels: str) -> Alert:
    pairs = tuple(sorted({"alertname": name, "severity": severity, **labels}.items()))
    fired_ns = time.time_ns() - 90 * S
    return Alert(pairs, (("summary", "The trunk fills up."),), FIRING, fired_ns - S, fired_ns, fired_ns, -1)


def resolved(alert: Alert) -> Alert:
    return alert._replace(state=RESOLVED, resolved_ns=time.time_ns() - S)


async def send(sink: AlertmanagerSink, *alerts: Alert, now_ns: int | None = None) -> None:
    """Hand over, and wait until every peer has answered or failed."""
    before = [peer.batches for peer in sink.stats()]
    sink.update(alerts, now_ns or time.time_ns())
    for _ in range(3000):
        if all(peer.batches > count for peer, count in zip(sink.stats(), before, strict=True)):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a peer neither answered nor failed")


def held(server: Web) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", server.get_json("/api/v2/alerts"))


@asynccontextmanager
async def running(*servers: Web, **settings: Any) -> AsyncIterator[AlertmanagerSink]:
    urls = tuple(server.url for server in servers)
    sink = AlertmanagerSink(AlertmanagerSettings(urls=urls, **settings), EXTERNAL_URL)
    await sink.start()
    try:
        yield sink
    finally:
        await sink.drain(asyncio.get_running_loop().time() + 10)


async def test_an_alert_is_held_once_and_resolves(alertmanager: StartWeb) -> None:
    """Resends do not add to it; its fingerprint is ours; the resolution ends it."""
    server = alertmanager(NOBODY)
    async with running(server, external_labels={"cluster": "eu", "severity": "ignored"}) as sink:
        alert = an_alert("CallLimitApproaching", limit="inferred:trunk=sip-1", tenant="\u00e9", trunk="")
        now_ns = time.time_ns()
        for resend in range(3):
            numbered = (("summary", "The trunk fills up."), ("used", str(resend)))
            await send(sink, alert._replace(annotations=numbered), now_ns=now_ns + resend * 30 * S)
        (found,) = held(server)
        expected = full_labels(alert.labels, {"cluster": "eu"})
        assert dict(expected) == found["labels"]
        assert fingerprint(expected) == found["fingerprint"]
        assert f"{EXTERNAL_URL}/alerts/{found['fingerprint']}" == found["generatorURL"]
        assert "2" == found["annotations"]["used"]
        assert "active" == found["status"]["state"]
        await send(sink, resolved(alert))
        wait_until(lambda: held(server) == [], what="the alert is resolved")


async def test_every_peer_is_told_and_a_dead_one_is_told_later(alertmanager: StartWeb) -> None:
    """Alertmanagers do not share alerts: each has to hold it, also one that was down at first."""
    one, two = alertmanager(NOBODY), alertmanager(NOBODY)
    two.kill()
    async with running(one, two) as sink:
        alert = an_alert("CallLimitApproaching")
        await send(sink, alert)
        assert 1 == len(held(one))
        two.start()
        await send(sink, alert, now_ns=time.time_ns() + 30 * S)
        assert [1, 1] == [len(held(one)), len(held(two))]
        of_one, of_two = sink.stats()
        assert ((), ("connection",)) == tuple(
            tuple(reason for reason, _ in one.batches_failed_by_reason) for one in (of_one, of_two)
        )


async def test_one_bad_alert_does_not_keep_the_others_out(alertmanager: StartWeb) -> None:
    """The contract that the double of the unit tests assumes: 400, and the good one is held."""
    server = alertmanager(NOBODY)
    async with running(server) as sink:
        await send(sink, an_alert("Good"), an_alert("Bad", **{"bad-name": "x"}))
        assert (("http_400", 1),) == sink.stats()[0].batches_failed_by_reason
        assert ["Good"] == [alert["labels"]["alertname"] for alert in held(server)]


async def test_a_password_from_a_file_opens_the_door(alertmanager: StartWeb, tmp_path: Path) -> None:
    """Basic authentication as Alertmanager itself demands it."""
    # The bcrypt hash of "secret".
    users = {"basic_auth_users": {"engine": "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"}}
    files = {"web.yml": yaml.safe_dump(users)}
    server = alertmanager(NOBODY, files, ("--web.config.file=web.yml",))
    secret = tmp_path / "password"
    secret.write_text("wrong\n", "utf-8")
    async with running(server, username="engine", password_file=str(secret)) as sink:
        secret.write_text("secret\n", "utf-8")
        await send(sink, an_alert("CallLimitApproaching"))
        assert (("http_401", 1),) == sink.stats()[0].batches_failed_by_reason
        await send(sink, an_alert("CallLimitReached"))
        assert 2 == sink.stats()[0].alerts_sent, "what was refused has waited"


async def test_the_shipped_inhibition_keeps_consequences_quiet(alertmanager: StartWeb) -> None:
    """Reached over Approaching, critical over warning, a cause over the errors of its own calls; no more."""
    server = alertmanager(config_path("alertmanager/alertmanager.yml").read_text("utf-8"))
    async with running(server) as sink:
        await send(
            sink,
            an_alert("CallLimitReached", limit="sip", tenant="acme"),
            an_alert("CallLimitApproaching", limit="sip", tenant="acme"),
            an_alert("CallLimitApproaching", limit="sip", tenant="other"),
            an_alert("CallLimitApproaching", "warning", limit="sip", tenant="other"),
            an_alert("CallLimitApproaching", "warning", limit="cps"),
            an_alert("CallLimitReached", limit="small-trunk"),
            an_alert("HiddenCallLimit", limit="inferred:trunk=sip-1", trunk="sip-1"),
            an_alert("ReleaseRegression", release="v2", action="rollback"),
            an_alert("CallErrorBudgetBurn"),
            an_alert("CallErrorBudgetBurn", tenant="acme"),
            an_alert("CallErrorBudgetBurn", trunk="sip-1"),
            an_alert("CallErrorBudgetBurn", trunk="sip-2"),
            an_alert("CallErrorBudgetBurn", release="v2"),
            an_alert("CallErrorBudgetBurn", release="v1"),
        )

        def quiet() -> set[tuple[str, ...]]:
            names = ("alertname", "severity", "limit", "tenant", "trunk", "release")
            return {
                tuple(alert["labels"].get(name, "") for name in names)
                for alert in held(server)
                if alert["status"]["inhibitedBy"]
            }

        expected = {
            ("CallLimitApproaching", "critical", "sip", "acme", "", ""),
            ("CallLimitApproaching", "warning", "sip", "other", "", ""),
            ("CallErrorBudgetBurn", "critical", "", "", "sip-1", ""),
            ("CallErrorBudgetBurn", "critical", "", "", "", "v2"),
        }
        wait_until(lambda: quiet() == expected, what="the inhibited alerts are as expected", timeout_s=20)
