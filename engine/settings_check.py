"""Relations between settings: values that are fine alone and wrong together, each with the reason.

A relation is checked when the settings are loaded, so that the engine never has to doubt it. Pure.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from engine.decode.events import LABELS
from engine.durations import format_duration
from engine.fields import did_you_mean

if TYPE_CHECKING:
    from engine.fields import Problems
    from engine.settings import (
        AlertmanagerSettings,
        EngineSettings,
        HeadroomSettings,
        KafkaSettings,
        Settings,
    )

SLICES_NS = (1_000_000_000, 3_000_000_000, 5_000_000_000, 15_000_000_000)
BIN_NS = 100_000_000
SERIES_LABELS_MAX = 8
PORT_MAX = 65_535
_PORT = re.compile(r"[0-9]{1,5}")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OUR_LABELS = ("alertname", "severity", "limit", "owner", "action", "stage", "metric", "dependency", *LABELS)


def check_settings(settings: Settings, problems: Problems) -> None:
    """Add every broken relation to `problems`."""
    _check_engine(settings.engine, problems)
    _check_headroom(settings.headroom, settings.engine, problems)
    _check_kafka(settings.kafka, settings.engine, problems)
    _check_alertmanager(settings.alertmanager, problems)
    _check_web(settings, problems)


def split_listen(listen: str) -> tuple[str, int] | None:
    """Split `host:port` or `[::1]:port`; None: it is neither."""
    host, colon, port = listen.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > PORT_MAX:
        return None
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    return (host, int(port)) if host and host.isprintable() and " " not in host else None


def is_loopback(host: str) -> bool:
    """Say whether a host can only be this machine, without asking a name server."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_engine(engine: EngineSettings, problems: Problems) -> None:
    if engine.slice_ns not in SLICES_NS:
        problems.add(
            ("engine", "slice"),
            f"{format_duration(engine.slice_ns)} is not one of 1s, 3s, 5s, 15s",
            "forecasts come every 15 s, which must be whole slices",
        )
    _at_least(
        problems,
        ("engine", "late"),
        engine.late_ns,
        "engine.out_of_order",
        engine.out_of_order_ns,
        "rows within the bound are not late",
    )
    for platform, late_ns in engine.late_by_platform_ns.items():
        _at_least(
            problems,
            ("engine", "late_by_platform", platform),
            late_ns,
            "engine.out_of_order",
            engine.out_of_order_ns,
            "rows within the bound are not late",
        )
    _at_least(
        problems,
        ("engine", "out_of_order"),
        engine.out_of_order_ns,
        "one bin",
        BIN_NS,
        "events of one moment never arrive in one moment",
    )
    _at_least(
        problems,
        ("engine", "clock_ahead"),
        engine.clock_ahead_ns,
        "engine.out_of_order",
        engine.out_of_order_ns,
        "a clock that is a little fast is disorder, not an error",
    )
    _at_least(
        problems,
        ("engine", "idle"),
        engine.idle_ns,
        "engine.out_of_order",
        engine.out_of_order_ns,
        "a partition would be set aside while its rows may still be on their way",
    )
    _at_least(
        problems,
        ("engine", "call_ttl"),
        engine.call_ttl_ns,
        "engine.late",
        engine.late_ns,
        "a call would be given up before its end can arrive",
    )
    for index, label in enumerate(engine.series_labels):
        if label not in LABELS:
            problems.add(
                ("engine", "series_labels", index), f"{label!r} is not a label", did_you_mean(label, LABELS)
            )
        elif label in engine.series_labels[:index]:
            problems.add(
                ("engine", "series_labels", index), f"{label!r} is given twice", "keep one of the two"
            )


def _check_headroom(headroom: HeadroomSettings, engine: EngineSettings, problems: Problems) -> None:
    if headroom.evaluate_ns == 0 or headroom.evaluate_ns % max(engine.slice_ns, 1):
        problems.add(
            ("headroom", "evaluate"),
            f"{format_duration(headroom.evaluate_ns)} is not a number of slices "
            f"(engine.slice is {format_duration(engine.slice_ns)})",
            "a forecast looks at closed slices",
        )
    _at_least(
        problems,
        ("headroom", "page_horizon"),
        headroom.page_horizon_ns,
        "headroom.evaluate",
        headroom.evaluate_ns,
        "a page needs two forecasts in a row before the limit is reached",
    )
    _at_least(
        problems,
        ("headroom", "warn_horizon"),
        headroom.warn_horizon_ns,
        "headroom.page_horizon",
        headroom.page_horizon_ns,
        "a warning comes before the page",
    )


def _check_kafka(kafka: KafkaSettings, engine: EngineSettings, problems: Problems) -> None:
    if kafka.heartbeat_ns == 0 or 3 * kafka.heartbeat_ns > kafka.session_timeout_ns:
        problems.add(
            ("kafka", "heartbeat"),
            f"{format_duration(kafka.heartbeat_ns)} is not above zero and at most a "
            f"third of kafka.session_timeout ({format_duration(kafka.session_timeout_ns)})",
            "one lost heartbeat must not cost the partitions",
        )
    _at_least(
        problems,
        ("engine", "idle"),
        engine.idle_ns,
        "kafka.poll twice",
        2 * kafka.poll_ns,
        "whether a partition is read to its end is only known at a poll",
    )
    if kafka.poll_ns == 0:
        problems.add(("kafka", "poll"), "0s would read in a busy loop", "write 200ms")
    if not kafka.bootstrap_servers:
        problems.add(("kafka", "bootstrap_servers"), "is empty", "write [host:9092]")
    for index, server in enumerate(kafka.bootstrap_servers):
        _check_server(server, index, kafka, problems)
    for key in ("topic", "group_id"):
        if not getattr(kafka, key):
            problems.add(("kafka", key), "is empty", "give it a name")
    _check_kafka_secrets(kafka, problems)


