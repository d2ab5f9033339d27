"""Whatever a broker answers, reading goes on: every row of the table of faults, nothing lost, nothing twice.

A row is a fault of librdkafka's mock cluster. It is met while the source connects, or while it reads; once
it is over, everything that is in the topic must come within `RESUMES_S`, each row once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

import pytest
from confluent_kafka import Producer

from engine.errors import SourceError
from engine.settings import KafkaSettings
from engine.source.contract import RawBatch
from engine.source.kafka import KafkaSource
from tests.mock_cluster import (
    COMMIT,
    COORDINATOR,
    DROPPED,
    FETCH,
    HEARTBEAT,
    JOIN,
    METADATA,
    OFFSETS,
    SYNC,
    MockCluster,
    mock_cluster,
)
from tests.source_contract import check_batches, rows_by_partition

TOPIC, GROUP, PARTITIONS = "calls", "group", 4
S = 1_000_000_000
RESUMES_S = 15.0
MET_S = 30.0  # until a fault has been met
OUT_OF_RANGE, CORRUPT, UNKNOWN_TOPIC, LEADER_UNKNOWN, NOT_LEADER, UNKNOWN = 1, 2, 3, 5, 6, -1
LOADING, NO_COORDINATOR, NOT_COORDINATOR, ILLEGAL_GENERATION, UNKNOWN_MEMBER = 14, 15, 16, 22, 25
REBALANCING, TOPIC_REFUSED, GROUP_REFUSED, INVALID, STORAGE, FENCED = 27, 29, 30, 42, 56, 82
BY_DEFAULT = {"heartbeat-unknown", "join-dropped", "fetch-corrupt"}


class Fault(NamedTuple):
    """The next requests of a kind get errors."""

    api: int
    errors: tuple[int, ...]


# By kind of request; those of joining are met by the first join, those of reading while rows come.
CONNECTING = {
    "metadata-dropped": Fault(METADATA, (DROPPED,)),
    "metadata-dropped-4-times": Fault(METADATA, (DROPPED,) * 4),
    "coordinator-unavailable": Fault(COORDINATOR, (NO_COORDINATOR,) * 5),
    "coordinator-refused": Fault(COORDINATOR, (GROUP_REFUSED,)),
    "coordinator-dropped": Fault(COORDINATOR, (DROPPED,)),
    "join-unavailable": Fault(JOIN, (NO_COORDINATOR,) * 3),
    "join-not-coordinator": Fault(JOIN, (NOT_COORDINATOR,)),
    "join-loading": Fault(JOIN, (LOADING,) * 2),
    "join-unknown-member": Fault(JOIN, (UNKNOWN_MEMBER,)),
    "join-unknown": Fault(JOIN, (UNKNOWN,)),
    "join-refused": Fault(JOIN, (GROUP_REFUSED,)),
    "join-dropped": Fault(JOIN, (DROPPED,)),
    "sync-invalid": Fault(SYNC, (INVALID,)),
    "sync-rebalancing": Fault(SYNC, (REBALANCING,)),
    "sync-unknown-member": Fault(SYNC, (UNKNOWN_MEMBER,)),
    "sync-unknown": Fault(SYNC, (UNKNOWN,)),
    "sync-dropped": Fault(SYNC, (DROPPED,)),
    "offsets-not-leader": Fault(OFFSETS, (NOT_LEADER,)),
    "offsets-unknown": Fault(OFFSETS, (UNKNOWN,)),
    "offsets-dropped": Fault(OFFSETS, (DROPPED,)),
}
READING = {
    "heartbeat-unknown-member": Fault(HEARTBEAT, (UNKNOWN_MEMBER,)),
    "heartbeat-illegal-generation": Fault(HEARTBEAT, (ILLEGAL_GENERATION,)),
    "heartbeat-not-coordinator": Fault(HEARTBEAT, (NOT_COORDINATOR,)),
    "heartbeat-unavailable": Fault(HEARTBEAT, (NO_COORDINATOR,) * 3),
    "heartbeat-rebalancing": Fault(HEARTBEAT, (REBALANCING,)),
    "heartbeat-unknown": Fault(HEARTBEAT, (UNKNOWN,)),
    "heartbeat-unknown-3-times": Fault(HEARTBEAT, (UNKNOWN,) * 3),
    "heartbeat-refused": Fault(HEARTBEAT, (GROUP_REFUSED,)),
    "heartbeat-dropped": Fault(HEARTBEAT, (DROPPED,)),
    "commit-unknown-member": Fault(COMMIT, (UNKNOWN_MEMBER,)),
    "commit-illegal-generation": Fault(COMMIT, (ILLEGAL_GENERATION,)),
    "commit-rebalancing": Fault(COMMIT, (REBALANCING,)),
    "commit-unavailable": Fault(COMMIT, (NO_COORDINATOR,)),
    "commit-refused": Fault(COMMIT, (GROUP_REFUSED,)),
    "commit-unknown": Fault(COMMIT, (UNKNOWN,)),
    "commit-dropped": Fault(COMMIT, (DROPPED,)),
    "fetch-corrupt": Fault(FETCH, (CORRUPT,) * 3),
    "fetch-not-leader": Fault(FETCH, (NOT_LEADER,) * 2),
    "fetch-unknown-topic": Fault(FETCH, (UNKNOWN_TOPIC,) * 2),
    "fetch-storage": Fault(FETCH, (STORAGE,) * 2),
    "fetch-unknown": Fault(FETCH, (UNKNOWN,) * 2),
    "fetch-refused": Fault(FETCH, (TOPIC_REFUSED,) * 5),
    "fetch-out-of-range": Fault(FETCH, (OUT_OF_RANGE,)),
    "fetch-dropped": Fault(FETCH, (DROPPED,) * 3),
    "metadata-unavailable": Fault(METADATA, (LEADER_UNKNOWN,) * 2),
}


def cases(faults: dict[str, Fault]) -> list[object]:
    """Give the rows of a table, most of them for the long run alone."""
    return [
        pytest.param(fault, id=name, marks=() if name in BY_DEFAULT else pytest.mark.full)
        for name, fault in faults.items()
    ]


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    """Give a cluster of one broker with the topic."""
    with mock_cluster() as made:
        made.create_topic(TOPIC, PARTITIONS)
        yield made


class Run:
    """A source on a cluster, and what was produced and read so far."""

    def __init__(self, cluster: MockCluster, session_s: int = 3, *, commits: bool = False) -> None:
        """Connect to nothing yet. Without `commits` it makes none: their errors would mend other faults."""
        settings = KafkaSettings(
            bootstrap_servers=tuple(cluster.bootstrap.split(",")), topic=TOPIC, group_id=GROUP, member_id="a",
            start="earliest", session_timeout_ns=session_s * S, heartbeat_ns=S // 4, poll_ns=S // 10,
        )  # fmt: skip
        self.source = KafkaSource(settings, commit_every_s=0.3 if commits else 3600.0)
        self.batches: list[RawBatch] = []
        self._produced = 0
        self._producer = Producer(
            {
                "bootstrap.servers": cluster.bootstrap, "error_cb": lambda _: None, "log_level": 0,
                "linger.ms": 5, "enable.idempotence": True,
            }
        )  # fmt: skip

    def produce(self, count: int) -> None:
        """Produce rows with running numbers, in turns to every partition, and wait for their receipt."""
        for number in range(self._produced, self._produced + count):
            self._producer.produce(TOPIC, b"%d" % number, partition=number % PARTITIONS)
        self._produced += count
        assert self._producer.flush(30) == 0

    async def read_until(self, met: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Read until something is so."""
        deadline_s = time.monotonic() + timeout_s
        while not met():
            assert time.monotonic() < deadline_s, (
                f"not within {timeout_s:.0f} s: {what}; {self.source.stats()}"
            )
            batch = await self.source.read()
            assert batch is not None
            self.batches.append(batch)

    async def read_all(self, timeout_s: float = RESUMES_S) -> None:
        """Read until every row that was produced has come."""
        await self.read_until(self._has_all, timeout_s, f"{self._produced} rows")

    def _has_all(self) -> bool:
        return sum(batch.rows for batch in self.batches) >= self._produced

    async def check(self) -> None:
        """Compare what came with what was produced, after a while in which nothing may come twice."""
        for _ in range(5):
            batch = await self.source.read()
            assert batch is not None
            self.batches.append(batch)
        check_batches(self.batches)
        found = rows_by_partition(self.batches)
        for partition in range(PARTITIONS):
            assert [int(row) for row in found[partition]] == [*range(partition, self._produced, PARTITIONS)]
        assert sum(rows for _, rows in self.source.stats().lost_rows) == 0


