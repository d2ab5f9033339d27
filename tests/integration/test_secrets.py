"""Secrets and telephone numbers go in everywhere, and come out nowhere; nobody is called but Kafka and peers.

One whole service with a login to everything: passwords, tokens and keys in files, numbers in every field of
every event, in rows that are no events, in requests, with line breaks and colours in between. Then everything
that it has said, served, sent and written is searched.
"""

import base64
import contextlib
import json
import os
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.secure_kafka import GROUP_KIND, MECHANISM, PASSWORD, TOPIC_KIND, USER, SecureKafka
from tests.integration.servers import ServerMissing, wait_until, without
from tests.integration.service import ROOT, Service, run_command
from tests.line_traffic import START_NS
from tests.test_privacy import MAIL, PHONE, SECRETS, TRANSCRIPT, planted
from tests.web_world import authority, secret_file, web_file

WEB_PASSWORD, WEB_TOKEN = "web-password-of-the-test", "web-token-of-the-test-0123456789"
PEER_PASSWORD, UNRELATED = "peer-password-of-the-test", "unrelated-secret-in-the-environment"
CALL_KEY, LABEL_KEY = "c0ffee" + "17" * 13, "decade" + "29" * 13
OURS = (PASSWORD, WEB_PASSWORD, WEB_TOKEN, PEER_PASSWORD, UNRELATED, CALL_KEY, LABEL_KEY)
TOPIC = "calls"
FORGED = "\nts=2026-01-01 level=error msg=forged \x1b[31m\u202e"
FORGED_WORD = "msg=forged"
LISTED = ("/", "/metrics", "/api/v1/headroom", "/api/v1/alerts", "/api/v1/releases", "/-/ready", "/-/healthy")


PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"


class World(NamedTuple):
    """Everything that came out."""

    places: dict[str, str]
    recording: bytes
    connections: list[list[str]]
    allowed: set[str]


