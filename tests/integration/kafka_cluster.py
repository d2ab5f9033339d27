"""Three real brokers, each a controller too, of which any may be killed, frozen or relieved at any time."""

import time
from collections.abc import Callable
from pathlib import Path

import confluent_kafka
import numpy as np
from confluent_kafka import KafkaException, TopicPartition

from tests.integration.kafka_broker import PROPERTIES, Kafka, Topics
from tests.integration.servers import free_ports

NODES = 3
# What comes later in a file of properties counts.
REPLICATED = """\
node.id={node}
controller.quorum.voters={voters}
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
replica.lag.time.max.ms=3000
controller.quorum.election.timeout.ms=1000
controller.quorum.fetch.timeout.ms=2000
"""
PAUSE_S = (0.5, 6.0)  # how long a broker is away, and how long all is well


class KafkaCluster:
    """`bootstrap` names all three; a topic is on all of them, and two must have a row before it counts."""

    def __init__(self, folder: Path) -> None:
        """Format the folders; `start` starts them."""
        ports = [free_ports(NODES) for _ in range(NODES)]
        voters = ",".join(f"{node}@127.0.0.1:{each[2]}" for node, each in enumerate(ports, 1))
        self.nodes = [
            Kafka(
                folder / str(node), PROPERTIES + REPLICATED.format(node=node, voters=voters), ports=each
            )
            for node, each in enumerate(ports, 1)
        ]  # fmt: skip
        self.bootstrap = ",".join(node.bootstrap for node in self.nodes)
        self._topics = Topics(self.bootstrap, replicas=NODES)
        self.create_topic, self.produce = self._topics.create_topic, self._topics.produce
        self.end_offsets = self._topics.end_offsets

    def start(self) -> None:
        """Start all, and wait for all."""
        for node in self.nodes:
            node.process.begin()
        for node in self.nodes:
            node.process.wait()

    def stop(self) -> None:
        """Stop all."""
        for node in self.nodes:
            node.kill()

    def relieve(self, topic: str, partitions: int) -> None:
        """Give every partition back to the broker that comes first for it, which moves leaders."""
        places = [TopicPartition(topic, number) for number in range(partitions)]
        admin = self._topics.admin()
        try:
            admin.elect_leaders(confluent_kafka.ElectionType.PREFERRED, places).result(30)
        except KafkaException:  # A broker that is not there yet cannot lead.
            return


def trouble(cluster: KafkaCluster, topic: str, partitions: int, seed: int, faults: int) -> list[str]:
    """Kill, freeze and relieve brokers, one at a time; say what was done."""
    generator = np.random.default_rng(seed)
    done = []

    def pause() -> None:
        time.sleep(float(generator.uniform(*PAUSE_S)))

    def killed(node: Kafka) -> None:
        node.kill()
        pause()
        node.start()

    def stopped(node: Kafka) -> None:
        node.stop()
        pause()
        node.start()

    def frozen(node: Kafka) -> None:
        node.process.pause()
        pause()
        node.process.resume()

    ways: tuple[Callable[[Kafka], None], ...] = (killed, stopped, frozen)
    for _ in range(faults):
        node, way = generator.integers(NODES), ways[generator.integers(len(ways))]
        way(cluster.nodes[node])
        done.append(f"{way.__name__} {node + 1}")
        cluster.relieve(topic, partitions)
        pause()
    return done
