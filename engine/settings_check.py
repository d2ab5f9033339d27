"""Relations between settings: values that are fine alone and wrong together, each with the reason.

A relation is checked when the settings are loaded, so that the engine never has to doubt it. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from engine.addresses import is_loopback, is_plain_elsewhere, shown_address, split_listen, web_url
from engine.decode.events import ALERT_LABELS, LABELS
from engine.durations import format_duration
from engine.fields import did_you_mean, shown

if TYPE_CHECKING:
    from engine.fields import Problems
    from engine.settings import (
        AlertmanagerSettings,
        EngineSettings,
        HeadroomSettings,
        KafkaSettings,
        Settings,
        WebSettings,
    )

SLICES_NS = (1_000_000_000, 3_000_000_000, 5_000_000_000, 15_000_000_000)
FETCH_WAIT_MAX_NS = 1_000_000_000  # an answer older than twice that says nothing about the end of a partition
# Without @, ? and #: what is accepted may be shown, and holds no user, password or query.
_WEB_ADDRESS = re.compile(r"https?://[^\s/@?#]+(/[^\s@?#]*)?")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class AtLeast(NamedTuple):
    """One duration is at least so many times another one; `reason` says what would go wrong."""

    longer: str
    times: int
    shorter: str
    reason: str


RELATIONS = (
    AtLeast("engine.late", 1, "engine.out_of_order", "rows within the bound are not late"),
    AtLeast("engine.clock_ahead", 1, "engine.out_of_order", "a clock a little fast is disorder, no error"),
    AtLeast("engine.idle", 1, "engine.out_of_order", "rows of an idle partition could still be on their way"),
    AtLeast("engine.idle", 2, "kafka.poll", "whether a partition is read to its end is only known at a poll"),
    AtLeast("engine.call_ttl", 1, "engine.late", "a call would be given up before its end can arrive"),
    AtLeast("headroom.page_horizon", 2, "headroom.evaluate", "a page needs two forecasts in a row"),
    AtLeast("headroom.warn_horizon", 1, "headroom.page_horizon", "a warning comes before the page"),
    AtLeast(
        "headroom.warn_horizon_baseline",
        1,
        "headroom.warn_horizon",
        "knowing what is usual lets a warning look further ahead",
    ),
    AtLeast("kafka.session_timeout", 3, "kafka.heartbeat", "one lost heartbeat must not cost the partitions"),
    AtLeast("kafka.session_timeout", 4, "kafka.poll", "a quiet poll would be taken for a pause"),
    AtLeast(
        "alertmanager.ends_after", 4, "alertmanager.resend", "an alert would resolve after few lost sends"
    ),
    AtLeast(
        "alertmanager.ends_after", 3, "state.period", "a restart would page for what was resolved meanwhile"
    ),
    AtLeast("alertmanager.resolved_resend", 1, "alertmanager.resend", "a resolved alert is sent again"),
    AtLeast("alertmanager.resend", 1, "alertmanager.timeout", "a hung peer must not delay the next send"),
)
# At zero these would be busy loops, or would never do anything.
ABOVE_ZERO = (
    "engine.out_of_order", "headroom.evaluate", "kafka.heartbeat", "kafka.poll", "kafka.fetch_wait",
    "alertmanager.resend", "alertmanager.timeout", "state.period",
    "state.topic_period",
)  # fmt: skip
RETRY_MIN_NS = 100_000_000
ERROR_PERIOD_MIN_NS = 3 * 86_400 * 1_000_000_000  # the longest window in which the error budget is watched
WARN_HORIZON_MAX_NS = 86_400 * 1_000_000_000  # each limit's forecast is a row in memory as long as that


class Between(NamedTuple):
    """A number lies between two others, and is neither; one that is not given is not looked at."""

    name: str
    low: float
    high: float
    hint: str


SCORE_HINT = "it counts standard deviations of the forecast beyond the cap, such as -1.5 or 0.5; no per cent"
BETWEEN = (
    Between("headroom.page_threshold", -10.0, 10.0, SCORE_HINT),
    Between("headroom.warn_threshold", -10.0, 10.0, SCORE_HINT),
    Between("detection.pages_per_week", 0.0001, 10_000.0, "0.25 is one false page in four weeks"),
    Between("detection.error_objective_ratio", 0.0, 1.0, "0.99 is one failed attempt in a hundred"),
    Between("detection.false_rollback_ratio", 0.0, 1.0, "0.001 is one rollout in a thousand"),
)


class AtMost(NamedTuple):
    """A size that is allocated when the engine starts, or goes to a broker as it stands."""

    name: str
    most: int
    reason: str


AT_MOST = (
    AtMost("engine.event_ids_max", 1 << 24, "each partition has a table of so many ids from its start on"),
    AtMost("kafka.batch_bytes_max", 1 << 30, "room for one such batch is set aside at the start"),
    AtMost("kafka.fetch_bytes_max", 1 << 30, "a broker cannot be asked for more in one answer"),
)


def check_settings(settings: Settings, problems: Problems) -> None:
    """Add every broken relation to `problems`."""
    for relation in RELATIONS:
        longer_ns = _duration_ns(settings, relation.longer)
        shorter_ns = _duration_ns(settings, relation.shorter)
        if longer_ns < relation.times * shorter_ns:
            times = f"{relation.times} times " if relation.times > 1 else ""
            text = f"{format_duration(longer_ns)} is less than {times}{relation.shorter}"
            problems.add(_path(relation.longer), f"{text} ({format_duration(shorter_ns)})", relation.reason)
    for name in ABOVE_ZERO:
        if _duration_ns(settings, name) == 0:
            problems.add(_path(name), "0s is not above zero", "write a duration such as 200ms or 5s")
    for one in AT_MOST:
        section, key = _path(one.name)
        size: int = getattr(getattr(settings, section), key)
        if size > one.most:
            problems.add(_path(one.name), f"{size} is more than {one.most}", one.reason)
    _check_engine(settings.engine, problems)
    _check_headroom(settings.headroom, settings.engine, problems)
    _check_between(settings, problems)
    _check_detection(settings, problems)
    _check_kafka(settings.kafka, problems)
    _check_alertmanager(settings.alertmanager, problems)
    _check_web(settings, problems)
    _check_state(settings, problems)


def _check_engine(engine: EngineSettings, problems: Problems) -> None:
    if engine.slice_ns not in SLICES_NS:
        problems.add(
            ("engine", "slice"),
            f"{format_duration(engine.slice_ns)} is not one of 1s, 3s, 5s, 15s",
            "forecasts come every 15 s, which must be whole slices",
        )
    for platform, late_ns in engine.late_by_platform_ns.items():
        if late_ns < engine.out_of_order_ns:
            problems.add(
                ("engine", "late_by_platform", platform),
                f"{format_duration(late_ns)} is less than engine.out_of_order "
                f"({format_duration(engine.out_of_order_ns)})",
                "rows within the bound are not late",
            )
    for index, label in enumerate(engine.hidden_cap_labels):
        if label not in LABELS:
            where = ("engine", "hidden_cap_labels", index)
            problems.add(where, f"{shown(label)} is not a label", did_you_mean(label, LABELS))
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
    if engine.slice_ns in SLICES_NS and headroom.evaluate_ns % engine.slice_ns:
        problems.add(
            ("headroom", "evaluate"),
            f"{format_duration(headroom.evaluate_ns)} is not a number of slices "
            f"(engine.slice is {format_duration(engine.slice_ns)})",
            "a forecast looks at closed slices",
        )
    if headroom.warn_horizon_baseline_ns > WARN_HORIZON_MAX_NS:
        text = f"{format_duration(headroom.warn_horizon_baseline_ns)} is more than "
        text += format_duration(WARN_HORIZON_MAX_NS)
        hint = "each limit's forecast is a row in memory as long as that"
        problems.add(("headroom", "warn_horizon_baseline"), text, hint)


def _check_between(settings: Settings, problems: Problems) -> None:
    for one in BETWEEN:
        section, key = _path(one.name)
        number: float | None = getattr(getattr(settings, section), key)
        if number is not None and not one.low < number < one.high:
            text = f"{number:g} is not between {one.low:g} and {one.high:g}"
            problems.add(_path(one.name), text, one.hint)


def _check_detection(settings: Settings, problems: Problems) -> None:
    period_ns = settings.detection.error_period_ns
    if period_ns < ERROR_PERIOD_MIN_NS:
        text = f"{format_duration(period_ns)} is less than {format_duration(ERROR_PERIOD_MIN_NS)}"
        problems.add(("detection", "error_period"), text, "the longest window in which errors are watched")


def _check_kafka(kafka: KafkaSettings, problems: Problems) -> None:
    if not kafka.bootstrap_servers:
        problems.add(("kafka", "bootstrap_servers"), "is empty", "write [host:9092]")
    for index, server in enumerate(kafka.bootstrap_servers):
        _check_server(server, index, kafka, problems)
    for key in ("topic", "group_id"):
        if not getattr(kafka, key):
            problems.add(("kafka", key), "is empty", "give it a name")
    if kafka.fetch_bytes_min > kafka.fetch_bytes_max:
        text = f"{kafka.fetch_bytes_min} bytes are more than kafka.fetch_bytes_max ({kafka.fetch_bytes_max})"
        problems.add(("kafka", "fetch_bytes_min"), text, "a broker would wait for more than it may send")
    if kafka.fetch_wait_ns > FETCH_WAIT_MAX_NS:
        text = f"{format_duration(kafka.fetch_wait_ns)} is more than {format_duration(FETCH_WAIT_MAX_NS)}"
        problems.add(
            ("kafka", "fetch_wait"), text, "rows, and the end of a partition, would be seen too late"
        )
    _check_kafka_secrets(kafka, problems)


def _check_server(server: str, index: int, kafka: KafkaSettings, problems: Problems) -> None:
    path = ("kafka", "bootstrap_servers", index)
    place = split_listen(server)
    if place is None or place[1] == 0:
        problems.add(path, f"{shown_address(server)} is not host:port", "write broker.example:9092")
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
    if alertmanager.batch_alerts_max > alertmanager.queue_alerts_max:
        problems.add((section, "batch_alerts_max"), "is more than alertmanager.queue_alerts_max", "lower it")
    if alertmanager.retry_ns < RETRY_MIN_NS:
        text = f"{format_duration(alertmanager.retry_ns)} is less than {format_duration(RETRY_MIN_NS)}"
        problems.add((section, "retry"), text, "an Alertmanager that is down would be asked without a pause")
    for index, url in enumerate(alertmanager.urls):
        if not _is_web_address(url):
            problems.add(
                (section, "urls", index),
                f"{shown_address(url)} is not an http or https address",
                "write https://host:9093; a user goes into username and password_file",
            )
        elif _spelt_plainly(url) in map(_spelt_plainly, alertmanager.urls[:index]):
            problems.add((section, "urls", index), f"{url!r} is given twice", "keep one of the two")
    for name in alertmanager.external_labels:
        if not _LABEL_NAME.fullmatch(name):
            problems.add(
                (section, "external_labels", name), "cannot be a label's name", "use letters, digits and _"
            )
        elif name in ALERT_LABELS:
            problems.add(
                (section, "external_labels", name), "is a label of the alerts themselves", "rename it"
            )
    if bool(alertmanager.username) != bool(alertmanager.password_file):
        problems.add(
            (section, "username"), "username and password_file belong together", "give both or neither"
        )
    _check_certificate(section, alertmanager, problems)
    _check_alertmanager_secrets(alertmanager, problems)


def _check_alertmanager_secrets(alertmanager: AlertmanagerSettings, problems: Problems) -> None:
    """Let a password leave this machine only encrypted, and no certificate be named in vain."""
    section = "alertmanager"
    for index, url in enumerate(alertmanager.urls):
        is_plain = bool(alertmanager.username) and is_plain_elsewhere(url)
        if is_plain and not alertmanager.allow_insecure:
            problems.add(
                (section, "urls", index),
                f"{shown_address(url)} is another machine, and the password would go there unencrypted",
                "write https://, or set alertmanager.allow_insecure to true",
            )
    named = [key for key in ("ca_file", "cert_file") if getattr(alertmanager, key)]
    if named and alertmanager.urls and not any(url.startswith("https:") for url in alertmanager.urls):
        problems.add((section, named[0]), "is of no use: no address begins with https", "write https://")


def _is_web_address(address: str) -> bool:
    return bool(_WEB_ADDRESS.fullmatch(address)) and web_url(address) is not None


def _spelt_plainly(address: str) -> str:
    """Write an address as it is written for all who mean it: capitals, a usual port, a slash at the end."""
    return str(web_url(address) or address).rstrip("/")


def _check_certificate(
    section: str, settings: KafkaSettings | AlertmanagerSettings, problems: Problems
) -> None:
    if bool(settings.cert_file) != bool(settings.key_file):
        problems.add((section, "cert_file"), "cert_file and key_file belong together", "give both or neither")


def _check_state(settings: Settings, problems: Problems) -> None:
    topic, where = settings.state.topic, ("state", "topic")
    if topic and not settings.state.folder:
        problems.add(where, "needs state.folder", "checkpoints go to the disk first, then to the topic")
    if topic and not settings.engine.call_key_file:
        text = "needs engine.call_key_file: hosts must hide call ids under one key"
        problems.add(where, text, "make one with: openssl rand -hex 16")
    if topic and topic == settings.kafka.topic:
        problems.add(where, "is kafka.topic as well", "give checkpoints a topic of their own")
    if settings.quarantine.path and settings.quarantine.path == settings.timeline.path:
        problems.add(("quarantine", "path"), "is timeline.path as well", "give rejected rows their own file")
    rejected = settings.quarantine.topic
    if rejected and rejected in {settings.kafka.topic, topic}:
        text = "is kafka.topic or state.topic as well"
        problems.add(("quarantine", "topic"), text, "give rejected rows a topic of their own")


def _check_web(settings: Settings, problems: Problems) -> None:
    web = settings.web
    _check_listener("listen", "config_file", web, problems)
    if web.admin_listen:
        _check_listener("admin_listen", "admin_config_file", web, problems)
    if web.admin_listen == web.listen and not web.listen.endswith(":0"):
        problems.add(("web", "admin_listen"), "is web.listen as well", "give it a port of its own")
    if web.external_url and not _is_web_address(web.external_url):
        problems.add(
            ("web", "external_url"),
            f"{shown_address(web.external_url)} is not an http or https address",
            "write https://host/path, or leave it out",
        )


def _check_listener(key: str, file_key: str, web: WebSettings, problems: Problems) -> None:
    """Refuse an address that others can reach without a file of TLS and users, which the start reads."""
    listen = getattr(web, key)
    place = split_listen(listen)
    if place is None:
        text = f"{shown_address(listen)} is not host:port"
        problems.add(("web", key), text, "write 127.0.0.1:9810 or [::1]:9810")
    elif not is_loopback(place[0]) and not getattr(web, file_key) and not web.allow_insecure:
        problems.add(
            ("web", key),
            f"{listen!r} can be reached from other machines, without TLS and a login",
            f"give web.{file_key}, listen on 127.0.0.1, or set web.allow_insecure to true",
        )


def _path(name: str) -> tuple[str, ...]:
    return tuple(name.split("."))


def _duration_ns(settings: Settings, name: str) -> int:
    section, key = _path(name)
    duration_ns: int = getattr(getattr(settings, section), f"{key}_ns")
    return duration_ns
