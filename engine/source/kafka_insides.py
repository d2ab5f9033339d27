"""The one place that looks into a running consumer of aiokafka, where its public face says too little.

All of it leans on private names, so tests/test_kafka_insides.py holds what was read of them, by version.
(`raw_fetch.py` binds classes of aiokafka anew, before there is a consumer, and has a test of the same kind.)
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

VERSIONS = ("0.14.0",)


class Pulse:
    """When the group last answered a consumer's heartbeat, on the monotonic clock; -1: not yet.

    aiokafka's task for heartbeats can end, or hang in the search for a coordinator, without a word. The
    group then gives the partitions to somebody else while fetches here go on as if nothing had happened.
    """

    def __init__(self) -> None:
        """Nothing was answered yet."""
        self.answered_s = -1.0
        self._watched: Any = None

    def watch(self, consumer: AIOKafkaConsumer) -> None:
        """Note every answer from now on; watching twice is fine. The consumer must have begun to join."""
        coordinator = consumer._coordinator  # noqa: SLF001
        if coordinator is self._watched:
            return
        self._watched = coordinator
        beat = coordinator._do_heartbeat  # noqa: SLF001

        async def noted() -> bool:
            is_answered = bool(await beat())
            if is_answered:
                self.answered_s = time.monotonic()
            return is_answered

        coordinator._do_heartbeat = noted  # noqa: SLF001


def generation_of(consumer: AIOKafkaConsumer) -> int:
    """Give the generation of the group that a consumer belongs to; it grows with each rebalance."""
    return int(consumer._coordinator.generation)  # noqa: SLF001


def lacks_topic(consumer: AIOKafkaConsumer, topic: str) -> bool:
    """Say whether the cluster is known and has no such topic."""
    cluster = consumer._client.cluster  # noqa: SLF001
    return bool(cluster.brokers()) and cluster.partitions_for_topic(topic) is None


def client_of(consumer: AIOKafkaConsumer) -> Any:
    """Give the client through which a consumer talks to the cluster, for requests that it has no word for."""
    return consumer._client  # noqa: SLF001


async def partitions_of(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    """Ask the cluster for the partitions of a topic that the consumer is not subscribed to."""
    return set(await consumer._client._wait_on_metadata(topic) or ())  # noqa: SLF001


async def close_connections(consumer: AIOKafkaConsumer) -> None:
    """Close what `stop` leaves open when it fails; closing twice is fine."""
    await consumer._client.close()  # noqa: SLF001