async def closing(run: Run, work: Callable[[Run], Awaitable[None]]) -> None:
    """Do the work, and close the source whatever comes of it."""
    try:
        await run.source.start()
        await work(run)
    finally:
        await run.source.close()


@pytest.mark.parametrize("fault", cases(CONNECTING))
async def test_a_fault_while_it_connects_is_got_over(cluster: MockCluster, fault: Fault) -> None:
    """Rows that were there before come all the same."""

    async def work(run: Run) -> None:
        await run.read_until(lambda: cluster.errors_left(fault.api) == 0, MET_S, "the fault is met")
        await run.read_all()
        run.produce(100)
        await run.read_all()
        await run.check()

    run = Run(cluster)
    run.produce(100)
    cluster.fail(fault.api, *fault.errors)
    await closing(run, work)


@pytest.mark.parametrize("fault", cases(READING))
async def test_a_fault_while_it_reads_is_got_over(cluster: MockCluster, fault: Fault) -> None:
    """Rows from before, from meanwhile and from afterwards come once each."""

    async def work(run: Run) -> None:
        run.produce(100)
        await run.read_all(MET_S)
        cluster.fail(fault.api, *fault.errors)
        run.produce(100)
        await run.read_until(lambda: cluster.errors_left(fault.api) == 0, MET_S, "the fault is met")
        run.produce(100)
        await run.read_all()
        await run.check()

    await closing(Run(cluster, commits=fault.api == COMMIT), work)


