"""How a consumer is made and let go: everything of aiokafka that is not reading.

Security fails closed: without TLS a broker must be on loopback, unless `allow_insecure` says otherwise, which
`engine/settings_check.py` sees to; host names are always checked. What no waiting can mend (a wrong password,
an unreadable certificate) is a `SourceError` with a hint; a broker that is not there is waited for.

Private names of aiokafka are touched in `kafka_insides.py` and `raw_fetch.py` alone; its version is pinned.
"""

from __future__ import annotations

import functools
import logging
import ssl
import time
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, codec, errors
from aiokafka.conn import create_conn
from aiokafka.helpers import create_ssl_context

from engine.addresses import is_loopback, split_listen
from engine.errors import SourceError
from engine.secret_file import SecretError, read_secret
from engine.source.bounded import bounded
from engine.source.kafka_insides import close_connections
from engine.source.raw_fetch import make_raw_consumer

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from engine.settings import KafkaSettings
    from engine.source.assignor import OneOwnerAssignor

NS_PER_MS = 1_000_000
UNENCRYPTED = ("PLAINTEXT", "SASL_PLAINTEXT")
STOP_S = 5.0
LOG_EVERY_S = 30.0
LOGGED_TEXTS_MAX = 256
log = logging.getLogger(__name__)
REFUSED = (
    errors.AuthenticationFailedError, errors.SaslAuthenticationFailed, errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)  # fmt: skip


class FencedInstanceIdError(errors.BrokerResponseError):  # type: ignore[misc]
    """Another process has joined the group with this member id; aiokafka does not know the code."""

    errno = 82
    message = "FENCED_INSTANCE_ID"
    description = "Another member has joined with the same group.instance.id."


errors.kafka_errors.setdefault(FencedInstanceIdError.errno, FencedInstanceIdError)


def check_codecs() -> None:
    """Compress and expand with every codec that a producer may use: one that is missing stops a partition."""
    probe = b"call" * 64
    pairs = (
        ("gzip", codec.gzip_encode, codec.gzip_decode),
        ("snappy", codec.snappy_encode, codec.snappy_decode),
        ("lz4", codec.lz4_encode, codec.lz4_decode),
        ("zstd", codec.zstd_encode, codec.zstd_decode),
    )
    for name, encode, decode in pairs:
        try:
            works = bytes(decode(encode(probe))) == probe
        except Exception as error:  # A broken native module raises anything.
            raise SourceError(
                f"the codec {name} does not work here", cause=str(error), hint="reinstall cramjam"
            ) from error
        if not works:
            raise SourceError(f"the codec {name} does not give back what it got", hint="reinstall cramjam")


def is_insecure(settings: KafkaSettings) -> bool:
    """Say whether a broker on another machine is talked to without encryption."""
    hosts = [place[0] for place in map(split_listen, settings.bootstrap_servers) if place is not None]
    return settings.security_protocol in UNENCRYPTED and not all(map(is_loopback, hosts))


def say_if_insecure(settings: KafkaSettings) -> None:
    """Warn of what `allow_insecure` allows; once for a process, which makes many connections."""
    if is_insecure(settings):
        log.warning("calls come from Kafka unencrypted, as kafka.allow_insecure says")


def connection_options(settings: KafkaSettings) -> dict[str, Any]:
    """Give the options of a connection; files that cannot be read are a SourceError that names them."""
    options: dict[str, Any] = {"security_protocol": settings.security_protocol}
    if settings.security_protocol.endswith("SSL"):
        try:
            context = create_ssl_context(
                cafile=settings.ca_file or None,
                certfile=settings.cert_file or None,
                keyfile=settings.key_file or None,
            )
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(
                file for file in (settings.ca_file, settings.cert_file, settings.key_file) if file
            )
            raise SourceError(
                "certificates cannot be loaded", where=files, cause=str(error),
                hint="check kafka.ca_file, kafka.cert_file and kafka.key_file",
            ) from error  # fmt: skip
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        options["ssl_context"] = context
    if settings.security_protocol.startswith("SASL_"):
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = _secret(settings.sasl_password_file)
    return options


