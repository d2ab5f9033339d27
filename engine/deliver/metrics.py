"""Everything at `/metrics`: the published snapshot, the peers, the source, and the process itself.

What the process measures of itself (steps, loop lag, reloads) goes through prometheus_client and the registry
passed in; what the snapshot holds is written straight from it, since a prometheus_client object per series
would cost many times as much (`bench/metrics_render.py`). Both come out in one format: text, or protobuf with
native histograms for a scraper that prefers it. Counters of what is not there yet (no snapshot before the
first step) are left out, not shown as 0.
"""

from __future__ import annotations

import platform
import threading
from typing import TYPE_CHECKING, NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from engine.deliver import histograms, native, text
from engine.deliver.checkpoint_families import checkpoint_families
from engine.deliver.families import (
    COUNTER,
    GAUGE,
    Family,
    by_label,
    peer_families,
    single,
    snapshot_families,
)
from engine.deliver.quarantine import QuarantineStats
from engine.source.stats import SourceStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.deliver.checkpoint_families import CheckpointStats
    from engine.deliver.peer import PeerStats
    from engine.judge.snapshot import Snapshot

STEP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
SOURCE_STATES = ("waiting", "standby", "reading", "closed")
PROTOBUF_MEDIA = "application/vnd.google.protobuf"
PROTOBUF_PARAMETERS = {"proto": "io.prometheus.client.MetricFamily", "encoding": "delimited"}


class WebStats(NamedTuple):
    """What our own HTTP server can say of itself."""

    insecure: tuple[tuple[str, bool], ...] = ()  # by listener: open to strangers, as it was told to
    logins_refused: int = 0
    connections_refused: int = 0


def no_source() -> SourceStats:
    """Stand in for a source without figures of its own."""
    return SourceStats()


def no_peers() -> tuple[PeerStats, ...]:
    """Stand in for a deployment without Alertmanager."""
    return ()


def no_web() -> WebStats:
    """Stand in for an HTTP server that refuses nothing."""
    return WebStats()


