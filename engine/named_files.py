"""What is wrong with the files that settings name; each is asked for by itself, and none hides another."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from engine.addresses import split_listen
from engine.app import inferred_before, load_learned, read_hash_key
from engine.deliver.access import read_access as read_alertmanager_access
from engine.errors import CallgaugeError
from engine.own_files import file_troubles, folder_trouble
from engine.source.kafka_connection import connection_options
from engine.web.web_file import make_context, read_access, refuse_insecure

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.settings import AlertmanagerSettings, KafkaSettings, Settings, WebSettings


def file_problems(settings: Settings) -> list[str]:
    """Read every file that the settings name, as `run` would, and see whether it could write its own."""
    engine, web = settings.engine, settings.web
    problems = [str(trouble) for trouble in (*folder_trouble(settings), *file_troubles(settings))]
    problems += _problems_of(
        lambda: load_learned(settings),
        lambda: read_hash_key(engine.call_key_file, b""),
        lambda: read_hash_key(engine.label_key_file, b"", "the label key"),
        lambda: inferred_before(engine.learned_limits_file),
    )
    problems += _kafka_problems(settings.kafka)
    if settings.alertmanager.urls:
        problems += _alertmanager_problems(settings.alertmanager)
    return problems + _listener_problems(web, "") + _listener_problems(web, "admin_")


def _problems_of(*reads: Callable[[], object]) -> list[str]:
    """Read each, and give what is wrong with those that cannot be used."""
    problems = []
    for read in reads:
        try:
            read()
        except CallgaugeError as error:
            problems.append(str(error))
    return problems


def _kafka_problems(kafka: KafkaSettings) -> list[str]:
    """Ask for certificates and password apart: the first that is missing would hide the other."""
    whole = kafka.security_protocol
    protocols = ("SSL", "SASL_PLAINTEXT") if whole == "SASL_SSL" else (whole,)
    parts = [msgspec.structs.replace(kafka, security_protocol=protocol) for protocol in protocols]
    return _problems_of(*(partial(connection_options, part) for part in parts))


def _alertmanager_problems(alertmanager: AlertmanagerSettings) -> list[str]:
    """Ask for password and certificates apart, too."""
    password = msgspec.structs.replace(alertmanager, ca_file="", cert_file="", key_file="")
    certificates = msgspec.structs.replace(alertmanager, username="")
    return _problems_of(*(partial(read_alertmanager_access, part) for part in (password, certificates)))


def _listener_problems(web: WebSettings, prefix: str) -> list[str]:
    """Read both files of a listener; whether it is open to the network is known where both can be read."""
    config_file, token_file = getattr(web, f"{prefix}config_file"), getattr(web, f"{prefix}token_file")
    return _problems_of(
        lambda: read_access(config_file, "", ""),
        lambda: read_access("", token_file, f"web.{prefix}token_file"),
    ) or _problems_of(lambda: _read_listener(web, prefix))


def _read_listener(web: WebSettings, prefix: str) -> None:
    key, listen = f"web.{prefix}listen", getattr(web, f"{prefix}listen")
    config_file, token_file = getattr(web, f"{prefix}config_file"), getattr(web, f"{prefix}token_file")
    access = read_access(config_file, token_file, f"web.{prefix}token_file")
    place = split_listen(listen)
    if place is not None:
        refuse_insecure(access, place[0], f"{key}: {listen}", allow_insecure=web.allow_insecure)
    if access.tls:
        make_context(access.tls)
