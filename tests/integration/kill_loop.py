"""A service that is killed with -9 at random moments while calls come in, and what it must know in the end.

The oracle is a line that reads the whole topic once, never killed. In the end both must hold the same calls,
totals, losses and alerts, and have told the same changes; what was told twice after a kill counts once.
"""

import json
import operator
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from engine.app import Line, OwnedLine, build_line, load_configuration, read_hash_key
from engine.deliver.jsonl import alert_change_line
from engine.observe.calls import COLUMNS, KEY, SERIES
from engine.source.contract import RawBatch
from engine.state.folder import Folder
from engine.state.line_state import digests_of, restore
from tests.integration.kafka_broker import Kafka
from tests.integration.kafka_cluster import KafkaCluster
from tests.integration.servers import wait_until
from tests.integration.service import Service
from tests.line_traffic import Event

PARTITIONS = 4
STATE = {"folder": "state", "period": "300ms"}
STANDING_STILL = {"idle": "1h"}  # event time goes by rows alone, for the service and for the oracle
BYTES_MAX = 64 << 20
NOTHING: Mapping[str, object] = {}


class Known(NamedTuple):
    """What a line knows, by names instead of ids."""

    rows: dict[str, int]
    calls: list[tuple[int, ...]]
    totals: dict[str, list[int]]
    alerts: tuple[object, ...]
    watermark_ns: int


def known_to(line: Line) -> Known:
    """Say what a line knows."""
    pipeline = line.pipeline
    observer, roller, decoder = pipeline.observer, pipeline.judge.roller, pipeline.decoder
    losses = decoder.losses + observer.losses
    calls = []
    for partition in getattr(observer, "_partitions").values():  # noqa: B009
        used = partition.calls[:-1][partition.calls[:-1, KEY] != 0]
        labels = [decoder.series.values[series] for series in used[:, SERIES]]
        own = [column for column in range(COLUMNS) if column != SERIES]
        calls += [(*row, *label) for row, label in zip(used[:, own].tolist(), labels, strict=True)]
    totals = {
        str(labels): [*roller.measures.totals[row].tolist(), int(roller.series_level[row])]
        for row, labels in enumerate(roller.index.series)
    }
    rows = {"read": decoder.rows_read, "absorbed": observer.rows_absorbed, "held": observer.rows_held}
    rows |= {f"lost {number}": count for number, count in enumerate(losses.tolist()) if count}
    alerts = pipeline.judge.book.alerts()
    return Known(rows, sorted(calls), totals, alerts, observer.watermark_ns)


# Ten pieces a second: rows must still come when a service is up again, also on a slow machine.
PIECES_PER_KILL = 60


class Killed:
    """One service with checkpoints, and a thread that produces what happens."""

    def __init__(
        self,
        folder: Path,
        kafka: Kafka | KafkaCluster,
        topic: str,
        command: str = "engine.cli",
        *,
        state: Mapping[str, object] = NOTHING,
        engine: Mapping[str, object] = NOTHING,
    ) -> None:
        """Make the topic and the service, with more settings; nothing runs yet."""
        kafka.create_topic(topic, PARTITIONS)
        self.kafka, self.topic = kafka, topic
        self.engine, self.state = {**STANDING_STILL, **engine}, {**STATE, **state}
        self.service = Service(folder, kafka, topic, command=command, engine=self.engine, state=self.state)
        self._told = threading.Event()

    def run(self, events: tuple[Event, ...], kills: int, seed: int) -> None:
        """Produce the events one after another, and kill the service so often meanwhile."""
        generator = np.random.default_rng(seed)

        def kill() -> None:
            for _ in range(kills):
                wait_until(self._has_read, what="rows are read")
                threading.Event().wait(float(generator.uniform(0.0, 1.5)))
                self.service.process.kill()
                self.service.start()

        self.during(events, PIECES_PER_KILL * kills, kill)

    def run_ahead(self, events: tuple[Event, ...]) -> None:
        """Produce the events, and kill the service once, when the group is ahead of the last checkpoint.

        Random moments will not do for one kill: it is frozen while one looks, and killed as it stands.
        """

        def is_ahead() -> bool:
            self.service.process.pause()
            kept = self.offsets_kept()
            if kept and any(map(operator.gt, self.offsets_committed(), kept)):
                return True
            self.service.process.resume()
            return False

        def kill() -> None:
            wait_until(is_ahead, what="the group is ahead of the checkpoint")
            self.service.process.kill()
            self.service.start()

        self.during(events, 10 * PIECES_PER_KILL, kill)

    def during(self, events: tuple[Event, ...], pieces: int, work: Callable[[], None]) -> None:
        """Produce the events piece by piece while something is done, then all that are left."""
        self.service.start_ready()
        feeding = threading.Thread(target=self._feed, args=(events, pieces), daemon=True)
        feeding.start()
        try:
            work()
        finally:
            self._told.set()
            feeding.join(120)
        assert not feeding.is_alive()

    def _has_read(self) -> bool:
        return self.service.metric("callgauge_rows_read_total") > 0

    def finish(self) -> None:
        """Let the service read to the end, and stop it in order."""
        ends = self.kafka.end_offsets(self.topic, PARTITIONS)
        wait_until(lambda: self.offsets_kept() == ends, what="everything is in a checkpoint", timeout_s=60)
        self.service.process.stop()

    def _feed(self, events: tuple[Event, ...], pieces: int) -> None:
        """Produce in pieces while there are kills to come, then all that is left."""
        step = len(events) // pieces + 1
        first = 0
        while first < len(events):
            following = len(events) if self._told.is_set() else first + step
            self.kafka.produce(self.topic, [one.row for one in events[first:following]])
            first = following
            self._told.wait(0.1)

    def found(self) -> Known:
        """Give what the last checkpoint holds."""
        return found_in(self.service, self.service.folder / "state", self.topic)

    def expected(self) -> tuple[Known, set[bytes]]:
        """Give what a line knows that reads the topic once, and the changes that it tells."""
        return expected_of(self.service, self.service.folder / "state", self.kafka, self.topic)

    def told(self) -> set[bytes]:
        """Give the changes that were told, each once."""
        return set(self.service.changes())

    def offsets_committed(self) -> list[int]:
        """Give what the group has committed."""
        consumer = Consumer({"bootstrap.servers": self.kafka.bootstrap, "group.id": f"group-{self.topic}"})
        places = consumer.committed(
            [TopicPartition(self.topic, one) for one in range(PARTITIONS)], timeout=10
        )
        consumer.close()
        return [place.offset for place in sorted(places, key=lambda place: place.partition)]

    def offsets_kept(self) -> list[int]:
        """Give where each partition goes on, as the manifest of the last checkpoint says."""
        return offsets_kept_in(self.service.folder / "state")


