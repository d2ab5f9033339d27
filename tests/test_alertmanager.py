"""Alerts reach every Alertmanager, are sent again, and a peer in trouble costs nobody else."""

import logging
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.deliver.alertmanager import AlertmanagerSink
from engine.deliver.fingerprint import fingerprint, full_labels
from engine.deliver.postings import Posting, PostingQueue
from engine.errors import DeliveryError
from engine.judge.lifecycle import FIRING, PENDING, RESOLVED
from engine.settings import AlertmanagerSettings
from tests.alert_sinks import EXTERNAL_URL, NOW, S, an_alert, drained, running, until_failed, until_sent
from tests.alertmanager_double import AlertmanagerDouble
from tests.integration.servers import tool


async def test_a_firing_alert_is_sent_with_everything_alertmanager_needs() -> None:
    """Labels, annotations, event time as startsAt, endsAt ahead of the clock, and the address of our page."""
    async with AlertmanagerDouble() as double:
        wanted = AlertmanagerSettings(
            urls=(double.url,), external_labels={"cluster": "eu", "severity": "no"}, ends_after_ns=300 * S
        )
        async with running(wanted) as sink:
            sink.update((an_alert(tenant="acme", trunk=""),), NOW)
            (peer,) = await drained(sink)
        (got,) = double.alerts
        labels = {
            "alertname": "CallLimitApproaching",
            "cluster": "eu",
            "severity": "critical",
            "tenant": "acme",
        }
        assert labels == got.labels, "external labels only where absent, empty labels not at all"
        age_s = (NOW - an_alert().found_ns) // S
        assert {"summary": "The trunk fills up.", "data_age_seconds": str(age_s)} == got.annotations
        assert (NOW - 60 * S, NOW + 300 * S) == (got.starts_ns, got.ends_ns)
        key = fingerprint(tuple(sorted(labels.items())))
        assert f"{EXTERNAL_URL}/alerts/{key}" == got.generator_url
        assert (1, 1, 0) == (peer.alerts_sent, peer.batches, peer.queue_alerts)


def test_the_fingerprint_is_the_one_that_alertmanager_shows() -> None:
    """The value was read from Alertmanager 0.25 for these labels; the integration test asks a running one."""
    labels = (("alertname", "X"), ("limit", "inferred:trunk=sip-1"), ("severity", "critical"), ("tenant", ""))
    assert "4b2bf6213176e5c1" == fingerprint(full_labels(labels, {"cluster": "\u00e9", "severity": "x"}))


async def test_pending_alerts_are_not_sent() -> None:
    """Only firing and resolved alerts leave the process."""
    async with AlertmanagerDouble() as double, running(AlertmanagerSettings(urls=(double.url,))) as sink:
        sink.update((an_alert(state=PENDING),), NOW)
        assert 0 == (await drained(sink))[0].batches


async def test_a_resolved_alert_ends_in_the_past() -> None:
    """Alertmanager resolves only on an endsAt that has passed: it is when the alert was resolved."""
    async with AlertmanagerDouble() as double, running(AlertmanagerSettings(urls=(double.url,))) as sink:
        sink.update((an_alert(state=RESOLVED),), NOW)
        await drained(sink)
        assert NOW - 5 * S == double.alerts[0].ends_ns


async def test_event_time_ahead_of_the_clock_is_not_sent() -> None:
    """A platform whose clock runs ahead must not produce alerts that start or end in the future."""
    async with AlertmanagerDouble() as double, running(AlertmanagerSettings(urls=(double.url,))) as sink:
        ahead = an_alert(state=RESOLVED)._replace(fired_ns=NOW + 60 * S, resolved_ns=NOW + 90 * S)
        sink.update((ahead,), NOW)
        await drained(sink)
        assert (NOW, NOW) == (double.alerts[0].starts_ns, double.alerts[0].ends_ns)


async def test_a_firing_alert_is_sent_again_after_each_interval() -> None:
    """Between two resends nothing is sent; a change is sent at once."""
    async with AlertmanagerDouble() as double:
        async with running(AlertmanagerSettings(urls=(double.url,), resend_ns=30 * S)) as sink:
            for seconds in (0, 1, 29, 30, 31, 59, 60):
                alert = an_alert() if seconds < 59 else an_alert(state=RESOLVED)
                before = double.requests
                sink.update((alert,), NOW + seconds * S)
                if seconds in {0, 30, 59}:
                    await double.until(before + 1)
            await drained(sink)
        assert 3 == double.requests


