"""TLS, SASL/SCRAM, client certificates and ACLs against a real broker: least rights read everything.

Everything else is an error that says what to mend, or a wait that says for what, and never an open door.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import SourceError
from engine.settings import KafkaSettings, Settings, StateSettings
from engine.source.kafka import KafkaSource
from engine.state.encoding import StateError
from engine.state.manifest import Candidate
from engine.state.topic import StateTopic
from tests.integration.secure_kafka import (
    GROUP_KIND,
    NEWCOMER,
    PASSWORD,
    READ,
    STRANGER,
    TOPIC_KIND,
    USER,
    WRITE,
    SecureKafka,
)
from tests.integration.servers import ServerMissing, without
from tests.source_contract import read_rows, rows_of
from tests.test_state_folder import STAMP, a_capture, a_folder
from tests.web_world import certified, openssl, secret_file

S = 1_000_000_000
TOPIC, GROUP = "calls", "group-of-callgauge"
ROWS = [b'{"call_id":"c%d"}' % number for number in range(200)]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    """Give a broker with one topic, which `callgauge` may read and `stranger` may not."""
    try:
        running = SecureKafka(tmp_path_factory.mktemp("secure-kafka"))
    except ServerMissing as missing:
        without(missing)
    running.kafka.start()
    running.kafka.create_topic(TOPIC)
    running.kafka.produce(TOPIC, ROWS, compression="zstd")
    for principal in (f"User:{USER}", "User:CN=client"):
        running.allow(principal, TOPIC_KIND, TOPIC)
        running.allow(principal, GROUP_KIND, GROUP)
    yield running
    running.kafka.stop()


@pytest.fixture
async def open_source(broker: SecureKafka, tmp_path: Path) -> AsyncIterator[Any]:
    """Give a function that starts a source which logs in by SCRAM, unless told otherwise."""
    running: list[KafkaSource] = []

    async def start(**changes: Any) -> KafkaSource:
        settings = broker.reader(tmp_path, TOPIC, GROUP, 6 * S)
        source = KafkaSource(KafkaSettings(**{**settings, **changes}))
        running.append(source)
        await source.start()
        return source

    yield start
    for source in running:
        await source.close()


async def all_rows(source: KafkaSource) -> list[bytes]:
    """Read as many rows as there are."""
    return [row for batch in await read_rows(source, len(ROWS)) for row in rows_of(batch)]


async def refused(source: KafkaSource) -> SourceError:
    """Read until it is refused."""
    async with asyncio.timeout(60):
        while True:
            try:
                batch = await source.read()
            except SourceError as error:
                return error
            assert batch is not None
            assert not batch.rows


async def test_scram_over_tls_with_the_right_to_read_reads_everything(
    broker: SecureKafka, open_source: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """READ on the topic and on the group is all it needs; offsets are committed with it."""
    for name in ("engine", "aiokafka"):
        caplog.set_level(logging.DEBUG, name)
    source = await open_source()
    assert sorted(ROWS) == sorted(await all_rows(source))
    await asyncio.sleep(0.1)
    assert 0 == source.stats().commits_failed
    assert PASSWORD not in caplog.text
    assert PASSWORD not in repr(vars(source)["_settings"])


async def test_a_client_certificate_is_a_login(broker: SecureKafka, open_source: Any) -> None:
    files = certified("client")
    no_login = {"sasl_mechanism": "", "sasl_username": "", "sasl_password_file": ""}
    mutual = {"bootstrap_servers": (broker.mutual_bootstrap,), "security_protocol": "SSL", **no_login}
    source = await open_source(**mutual, **files)
    assert len(ROWS) == len(await all_rows(source))


async def test_a_wrong_password_is_an_error_that_does_not_show_it(open_source: Any, tmp_path: Path) -> None:
    path = secret_file(tmp_path, "wrong", "not-the-password-of-anybody")
    error = await refused(await open_source(sasl_password_file=path))
    assert "refuses the login" in str(error)
    assert "sasl_password_file" in error.hint
    assert "not-the-password" not in str(error)


async def test_a_broker_that_nobody_vouches_for_is_not_talked_to(open_source: Any, tmp_path: Path) -> None:
    """Another authority has signed it: it could be anybody, and is told no password."""
    openssl(tmp_path, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "2", "-subj", "/CN=another", "-keyout", "other.key", "-out", "other.pem")  # fmt: skip
    error = await refused(await open_source(ca_file=str(tmp_path / "other.pem")))
    assert "certificate is not trusted" in str(error)


@pytest.mark.parametrize("missing", ["topic", "group"])
async def test_without_a_right_it_waits_and_says_for_which(
    missing: str, broker: SecureKafka, open_source: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The right may still be given; nothing is read before that, and reading begins when it is."""
    group = f"group-without-{missing}"
    if missing == "topic":
        user = STRANGER
        broker.allow(f"User:{user}", GROUP_KIND, group)
    else:
        user = NEWCOMER
        broker.allow(f"User:{user}", TOPIC_KIND, TOPIC)
    source = await open_source(sasl_username=user, group_id=group)
    async with asyncio.timeout(60):
        while "uthoriz" not in caplog.text:
            batch = await source.read()
            assert batch is not None
            assert not batch.rows
    assert source.stats().state != "reading"


async def test_checkpoints_need_the_right_to_write_to_their_topic_and_no_other(
    broker: SecureKafka, open_source: Any, tmp_path: Path
) -> None:
    kafka = (await open_source())._settings
    broker.kafka.create_topic("state-of-callgauge", 1, cleanup_policy="compact")
    folder = a_folder(tmp_path / "state")
    folder.save(a_capture(1), STAMP)
    cut = Candidate(folder.newest(), "", folder.read_blob, lambda: None)
    topic = StateTopic(Settings(kafka=kafka, state=StateSettings(topic="state-of-callgauge")))
    with pytest.raises(StateError, match="Authorization"):
        await topic.write(cut.manifest, cut)
    for right in (READ, WRITE):
        broker.allow(f"User:{USER}", TOPIC_KIND, "state-of-callgauge", right)
    async with asyncio.timeout(30):  # A right takes a moment to be known.
        while True:
            try:
                await topic.write(cut.manifest, cut)
                break
            except StateError:
                await asyncio.sleep(0.2)
    found, refused = await topic.read("calls", "")
    assert [1] == [one.manifest.next_offsets[0] for one in found]
    assert not refused
    await topic.close()
