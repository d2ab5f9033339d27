"""One real Apache Kafka broker (KRaft, broker and controller in one process), with what tests do to it.

Topics are made and rows produced by librdkafka, so that the consumer under test meets another client's
bytes.
"""

import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.integration.servers import (
    CLUSTER_ID,
    KAFKA_VERSION,
    Process,
    ServerError,
    free_ports,
    installed_kafka,
    wait_until,
)

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},LOGIN://127.0.0.1:{login_port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},LOGIN://127.0.0.1:{login_port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LOGIN:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.login.plain.sasl.jaas.config={login_module} required user_{user}="{password}";
inter.broker.listener.name=PLAINTEXT
log.dirs=data
num.partitions=4
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
"""
LOGIN_MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"
USER = "callgauge"
PASSWORD = "the-password-of-the-test"
JVM = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


class _Keyed(msgspec.Struct):
    call_id: str = ""


def call_id_of(row: bytes) -> bytes:
    """Give the key that callgauge asks of a topic: the row's call id."""
    return msgspec.json.decode(row, type=_Keyed).call_id.encode()


def _quiet(_error: object) -> None:
    """Let librdkafka retry without a word: brokers go away in these tests on purpose."""


class Topics:
    """What tests do to the topics of the brokers at `bootstrap`."""

    def __init__(self, bootstrap: str, replicas: int = 1) -> None:
        """Connect to nothing before it is needed."""
        self.bootstrap = bootstrap
        self._replicas = replicas

    def create_topic(self, topic: str, partitions: int = 4, **config: str) -> None:
        """Make a topic and wait until it is there; `config` with `_` for `.`, such as retention_ms."""
        settings = {name.replace("_", "."): value for name, value in config.items()}
        made = NewTopic(topic, num_partitions=partitions, replication_factor=self._replicas, config=settings)
        admin = self.admin()  # Held, because an admin client that is let go drops its requests.
        admin.create_topics([made])[topic].result(30)

    def delete_topic(self, topic: str) -> None:
        """Delete a topic."""
        admin = self.admin()
        admin.delete_topics([topic])[topic].result(30)

    def delete_rows(self, topic: str, partition: int, before_offset: int) -> None:
        """Delete the rows of a partition below an offset, as retention does."""
        admin = self.admin()
        place = TopicPartition(topic, partition, before_offset)
        admin.delete_records([place])[place].result(30)

    def end_offsets(self, topic: str, partitions: int = 4) -> list[int]:
        """Count the rows that each partition of a fresh topic was ever given."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "end-offsets"})
        ends: list[int] = []

        def asked() -> bool:
            try:
                place = TopicPartition(topic, len(ends))
                ends.append(consumer.get_watermark_offsets(place, timeout=10)[1])
            except KafkaException:  # A broker that has just started leads no partition yet.
                return False
            return len(ends) == partitions

        try:
            wait_until(asked, what=f"the end offsets of {topic}")
        finally:
            consumer.close()
        return ends

    def produce(
        self,
        topic: str,
        rows: Iterable[bytes | None],
        *,
        key_of: Callable[[bytes], bytes] = call_id_of,
        compression: str = "none",
        partition: int = -1,
        timestamp_ms: int = 0,
    ) -> None:
        """Produce rows, keyed by call id, in order, and wait until every one is acknowledged.

        `partition` -1 is by key, `timestamp_ms` 0 is now.
        """
        failed: list[object] = []
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap, "compression.type": compression, "acks": "all",
                "enable.idempotence": True, "linger.ms": 5, "error_cb": _quiet, "log_level": 0,
            }
        )  # fmt: skip

        def delivered(error: object, _message: object) -> None:
            if error is not None:
                failed.append(error)

        for row in rows:
            key = b"" if row is None else key_of(row)
            while True:
                try:
                    producer.produce(topic, row, key, partition, delivered, timestamp=timestamp_ms)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        left = producer.flush(60)
        assert left == 0, f"{left} rows were not acknowledged"
        assert not failed, f"{len(failed)} rows failed: {failed[0]}"

    def admin(self) -> AdminClient:
        """Give a client for what has no method here; hold it, or it drops its requests."""
        settings: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap, "error_cb": _quiet, "log_level": 0,
        }  # fmt: skip
        return AdminClient(settings)


class Kafka:
    """A broker in a folder of its own; `bootstrap` is its address, the same after a restart.

    At `login_bootstrap` it asks for `USER` and `PASSWORD` (SASL PLAIN).
    """

    def __init__(
        self,
        folder: Path,
        properties: str = PROPERTIES,
        *format_arguments: str,
        ports: Sequence[int] = (),
        version: str = KAFKA_VERSION,
    ) -> None:
        """Format the folder; `start` starts the broker. `ports` are those of clients, logins, controller."""
        jars = installed_kafka(version)
        port, login_port, controller_port = ports or free_ports(3)
        self.bootstrap = f"127.0.0.1:{port}"
        self.login_bootstrap = f"127.0.0.1:{login_port}"
        folder.mkdir(parents=True, exist_ok=True)
        self.topics = Topics(self.bootstrap)
        self.create_topic, self.delete_topic = self.topics.create_topic, self.topics.delete_topic
        self.delete_rows, self.produce = self.topics.delete_rows, self.topics.produce
        self.end_offsets = self.topics.end_offsets
        self._data = folder / "data"
        properties = properties.format(
            port=port, login_port=login_port, controller_port=controller_port,
            login_module=LOGIN_MODULE, user=USER, password=PASSWORD,
        )  # fmt: skip
        (folder / "server.properties").write_text(properties, "utf-8")
        java = ["java", *JVM, QUIET, "-cp", f"{jars}/*"]
        done = subprocess.run(
            [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", "server.properties",
             *format_arguments],
            cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise ServerError(
                f"Kafka's storage could not be formatted: {(done.stdout + done.stderr)[-2000:]}"
            )
        self.process = Process([*java, "kafka.Kafka", "server.properties"], folder, self._ready)

    def start(self) -> None:
        """Start (again, on the same port and data) and wait until topics can be made."""
        self.process.start()

    def stop(self) -> None:
        """Stop with SIGTERM."""
        self.process.stop()

    def kill(self) -> None:
        """Kill with -9."""
        self.process.kill()

    def damage(self, topic: str, partition: int, content: bytes) -> int:
        """Flip a bit where a stopped broker has `content`, and give how many rows are in that batch."""
        (segment,) = (self._data / f"{topic}-{partition}").glob("*.log")
        data = bytearray(segment.read_bytes())
        place = data.index(content)
        data[place] ^= 1
        segment.write_bytes(data)
        begin = end = 0
        while end <= place:
            begin, end = end, end + 12 + int.from_bytes(data[end + 8 : end + 12], "big")
        return int.from_bytes(data[begin + 57 : begin + 61], "big")

    def _ready(self) -> bool:
        try:
            return bool(self.topics.admin().list_topics(timeout=1.0).brokers)
        except KafkaException:
            return False
