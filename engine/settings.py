"""Every setting, frozen and typed; config/engine.yaml shows them all with their defaults.

Types only, so that every part of the engine can name what it needs. Reading them is
`engine/settings_file.py`, the relations between them are checked in `engine/settings_check.py`.
"""

from __future__ import annotations

import msgspec

S = 1_000_000_000
UtcOffsets = tuple[tuple[int, int], ...]  # of a time zone: (from_ns, offset_ns), ascending
UTC_NAME = "UTC"
UTC_OFFSETS: UtcOffsets = ((0, 0),)
MINUTE = 60 * S


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Time and bounds of the core."""

    slice_ns: int = 5 * S  # 1, 3, 5 or 15 s
    out_of_order_ns: int = 5 * S
    late_ns: int = 60 * S  # rows up to this much behind the watermark still amend
    late_by_platform_ns: dict[str, int] = {}
    clock_ahead_ns: int = 300 * S  # rows further ahead of their receipt are refused; a log's jump needs proof
    idle_ns: int = 10 * S
    call_ttl_ns: int = 4 * 3600 * S
    heartbeats_missed: int = 3
    series_labels: tuple[str, ...] = ("tenant", "trunk", "provider", "release")
    series_max: int = 4096
    stages_max: int = 16
    causes_max: int = 1024
    calls_max: int = 1 << 21
    held_rows_max: int = 1 << 21
    event_ids_max: int = 1 << 16
    notes_max: int = 256  # per slice
    row_bytes_max: int = 1 << 20
    measures_max: int = 256  # latencies per row
    scan_rows: bool = True  # by a kernel, where it is sure; false: all are parsed, for the same results
    calls_listed_max: int = 200_000  # calls per `calls.listed`
    window_rows_max: int = 8192
    limit_instances_max: int = 1024
    # Watched for caps that are in no register: the total, and each value of these labels.
    hidden_cap_labels: tuple[str, ...] = ("trunk", "provider")
    hidden_cap_instances_max: int = 64
    learned_limits_file: str = ""  # "": what `run` infers is forgotten when it stops
    alerts_max: int = 10_000
    # 32 hexadecimal digits. "": a fixed key for replay; for run one that it makes and keeps in state.folder,
    # or without a folder a random one per process.
    call_key_file: str = ""
    label_key_file: str = ""  # as many, of its own: hashes numbers and addresses in labels; "": hidden


class HeadroomSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The offered-load forecast."""

    evaluate_ns: int = 15 * S
    page_horizon_ns: int = 10 * MINUTE
    warn_horizon_ns: int = 30 * MINUTE
    page_threshold: float | None = None  # null: from a table by cap size
    warn_threshold: float | None = None
    learned_file: str = ""  # what `callgauge learn` wrote; "": conservative thresholds, no baseline at first
    warn_horizon_baseline_ns: int = 120 * MINUTE  # of the warning, where it is known what is usual
    time_zone: str = UTC_NAME  # of the week that the baseline of past weeks is kept by
    utc_offsets: UtcOffsets = UTC_OFFSETS  # of `time_zone`, looked up when the settings are read


# Follow from other settings when these are read; no file can give them.
DERIVED = ("utc_offsets",)


class DetectionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the team accepts, and what it promises; detectors derive their thresholds from this."""

    pages_per_week: float = 1.0  # false pages: of each detector that adds evidence up, over all its series
    error_objective_ratio: float = 0.99  # of ended attempts that must not fail, over `error_period`
    error_period_ns: int = 30 * 24 * 3600 * S
    false_rollback_ratio: float = 0.001  # of releases that are no worse, at most so many by their failures


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The consumer; names follow aiokafka."""

    bootstrap_servers: tuple[str, ...] = ("127.0.0.1:9092",)
    topic: str = "calls"
    group_id: str = "callgauge"
    member_id: str = ""  # static member id; "": the host's name
    start: str = "rewind"  # rewind | earliest | latest
    rewind_ns: int = 4 * 3600 * S
    session_timeout_ns: int = 10 * S
    heartbeat_ns: int = 3 * S
    poll_ns: int = 200_000_000
    batch_rows_max: int = 8192
    batch_bytes_max: int = 32 << 20  # of one compressed record batch, expanded
    raw_batches: bool = True  # false: record by record
    fetch_bytes_max: int = 1 << 20  # larger ones are mapped afresh each time (commands/allocator.py)
    fetch_bytes_min: int = 64 << 10
    fetch_wait_ns: int = 100_000_000
    queue_batches_max: int = 8
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = ""
    sasl_username: str = ""
    sasl_password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    allow_insecure: bool = False


class AlertmanagerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where alerts go: every peer is sent everything."""

    urls: tuple[str, ...] = ()
    external_labels: dict[str, str] = {}
    resend_ns: int = 30 * S
    retry_ns: int = 5 * S
    ends_after_ns: int = 6 * MINUTE
    resolved_resend_ns: int = 15 * MINUTE
    timeout_ns: int = 10 * S
    batch_alerts_max: int = 256
    queue_alerts_max: int = 10_000
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    allow_insecure: bool = False


class WebSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Our own HTTP server."""

    listen: str = "127.0.0.1:9810"
    external_url: str = (
        ""  # how people reach it, for generatorURL; "": http://<listen>, https with a web file
    )
    config_file: str = ""  # TLS and users, as Prometheus' web configuration file
    token_file: str = ""  # a bearer token, beside or instead of users
    admin_listen: str = ""  # for what has an effect; "": nowhere
    admin_config_file: str = ""
    admin_token_file: str = ""
    allow_insecure: bool = False


class TimelineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The append-only history of alerts, changes and limit events."""

    path: str = ""  # "": none
    bytes_max: int = 64 << 20


class StateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Checkpoints, so that a restart goes on where it was."""

    folder: str = ""  # "": none; a start then reads back over `kafka.rewind_ns`
    period_ns: int = 10 * S
    bytes_max: int = 512 << 20  # of one checkpoint, before it is compressed
    topic: str = ""  # compacted, for a member on another host; "": none
    topic_period_ns: int = 30 * S


class RecordingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `run --record` writes."""

    bytes_max: int = 8 << 30  # over all runs in the folder


class QuarantineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows that could not be decoded, redacted."""

    path: str = ""  # "": none
    topic: str = ""  # "": none
    bytes_max: int = 16 << 20
    rows_per_s_max: int = 10


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it."""

    engine: EngineSettings = EngineSettings()
    headroom: HeadroomSettings = HeadroomSettings()
    detection: DetectionSettings = DetectionSettings()
    kafka: KafkaSettings = KafkaSettings()
    alertmanager: AlertmanagerSettings = AlertmanagerSettings()
    web: WebSettings = WebSettings()
    timeline: TimelineSettings = TimelineSettings()
    state: StateSettings = StateSettings()
    quarantine: QuarantineSettings = QuarantineSettings()
    recording: RecordingSettings = RecordingSettings()
    log_level: str = "info"
    log_format: str = "logfmt"  # logfmt | json


# Settings that take one of a few words, by their path.
CHOICES = {
    "kafka.start": ("rewind", "earliest", "latest"),
    "kafka.security_protocol": ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
    "kafka.sasl_mechanism": ("", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("logfmt", "json"),
}
