"""What one poll fetched, as rows by partition: places move on, and nothing that is left out goes uncounted.

A poll gives records of aiokafka (`plain_fetch.py`), or chunks (`raw_fetch.py`). A batch whose checksum does
not match is fetched again, since bytes are hurt on the way more often than on a disk, over a new connection
in the end. If the same bytes come again and again, the log itself is damaged, and reading goes on behind the
batch: one bad batch must not blind the engine for good. Bytes that differ each time are hurt by the wire,
which may heal: it is given more tries, and an end of them too. Records do not show their bytes, which count
as the same. What claims to lie behind the end of the log is tried again too: nothing does.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from engine.source.rows import DAMAGED, LOSSES, Chunk, Damage, Loss, Rows, side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import AIOKafkaConsumer, TopicPartition

TRIES_PER_CONNECTION = 3
TRIES_MAX = 2 * TRIES_PER_CONNECTION  # that gave the same bytes
HURT_PER_CONNECTION = 10
HURT_TRIES_MAX = 6 * HURT_PER_CONNECTION  # whatever they gave
LOSS_LOG_S = 30.0

log = logging.getLogger(__name__)


class Reading(Protocol):
    """What is asked of the member that fetched."""

    consumer: AIOKafkaConsumer
    placed: set[int]

    def log_end(self, partition: int) -> int:
        """Give the offset after the last row of a partition."""


class Tried(NamedTuple):
    """How often a damaged batch was fetched."""

    place: int
    fingerprint: int = 0  # of the bytes that came last
    same: int = 0  # times in a row that they were these
    times: int = 0


class Intake:
    """Takes what was fetched. `places` is the next offset by partition, and outlives any consumer."""

    def __init__(self, places: dict[int, int]) -> None:
        """Nothing was taken or lost yet."""
        self.tombstones = self.refetches = self.doubts_forgotten = 0
        self.lost_rows = dict.fromkeys(LOSSES, 0)
        self.wants_new_connection = False
        self._places = places
        self._tried: dict[int, Tried] = {}
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
            if chunk.next_offset > max(log_end, place):
                self._skipped.add(partition)  # The consumer believes it, and would go on there.
                before = self._tried.get(partition, Tried(place, chunk.next_offset))  # It came again, unhurt.
                self._try_again(partition, Damage(place, fingerprint=before.fingerprint), log_end)
                break
            first = int(np.searchsorted(chunk.rows.offset, place))
            rows = chunk.rows.part(first, len(chunk.rows.offset)) if first else chunk.rows
            self.tombstones += chunk.empty_rows
            self.doubts_forgotten += chunk.forgotten
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

    def _try_again(self, partition: int, damage: Damage, log_end: int) -> None:
        """Leave the place where it is, or move it behind the batch once it was tried often enough."""
        place = self._places[partition]
        before = self._tried.get(partition, Tried(place))
        if before.place != place:
            before = Tried(place)
        same = before.same + 1 if damage.fingerprint == before.fingerprint else 1
        times = before.times + 1
        self._tried[partition] = Tried(place, damage.fingerprint, same, times)
        self.wants_new_connection |= same == TRIES_PER_CONNECTION or times % HURT_PER_CONNECTION == 0
        if same < TRIES_MAX and times < HURT_TRIES_MAX:
            self.refetches += 1
            return
        del self._tried[partition]
        if not damage.rows or damage.next_offset > log_end:
            stride = min(self._strides.get(partition, 1), max(log_end - place, 1))
            self._strides[partition] = 2 * stride
            damage = Damage(place + stride, stride)
        self._lose(partition, place, Loss(DAMAGED, damage.next_offset, damage.rows))
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
