"""Calls from a Kafka topic: a consumer group of which one member reads everything.

The consumer is supervised, because it can stop without a word: three failed polls in a row, or no answer
from the log for two session timeouts while it is being polled, and it is thrown away and a new one made,
with backoff. What was read goes on from where it was: places are kept here, not in the group. Offsets are
committed for lag tools alone. A partition that was elsewhere in between goes on where a checkpoint says, or
begins by the start policy (`kafka_places.py`).

`pause` is the first thing done with an assignment, because aiokafka fetches before the callback has
returned. Only `getmany` is used: one call for thousands of rows. The app holds reading up by not calling
`read`. A member that stops does not leave the group (it is static): the next one takes over after the
session timeout.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from aiokafka import TopicPartition, errors

from engine.errors import SourceError
from engine.source.assignor import OneOwnerAssignor
from engine.source.contract import RawBatch, tick
from engine.source.intake import Intake
from engine.source.kafka_connection import (
    check_codecs,
    check_settings,
    close_consumer,
    connection_options,
    limit_client_logs,
    make_consumer,
    why_not_connected,
)
from engine.source.kafka_member import Member
from engine.source.kafka_places import Progress
from engine.source.raw_fetch import load_framing, why_not_raw
from engine.source.rows import DELETED

if TYPE_CHECKING:
    from engine.settings import KafkaSettings

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
FAILED_POLLS_MAX = 3
REPLACED_MAX = 3  # two processes with one id take turns; the older one gets here first and ends
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
START_S = 45.0  # a join waits for members that are gone until their session times out
TOPIC_CHECK_S = 2.0
COMMIT_EVERY_S = 5.0
WAITING_LOG_S = 30.0
CHUNKS_PER_POLL_MAX = 4  # some milliseconds of work each, in which the loop does nothing else

log = logging.getLogger(__name__)


class KafkaStats(NamedTuple):
    """What the source says of itself, for metrics."""

    lag_rows: tuple[tuple[str, int, int], ...]  # (topic, partition, rows that wait)
    rebuilds: int
    rebalances: int
    queue_batches: int
    commits_failed: int
    lost_rows: tuple[tuple[str, int], ...]  # (reason, rows) of what was in the log and could not be read
    tombstones: int  # rows without a value
    raw_batches: bool  # whole batches are read, not record by record
    last_poll_ns: int  # 0: never polled
    state: str  # waiting | standby | reading | closed


class KafkaSource:
    """Rows of one topic. `stats` may be called at any time from the loop's thread."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Remember the settings; nothing is opened before `start`."""
        self._settings = settings
        self._member_id = settings.member_id or socket.gethostname()
        self._options: dict[str, Any] = {}
        self._assignor = OneOwnerAssignor()
        self.progress = Progress()
        self._assigned: tuple[int, ...] = ()
        self._is_placing = False  # there are partitions whose place is being looked for
        self._ready: deque[RawBatch] = deque()
        self._member: Member | None = None
        self._building: asyncio.Task[None] | None = None
        self._committing: asyncio.Task[None] | None = None
        self._is_closed = False
        self._was_connected = False
        self._failed_polls = 0
        self._polled_s = 0.0
        self._alive_s = 0.0
        self._waiting_logged_s = -WAITING_LOG_S
        self._jitter = np.random.default_rng(zlib.crc32(self._member_id.encode()))
        self._intake = Intake(self.progress.places)
        self._is_raw = False
        self._rebuilds = self._rebalances = self._commits_failed = 0
        self._last_poll_ns = 0

    async def start(self) -> None:
        """Check everything that can be checked, and begin to connect; a broker that is away is waited for."""
        check_settings(self._settings)
        check_codecs()
        self._options = connection_options(self._settings)
        limit_client_logs()
        await self._choose_path(
            "kafka.raw_batches is false" if not self._settings.raw_batches else why_not_raw()
        )
        self._building = asyncio.create_task(self._build(None), name="kafka-build")
        self._committing = asyncio.create_task(self._commit_often(), name="kafka-commit")

    async def read(self) -> RawBatch | None:
        """Give the next batch, or a tick after about `poll_ns`; None after `close`."""
        if not self._ready and not self._is_closed:
            await self._poll()
        if self._is_closed:
            return None
        if self._ready:
            return self._ready.popleft()
        caught_up = await self._member.caught_up() if self._member is not None else ()
        return self._tick(self._assigned, caught_up)

    async def close(self) -> None:
        """Let the consumer go without leaving the group; closing twice is fine."""
        self._is_closed = True
        self._ready.clear()
        tasks = [task for task in (self._building, self._committing) if task is not None]
        self._building = self._committing = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        member, self._member = self._member, None
        if member is not None:
            if self.progress.durable is not None:
                await member.commit()
            await close_consumer(member.consumer)

    def stats(self) -> KafkaStats:
        """Give the counters as they are now."""
        member = self._member
        lags = [] if member is None else [(p, member.lag(p)) for p in sorted(member.placed)]
        return KafkaStats(
            lag_rows=tuple((self._settings.topic, partition, rows) for partition, rows in lags),
            rebuilds=self._rebuilds,
            rebalances=self._rebalances,
            queue_batches=len(self._ready),
            commits_failed=self._commits_failed,
            lost_rows=tuple(self._intake.lost_rows.items()),
            tombstones=self._intake.tombstones,
            raw_batches=self._is_raw,
            last_poll_ns=self._last_poll_ns,
            state=self._state(),
        )

    def _state(self) -> str:
        if self._is_closed:
            return "closed"
        if self._member is None or self._is_placing:
            return "waiting"
        return "reading" if self._assigned else "standby"

    async def _poll(self) -> None:
        """Ask the consumer once, for at most about a poll interval, and put what came into `_ready`."""
        poll_s = self._settings.poll_ns / NS_PER_S
        member = self._member
        if member is None:
            await self._wait_for_member(poll_s)
            return
        self._notice_pause(member)
        try:
            fetched = await asyncio.wait_for(
                member.consumer.getmany(
                    timeout_ms=self._settings.poll_ns // NS_PER_MS,
                    max_records=CHUNKS_PER_POLL_MAX if self._is_raw else self._settings.batch_rows_max,
                ),
                poll_s + 1.0,
            )
        except TimeoutError:  # The group is being arranged anew.
            fetched = {}
        except errors.NoOffsetForPartitionError:  # Assigned, and not yet placed.
            fetched = {}
        except errors.OffsetOutOfRangeError as error:
            await self._find_again(member, error)
            return
        except Exception as error:  # noqa: BLE001  # A codec or a library in an odd state raises anything.
            await self._count_failure(error, poll_s)
            return
        else:
            self._alive_s = time.monotonic()
            self._failed_polls = 0
        self._last_poll_ns = time.time_ns()
        await self._take(member, fetched)
        self._check(member)

    async def _wait_for_member(self, poll_s: float) -> None:
        """Wait for a consumer that is being made; raise what cannot be mended by waiting."""
        building = self._building
        assert building is not None, "read before start"
        done, _ = await asyncio.wait({building}, timeout=poll_s)
        if done and not building.cancelled():
            building.result()

    async def _choose_path(self, why_not: str) -> None:
        """Read whole batches, or records if there is a reason, which is said."""
        self._is_raw = not why_not
        if why_not:
            log.warning("reading record by record, which is slower: %s", why_not)
        else:
            await asyncio.to_thread(load_framing)

    def _notice_pause(self, member: Member) -> None:
        """Do not hold it against the consumer that nobody asked it for a while."""
        now_s = time.monotonic()
        if now_s - self._polled_s > self._settings.session_timeout_ns / NS_PER_S / 2:
            self._alive_s = now_s
            member.watch_anew()
        self._polled_s = now_s

    async def _take(self, member: Member, fetched: dict[TopicPartition, list[Any]]) -> None:
        """Make batches of what came; a partition with rows still to hand over is not caught up."""
        taken = self._intake.take(fetched, member)
        if not self._is_raw:
            await member.pass_markers()
        stuck = member.stuck(2 * self._settings.session_timeout_ns / NS_PER_S)
        if self._intake.wants_new_connection:
            self._intake.wants_new_connection = False
            stuck = stuck or "a record batch is damaged"
        member.failed = member.failed or stuck
        at_end = set(await member.caught_up()) if taken else set()
        rows_max = self._settings.batch_rows_max
        parts = [
            (partition, rows.part(first, first + rows_max))
            for partition, rows in taken
            for first in range(0, len(rows.offset), rows_max)
        ]
        for number, (partition, rows) in enumerate(parts, 1):
            waiting = {each for each, _ in parts[number:]}
            self._ready.append(
                RawBatch(
                    *rows, self._settings.topic, partition, self._last_poll_ns,
                    self._assigned, tuple(sorted(at_end - waiting)), tenure=self.progress.tenure,
                )
            )  # fmt: skip

    def _check(self, member: Member) -> None:
        """Throw away a consumer that is not well; SourceError if its place is taken again and again."""
        if member.replaced >= REPLACED_MAX:
            raise self._not_alone()
        session_s = self._settings.session_timeout_ns / NS_PER_S
        if not member.failed and time.monotonic() - self._alive_s > START_S + 2 * session_s:
            member.failed = "it never joined the group again"
        if member.failed and self._member is member:
            self._rebuild(member.failed)

    async def _count_failure(self, error: Exception, poll_s: float) -> None:
        if "FencedInstanceId" in repr(error):
            raise self._not_alone() from error
        self._failed_polls += 1
        if self._failed_polls >= FAILED_POLLS_MAX:
            if self._is_raw and not isinstance(error, errors.KafkaError):
                await self._choose_path(f"reading whole batches failed ({type(error).__name__})")
            self._rebuild(f"{type(error).__name__}: {error}")
        else:
            await asyncio.sleep(poll_s)

    def _not_alone(self) -> SourceError:
        return SourceError(
            "another process has joined the group with this member id",
            where=f"kafka.member_id {self._member_id}",
            hint="give each process a kafka.member_id of its own",
        )

    async def _find_again(self, member: Member, error: errors.OffsetOutOfRangeError) -> None:
        """Go on where rows were deleted; a topic made anew begins anew, without what was held of it."""
        try:
            for tp in error.args[0]:
                if tp.partition not in member.placed:
                    continue
                found = await member.find_again(tp)
                self._intake.lost_rows[DELETED] += found.lost_rows
                if found.is_another_log:
                    held = tuple(each for each in self._assigned if each != tp.partition)
                    self._ready.append(self._tick(held))
        except errors.KafkaError as failure:
            await self._count_failure(failure, self._settings.poll_ns / NS_PER_S)

    def _rebuild(self, reason: str) -> None:
        """Throw the consumer away and begin to make another."""
        log.warning("the consumer is made anew: %s", reason)
        old, self._member = self._member, None
        self._rebuilds += 1
        self._failed_polls = 0
        self._building = asyncio.create_task(self._build(old), name="kafka-build")

    async def _build(self, old: Member | None) -> None:
        """Make a consumer, however long that takes; SourceError for what waiting cannot mend."""
        if old is not None:
            await close_consumer(old.consumer)
        backoff_s = BACKOFF_FIRST_S
        while True:
            try:
                member = await self._open()
            except SourceError as error:
                # Once it has worked, the fault is on the other side: it may be mended there.
                if not self._was_connected:
                    raise
                self._say_waiting(str(error))
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                self._say_waiting("the group could not be joined in time")
            except Exception as error:  # noqa: BLE001  # Whatever it is, another consumer may do better.
                self._say_waiting(f"{type(error).__name__}: {error}")
            else:
                self._alive_s = time.monotonic()
                self._was_connected = True
                self._member = member
                return
            await asyncio.sleep(backoff_s * self._jitter.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    async def _open(self) -> Member:
        """Make one consumer and bring it into the group, or leave nothing behind."""
        consumer = make_consumer(
            self._settings, self._member_id, self._assignor, self._options, is_raw=self._is_raw
        )
        member = Member(consumer, self._settings, self.progress, self._assign)
        starting = asyncio.create_task(self._start(consumer, member), name="kafka-start")
        try:
            deadline_s = time.monotonic() + START_S
            while not (await asyncio.wait({starting}, timeout=TOPIC_CHECK_S))[0]:
                self._say_if_topic_is_missing(consumer)
                if time.monotonic() > deadline_s:
                    starting.cancel()
            starting.result()
        except errors.KafkaConnectionError as error:
            await close_consumer(consumer)
            cause = await why_not_connected(self._settings, self._options)
            raise errors.KafkaConnectionError(cause or str(error)) from error
        except BaseException:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await close_consumer(consumer)
            raise
        return member

    async def _start(self, consumer: Any, member: Member) -> None:
        consumer.subscribe([self._settings.topic], listener=member)
        await consumer.start()

    def _say_if_topic_is_missing(self, consumer: Any) -> None:
        cluster = consumer._client.cluster  # noqa: SLF001
        if cluster.brokers() and cluster.partitions_for_topic(self._settings.topic) is None:
            self._say_waiting(f"the topic '{self._settings.topic}' does not exist yet")

    def _say_waiting(self, cause: str) -> None:
        """Say what is waited for, not too often."""
        now_s = time.monotonic()
        if now_s - self._waiting_logged_s >= WAITING_LOG_S:
            self._waiting_logged_s = now_s
            log.warning("waiting for Kafka: %s", cause)

    def _assign(self, partitions: tuple[int, ...], given: tuple[int, ...]) -> None:
        """Take note of an assignment, whole when all that was `given` has its place.

        Rows of partitions that are read elsewhere now are not handed over, and that they are is told in
        its place: they may be back before anybody reads.
        """
        lost = set(self._assigned) - set(partitions)
        self._assigned, self._is_placing = partitions, partitions != given
        kept = [batch for batch in self._ready if not batch.rows or batch.partition in partitions]
        self._ready.clear()
        self._ready.extend(kept)
        if lost:
            self._ready.append(self._tick(partitions))
        if self._is_placing:
            return
        self._rebalances += 1
        if partitions:
            log.info("reading %d partitions", len(partitions))
        else:
            log.info("standing by: another member of the group reads")

    def _tick(self, assigned: tuple[int, ...], caught_up: tuple[int, ...] = ()) -> RawBatch:
        return tick(self._settings.topic, time.time_ns(), assigned, caught_up, self.progress.tenure)

    async def _commit_often(self) -> None:
        """Tell the group how far reading has come; nothing depends on it, so no failure matters."""
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            if self._member is not None:
                self._commits_failed += not await self._member.commit()
