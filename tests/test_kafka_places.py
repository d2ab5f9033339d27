"""Where reading begins, and which offsets the group is told: never above what was counted."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import TopicPartition

from engine.settings import KafkaSettings
from engine.source.kafka_places import Progress, Replaced, replace, start_offsets
from tests.line_traffic import START_NS, TOPIC
from tests.simulated_world import Broker, Consumer, VirtualClock

PARTITION = TopicPartition(TOPIC, 0)
HOUR_NS = 3_600_000_000_000
OLD_ROWS, ROWS = 5, 10


def a_consumer() -> tuple[Broker, Any]:
    """Give one of a log of which half is five hours old."""
    broker = Broker(TOPIC, 1)
    for number in range(ROWS):
        broker.logs[0].append(b"row", START_NS - (5 * HOUR_NS if number < OLD_ROWS else 0))
    return broker, Consumer(broker, VirtualClock(START_NS))


@pytest.mark.parametrize(
    ("committed", "begin", "place"),
    [
        (None, 0, OLD_ROWS),
        (3, 0, 3),  # What came since was not counted, however long ago.
        (8, 0, OLD_ROWS),
        (3, 4, 4),  # The broker has deleted what lies before.
        (None, 7, 7),
    ],
)
async def test_a_start_reads_back_over_the_rewind_and_from_what_was_committed(
    committed: int | None, begin: int, place: int
) -> None:
    broker, consumer = a_consumer()
    broker.logs[0].begin = begin
    if committed is not None:
        broker.committed[0] = committed
    settings = KafkaSettings(topic=TOPIC, start="rewind", rewind_ns=HOUR_NS)
    assert await start_offsets(consumer, [PARTITION], settings, START_NS) == {PARTITION: place}


@pytest.mark.parametrize(
    ("offset", "found"),
    [
        (1, Replaced(4, 3, is_tail_lost=False)),
        (ROWS, Replaced(ROWS, 0, is_tail_lost=False)),  # Read to its end: nothing is lost.
        (ROWS + 1, Replaced(ROWS + 1, 0, is_tail_lost=True)),
    ],
)
async def test_only_a_place_beyond_the_end_says_that_rows_were_lost(offset: int, found: Replaced) -> None:
    """A broker may say of any offset that it does not have it."""
    broker, consumer = a_consumer()
    broker.logs[0].begin = 4
    assert await replace(consumer, PARTITION, offset) == found


def test_of_a_partition_that_went_elsewhere_no_offset_is_told() -> None:
    """Not when it is back either, until a checkpoint of the new tenure holds it."""
    progress = Progress()
    progress.durable = {0: 5, 1: 7}
    for partition in (0, 1):
        progress.begin(partition, 0)
    progress.keep((0,))
    progress.begin(1, 9)
    assert progress.committable((0, 1)) == {0: 5}
    assert progress.committable(()) == {}
