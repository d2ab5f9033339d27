"""Where in each partition to begin, how far we are, and where to go on when that place is gone.

A partition goes on where its checkpoint says. Without one the state of the engine is gone, so a start reads
back over the time that it needs (`rewind`), and further if the group has not come so far: the committed
offset is never ahead of what is on the disk, so what lies behind it was counted, and what lies before it
perhaps not. A partition that is added to those that are read is new, and begins at its first row.
All of that is true of one log: a topic made anew has another id, and begins anew. So does everything when a
place lies beyond the end of its log: a broker has lost rows that are counted, and nobody knows how many.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.source.bounded import bounded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from aiokafka import AIOKafkaConsumer, TopicPartition

    from engine.settings import KafkaSettings

NS_PER_MS = 1_000_000
COMMITTED_S = 10.0
ENDS_S = 3.0


class Progress:
    """Offsets by partition, of those that this process holds; outlives any consumer.

    `places` is what is fetched next, `begun` where reading began. `durable` is what is on the disk, None
    where nothing ever is: then the places are committed. `resume` gives what a checkpoint knows of the topic
    with this id, if it lies within logs with these ends; `save` writes one before partitions go elsewhere.
    `tenure` counts how often everything was lost, `asked_again` how often a broker was asked once more where
    to begin. Until reading has begun anew, `is_made_anew` says that the topic was while it was read, and
    `is_tail_lost` that a log had lost rows that were read.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self.places: dict[int, int] = {}
        self.begun: dict[int, int] = {}
        self.tenure = self.asked_again = 0
        self.durable: dict[int, int] | None = None
        self.topic_id = ""  # "": not known
        self.is_made_anew = self.is_tail_lost = False
        self.resume: Callable[[str, Mapping[int, int]], Awaitable[dict[int, int]]] | None = None
        self.save: Callable[[], Awaitable[None]] | None = None

    def keep(self, partitions: Collection[int]) -> None:
        """Forget partitions that are read elsewhere now."""
        self.tenure += bool(self.places) and not self.places.keys() & set(partitions)
        for offsets in (self.places, self.begun, self.durable or {}):
            for partition in offsets.keys() - set(partitions):
                del offsets[partition]

    def meet(self, topic_id: str) -> bool:
        """Take note of the topic's id; if that is another topic than before, let everything go and say so."""
        is_another = bool(topic_id and self.topic_id and topic_id != self.topic_id)
        if is_another:
            self.is_made_anew = bool(self.places)
            self.keep(())
        self.topic_id = topic_id or self.topic_id
        return is_another

    def begin(self, partition: int, offset: int) -> int:
        """Begin a partition that is not held at `offset`; give its place."""
        self.begun.setdefault(partition, offset)
        return self.places.setdefault(partition, offset)

    def lose_tail(self) -> None:
        """Let everything go: a log has lost rows that were read, and what was known counts them."""
        self.keep(())
        self.is_tail_lost = True

    def committable(self, partitions: Collection[int]) -> dict[int, int]:
        """Give the offsets that may be told to the group."""
        offsets = self.places if self.durable is None else self.durable
        return {partition: offsets[partition] for partition in partitions if partition in offsets}


class Replaced(NamedTuple):
    """Where to go on in a partition whose offset is gone."""

    offset: int
    lost_rows: int  # deleted before they were read
    is_tail_lost: bool  # it lies beyond the end of the log


async def start_offsets(
    consumer: AIOKafkaConsumer,
    partitions: Collection[TopicPartition],
    settings: KafkaSettings,
    now_ns: int,
    *,
    are_new: bool = False,
    is_tail_lost: bool = False,
) -> dict[TopicPartition, int]:
    """Give the first offset to read of each partition, by the start policy; raises KafkaError.

    `are_new`: they were added, or the topic was made anew, since reading began. What is in them came after
    the start: nothing of it is left out. `is_tail_lost`: rows have come that nobody has read, so `latest`
    reads back as `rewind` does.
    """
    if not partitions:
        return {}
    if settings.start == "earliest" or are_new:
        return _whole(await consumer.beginning_offsets(partitions))
    ends = _whole(await consumer.end_offsets(partitions))
    if settings.start == "latest" and not is_tail_lost:
        return ends
    since_ms = max(now_ns - settings.rewind_ns, 0) // NS_PER_MS
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
    # No row since then: there is nothing to rewind over.
    starts = {tp: ends[tp] if at is None else int(at.offset) for tp, at in found.items()}
    begins = _whole(await consumer.beginning_offsets(partitions))
    committed = await _committed(consumer, partitions)
    return {tp: max(min(start, committed.get(tp, start)), begins[tp]) for tp, start in starts.items()}


async def _committed(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    """Give what the group has committed, of partitions of which it has."""
    asked = asyncio.gather(*(consumer.committed(tp) for tp in partitions))
    found = zip(partitions, await bounded(asked, COMMITTED_S), strict=True)
    return {tp: int(offset) for tp, offset in found if offset is not None}


async def log_ends(consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]) -> dict[int, int]:
    """Give the offset after the last row of each partition; raises KafkaError and TimeoutError."""
    ends = _whole(await bounded(consumer.end_offsets(partitions), ENDS_S))
    return {tp.partition: end for tp, end in ends.items()}


async def replace(consumer: AIOKafkaConsumer, tp: TopicPartition, offset: int) -> Replaced:
    """Find where to go on when `offset` is not in the partition any more; raises KafkaError."""
    begin = _whole(await consumer.beginning_offsets([tp]))[tp]
    if offset < begin:
        return Replaced(begin, begin - offset, is_tail_lost=False)
    end = _whole(await consumer.end_offsets([tp]))[tp]
    return Replaced(offset, 0, is_tail_lost=offset > end)


def _whole(offsets: dict[Any, Any]) -> dict[Any, int]:
    """Give offsets as plain numbers."""
    return {tp: int(offset) for tp, offset in offsets.items()}
