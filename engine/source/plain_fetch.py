"""Records of aiokafka by partition, where an error in one partition costs the others nothing.

`getmany` takes rows of one partition after another, and moves on behind them. What is raised in the middle
takes those along that were there already. So once it has raised, reading goes on with one record of one
partition at a time for a while: then nothing has been taken when it raises, and it is known where. A damaged
batch is told as one that came in chunks would be (`intake.py`). Nobody says here how far it goes, so that is
looked for: an offset behind it that can be fetched. Anything else holds up its own partition alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition, errors

from engine.source.bounded import bounded
from engine.source.rows import NOTHING, Chunk, Damage

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer

    from engine.source.kafka_member import Member

CAREFUL_S = 10.0  # after the last error
CAREFUL_ROWS_MAX = 256  # of a partition in one call, in which the loop does nothing else
PAUSE_S = 0.01  # between looks at what may have come
PROBE_S = 2.0
HELD_UP_LOG_S = 30.0
OF_ALL = (errors.KafkaError, TimeoutError)  # what no one partition is to blame for ...
OF_ONE = (errors.CorruptRecordException, errors.UnsupportedCodecError)  # ... but for these
Fetched = dict[TopicPartition, list[Any]]

log = logging.getLogger(__name__)


class PlainFetch:
    """Fetches records for one source, whatever consumer it has just now."""

    def __init__(self) -> None:
        """Nothing was raised yet."""
        self._careful_until_s = -CAREFUL_S
        self._ends: dict[int, tuple[int, int]] = {}  # partition -> (a damaged batch's place, its end)
        self._logged_s = -HELD_UP_LOG_S

    async def fetch(self, member: Member, poll_s: float, rows_max: int) -> Fetched:
        """Wait for records for about `poll_s`; who is damaged has a chunk that says so in their stead."""
        if time.monotonic() >= self._careful_until_s:
            try:
                return await _getmany(member.consumer, poll_s, rows_max)
            except Exception as error:
                if _is_of_all(error):
                    raise
                self._careful_until_s = time.monotonic() + CAREFUL_S
                member.seek_back()
        deadline_s = time.monotonic() + poll_s
        while True:
            fetched = await self._fetch_each(member)
            if fetched or time.monotonic() >= deadline_s:
                return fetched
            await asyncio.sleep(PAUSE_S)

    async def _fetch_each(self, member: Member) -> Fetched:
        """Take what is there of each partition; raise what kept rows back if nobody else has any."""
        fetched: Fetched = {}
        failure: Exception | None = None
        for partition in sorted(member.placed):
            tp = member.tp(partition)
            records: list[Any] = []
            try:
                while len(records) < CAREFUL_ROWS_MAX and (
                    one := await _getmany(member.consumer, 0.0, 1, tp)
                ):
                    records += one[tp]
            except errors.CorruptRecordException:
                self._careful_until_s = time.monotonic() + CAREFUL_S
                if not records:  # Else it comes again, alone.
                    records = [await self._damaged(member, tp)]
            except Exception as error:  # A codec in an odd state raises anything.
                if _is_of_all(error):
                    raise
                self._careful_until_s = time.monotonic() + CAREFUL_S
                failure = error
                self._say_held_up(partition, error)
            if records:
                fetched[tp] = records
        if failure is not None and not fetched:
            raise failure
        return fetched

    async def _damaged(self, member: Member, tp: TopicPartition) -> Chunk:
        """Tell of a damaged batch at the position; its rows are taken to be as many as its offsets."""
        place = await member.consumer.position(tp)
        before, end = self._ends.get(tp.partition, (-1, -1))
        if before != place:
            end = await _end_of_damage(member.consumer, tp, place, member.log_end(tp.partition))
            if end > place:
                self._ends[tp.partition] = (place, end)
        return Chunk(NOTHING, place, damage=Damage(end, end - place))

    def _say_held_up(self, partition: int, error: Exception) -> None:
        """Name a partition that cannot be read, not too often."""
        now_s = time.monotonic()
        if now_s - self._logged_s >= HELD_UP_LOG_S:
            self._logged_s = now_s
            log.warning("partition %d is held up: it cannot be read (%s)", partition, type(error).__name__)


def _is_of_all(error: Exception) -> bool:
    return isinstance(error, OF_ALL) and not isinstance(error, OF_ONE)


async def _end_of_damage(consumer: AIOKafkaConsumer, tp: TopicPartition, place: int, log_end: int) -> int:
    """Find an offset behind `place` that can be fetched; `place` if a broker does not answer.

    Between damaged batches that lie close together a good one may be passed as well, and is counted.
    """
    damaged, stride = place, 1
    whole = None
    try:
        while whole is None or damaged + 1 < whole:
            probe = damaged + stride if whole is None else (damaged + whole) // 2
            stride *= 2
            if probe >= log_end:
                whole = max(log_end, place + 1)
                continue
            consumer.seek(tp, probe)
            try:
                found = await _getmany(consumer, PROBE_S, 1, tp)
            except errors.CorruptRecordException:
                damaged = probe
                continue
            if not found and await consumer.position(tp) == probe:
                return place
            whole = probe
    finally:
        consumer.seek(tp, place)
    return whole


async def _getmany(consumer: AIOKafkaConsumer, wait_s: float, rows_max: int, *partitions: Any) -> Fetched:
    work = consumer.getmany(*partitions, timeout_ms=round(wait_s * 1000), max_records=rows_max)
    return await bounded(work, wait_s + 1.0)
