"""One consumer in the group, and where it stands in each partition that it was given."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition, errors

from engine.source.bounded import bounded
from engine.source.kafka_insides import Pulse, client_of, generation_of
from engine.source.kafka_places import Progress, log_ends, replace, start_offsets
from engine.source.topic_id import read_topic_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from engine.settings import KafkaSettings

PLACE_TRIES = 3
PLACE_AGAIN_S = 1.0
COMMIT_S = 5.0
ANSWERED_MS = 2000  # a fetch waits half a second at the broker; older answers say nothing about the log's end
Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


class Member(ConsumerRebalanceListener):  # type: ignore[misc]
    """A consumer's assignment. `progress` outlives it.

    `placed` are the partitions that have their place and are being fetched; `failed` says why this consumer
    has to be thrown away; `replaced` counts how often another process took this one's member id.
    """

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        settings: KafkaSettings,
        progress: Progress,
        assigned: Callable[[tuple[int, ...], tuple[int, ...]], None],
    ) -> None:
        """Listen to what the group gives `consumer`.

        `assigned` is called with the partitions that have their place, and all that were given.
        """
        self.consumer = consumer
        self.placed: set[int] = set()
        self.failed = ""
        self.replaced = 0
        self._generation = -1
        self._pulse = Pulse()
        self._has_joined = False
        self._settings = settings
        self._progress = progress
        self._places = progress.places
        self._tell = assigned
        self._answers: dict[int, tuple[object, float]] = {}  # partition -> (the answer's time stamp, seen)
        self._moved: dict[int, tuple[object, float]] = {}  # partition -> (place if rows wait there, seen)
        self._served_s = 0.0  # when a partition in which rows wait was last seen to move
        self._watched_since_s = time.monotonic()

    async def on_partitions_revoked(self, _revoked: Collection[TopicPartition]) -> None:
        """Take no more rows until there is an assignment again; save what is known for who gets it."""
        had, self.placed = self.placed, set()
        self._has_joined = False
        if had and self._progress.save is not None:
            await self._progress.save()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Seek every partition to its place; no row is fetched before that."""
        self.consumer.pause(*assigned)
        # A rebalance begins a new generation. To be assigned in the same one again means to have lost the
        # membership to somebody who joined with the same static id.
        generation = generation_of(self.consumer)
        self.replaced += generation == self._generation
        self._generation = generation
        self._pulse.watch(self.consumer)
        partitions = tuple(sorted(tp.partition for tp in assigned))
        self._progress.keep(partitions)
        # aiokafka logs an exception that is raised here, and reads on from anywhere.
        held: tuple[int, ...] = ()
        try:
            await self.look_at_topic(partitions)
            # What is new is ours when it has its place: a line must not begin before it is restored.
            held = tuple(partition for partition in partitions if partition in self._places)
            self._tell(held, partitions)
            await self._seek(assigned)
        except Exception as error:  # noqa: BLE001  # Whatever it is, it would be lost there.
            self.failed = f"no place to begin at was found ({type(error).__name__})"
        else:
            if held != partitions:
                self._tell(partitions, partitions)
        self._has_joined = True
        self.watch_anew()

    async def look_at_topic(self, given: tuple[int, ...]) -> bool:
        """Let everything go if the topic is another one than before, and say so; it begins anew then."""
        if not given or not self._progress.meet(await self._insist(self._topic_id)):
            return False
        log.warning("the topic was deleted and made anew: reading it begins anew, without what was known")
        self.placed = set()
        self._tell((), given)
        return True

    async def _topic_id(self) -> str:
        return await read_topic_id(client_of(self.consumer), self._settings.topic)

    async def _insist(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask for what is needed to begin, and again if the broker fails or is late: it may just move."""
        for _ in range(PLACE_TRIES - 1):
            try:
                return await ask()
            except (errors.KafkaError, TimeoutError):
                self._progress.asked_again += 1
                await asyncio.sleep(PLACE_AGAIN_S)
        return await ask()

    async def watch_topic(self) -> None:
        """Have this consumer thrown away if the topic was made anew since; a broker may be away."""
        try:
            if await self.look_at_topic(tuple(sorted(self.placed))):
                self.failed = "the topic was made anew"
        except Exception as error:  # noqa: BLE001  # Whatever it is, it is asked again, and commits go on.
            self._progress.asked_again += 1
            level = logging.DEBUG if isinstance(error, errors.KafkaError | TimeoutError) else logging.WARNING
            log.log(level, "the id of the topic could not be asked for (%s)", type(error).__name__)

    async def _seek(self, assigned: Collection[TopicPartition]) -> None:
        progress = self._progress
        unknown = [tp for tp in assigned if tp.partition not in self._places]
        # A line that goes on has no state of what is new to it, whatever a checkpoint has.
        if unknown and len(unknown) == len(assigned) and progress.resume is not None:
            ends = await self._ends_of(assigned)
            given = {tp.partition for tp in assigned}
            for partition, offset in (await progress.resume(progress.topic_id, ends)).items():
                if partition in given:
                    progress.begin(partition, offset)
            unknown = [tp for tp in unknown if tp.partition not in self._places]
        found = await self._insist(
            lambda: start_offsets(
                self.consumer, unknown, self._settings, time.time_ns(),
                are_new=bool(self._places) or progress.is_made_anew, is_tail_lost=progress.is_tail_lost,
            )
        )  # fmt: skip
        for tp in assigned:
            self.consumer.seek(tp, progress.begin(tp.partition, found.get(tp, 0)))
        self.placed = {tp.partition for tp in assigned}
        progress.is_made_anew = progress.is_tail_lost = False
        self.consumer.resume(*assigned)

    async def _ends_of(self, assigned: Collection[TopicPartition]) -> dict[int, int]:
        """Give how far a checkpoint may reach; one partition without a leader must not keep us from it."""
        if self._progress.is_tail_lost:
            return {tp.partition: -1 for tp in assigned}  # Nobody knows which rows it counts are still there.
        try:
            return await self._insist(lambda: log_ends(self.consumer, assigned))
        except (errors.KafkaError, TimeoutError):
            return {}  # Whether a place lies in the log is seen when it is fetched.

    async def find_again(self, tp: TopicPartition) -> int | None:
        """Go on in a partition whose rows were deleted, and give how many were; None: it went elsewhere.

        A place beyond the end lets everything go, as a topic made anew does: what is known counts rows that
        are not in the log, and others have their offsets.
        """
        place = self._places[tp.partition]
        found = await replace(self.consumer, tp, place)
        if tp.partition not in self.placed or self._places.get(tp.partition) != place:
            return None  # It went elsewhere meanwhile, and may be back at another place.
        if found.is_tail_lost:
            log.warning(
                "the end of the log is gone, or the log is another one: partition %d, which was read up to "
                "offset %d, ends before it; reading begins anew, without what was known",
                tp.partition,
                found.offset,
            )
            given = tuple(sorted(self.placed))
            self.placed = set()
            self._progress.lose_tail()
            self._tell((), given)
            self.failed = "the log has lost rows that were read"
            return 0
        self._places[tp.partition] = found.offset
        self.consumer.seek(tp, found.offset)
        if found.lost_rows:
            log.warning(
                "rows were deleted before they were read: partition %d goes on at offset %d, %d rows lost",
                tp.partition,
                found.offset,
                found.lost_rows,
            )
        return found.lost_rows

    def seek_back(self) -> None:
        """Fetch from the places again, wherever the consumer has moved on to."""
        for tp in self.consumer.assignment():
            if tp.partition in self.placed:
                self.consumer.seek(tp, self._places[tp.partition])

    async def commit(self) -> bool:
        """Tell the group how far we are; nothing depends on it, so say whether it failed and go on."""
        try:
            if known := self._progress.committable(self.placed):
                offsets = {self.tp(partition): offset for partition, offset in known.items()}
                await bounded(self.consumer.commit(offsets), COMMIT_S)
        except Exception as error:  # noqa: BLE001  # Whatever it is, the next one may do better.
            log.debug("a commit failed: %s", type(error).__name__)
            return False
        return True

    async def caught_up(self) -> tuple[int, ...]:
        """Give the partitions whose place equals the end of the log, by an answer that is fresh."""
        now_ms = time.time() * 1000
        at_end = []
        for partition in sorted(self.placed):
            tp = self.tp(partition)
            if tp not in self.consumer.assignment():
                continue
            end, answered_ms = self.consumer.highwater(tp), self.consumer.last_poll_timestamp(tp)
            is_fresh = answered_ms is not None and 0 <= now_ms - answered_ms < ANSWERED_MS
            if is_fresh and end is not None and await self._position(tp) >= end:
                at_end.append(partition)
        return tuple(at_end)

    async def pass_markers(self) -> None:
        """Move places behind markers and aborted rows, which are never handed over."""
        for partition in sorted(self.placed):
            tp = self.tp(partition)
            if tp in self.consumer.assignment() and self.consumer.highwater(tp) is not None:
                position = await self._position(tp)
                if partition in self.placed:
                    self._places[partition] = max(self._places[partition], position)

    async def _position(self, tp: TopicPartition) -> int:
        """Give the offset that is fetched next; -1 if there is none just now, as in a rebalance."""
        try:
            return int(await self.consumer.position(tp))
        except errors.KafkaError:
            return -1

    def log_end(self, partition: int) -> int:
        """Give the offset after the last row of a partition, as far as the log has said; else its place."""
        tp = self.tp(partition)
        end = self.consumer.highwater(tp) if tp in self.consumer.assignment() else None
        return self._places.get(partition, 0) if end is None else int(end)

    def lag(self, partition: int) -> int:
        """Give how many rows wait in a partition, as far as the log has said."""
        end = self.log_end(partition)
        return max(end - self._places.get(partition, end), 0)

    def watch_anew(self) -> None:
        """Forget how long nothing has come: there was a reason."""
        self._watched_since_s = time.monotonic()

    def stuck(self, limit_s: float) -> str:
        """Say why a consumer that is polled gives nothing; "" if it is well. Call it after each poll.

        While it catches up, a few partitions fill a whole answer, and the others wait for their turn. So
        one that does not move counts when no other in which rows wait moves either, or after the limit for
        each partition.
        """
        now_s = time.monotonic()
        waiting_s = []
        if self._has_joined and now_s - max(self._pulse.answered_s, self._watched_since_s) > limit_s:
            return "the group has not answered a heartbeat"
        for partition in self.placed:
            tp = self.tp(partition)
            if tp not in self.consumer.assignment():
                continue
            answer = self.consumer.last_poll_timestamp(tp)
            answered_s = _since(self._answers, partition, answer, now_s)
            waits = self._waiting_rows(tp)
            moved_s = _since(self._moved, partition, self._places[partition] if waits else None, now_s)
            if now_s - max(answered_s, self._watched_since_s) > limit_s:
                return "the broker has not answered"
            if waits:
                waiting_s.append(moved_s)
                self._served_s = max(self._served_s, moved_s)
        waited_s = now_s - max(min(waiting_s, default=now_s), self._watched_since_s)
        unserved_s = now_s - max(self._served_s, self._watched_since_s)
        if waiting_s and waited_s > limit_s * (1 if unserved_s > limit_s else len(self.placed)):
            return "rows wait and are not fetched"
        return ""

    def _waiting_rows(self, tp: TopicPartition) -> bool:
        """Say whether there are rows that a consumer of committed transactions may read."""
        stable = self.consumer.last_stable_offset(tp)
        end = stable if stable is not None and stable >= 0 else self.consumer.highwater(tp)
        return end is not None and int(end) > self._places[tp.partition]

    def tp(self, partition: int) -> TopicPartition:
        """Name a partition as aiokafka does."""
        return TopicPartition(self._settings.topic, partition)


def _since(seen: dict[int, tuple[object, float]], partition: int, value: object, now_s: float) -> float:
    """Give when `value` was first seen to be what it is."""
    before = seen.get(partition)
    if before is None or before[0] != value:
        seen[partition] = (value, now_s)
        return now_s
    return before[1]