def found_in(service: Service, state: Path, topic: str) -> Known:
    """Give what the last checkpoint of a folder holds."""
    configuration, key = _configured(service, state)
    held, _ = Folder(state, BYTES_MAX, "00000000").load(topic)
    assert held is not None
    line = build_line(configuration, key)
    digests = digests_of(configuration.settings, None, key)
    assert restore(line.pipeline, held.read, held.manifest.digests, digests) == (True, ())
    return known_to(line)


def expected_of(
    service: Service, state: Path, kafka: Kafka | KafkaCluster, topic: str
) -> tuple[Known, set[bytes]]:
    """Give what a line of these settings knows that reads the topic once, and the changes that it tells."""
    line = OwnedLine(*_configured(service, state))
    changes = set()
    for raw in _whole_topic(kafka, topic):
        changes |= {alert_change_line(change) for change in line.step(raw).changes}
    return known_to(line.line), changes


def offsets_kept_in(state: Path) -> list[int]:
    """Give where each partition goes on, as the manifest of a folder says; [] while it is replaced."""
    manifest = state / "manifest"
    if not manifest.exists():
        return []
    offsets = json.loads(manifest.read_text("utf-8").partition("\n")[2])["next_offsets"]
    return [offsets.get(str(partition), 0) for partition in range(PARTITIONS)]


def _configured(service: Service, state: Path) -> Any:
    folder = service.folder
    configuration = load_configuration(str(folder / "engine.yaml"), str(folder / "limits.yaml"), None)
    own = configuration.settings.engine.call_key_file
    return configuration, read_hash_key(str(folder / own if own else state / "call.key"), b"")


def _whole_topic(kafka: Kafka | KafkaCluster, topic: str) -> Iterator[RawBatch]:
    assigned = tuple(range(PARTITIONS))
    for partition, end in enumerate(kafka.end_offsets(topic, PARTITIONS)):
        rows, offsets = _rows_of(kafka, topic, partition, end)
        row_end = np.cumsum([len(row) for row in rows], dtype=np.int64)
        row_start = np.concatenate((np.zeros(1, np.int64), row_end[:-1]))[: len(rows)]
        data = b"".join(rows)
        yield RawBatch(data, row_start, row_end, offsets, topic, partition, time.time_ns(), assigned, ())


def _rows_of(kafka: Kafka | KafkaCluster, topic: str, partition: int, end: int) -> tuple[list[bytes], Any]:
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": "oracle", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, partition, 0)])
    rows: list[bytes] = []
    offsets: list[int] = []
    while not offsets or offsets[-1] < end - 1:
        for message in consumer.consume(1_000, timeout=0.5):
            value, offset = message.value(), message.offset()
            assert value is not None
            assert offset is not None
            rows.append(value)
            offsets.append(offset)
    consumer.close()
    return rows, np.array(offsets, np.int64)