async def test_a_resolved_alert_is_sent_again_for_its_time_only() -> None:
    """An Alertmanager that was down learns of the resolution; after resolved_resend_ns it is left alone."""
    async with AlertmanagerDouble() as double:
        wanted = AlertmanagerSettings(urls=(double.url,), resend_ns=30 * S, resolved_resend_ns=60 * S)
        async with running(wanted) as sink:
            for seconds, requests in ((0, 1), (30, 2), (60, 2), (90, 2), (120, 2)):
                sink.update((an_alert(state=RESOLVED),), NOW + seconds * S)
                await double.until(requests)
            await drained(sink)
        assert 2 == double.requests


async def test_an_alert_that_fires_again_between_two_updates_is_sent_at_once() -> None:
    """A new life has another fired_ns, though the state is the same."""
    async with AlertmanagerDouble() as double, running(AlertmanagerSettings(urls=(double.url,))) as sink:
        sink.update((an_alert(),), NOW)
        await double.until(1)
        sink.update((an_alert()._replace(fired_ns=NOW + S),), NOW + S)
        await double.until(2)
        await drained(sink)


async def test_resends_go_on_when_the_wall_clock_is_set_back() -> None:
    """A correction of the clock by an hour must not silence anything for an hour."""
    async with AlertmanagerDouble() as double, running(AlertmanagerSettings(urls=(double.url,))) as sink:
        alerts = (an_alert(),)
        sink.update(alerts, NOW)
        await double.until(1)
        sink.update(alerts, NOW - 3600 * S)
        await double.until(2)
        await drained(sink)


async def test_a_resolved_alert_has_its_time_and_no_more_when_the_wall_clock_is_set_back() -> None:
    """It would be sent until the clock has caught up."""
    async with AlertmanagerDouble() as double:
        wanted = AlertmanagerSettings(urls=(double.url,), resend_ns=30 * S, resolved_resend_ns=60 * S)
        async with running(wanted) as sink:
            for seconds, requests in ((0, 1), (-3600, 2), (-3570, 3), (-3540, 3), (-3510, 3)):
                sink.update((an_alert(state=RESOLVED),), NOW + seconds * S)
                await double.until(requests)
            await drained(sink)
        assert 3 == double.requests


async def test_many_alerts_go_in_batches() -> None:
    """No request is larger than batch_alerts_max."""
    async with AlertmanagerDouble() as double:
        async with running(AlertmanagerSettings(urls=(double.url,), batch_alerts_max=100)) as sink:
            sink.update(tuple(an_alert(tenant=str(number)) for number in range(250)), NOW)
            await drained(sink)
        assert [100, 100, 50] == double.batches
        assert 250 == len({alert.labels["tenant"] for alert in double.alerts})


