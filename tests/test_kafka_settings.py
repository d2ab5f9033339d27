"""What is refused before a broker is asked, and what is let through."""

import logging
from pathlib import Path

import orjson
import pytest

from engine.deliver.metrics import source_families
from engine.errors import SettingsError, SourceError
from engine.settings import KafkaSettings
from engine.settings_file import parse_settings
from engine.source.kafka import KafkaSource
from engine.source.kafka_connection import (
    OnceInAWhile,
    check_codecs,
    connection_options,
    is_insecure,
    limit_client_logs,
)
from engine.source.stats import SourceStats


def kafka(**given: object) -> KafkaSettings:
    """Read these settings as from a file."""
    return parse_settings(orjson.dumps({"kafka": given}).decode(), "engine.yaml").kafka


@pytest.mark.parametrize(
    "address",
    [
        "",
        "host",
        "host:",
        "host:port",
        "host:0",
        "host:70000",
        "kafka://host:9092",
        "host:9092,other:9092",
        "a b:9092",
    ],
)
def test_an_address_that_cannot_be_is_refused(address: str) -> None:
    """The error names the address and how to write one."""
    with pytest.raises(SettingsError, match=r"kafka\.bootstrap_servers") as raised:
        kafka(bootstrap_servers=[address], allow_insecure=True)
    assert f"{address!r} is not host:port" in str(raised.value)


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SASL_PLAINTEXT"])
def test_calls_do_not_leave_the_machine_unencrypted(protocol: str) -> None:
    """Off loopback, a protocol without TLS has to be allowed by name."""
    login = {"sasl_mechanism": "PLAIN", "sasl_username": "me", "sasl_password_file": "password"}
    safe = {"security_protocol": protocol, **(login if protocol.startswith("SASL") else {})}
    there = {**safe, "bootstrap_servers": ["127.0.0.1:9092", "kafka.example:9092"]}
    with pytest.raises(SettingsError, match=r"'kafka\.example:9092' is another machine"):
        kafka(**there)
    for address in ("localhost:9092", "127.3.2.1:1", "[::1]:9092"):
        kafka(**safe, bootstrap_servers=[address])
    assert is_insecure(kafka(**there, allow_insecure=True))


async def test_what_was_allowed_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Once at each start, however many connections follow, and only where it matters."""
    open_to_all = KafkaSettings(
        bootstrap_servers=("kafka.example:9092",), allow_insecure=True, raw_batches=False
    )
    for settings, times in ((KafkaSettings(raw_batches=False), 0), (open_to_all, 1)):
        source = KafkaSource(settings)
        await source.start()
        for _ in range(3):
            connection_options(settings)
        await source.close()
        assert times == caplog.text.count("unencrypted")
    assert KafkaSource(open_to_all).stats().insecure
    assert not KafkaSource(KafkaSettings()).stats().insecure
    (family,) = [
        one for one in source_families(SourceStats(insecure=True)) if one.name == "callgauge_kafka_insecure"
    ]
    assert list(family.values) == [1]


def test_with_tls_any_host_may_be_named() -> None:
    """Encryption is what loopback stands in for."""
    assert not is_insecure(kafka(bootstrap_servers=["kafka.example:9093"], security_protocol="SSL"))


def test_every_codec_works_here() -> None:
    """Producers choose the codec; one that is missing would stop a partition."""
    check_codecs()


def test_a_password_comes_from_its_file(tmp_path: Path) -> None:
    """The last newline is not part of it."""
    (tmp_path / "password").write_text("secret words\n", "utf-8")
    settings = KafkaSettings(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="me",
        sasl_password_file=str(tmp_path / "password"),
    )
    assert connection_options(settings) == {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "me",
        "sasl_plain_password": "secret words",
    }


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """A missing password or certificate is an error with its path."""
    password = KafkaSettings(
        security_protocol="SASL_SSL", sasl_mechanism="PLAIN", sasl_password_file=str(tmp_path / "no-password")
    )
    certificate = KafkaSettings(security_protocol="SSL", ca_file=str(tmp_path / "no-ca"))
    for settings, name in ((password, "no-password"), (certificate, "no-ca")):
        with pytest.raises(SourceError, match=name):
            connection_options(settings)


async def test_a_broker_that_is_away_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """There are ticks without partitions, a line in the log that says what is waited for, and no error."""
    source = KafkaSource(KafkaSettings(bootstrap_servers=("127.0.0.1:1",), poll_ns=50_000_000))
    await source.start()
    with caplog.at_level(logging.WARNING):
        batches = [await source.read() for _ in range(12)]
    assert [(each.rows, each.assigned, each.caught_up) for each in batches if each] == [(0, (), ())] * 12
    assert source.stats().state == "waiting"
    assert "waiting for Kafka" in caplog.text
    assert "127.0.0.1:1" in caplog.text
    await source.close()
    assert source.stats().state == "closed"


def test_the_client_repeats_itself_seldom() -> None:
    """The same text passes once in a while; another text passes."""
    limit = OnceInAWhile()
    texts = ["down", "down", "up", "down"]
    records = [logging.LogRecord("aiokafka", logging.ERROR, "", 0, text, None, None) for text in texts]
    assert [limit.filter(record) for record in records] == [True, False, True, False]


def test_the_client_never_shows_records() -> None:
    """Its debug texts hold rows, so they stay off whatever the log level is."""
    limit_client_logs()
    limit_client_logs()
    loggers = [name for name in logging.root.manager.loggerDict if name.startswith("aiokafka")]
    assert "aiokafka.consumer.fetcher" in loggers
    for name in loggers:
        assert not logging.getLogger(name).isEnabledFor(logging.DEBUG)
        assert len(logging.getLogger(name).filters) == 1


def test_the_client_says_no_more_than_the_log_level_allows(caplog: pytest.LogCaptureFixture) -> None:
    """It has no level of its own before."""
    loggers = [
        logging.getLogger(name) for name in logging.root.manager.loggerDict if name.startswith("aiokafka")
    ]
    for level in (logging.WARNING, logging.INFO):
        for logger in loggers:
            logger.setLevel(logging.NOTSET)
        with caplog.at_level(level):
            limit_client_logs()
        assert {level} == {logger.getEffectiveLevel() for logger in loggers}