def make_consumer(
    settings: KafkaSettings, member_id: str, assignor: OneOwnerAssignor, options: dict[str, Any],
    *, is_raw: bool,
) -> AIOKafkaConsumer:  # fmt: skip
    """Make a consumer that is not started, of chunks or of records; it belongs to the running loop."""
    session_ms = settings.session_timeout_ns // NS_PER_MS
    make = functools.partial(make_raw_consumer, settings) if is_raw else AIOKafkaConsumer
    return make(
        bootstrap_servers=list(settings.bootstrap_servers),
        client_id="callgauge",
        group_id=settings.group_id,
        group_instance_id=member_id,
        partition_assignment_strategy=(assignor,),
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=settings.heartbeat_ns // NS_PER_MS,
        rebalance_timeout_ms=max(session_ms, 30_000),
        # Longer than a rebalance, or JoinGroup gives up on the coordinator while it waits for the others.
        request_timeout_ms=max(session_ms, 30_000) + 10_000,
        # The app stops calling `read` while its queue is full, however long that is.
        max_poll_interval_ms=300_000,
        # How soon partitions that are added to the topic, or a topic that is made anew, are noticed.
        metadata_max_age_ms=10_000,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        retry_backoff_ms=500,
        fetch_max_bytes=settings.fetch_bytes_max,
        max_partition_fetch_bytes=settings.fetch_bytes_max,
        fetch_min_bytes=settings.fetch_bytes_min,
        fetch_max_wait_ms=settings.fetch_wait_ns // NS_PER_MS,
        **options,
    )


async def close_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer within a bounded time, whatever state its broker is in.

    With the broker down, `stop` cancels itself and leaves its connections open.
    """
    try:
        await _end(consumer.stop())
    finally:
        await _end(close_connections(consumer))


async def _end(work: Coroutine[Any, Any, None]) -> None:
    """Let it end; it is thrown away, and nothing it says matters any more."""
    try:
        await bounded(work, STOP_S)
    except Exception as error:  # noqa: BLE001
        log.debug("a consumer did not stop cleanly: %s", type(error).__name__)


async def why_not_connected(settings: KafkaSettings, options: dict[str, Any]) -> str:
    """Try each broker alone, because the client only logs why; SourceError for what waiting cannot mend."""
    causes = []
    for address in settings.bootstrap_servers:
        place = split_listen(address)
        assert place is not None, "the settings were checked"
        try:
            connection = await create_conn(*place, request_timeout_ms=5000, **options)
        except REFUSED as error:
            raise SourceError(
                "the broker refuses the login", where=address, cause=str(error),
                hint="check kafka.sasl_mechanism, kafka.sasl_username and kafka.sasl_password_file",
            ) from error  # fmt: skip
        except ssl.SSLCertVerificationError as error:
            raise SourceError(
                "the broker's certificate is not trusted", where=address, cause=error.verify_message,
                hint="set kafka.ca_file to the authority that signed it, and use the name in the certificate",
            ) from error  # fmt: skip
        except (OSError, errors.KafkaError, TimeoutError) as error:
            causes.append(f"{address}: {error or type(error).__name__}")
        else:
            connection.close()
    return "; ".join(causes)


def limit_client_logs() -> None:
    """Let aiokafka say each thing once in half a minute, and never show records, as its debug texts do."""
    logging.getLogger("aiokafka")
    for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "aiokafka"]:
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.getEffectiveLevel(), logging.INFO))
        if not any(isinstance(each, OnceInAWhile) for each in logger.filters):
            logger.addFilter(OnceInAWhile())


class OnceInAWhile:
    """A filter of a logger that passes each text once in `LOG_EVERY_S`, saying how often it was held back."""

    def __init__(self) -> None:
        """Hold nothing back yet."""
        self._last: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether to pass a record."""
        now_s = time.monotonic()
        text = str(record.msg)
        last_s, held_back = self._last.get(text, (-LOG_EVERY_S, 0))
        if now_s - last_s < LOG_EVERY_S:
            self._last[text] = (last_s, held_back + 1)
            return False
        if len(self._last) >= LOGGED_TEXTS_MAX:
            self._last.clear()
        self._last[text] = (now_s, 0)
        if held_back:
            record.msg = f"{text} (and {held_back} times in between)"
        return True


def _secret(path: str) -> str:
    """Read a password from its file; no part of it goes into an error."""
    try:
        return read_secret(path)
    except SecretError as error:
        raise SourceError(
            "the password cannot be read", where=path or "kafka.sasl_password_file", cause=str(error),
            hint="name a text file that this user can read",
        ) from None  # fmt: skip