async def test_a_hanging_and_a_dead_peer_delay_no_other() -> None:
    """While one peer holds its request and one refuses connections, the third gets every change."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with AlertmanagerDouble() as hanging, AlertmanagerDouble() as well:
            hanging.release.clear()
            async with running(AlertmanagerSettings(urls=(hanging.url, dead, well.url))) as sink:
                for number in range(5):
                    sink.update((an_alert(tenant=str(number)),), NOW + number * S)
                    await well.until(number + 1)
                of_hanging, of_dead, of_well = await drained(sink, 0.5)
            assert 5 == of_well.alerts_sent
            assert {"connection"} == {reason for reason, _ in of_dead.batches_failed_by_reason}
            assert 0 == of_hanging.alerts_sent
            assert (("shutdown", 5),) == of_hanging.alerts_dropped_by_reason


async def test_one_bad_alert_does_not_keep_the_others_back(caplog: pytest.LogCaptureFixture) -> None:
    """Alertmanager takes the good ones and answers 400: counted each time, logged once per text."""
    alerts = (an_alert(), an_alert(**{"bad-name": "x"}))
    caplog.set_level(logging.WARNING)
    async with AlertmanagerDouble() as double, running(AlertmanagerSettings(urls=(double.url,))) as sink:
        for number in range(3):
            sink.update(alerts, NOW + number * 30 * S)
            peer = await until_failed(sink, number + 1)
        assert (("http_400", 3),) == peer.batches_failed_by_reason
        assert 3 == len(double.alerts)
        assert ["bad-name" in record.getMessage() for record in caplog.records] == [True]


async def test_a_batch_that_is_too_large_goes_in_parts_and_what_alone_is_too_large_is_given_up() -> None:
    """A proxy in front of Alertmanager has a bound of its own, such as 1 MB."""
    alerts = tuple(an_alert(tenant=str(number)) for number in range(300))
    async with AlertmanagerDouble() as double:
        double.alerts_max = 40
        async with running(AlertmanagerSettings(urls=(double.url,), retry_ns=3600 * S)) as sink:
            sink.update(alerts, NOW)
            await until_sent(sink, 300)
            double.alerts_max = 0
            sink.update((an_alert(tenant="other"),), NOW + S)
            (peer,) = await drained(sink, 5.0)
    assert (("http_413", 1),) == peer.alerts_dropped_by_reason
    assert 300 == peer.alerts_sent == len(double.alerts)


async def test_the_password_comes_from_a_file_and_is_read_again_when_refused(tmp_path: Path) -> None:
    """A rotated secret costs one batch, not a restart."""
    secret = tmp_path / "password"
    secret.write_text("old\n")
    async with AlertmanagerDouble(password="new") as double:
        wanted = AlertmanagerSettings(urls=(double.url,), username="engine", password_file=str(secret))
        async with running(wanted) as sink:
            secret.write_text("new\n")
            sink.update((an_alert(),), NOW)
            assert (("http_401", 1),) == (await until_failed(sink, 1)).batches_failed_by_reason
            sink.update((an_alert(),), NOW + 30 * S)
            assert 1 == (await drained(sink))[0].alerts_sent


def a_certificate(folder: Path) -> tuple[str, str]:
    """Make a certificate for 127.0.0.1 that signs itself."""
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    name = ("-subj", "/CN=callgauge", "-addext", "subjectAltName=IP:127.0.0.1")
    made = (
        tool("openssl", package="openssl"),
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        *name,
    )
    subprocess.run([*made, "-keyout", key, "-out", cert], check=True, capture_output=True, timeout=60)
    return cert, key


async def test_tls_trusts_the_ca_file_and_shows_the_certificate(tmp_path: Path) -> None:
    """Without ca_file the server is a stranger, without cert_file we are: counted, and nothing sent."""
    cert, key = a_certificate(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=cert)
    tls.load_cert_chain(cert, key)
    tls.verify_mode = ssl.CERT_REQUIRED
    async with AlertmanagerDouble(tls=tls) as double:
        urls = (double.url,)
        for wanted, sent in (
            (AlertmanagerSettings(urls=urls, ca_file=cert, cert_file=cert, key_file=key), 1),
            (AlertmanagerSettings(urls=urls, ca_file=cert), 0),
            (AlertmanagerSettings(urls=urls, cert_file=cert, key_file=key), 0),
        ):
            async with running(wanted) as sink:
                sink.update((an_alert(),), NOW)
                (peer,) = await drained(sink)
            assert sent == peer.alerts_sent, wanted
            assert (() if sent else (("connection", 1),)) == peer.batches_failed_by_reason


async def test_certificates_are_read_again_when_they_do_not_do(tmp_path: Path) -> None:
    """A rotated authority costs one batch, not a restart."""
    cert, key = a_certificate(tmp_path)
    old = tmp_path / "old"
    old.mkdir()
    authority = str(tmp_path / "ca.pem")
    shutil.copy(a_certificate(old)[0], authority)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(cert, key)
    async with AlertmanagerDouble(tls=tls) as double:
        wanted = AlertmanagerSettings(urls=(double.url,), ca_file=authority)
        async with running(wanted) as sink:
            shutil.copy(cert, authority)
            sink.update((an_alert(),), NOW)
            assert (("connection", 1),) == (await until_failed(sink, 1)).batches_failed_by_reason
            sink.update((an_alert(),), NOW + 30 * S)
            assert 1 == (await drained(sink))[0].alerts_sent


async def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be told the alerts and the password, and it is in no setting."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{closed.getsockname()[1]}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        async with AlertmanagerDouble() as double, running(AlertmanagerSettings(urls=(double.url,))) as sink:
            sink.update((an_alert(),), NOW)
            assert 1 == (await drained(sink))[0].alerts_sent


async def test_of_alerts_that_are_gone_nothing_is_remembered() -> None:
    """New labels come for as long as the engine runs."""
    async with AlertmanagerDouble() as double, running(AlertmanagerSettings(urls=(double.url,))) as sink:
        sink.update(tuple(an_alert(tenant=one) for one in "abc"), NOW)
        await until_sent(sink, 3)
        sink.update((an_alert(tenant="c"),), NOW + S)
        assert (1, 1, 1) == (len(sink._handed), len(sink._taken), len(sink._postings))


async def test_a_path_in_the_address_is_kept() -> None:
    """An Alertmanager behind a prefix is reached by its full address, with or without a slash at the end."""
    async with AlertmanagerDouble() as double:
        wanted = AlertmanagerSettings(urls=(f"{double.url}/prefix/",))
        async with running(wanted) as sink:
            sink.update((an_alert(),), NOW)
            assert 1 == (await drained(sink))[0].alerts_sent


async def test_draining_sends_what_waits_and_resolves_nothing() -> None:
    """A shutdown must not tell Alertmanager that all is well."""
    async with AlertmanagerDouble() as double:
        async with running(AlertmanagerSettings(urls=(double.url,))) as sink:
            sink.update((an_alert(),), NOW)
            await drained(sink)
        assert [NOW + 360 * S] == [alert.ends_ns for alert in double.alerts]


async def test_draining_a_dead_peer_ends_at_the_deadline() -> None:
    """What was not sent is counted."""
    async with AlertmanagerDouble() as double:
        double.release.clear()
        async with running(AlertmanagerSettings(urls=(double.url,), batch_alerts_max=1)) as sink:
            sink.update((an_alert(), an_alert(tenant="b")), NOW)
            await double.until(1)
            (peer,) = await drained(sink, 0.05)
        assert (("shutdown", 2),) == peer.alerts_dropped_by_reason


async def test_without_a_peer_nothing_happens() -> None:
    """A deployment may have no Alertmanager yet."""
    async with running(AlertmanagerSettings()) as sink:
        sink.update((an_alert(),), NOW)
        assert () == await drained(sink)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"urls": ("am:9093",)}, "http://host:9093"),
        ({"urls": ("http://user:hunter2@am:9093",)}, "password_file"),
        ({"urls": ("http://am:9093",), "username": "u", "password_file": "/nowhere/p"}, "/nowhere/p"),
        ({"urls": ("http://am:9093",), "ca_file": "/nowhere/ca.pem"}, "/nowhere/ca.pem"),
    ],
)
async def test_wrong_settings_are_refused_with_a_hint(wanted: dict[str, object], says: str) -> None:
    """The message names the setting or file, and never the password."""
    with pytest.raises(DeliveryError) as raised:
        await AlertmanagerSink(AlertmanagerSettings(**wanted), EXTERNAL_URL).start()  # type: ignore[arg-type]
    assert says in str(raised.value)
    assert raised.value.hint
    assert "hunter2" not in str(raised.value)


def a_posting(number: int, state: str, version: int = 0) -> Posting:
    alert = an_alert(state=state, tenant=str(number))._replace(found_ns=version)
    return Posting(f"{number:016x}", alert.labels, alert, 0.0)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([FIRING, RESOLVED]))),
    st.integers(1, 6),
    st.integers(1, 4),
)
def test_the_queue_is_bounded_and_the_newest_state_wins(
    puts: list[tuple[int, str]], alerts_max: int, batch: int
) -> None:
    """Never more than the bound; one entry per alert, the newest; puts = taken + replaced + dropped."""
    queue = PostingQueue(alerts_max)
    newest, dropped, replaced = {}, 0, 0
    for version, (number, state) in enumerate(puts):
        before = len(queue)
        newest[a_posting(number, state).fingerprint] = version
        lost = queue.put(a_posting(number, state, version))
        dropped += lost
        replaced += 1 - (len(queue) - before + lost)
        assert len(queue) <= alerts_max
    taken = []
    while part := queue.take(batch):
        assert len(part) <= batch
        taken += part
    assert len({each.fingerprint for each in taken}) == len(taken)
    assert all(newest[each.fingerprint] == each.alert.found_ns for each in taken)
    assert [each.alert.state for each in taken] == sorted(each.alert.state for each in taken), "firing first"
    assert len(puts) == len(taken) + replaced + dropped


def test_a_full_queue_gives_up_the_oldest_resolved_alert_first() -> None:
    """A lost resolution comes about by endsAt; a lost page does not."""
    queue = PostingQueue(3)
    for number, state in ((1, FIRING), (2, RESOLVED), (3, RESOLVED), (4, FIRING)):
        queue.put(a_posting(number, state))
    assert 1 == queue.put(a_posting(5, FIRING))
    assert 1 == queue.put(a_posting(6, FIRING))
    assert [4, 5, 6] == [int(each.fingerprint, 16) for each in queue.take(9)]
