"""Where in each partition to begin, and where to go on when that place is gone.

The state of the engine is in memory, so a start reads back over the time that it needs (`rewind`): it
does not resume from the committed offset, which is for lag tools only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiokafka import AIOKafkaConsumer, TopicPartition

    from engine.settings import KafkaSettings

NS_PER_MS = 1_000_000


class Replaced(NamedTuple):
    """Where to go on in a partition whose offset is gone."""

    offset: int
    lost_rows: int  # deleted before they were read
    is_another_log: bool  # the topic was made anew: offsets begin again


async def start_offsets(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], settings: KafkaSettings, now_ns: int
) -> dict[TopicPartition, int]:
    """Give the first offset to read of each partition, by the start policy; raises KafkaError."""
    if not partitions:
        return {}
    if settings.start == "earliest":
        return _whole(await consumer.beginning_offsets(partitions))
    ends = _whole(await consumer.end_offsets(partitions))
    if settings.start == "latest":
        return ends
    since_ms = max(now_ns - settings.rewind_ns, 0) // NS_PER_MS
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
    # No row since then: there is nothing to rewind over.
    return {tp: ends[tp] if at is None else int(at.offset) for tp, at in found.items()}


async def replace(
    consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int, settings: KafkaSettings, now_ns: int
) -> Replaced:
    """Find where to go on when `offset` is not in the partition any more; raises KafkaError."""
    begin = _whole(await consumer.beginning_offsets([tp]))[tp]
    if offset < begin:
        return Replaced(begin, begin - offset, is_another_log=False)
    if offset <= _whole(await consumer.end_offsets([tp]))[tp]:
        return Replaced(offset, 0, is_another_log=False)
    start = (await start_offsets(consumer, [tp], settings, now_ns))[tp]
    return Replaced(start, 0, is_another_log=True)


def _whole(offsets: dict[Any, Any]) -> dict[Any, int]:
    """Give offsets as plain numbers."""
    return {tp: int(offset) for tp, offset in offsets.items()}
