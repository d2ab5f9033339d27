"""librdkafka's own mock cluster, driven by ctypes out of the library that confluent-kafka brings along.

It speaks Kafka's protocol with groups, and fails on demand: the next requests of a kind get errors, brokers
go down or slow, leaders and coordinators move. It has no administration, TLS or login; what is real is
tested against a real Kafka (tests/integration). Its interface is experimental, and the lock file pins it.
Its one edge for us: who is not the leader of a group must not ask for its assignment after the leader did,
so tests here have groups of one.
"""

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from pathlib import Path

import confluent_kafka

FETCH, OFFSETS, METADATA, COMMIT = 1, 2, 3, 8
COORDINATOR, JOIN, HEARTBEAT, SYNC = 10, 11, 12, 14
DROPPED = -195  # the connection is closed instead of an answer
PRODUCER = 0
HANDLE, TEXT, INT, SHORT = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int16
SIGNATURES = {
    "rd_kafka_conf_new": (HANDLE,),
    "rd_kafka_conf_set": (INT, HANDLE, TEXT, TEXT, TEXT, ctypes.c_size_t),
    "rd_kafka_new": (HANDLE, INT, HANDLE, TEXT, ctypes.c_size_t),
    "rd_kafka_destroy": (None, HANDLE),
    "rd_kafka_mock_cluster_new": (HANDLE, HANDLE, INT),
    "rd_kafka_mock_cluster_destroy": (None, HANDLE),
    "rd_kafka_mock_cluster_bootstraps": (TEXT, HANDLE),
    "rd_kafka_mock_topic_create": (INT, HANDLE, TEXT, INT, INT),
    "rd_kafka_mock_broker_error_stack_cnt": (
        INT, HANDLE, ctypes.c_int32, SHORT, ctypes.POINTER(ctypes.c_size_t)
    ),
    "rd_kafka_mock_broker_set_down": (INT, HANDLE, ctypes.c_int32),
    "rd_kafka_mock_broker_set_up": (INT, HANDLE, ctypes.c_int32),
    "rd_kafka_mock_broker_set_rtt": (INT, HANDLE, ctypes.c_int32, INT),
    "rd_kafka_mock_coordinator_set": (INT, HANDLE, TEXT, TEXT, ctypes.c_int32),
    "rd_kafka_mock_partition_set_leader": (INT, HANDLE, TEXT, ctypes.c_int32, ctypes.c_int32),
    "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, HANDLE, ctypes.c_int32),
}  # fmt: skip


@functools.cache
def library() -> ctypes.CDLL:
    """Load what the wheel of confluent-kafka has beside it."""
    (file,) = (Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs").glob("librdkafka-*.so*")
    loaded = ctypes.CDLL(str(file))
    for name, (result, *arguments) in SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


class MockCluster:
    """Brokers 1, 2, ... in threads of this process; `bootstrap` is their address."""

    def __init__(self, brokers: int = 1) -> None:
        """Start them."""
        self.brokers = range(1, brokers + 1)
        reason = ctypes.create_string_buffer(512)
        settings = library().rd_kafka_conf_new()
        self._done(library().rd_kafka_conf_set(settings, b"log_level", b"0", reason, len(reason)))
        self._client = library().rd_kafka_new(PRODUCER, settings, reason, len(reason))
        assert self._client, reason.value
        self._cluster = library().rd_kafka_mock_cluster_new(self._client, brokers)
        self.bootstrap = library().rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        library().rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)

    def close(self) -> None:
        """Stop them."""
        library().rd_kafka_mock_cluster_destroy(self._cluster)
        library().rd_kafka_destroy(self._client)

    def create_topic(self, topic: str, partitions: int) -> None:
        """Make a topic of which each partition is on one broker."""
        self._done(library().rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1))

    def fail(self, api: int, *errors: int) -> None:
        """Answer the next requests of a kind to each broker with these errors."""
        pairs = [ctypes.c_int(number) for error in errors for number in (error, 0)]  # 0: no delay
        push = library().rd_kafka_mock_broker_push_request_error_rtts
        push.restype = INT
        for broker in self.brokers:
            self._done(
                push(
                    HANDLE(self._cluster), ctypes.c_int32(broker), SHORT(api), ctypes.c_size_t(len(errors)),
                    *pairs,
                )
            )  # fmt: skip

    def errors_left(self, api: int) -> int:
        """Count the errors that no request has met so far."""
        total, count = 0, ctypes.c_size_t()
        for broker in self.brokers:
            self._done(
                library().rd_kafka_mock_broker_error_stack_cnt(
                    self._cluster, broker, api, ctypes.byref(count)
                )
            )
            total += count.value
        return total

    def down(self) -> None:
        """Let every broker be gone."""
        for broker in self.brokers:
            self._done(library().rd_kafka_mock_broker_set_down(self._cluster, broker))

    def up(self) -> None:
        """Let every broker be there."""
        for broker in self.brokers:
            self._done(library().rd_kafka_mock_broker_set_up(self._cluster, broker))

    def slow(self, round_trip_ms: int) -> None:
        """Let every answer take so long."""
        for broker in self.brokers:
            self._done(library().rd_kafka_mock_broker_set_rtt(self._cluster, broker, round_trip_ms))

    def lead(self, topic: str, partition: int, broker: int) -> None:
        """Move a partition to another broker."""
        self._done(
            library().rd_kafka_mock_partition_set_leader(self._cluster, topic.encode(), partition, broker)
        )

    def coordinate(self, group: str, broker: int) -> None:
        """Move a group to another broker."""
        self._done(library().rd_kafka_mock_coordinator_set(self._cluster, b"group", group.encode(), broker))

    @staticmethod
    def _done(error: int) -> None:
        assert error == 0, f"librdkafka's mock cluster refuses with {error}"


@contextlib.contextmanager
def mock_cluster(brokers: int = 1) -> Iterator[MockCluster]:
    """Give a cluster that is gone in the end."""
    cluster = MockCluster(brokers)
    try:
        yield cluster
    finally:
        cluster.close()
