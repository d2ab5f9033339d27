"""What one poll fetched, as rows by partition: places move on, and nothing that is left out goes uncounted.

A poll gives records of aiokafka, or chunks (`raw_fetch.py`). A batch whose checksum does not match is fetched
again, since bytes are hurt on the way more often than on a disk, over a new connection in the end. If it
stays as it is, reading goes on behind it: one bad batch must not blind the engine for good.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from engine.source.rows import DAMAGED, LOSSES, Chunk, Loss, Rows, side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import AIOKafkaConsumer, TopicPartition

TRIES_PER_CONNECTION = 3
TRIES_MAX = 2 * TRIES_PER_CONNECTION
LOSS_LOG_S = 30.0

log = logging.getLogger(__name__)


class Reading(Protocol):
    """What is asked of the member that fetched."""

    consumer: AIOKafkaConsumer
    placed: set[int]

    def log_end(self, partition: int) -> int:
        """Give the offset after the last row of a partition."""


class Intake:
    """Takes what was fetched. `places` is the next offset by partition, and outlives any consumer."""

    def __init__(self, places: dict[int, int]) -> None:
        """Nothing was taken or lost yet."""
        self.tombstones = 0
        self.lost_rows = dict.fromkeys(LOSSES, 0)
        self.wants_new_connection = False
        self._places = places
        self._tries: dict[int, tuple[int, int]] = {}  # partition -> (place of a damaged batch, times seen)
        self._strides: dict[int, int] = {}  # partition -> how far to go on where nobody knows
        self._skipped: set[int] = set()
        self._logged_s = -LOSS_LOG_S

    def take(self, fetched: dict[TopicPartition, list[Any]], member: Reading) -> list[tuple[int, Rows]]:
        """Give rows by partition, in order; what a member is not placed in is left to be fetched again."""
        taken = []
        for tp, given in fetched.items():
            if tp.partition not in member.placed:
                continue
            if isinstance(given[0], Chunk):
                rows = self.take_chunks(tp.partition, given, member.log_end(tp.partition))
                if tp.partition in self._skipped:
                    member.consumer.seek(tp, self._places[tp.partition])
            else:
                rows = self.take_records(tp.partition, given)
            taken += [(tp.partition, each) for each in rows]
        self._skipped.clear()
        return taken

    def take_records(self, partition: int, records: Sequence[Any]) -> list[Rows]:
        """Take records of one partition, in order."""
        place = self._places[partition]
        self._places[partition] = max(place, records[-1].offset + 1)
        self.tombstones += sum(1 for each in records if not each.value)
        rows = [(each.offset, each.value) for each in records if each.offset >= place and each.value]
        return [side_by_side(rows)] if rows else []

    def take_chunks(self, partition: int, chunks: Sequence[Chunk], log_end: int) -> list[Rows]:
        """Take chunks of one partition, in order, up to a damaged batch; skipping never passes `log_end`."""
        taken = []
        for chunk in chunks:
            place = self._places[partition]
            first = int(np.searchsorted(chunk.rows.offset, place))
            rows = chunk.rows.part(first, len(chunk.rows.offset)) if first else chunk.rows
            self.tombstones += chunk.empty_rows
            for loss in chunk.losses:
                self._lose(partition, place, loss)
            self._places[partition] = max(place, chunk.next_offset)
            if len(rows.offset):
                taken.append(rows)
                self._strides.pop(partition, None)
            if chunk.damage is not None:
                self._try_again(partition, chunk.damage, log_end)
                break
        return taken

    def _try_again(self, partition: int, damage: Loss, log_end: int) -> None:
        """Leave the place where it is, or move it behind the batch once it was tried often enough."""
        place = self._places[partition]
        before, times = self._tries.get(partition, (-1, 0))
        times = times + 1 if before == place else 1
        self._tries[partition] = (place, times)
        self.wants_new_connection |= times == TRIES_PER_CONNECTION
        if times < TRIES_MAX:
            return
        del self._tries[partition]
        if not damage.rows or damage.next_offset > log_end:
            stride = min(self._strides.get(partition, 1), max(log_end - place, 1))
            self._strides[partition] = 2 * stride
            damage = Loss(DAMAGED, place + stride, stride)
        self._lose(partition, place, damage)
        self._places[partition] = damage.next_offset
        self._skipped.add(partition)

    def _lose(self, partition: int, place: int, loss: Loss) -> None:
        """Count rows, and say so, not too often."""
        self.lost_rows[loss.reason] += loss.rows
        now_s = time.monotonic()
        if now_s - self._logged_s >= LOSS_LOG_S:
            self._logged_s = now_s
            log.warning(
                "a record batch is left out (%s): partition %d, from offset %d, %d rows",
                loss.reason, partition, place, loss.rows,
            )  # fmt: skip