class Peer:
    """Takes alerts and keeps them as they came."""

    def __init__(self) -> None:
        bodies: list[bytes] = []

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                is_known = self.headers["Authorization"] == basic("sender", PEER_PASSWORD)
                self.send_response(200 if is_known else 401)
                self.end_headers()
                # What a peer says of a refusal must not forge a line of our log.
                self.wfile.write(b"" if is_known else FORGED.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.bodies = bodies
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def rows() -> list[bytes]:
    """Write the planted events as of now, forged lines among them, and rows that are none."""
    shift_s = int(time.time() - 120) - START_NS // 10**9
    found = []
    for one in planted():
        fields: dict[str, Any] = json.loads(one.row)
        fields["time"] = fields["time"] / 1e9 + shift_s if fields["time"] > 1e15 else fields["time"] + shift_s
        found.append(json.dumps(fields).encode())
        text = fields.get("agent", "")
        found.append(json.dumps({**fields, "tenant": MAIL, "trunk": f"sip:{MAIL}"}).encode())
        found += [
            json.dumps({**fields, name: f"{text}{FORGED}{MAIL}"}).encode()
            for name in ("tenant", "reason", "limit", "dependency", "what", "outcome", "type")
        ]
    broken = [
        b"{" + PHONE.encode(), PHONE.encode(), f"call {PHONE} {TRANSCRIPT}{FORGED}".encode(),
        b"\xff" + PHONE.encode(),
        json.dumps([PHONE, MAIL]).encode(), json.dumps({"type": PHONE, "time": PHONE}).encode(),
        json.dumps({"type": "call.started", "time": PHONE, "call_id": MAIL}).encode(),
    ]  # fmt: skip
    return [*found, *broken]


def fetch(url: str, **headers: str) -> str:
    """Fetch a page; a refusal's text is a page too."""
    request = urllib.request.Request(url, headers=headers)
    with contextlib.suppress(urllib.error.URLError, ValueError):
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return str(answer.read().decode("utf-8", "replace")) + str(answer.headers)
        except urllib.error.HTTPError as error:
            return error.read().decode("utf-8", "replace") + str(error.headers)
    return ""


def ask_strangely(service: Service) -> str:
    """Send numbers and secrets in requests; give the answers' headers and those bodies that are ours."""
    said = ""
    for path in (
        f"/alerts/{PHONE[1:]}",
        f"/api/v1/headroom?tenant={PHONE[1:]}",
        f"/{MAIL}",
        f"/%0a{FORGED_WORD}",
    ):
        for login in (
            basic("prometheus", "wrong" + PHONE),
            basic(PHONE, WEB_PASSWORD + "x"),
            f"Bearer {PHONE}",
        ):
            said += fetch(service.url + path, Authorization=login)
        said += fetch(service.url + "/-/healthy", Origin=PHONE, Referer=MAIL)
    return said


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Run it all once."""
    folder = tmp_path_factory.mktemp("secrets")
    try:
        broker = SecureKafka(folder / "kafka")
    except ServerMissing as missing:
        without(missing)
    broker.kafka.start()
    broker.kafka.create_topic(TOPIC, 2)
    broker.allow(f"User:{USER}", TOPIC_KIND, TOPIC)
    broker.allow(f"User:{USER}", GROUP_KIND, f"group-{TOPIC}")
    peer = Peer()
    try:
        yield from (lived(folder, broker, peer),)
    finally:
        peer.close()
        broker.kafka.stop()


def sections(folder: Path, peer: Peer) -> dict[str, dict[str, object]]:
    """Give the settings but for Kafka, with a secret wherever there may be one."""
    secrets = folder / "secrets"
    secrets.mkdir()
    return {
        "engine": {
            "call_key_file": secret_file(secrets, "call-key", CALL_KEY),
            "label_key_file": secret_file(secrets, "label-key", LABEL_KEY),
            "learned_limits_file": str(folder / "learned.json"),
        },
        "alertmanager": {
            "urls": [f"http://127.0.0.1:{peer.port}"], "username": "sender", "resend": "1s", "timeout": "1s",
            "password_file": secret_file(secrets, "peer", PEER_PASSWORD),
        },
        "web": {
            "config_file": web_file(secrets, {"prometheus": WEB_PASSWORD}),
            "token_file": secret_file(secrets, "token", WEB_TOKEN),
            "external_url": "https://gauge.example/x",
        },
        "quarantine": {"path": str(folder / "quarantine.jsonl"), "rows_per_s_max": 1000},
    }  # fmt: skip


def service_of(folder: Path, broker: SecureKafka, peer: Peer) -> Service:
    """Make a service that is watched from outside, with secrets in its environment as well."""
    service = Service(
        folder / "service", broker.secure_bootstrap, TOPIC,
        "--record", str(folder / "recording"), "--log-level", "debug", command="engine.cli",
        **sections(folder, peer),
    )  # fmt: skip
    path = service.folder / "engine.yaml"
    settings = json.loads(path.read_text())
    settings["kafka"] |= {
        "security_protocol": "SASL_SSL", "sasl_mechanism": MECHANISM, "sasl_username": USER,
        "sasl_password_file": secret_file(folder / "secrets", "kafka", PASSWORD),
        "ca_file": str(authority() / "ca.pem"), "start": "earliest",
    }  # fmt: skip
    path.write_text(json.dumps(settings))
    command = service.process.command
    at = command.index("env") + 2
    sources = f"{Path(__file__).parent / 'audited'}:{ROOT}"
    command[at:at] = [f"PYTHONPATH={sources}", f"AUDIT_FILE={folder / 'audit.jsonl'}",
                      f"SOME_TOKEN={UNRELATED}", f"CALLGAUGE_SERVICE_HOST={UNRELATED}"]  # fmt: skip
    return service


def lived(folder: Path, broker: SecureKafka, peer: Peer) -> World:
    """Start the service, plant, and gather."""
    service = service_of(folder, broker, peer)
    service.start_ready()
    known = {"Authorization": f"Bearer {WEB_TOKEN}"}
    sent = rows()
    broker.kafka.produce(TOPIC, sent, key_of=lambda row: row[:8], compression="zstd")
    wait_until(
        lambda: f"callgauge_rows_read_total {len(sent)}" in fetch(f"{service.url}/metrics", **known),
        what="all rows are read",
    )
    wait_until(lambda: len(peer.bodies) >= 3, what="alerts are sent")
    wait_until(
        lambda: all(word in fetch(f"{service.url}/metrics", **known) for word in ("number:", "address:")),
        what="slices with numbers are closed",
    )
    places = {"answers to strangers": ask_strangely(service)}
    for page in LISTED:
        places[page] = fetch(service.url + page, **known)
    places["protobuf"] = fetch(f"{service.url}/metrics", **known, Accept=PROTOBUF)
    for alert in json.loads(places["/api/v1/alerts"].partition("\n")[0])["alerts"]:
        page = f"/alerts/{alert['fingerprint']}"
        places[page] = fetch(service.url + page, **known)
    service.limits.write_text(f"limits: [{{name: '{PHONE}', password: {UNRELATED}}}]\n")
    os.kill(service.process.pid, signal.SIGHUP)
    wait_until(lambda: "reload failed" in service.log(), what="the reload has failed")
    service.process.stop()
    replay = run_command("replay", str(folder / "recording"), "--config", "engine.yaml", cwd=service.folder)
    checked = run_command("check-config", "--config", "engine.yaml", cwd=service.folder)
    places |= {
        "log": service.log(),
        "timeline": service.timeline.read_text() if service.timeline.exists() else "",
        "quarantine": (folder / "quarantine.jsonl").read_text(),
        "alerts": b"\n".join(peer.bodies).decode(),
        "replay": (replay.stdout + replay.stderr).decode(),
        "check-config": (checked.stdout + checked.stderr).decode(),
    }
    connections = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
    allowed = {broker.secure_bootstrap.partition(":")[2], str(peer.port)}
    return World(places, _recorded(folder / "recording"), connections, allowed)


def _recorded(folder: Path) -> bytes:
    return b"".join(one.read_bytes() for one in folder.rglob("*") if one.is_file())


def test_no_secret_of_ours_comes_out(world: World) -> None:
    """Nor in the recording, which holds what customers said and nothing of the deployment."""
    found = [(place, secret) for place, text in world.places.items() for secret in OURS if secret in text]
    found += [("recording", secret) for secret in OURS if secret.encode() in world.recording]
    encoded = [base64.b64encode(f"{user}:{text}".encode()).decode() for user, text in
               (("sender", PEER_PASSWORD), ("prometheus", WEB_PASSWORD))]  # fmt: skip
    found += [(place, text) for place, said in world.places.items() for text in encoded if text in said]
    assert [] == found


def test_nothing_of_a_caller_comes_out(world: World) -> None:
    """Search as if spaces were not there: numbers are written in groups."""
    found = [
        (place, secret, text[max(text.find(secret) - 80, 0) :][:200])
        for place, text in world.places.items()
        for secret in (*SECRETS, TRANSCRIPT)
        if secret in text or secret in text.replace(" ", "")
    ]
    assert [] == found


def test_nobody_forges_a_line_or_a_colour(world: World) -> None:
    log = world.places["log"]
    assert [] == [line for line in log.splitlines() if not line.startswith("ts=2")]
    assert [] == [
        char for char in set(log) if char != "\n" and (ord(char) < 32 or char in "\x7f\u202e\u2028")
    ]
    apart = ("answers to strangers", "protobuf")  # what they asked for; lengths, which may be any byte
    unasked = {place: text for place, text in world.places.items() if place not in apart}
    assert [] == [place for place, text in unasked.items() if "\x1b" in text or "\u202e" in text]


def test_much_was_said_in_all_of_these_places(world: World) -> None:
    """Or nothing could have come out."""
    assert [] == [place for place, text in world.places.items() if not text and place != "timeline"]
    assert re.search(r"number:[a-p]{16}", world.places["/metrics"])
    assert re.search(r"address:[a-p]{16}", world.places["/metrics"])
    assert "not_json" in world.places["quarantine"]
    assert "CallgaugeWatchdog" in world.places["alerts"]
    assert "rows that are not counted" in world.places["log"]
    assert "reload failed" in world.places["log"]
    assert len(world.recording) > 1000


def test_nobody_is_called_but_kafka_and_alertmanager(world: World) -> None:
    """No connection elsewhere, no name looked up, no process started."""
    made = [one for one in world.connections if one[0] in ("socket.connect", "socket.sendto")]
    ports = {re.search(r", (\d+)", one[1]) for one in made}
    assert world.allowed == {found[1] for found in ports if found}
    assert [] == [one for one in made if "127.0.0.1" not in one[1]]
    names = {one[1] for one in world.connections if one[0] == "socket.getaddrinfo"}
    assert names <= {"'127.0.0.1'", "b'127.0.0.1'", "None"}
    assert [] == [one for one in world.connections if one[0] in ("subprocess.Popen", "os.system", "os.exec")]