@pytest.mark.full
async def test_a_refusal_is_counted_and_not_the_end(cluster: MockCluster) -> None:
    """Who took the right away may give it back."""

    async def work(run: Run) -> None:
        run.produce(40)
        await run.read_all(MET_S)
        cluster.fail(FETCH, *(TOPIC_REFUSED,) * 4)
        await run.read_until(lambda: cluster.errors_left(FETCH) == 0, MET_S, "the fault is met")
        run.produce(40)
        await run.read_all()
        assert run.source.stats().unauthorized > 0

    await closing(Run(cluster), work)


@pytest.mark.full
async def test_a_group_that_does_not_answer_heartbeats_costs_the_consumer(cluster: MockCluster) -> None:
    """Rows go on coming, so nothing else would tell that the membership is lost."""

    async def work(run: Run) -> None:
        run.produce(40)
        await run.read_all(MET_S)
        cluster.fail(HEARTBEAT, *(NO_COORDINATOR,) * 100)
        await run.read_until(lambda: run.source.stats().rebuilds > 0, MET_S, "another consumer")

    await closing(Run(cluster, session_s=1), work)


@pytest.mark.full
async def test_another_process_with_this_id_is_an_error(cluster: MockCluster) -> None:
    """The one fault that is not got over: two would take turns for ever."""

    async def work(run: Run) -> None:
        run.produce(40)
        await run.read_all(MET_S)
        cluster.fail(HEARTBEAT, FENCED)
        with pytest.raises(SourceError, match="another process"):
            await run.read_until(lambda: False, MET_S, "the end")

    await closing(Run(cluster), work)


@pytest.mark.full
@pytest.mark.parametrize("down_s", [0.5, 3.0, 10.0])
async def test_a_broker_that_is_away_for_a_while_loses_nothing(cluster: MockCluster, down_s: float) -> None:
    """Shorter and longer than the session; the source may be closed at any time meanwhile."""

    async def work(run: Run) -> None:
        run.produce(100)
        await run.read_all(MET_S)
        cluster.down()
        until_s = time.monotonic() + down_s
        await run.read_until(lambda: time.monotonic() > until_s, 2 * down_s + MET_S, "it is over")
        cluster.up()
        await asyncio.to_thread(run.produce, 100)
        await run.read_all()
        await run.check()

    await closing(Run(cluster), work)


@pytest.mark.full
async def test_it_can_be_closed_while_the_broker_is_away(cluster: MockCluster) -> None:
    """Then aiokafka's `stop` cancels itself."""
    run = Run(cluster)
    await run.source.start()
    run.produce(40)
    await run.read_all(MET_S)
    cluster.down()
    until_s = time.monotonic() + 2.0
    await run.read_until(lambda: time.monotonic() > until_s, MET_S, "it backs off")
    await run.source.close()
    assert run.source.stats().state == "closed"


@pytest.mark.full
@pytest.mark.parametrize("round_trip_ms", [200, 1000])
async def test_slow_answers_lose_nothing(cluster: MockCluster, round_trip_ms: int) -> None:
    """Heartbeats are late as well."""

    async def work(run: Run) -> None:
        run.produce(100)
        await run.read_all(MET_S)
        cluster.slow(round_trip_ms)
        until_s = time.monotonic() + 5.0
        await asyncio.to_thread(run.produce, 100)
        await run.read_until(lambda: time.monotonic() > until_s, MET_S, "it is over")
        cluster.slow(0)
        run.produce(100)
        await run.read_all()
        await run.check()

    await closing(Run(cluster), work)


@pytest.mark.full
async def test_leaders_and_coordinators_may_move() -> None:
    """Partition by partition, and the group with them."""

    async def work(run: Run) -> None:
        run.produce(100)
        await run.read_all(MET_S)
        for turn in range(6):
            for partition in range(PARTITIONS):
                three.lead(TOPIC, partition, 1 + (turn + partition) % 3)
            three.coordinate(GROUP, 1 + turn % 3)
            await asyncio.to_thread(run.produce, 100)
            await run.read_all()
        await run.check()

    with mock_cluster(brokers=3) as three:
        three.create_topic(TOPIC, PARTITIONS)
        await closing(Run(three), work)
