"""What the promises of the README take for granted: looked at when a run starts, and said in its log.

Nothing is refused here: a run without them still watches, and promises less. What a broker does not tell,
because it cannot be reached or its rights do not allow it, is said to be unknown.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from engine.addresses import is_plain_elsewhere
from engine.config_files import is_sample
from engine.own_files import file_troubles
from engine.source.kafka_connection import connection_options, is_insecure

if TYPE_CHECKING:
    from engine.app import Configuration
    from engine.settings import KafkaSettings, Settings

NS_PER_MS = 1_000_000
HOUR_MS = 3_600_000
ASK_S = 3.0
RETENTION, RETENTION_BYTES, POLICY = ASKED = ("retention.ms", "retention.bytes", "cleanup.policy")
PEERS_LEAST = 2
NOT_TOLD = "no broker can be reached, or callgauge lacks the right DESCRIBE_CONFIGS on the topic"

log = logging.getLogger(__name__)


class Precondition(NamedTuple):
    """One of them."""

    promises: str  # the promises that need it
    what: str
    holds: bool | None  # None: not known
    hint: str = ""


def say_which_limits(configuration: Configuration) -> None:
    """Say which limits are watched; warn if they are nobody's."""
    level = logging.WARNING if is_sample(configuration.limits_file) else logging.INFO
    log.log(level, "%s", configuration.limits_origin())


def say_what_is_watched(configuration: Configuration) -> None:
    """Say which limits are watched; warn if nobody is told, and of files that cannot be written."""
    say_which_limits(configuration)
    for trouble in file_troubles(configuration.settings):
        log.warning("%s: %s: %s; %s", trouble.where, trouble.what, trouble.cause, trouble.hint)
    if not configuration.settings.alertmanager.urls:
        log.warning("nobody is paged: alertmanager.urls is empty; alerts are in this log and served by HTTP")


def of_settings(settings: Settings, *, are_checkpoints_kept: bool) -> list[Precondition]:
    """List what the settings tell, and whether `state.folder` could be written to."""
    peers = len(settings.alertmanager.urls)
    return [
        Precondition(
            "P1, P2", "checkpoints are kept", are_checkpoints_kept,
            "set state.folder to a folder on a local disk that can be written to and outlives the process",
        ),
        Precondition(
            "P2", f"alerts go to two Alertmanagers or more ({peers})", peers >= PEERS_LEAST,
            "one that is down, or loses what it told, is made good by the other",
        ),
        Precondition(
            "P5", "calls come from Kafka encrypted, or from this machine", not is_insecure(settings.kafka),
            "set kafka.security_protocol to SSL or SASL_SSL",
        ),
        Precondition(
            "P5", "a password for Alertmanagers goes out encrypted, if there is one",
            not settings.alertmanager.username
            or not any(map(is_plain_elsewhere, settings.alertmanager.urls)),
            "write https:// in alertmanager.urls",
        ),
    ]  # fmt: skip


def of_topic(configs: dict[str, str] | None, settings: Settings) -> list[Precondition]:
    """List what the topic's configuration tells, by name; None: the broker did not tell it."""
    needed_ms = settings.kafka.rewind_ns // NS_PER_MS + HOUR_MS
    keeps = deletes = None
    unknown = "" if configs is not None else NOT_TOLD
    mend = unknown or f"raise {RETENTION} of the topic; rows that Kafka deletes during an outage are lost"
    if configs is not None:
        retention_ms = int(configs.get(RETENTION) or "-1")
        keeps = retention_ms < 0 or retention_ms >= needed_ms
        deletes = "compact" not in configs.get(POLICY, "delete")
        bytes_max = int(configs.get(RETENTION_BYTES) or "-1")
        if keeps and bytes_max >= 0:
            keeps = None
            mend = f"a partition keeps {bytes_max} bytes: set {RETENTION_BYTES}=-1, or see how long they last"
    hours = f"{needed_ms / HOUR_MS:g} h"
    return [
        Precondition(
            "P1", f"the topic keeps its rows for {hours} or longer (kafka.rewind and an hour)", keeps, mend,
        ),
        Precondition(
            "P1", "the topic is not compacted", deletes,
            unknown or f"set {POLICY}=delete: of each call, compaction keeps the newest event alone",
        ),
    ]  # fmt: skip


async def topic_configs(settings: KafkaSettings) -> dict[str, str] | None:
    """Ask a broker for the configuration of the topic; None: it does not tell."""
    admin = AIOKafkaAdminClient(
        bootstrap_servers=list(settings.bootstrap_servers), client_id="callgauge",
        request_timeout_ms=int(ASK_S * 1000), **connection_options(settings),
    )  # fmt: skip
    try:
        async with asyncio.timeout(ASK_S):
            await admin.start()
            names = dict.fromkeys(ASKED, "")
            resource = ConfigResource(ConfigResourceType.TOPIC, settings.topic, names)
            answers = await admin.describe_configs([resource])
    finally:
        await admin.close()
    found = [one for answer in answers for one in answer.resources]
    if not found or any(error != 0 for error, *_ in found):
        return None
    return {entry[0]: entry[1] or "" for *_, entries in found for entry in entries}


def tell(preconditions: list[Precondition]) -> None:
    """Say each of them in the log: those that do not hold as a warning, with what to do."""
    for one in preconditions:
        if one.holds is None:
            log.warning("precondition of %s not known: %s; %s", one.promises, one.what, one.hint)
        elif one.holds:
            log.info("precondition of %s holds: %s", one.promises, one.what)
        else:
            log.warning("precondition of %s does not hold: %s; %s", one.promises, one.what, one.hint)


async def look_at_preconditions(settings: Settings, *, are_checkpoints_kept: bool) -> None:
    """Look at all of them, and say what is found. Never raises: a run does not depend on it."""
    try:
        configs = await topic_configs(settings.kafka)
    except Exception as error:  # noqa: BLE001  # Whatever it is, the run begins.
        log.debug("the topic's configuration could not be asked for: %s", type(error).__name__)
        configs = None
    tell([*of_settings(settings, are_checkpoints_kept=are_checkpoints_kept), *of_topic(configs, settings)])