class Metrics:
    """Renders `/metrics`. `render` may run in any thread, one at a time; the setters belong to the shell."""

    def __init__(
        self,
        registry: CollectorRegistry,
        get_snapshot: Callable[[], Snapshot | None],
        *,
        version: str,
        peers: Callable[[], tuple[PeerStats, ...]] = no_peers,
        source: Callable[[], SourceStats] = no_source,
        checkpoints: CheckpointStats | None = None,
        web: Callable[[], WebStats] = no_web,
        quarantine: Callable[[], QuarantineStats] = QuarantineStats,
    ) -> None:
        # The text format would otherwise get one more series for every counter and histogram.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry
        self._get_snapshot = get_snapshot
        self._peers = peers
        self._source = source
        self._checkpoints = checkpoints
        self._web = web
        self._quarantine = quarantine
        self._texts = text.LabelTexts()
        self._messages = native.LabelMessages()
        self._lock = threading.Lock()
        ProcessCollector(registry=registry)
        build = Gauge(
            "callgauge_build_info", "What is running.", ["version", "python_version"], registry=registry
        )
        build.labels(version, platform.python_version()).set(1)
        self._steps = Histogram(
            "callgauge_step_seconds", "Time one step took.", buckets=STEP_SECONDS, registry=registry
        )
        self._loop_lag = Histogram(
            "callgauge_event_loop_lag_seconds",
            "How late a timer of the event loop fired.",
            buckets=LAG_SECONDS,
            registry=registry,
        )
        self._step_running = Gauge(
            "callgauge_step_running_seconds",
            "How long the step has taken that is under way; 0: there is none.",
            registry=registry,
        )
        self._timeline_lines = Gauge(
            "callgauge_timeline_lines",
            "Lines of the timeline since the start.",
            ["result"],
            registry=registry,
        )
        self._reload_ok = Gauge(
            "callgauge_config_last_reload_successful", "1 if the last reload took effect.", registry=registry
        )
        self._reload_time = Gauge(
            "callgauge_config_last_reload_success_timestamp_seconds",
            "When settings were last taken over.",
            registry=registry,
        )

    def step_took(self, seconds: float) -> None:
        """Note how long a step took."""
        self._steps.observe(seconds)

    def step_runs(self, seconds: float) -> None:
        """Note how long the step has taken that is under way."""
        self._step_running.set(seconds)

    def wrote_down(self, *, lines: int, failed: int) -> None:
        """Note how many lines of the timeline were written, and how many could not be."""
        self._timeline_lines.labels("written").set(lines)
        self._timeline_lines.labels("failed").set(failed)

    def loop_lagged(self, seconds: float) -> None:
        """Note how late a timer of the event loop fired."""
        self._loop_lag.observe(seconds)

    def reloaded(self, *, is_successful: bool, now_s: float) -> None:
        """Note how a start or reload with new settings went, at wall clock `now_s`."""
        self._reload_ok.set(int(is_successful))
        if is_successful:
            self._reload_time.set(now_s)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Give body and content type for an Accept header."""
        snapshot = self._get_snapshot()
        families = self._families(snapshot)
        with self._lock:
            if prefers_protobuf(accept):
                body = native.registry_protobuf(self._registry, self._messages)
                body += native.families_protobuf(families, self._messages)
                if snapshot is not None:
                    body += native.histograms_protobuf(snapshot.latency, self._messages)
                return body, native.CONTENT_TYPE
            body = prometheus_client.generate_latest(self._registry)
            body += text.families_text(families, self._texts).encode()
            if snapshot is not None:
                body += histograms.histograms_text(snapshot.latency, self._texts).encode()
            return body, text.CONTENT_TYPE

    def _families(self, snapshot: Snapshot | None) -> Iterator[Family]:
        yield from peer_families(self._peers())
        yield from source_families(self._source())
        if self._checkpoints is not None:
            yield from checkpoint_families(self._checkpoints)
        yield from web_families(self._web())
        help_text = "Rows that could not be decoded, by what became of them in the quarantine."
        results = self._quarantine()._asdict()
        yield by_label("callgauge_quarantine_rows_total", COUNTER, help_text, "result", results.items())
        if snapshot is not None:
            yield from snapshot_families(snapshot)


def source_families(stats: SourceStats) -> Iterator[Family]:
    """Give the figures of the source."""
    labels = [(("topic", topic), ("partition", str(partition))) for topic, partition, _ in stats.lag_rows]
    lags = [rows for _, _, rows in stats.lag_rows]
    help_text = "Rows that wait in the log, by partition."
    yield Family("callgauge_kafka_lag_rows", GAUGE, help_text, labels, lags)
    help_text = "Consumers given up and made anew."
    yield single("callgauge_kafka_rebuilds_total", COUNTER, help_text, stats.rebuilds)
    help_text = "Rebalances of the consumer group."
    yield single("callgauge_kafka_rebalances_total", COUNTER, help_text, stats.rebalances)
    help_text = "Offset commits that failed; nothing depends on them but lag tools."
    yield single("callgauge_kafka_commits_failed_total", COUNTER, help_text, stats.commits_failed)
    help_text = "Times that the broker refused access to the topic or the group."
    yield single("callgauge_kafka_unauthorized_total", COUNTER, help_text, stats.unauthorized)
    help_text = "Rows of the topic that could not be read, by reason."
    yield by_label("callgauge_kafka_lost_rows_total", COUNTER, help_text, "reason", stats.lost_rows)
    help_text = "Records without a value, which hold no event."
    yield single("callgauge_kafka_tombstones_total", COUNTER, help_text, stats.tombstones)
    help_text = "Times that a record batch was fetched again: it was damaged, or its offset doubted."
    yield single("callgauge_kafka_refetches_total", COUNTER, help_text, stats.refetches)
    help_text = "Doubts about the offset of a record batch that were forgotten, because there were too many."
    yield single("callgauge_kafka_doubts_forgotten_total", COUNTER, help_text, stats.doubts_forgotten)
    help_text = "Times that a broker was asked once more for the id of the topic or where to begin."
    yield single("callgauge_kafka_asked_again_total", COUNTER, help_text, stats.asked_again)
    help_text = "1 if whole record batches are read, 0 on the slower path, record by record."
    yield single("callgauge_kafka_raw_batches", GAUGE, help_text, int(stats.raw_batches))
    help_text = "1 if brokers on other machines are read without encryption (kafka.allow_insecure)."
    yield single("callgauge_kafka_insecure", GAUGE, help_text, int(stats.insecure))
    help_text = "1 for the state that the source is in, 0 for the others."
    states = [(state, int(stats.state == state)) for state in SOURCE_STATES]
    yield by_label("callgauge_source_state", GAUGE, help_text, "state", states)
    help_text = "Batches that were read and wait for a step."
    yield single("callgauge_source_queue_batches", GAUGE, help_text, stats.queue_batches)


def web_families(stats: WebStats) -> Iterator[Family]:
    """Give the figures of our own HTTP server."""
    help_text = "1 if a listener is open to the network without TLS or a login (web.allow_insecure)."
    listeners = [(name, int(is_insecure)) for name, is_insecure in stats.insecure]
    yield by_label("callgauge_web_insecure", GAUGE, help_text, "listener", listeners)
    help_text = "Requests without a right login."
    yield single("callgauge_web_logins_refused_total", COUNTER, help_text, stats.logins_refused)
    help_text = "Connections beyond those that may be open at a time."
    yield single("callgauge_web_connections_refused_total", COUNTER, help_text, stats.connections_refused)


def prefers_protobuf(accept: str) -> bool:
    """Say whether an Accept header ranks delimited protobuf above text; a tie or silence means text."""
    protobuf_q, text_q = 0.0, 0.0
    for offer in accept.split(","):
        media, *pairs = (part.strip() for part in offer.split(";"))
        parameters = {
            name.strip(): value.strip() for name, _, value in (pair.partition("=") for pair in pairs)
        }
        try:
            quality = float(parameters.get("q", "1"))
        except ValueError:
            continue
        if media == PROTOBUF_MEDIA and PROTOBUF_PARAMETERS.items() <= parameters.items():
            protobuf_q = max(protobuf_q, quality)
        elif media in {"text/plain", "text/*", "*/*"}:
            text_q = max(text_q, quality)
    return protobuf_q > text_q
