"""Three real brokers of which one at a time is killed, stopped or frozen, while calls come in.

Leaders and the group's coordinator move with each fault. In the end the state is that of a line that has read
the whole topic once; a seed that fails is in the name of the test.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.kafka_cluster import KafkaCluster, trouble
from tests.integration.kill_loop import PARTITIONS, Killed
from tests.integration.servers import ServerMissing, without
from tests.integration.test_kill_nine import a_story

SEEDS, SEEDS_SOAK = 5, 100
FAULTS = 5
PIECES = 60 * FAULTS


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Give three brokers for all seeds."""
    try:
        made = KafkaCluster(tmp_path_factory.mktemp("kafka-cluster"))
    except ServerMissing as missing:
        without(missing)
    made.start()
    yield made
    made.stop()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(seed, marks=pytest.mark.full if seed < SEEDS else pytest.mark.soak)
        for seed in range(SEEDS_SOAK)
    ],
)
def test_brokers_that_come_and_go_lose_nothing(cluster: KafkaCluster, tmp_path: Path, seed: int) -> None:
    """0 difference to the whole history: calls, totals, losses, alerts, changes told."""
    troubled = Killed(tmp_path / "troubled", cluster, f"chaos-{seed}")
    done: list[str] = []
    troubled.during(
        a_story(10), PIECES, lambda: done.extend(trouble(cluster, troubled.topic, PARTITIONS, seed, FAULTS))
    )
    troubled.finish()
    expected, changes = troubled.expected()
    assert expected.rows["read"] == sum(cluster.end_offsets(troubled.topic)), done
    assert troubled.found() == expected, done
    assert troubled.told() == changes, done
    assert len(changes) > 2