def _check_server(server: str, index: int, kafka: KafkaSettings, problems: Problems) -> None:
    path = ("kafka", "bootstrap_servers", index)
    place = split_listen(server)
    if place is None or place[1] == 0:
        problems.add(path, f"{server!r} is not host:port", "write broker.example:9092")
    elif (
        not is_loopback(place[0])
        and "SSL" not in kafka.security_protocol.split("_")
        and not kafka.allow_insecure
    ):
        problems.add(
            path,
            f"{server!r} is another machine, and {kafka.security_protocol} is not encrypted",
            "set kafka.security_protocol to SSL or SASL_SSL, or kafka.allow_insecure to true",
        )


def _check_kafka_secrets(kafka: KafkaSettings, problems: Problems) -> None:
    is_sasl = kafka.security_protocol.startswith("SASL")
    for key in ("sasl_mechanism", "sasl_username", "sasl_password_file"):
        is_given = bool(getattr(kafka, key))
        if is_sasl and not is_given:
            problems.add(("kafka", key), f"is missing, {kafka.security_protocol} needs it", "")
        elif is_given and not is_sasl:
            problems.add(
                ("kafka", key),
                f"is never sent under {kafka.security_protocol}",
                "set kafka.security_protocol to SASL_SSL, or leave it out",
            )
    _check_certificate("kafka", kafka, problems)


def _check_alertmanager(alertmanager: AlertmanagerSettings, problems: Problems) -> None:
    section = "alertmanager"
    if alertmanager.resend_ns == 0:
        problems.add((section, "resend"), "0s would send in a busy loop", "write 30s")
    _at_least(
        problems,
        (section, "ends_after"),
        alertmanager.ends_after_ns,
        "alertmanager.resend four times",
        4 * alertmanager.resend_ns,
        "after fewer lost sends an alert would resolve by itself",
    )
    _at_least(
        problems,
        (section, "resolved_resend"),
        alertmanager.resolved_resend_ns,
        "alertmanager.resend",
        alertmanager.resend_ns,
        "a resolved alert has to be sent at least once more",
    )
    if not 0 < alertmanager.timeout_ns <= alertmanager.resend_ns:
        problems.add(
            (section, "timeout"),
            f"{format_duration(alertmanager.timeout_ns)} is not above zero and at most "
            f"alertmanager.resend ({format_duration(alertmanager.resend_ns)})",
            "a peer that hangs must not delay the next send",
        )
    if alertmanager.batch_alerts_max > alertmanager.queue_alerts_max:
        problems.add((section, "batch_alerts_max"), "is more than alertmanager.queue_alerts_max", "lower it")
    for index, url in enumerate(alertmanager.urls):
        if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s?#]*)?", url):
            problems.add(
                (section, "urls", index),
                f"{url.rpartition('@')[2]!r} is not an http or https address",
                "write https://host:9093; a user goes into username and password_file",
            )
        elif url in alertmanager.urls[:index]:
            problems.add((section, "urls", index), f"{url!r} is given twice", "keep one of the two")
    for name in alertmanager.external_labels:
        if not _LABEL_NAME.fullmatch(name):
            problems.add(
                (section, "external_labels", name), "cannot be a label's name", "use letters, digits and _"
            )
        elif name in _OUR_LABELS:
            problems.add(
                (section, "external_labels", name), "is a label of the alerts themselves", "rename it"
            )
    if bool(alertmanager.username) != bool(alertmanager.password_file):
        problems.add(
            (section, "username"), "username and password_file belong together", "give both or neither"
        )
    _check_certificate(section, alertmanager, problems)


def _check_certificate(
    section: str, settings: KafkaSettings | AlertmanagerSettings, problems: Problems
) -> None:
    if bool(settings.cert_file) != bool(settings.key_file):
        problems.add((section, "cert_file"), "cert_file and key_file belong together", "give both or neither")


def _check_web(settings: Settings, problems: Problems) -> None:
    web = settings.web
    place = split_listen(web.listen)
    if place is None:
        problems.add(
            ("web", "listen"), f"{web.listen!r} is not host:port", "write 127.0.0.1:9810 or [::1]:9810"
        )
    elif not is_loopback(place[0]) and not web.allow_insecure:
        problems.add(
            ("web", "listen"),
            f"{web.listen!r} can be reached from other machines, without a password",
            "listen on 127.0.0.1, or set web.allow_insecure to true",
        )
    if web.external_url and not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s?#]*)?", web.external_url):
        problems.add(
            ("web", "external_url"),
            f"{web.external_url!r} is not an http or https address",
            "write https://host/path, or leave it out",
        )


def _at_least(
    problems: Problems, path: tuple[str | int, ...], value_ns: int, other: str, other_ns: int, reason: str
) -> None:
    if value_ns < other_ns:
        problems.add(
            path, f"{format_duration(value_ns)} is less than {other} ({format_duration(other_ns)})", reason
        )
