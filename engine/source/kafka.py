"""Calls from a Kafka topic: a consumer group of which one member reads everything.

The consumer is supervised, because it can stop without a word: three failed polls in a row, or no answer
from the log or from the group for two session timeouts while it is being polled, and it is thrown away and
another made (`kafka_supervisor.py`). What was read goes on from where it was: places are kept here, not in
the group. Offsets are committed for lag tools alone. A partition that was elsewhere in between goes on where
a checkpoint says, or begins by the start policy (`kafka_places.py`).

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
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition, errors

from engine.errors import SourceError
from engine.source.bounded import bounded
from engine.source.contract import RawBatch, tick
from engine.source.intake import Intake
from engine.source.kafka_connection import (
    check_codecs,
    connection_options,
    is_insecure,
    limit_client_logs,
    say_if_insecure,
)
from engine.source.kafka_places import Progress
from engine.source.kafka_supervisor import START_S, Supervisor
from engine.source.plain_fetch import PlainFetch
from engine.source.raw_fetch import load_framing, why_not_raw
from engine.source.rows import DELETED
from engine.source.stats import SourceStats

if TYPE_CHECKING:
    from engine.settings import KafkaSettings
    from engine.source.contract import Places
    from engine.source.kafka_member import Member

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
FAILED_POLLS_MAX = 3
REPLACED_MAX = 3  # two processes with one id take turns; the older one gets here first and ends
COMMIT_EVERY_S = 5.0
CHUNKS_PER_POLL_MAX = 4  # some milliseconds of work each, in which the loop does nothing else

log = logging.getLogger(__name__)


class KafkaSource:
    """Rows of one topic. `stats` may be called at any time from the loop's thread."""

    def __init__(self, settings: KafkaSettings, commit_every_s: float = COMMIT_EVERY_S) -> None:
        """Remember the settings; nothing is opened before `start`."""
        self._settings = settings
        self._commit_every_s = commit_every_s
        self._member_id = settings.member_id or socket.gethostname()
        self.progress = Progress()
        self.supervisor = Supervisor(settings, self._member_id, self.progress, self._assign)
        self._assigned: tuple[int, ...] = ()
        self._times_assigned = 0
        self._is_placing = False  # there are partitions whose place is being looked for
        self._ready: deque[RawBatch] = deque()
        self._committing: asyncio.Task[None] | None = None
        self._is_closed = False
        self._failed_polls = 0
        self._polled_s = 0.0
        self._alive_s = 0.0
        self._intake = Intake(self.progress.places)
        self._plain = PlainFetch()
        self._rebalances = self._commits_failed = 0
        self._last_poll_ns = 0

    async def start(self) -> None:
        """Check everything that can be checked, and begin to connect; a broker that is away is waited for."""
        check_codecs()
        connection_options(self._settings)  # Files that cannot be read are told at once.
        say_if_insecure(self._settings)
        limit_client_logs()
        await self._choose_path(
            "kafka.raw_batches is false" if not self._settings.raw_batches else why_not_raw()
        )
        self.supervisor.begin()
        self._committing = asyncio.create_task(self._commit_often(), name="kafka-commit")

    async def read(self) -> RawBatch | None:
        """Give the next batch, or a tick after about `poll_ns`; None after `close`."""
        if not self._ready and not self._is_closed:
            await self._poll()
        if self._is_closed:
            return None
        if self._ready:
            return self._ready.popleft()
        member = self.supervisor.member
        caught_up = await member.caught_up() if member is not None else ()
        return self._tick(self._assigned, caught_up, self._places())

    async def close(self) -> None:
        """Let the consumer go without leaving the group; closing twice is fine."""
        self._is_closed = True
        self._ready.clear()
        committing, self._committing = self._committing, None
        if committing is not None:
            committing.cancel()
            await asyncio.gather(committing, return_exceptions=True)
        await self.supervisor.close()

    def stats(self) -> SourceStats:
        """Give the counters as they are now."""
        member = self.supervisor.member
        lags = [] if member is None else [(p, member.lag(p)) for p in sorted(member.placed)]
        return SourceStats(
            lag_rows=tuple((self._settings.topic, partition, rows) for partition, rows in lags),
            rebuilds=self.supervisor.rebuilds,
            rebalances=self._rebalances,
            commits_failed=self._commits_failed,
            unauthorized=self.supervisor.unauthorized,
            lost_rows=tuple(self._intake.lost_rows.items()),
            tombstones=self._intake.tombstones,
            refetches=self._intake.refetches,
            doubts_forgotten=self._intake.doubts_forgotten,
            asked_again=self.progress.asked_again,
            raw_batches=self.supervisor.is_raw,
            state=self._state(),
            insecure=is_insecure(self._settings),
        )

    def _state(self) -> str:
        if self._is_closed:
            return "closed"
        if self.supervisor.member is None or self._is_placing:
            return "waiting"
        return "reading" if self._assigned else "standby"

    async def _poll(self) -> None:
        """Ask the consumer once, for at most about a poll interval, and put what came into `_ready`."""
        poll_s = self._settings.poll_ns / NS_PER_S
        member = self.supervisor.member
        if member is None:
            await self.supervisor.wait(poll_s)
            self._alive_s = time.monotonic()
            return
        self._notice_pause(member)
        try:
            fetched = await self._fetch(member, poll_s)
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

    async def _fetch(self, member: Member, poll_s: float) -> dict[TopicPartition, list[Any]]:
        """Fetch; nothing if partitions went and came meanwhile, for what was fetched was of other places."""
        times_assigned = self._times_assigned
        fetched = await self._fetched(member, poll_s)
        if times_assigned == self._times_assigned:
            return fetched
        member.seek_back()
        return {}

    async def _fetched(self, member: Member, poll_s: float) -> dict[TopicPartition, list[Any]]:
        try:
            if not self.supervisor.is_raw:
                return await self._plain.fetch(member, poll_s, self._settings.batch_rows_max)
            return await bounded(
                member.consumer.getmany(
                    timeout_ms=self._settings.poll_ns // NS_PER_MS, max_records=CHUNKS_PER_POLL_MAX
                ),
                poll_s + 1.0,
            )
        except BaseException:
            member.seek_back()  # What was taken before it was raised is gone, and the consumer behind it.
            raise

    async def _choose_path(self, why_not: str) -> None:
        """Read whole batches, or records if there is a reason, which is said."""
        self.supervisor.is_raw = not why_not
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
        if not self.supervisor.is_raw:
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
                    places=() if waiting else self._places(),
                )
            )  # fmt: skip

    def _places(self) -> Places:
        """Give where our partitions are fetched next; true of what is given last of all that was fetched."""
        places = self.progress.places
        return tuple((partition, places[partition]) for partition in self._assigned if partition in places)

    def _check(self, member: Member) -> None:
        """Throw away a consumer that is not well; SourceError if its place is taken again and again."""
        if member.replaced >= REPLACED_MAX:
            raise self._not_alone()
        session_s = self._settings.session_timeout_ns / NS_PER_S
        if not member.failed and time.monotonic() - self._alive_s > START_S + 2 * session_s:
            member.failed = "it never joined the group again"
        if member.failed and self.supervisor.member is member:
            self._give_up(member.failed)

    async def _count_failure(self, error: Exception, poll_s: float) -> None:
        if "FencedInstanceId" in repr(error):
            raise self._not_alone() from error
        self.supervisor.note(error)
        self._failed_polls += 1
        if self._failed_polls < FAILED_POLLS_MAX:
            await asyncio.sleep(poll_s)
            return
        if self.supervisor.is_raw and not isinstance(error, errors.KafkaError):
            await self._choose_path(f"reading whole batches failed ({type(error).__name__})")
        self._give_up(f"{type(error).__name__}: {error}")

    def _give_up(self, reason: str) -> None:
        self._failed_polls = 0
        self.supervisor.give_up(reason)

    def _not_alone(self) -> SourceError:
        return SourceError(
            "another process has joined the group with this member id",
            where=f"kafka.member_id {self._member_id}",
            hint="give each process a kafka.member_id of its own",
        )

    async def _find_again(self, member: Member, error: errors.OffsetOutOfRangeError) -> None:
        """Go on where rows were deleted; what is another log now begins anew, without what was held of it.

        A broker may say it of an offset that the log has, and again at once: that is a poll that failed. A
        partition that went elsewhere meanwhile fails nothing.
        """
        await member.watch_topic()
        lost_rows = 0
        failure: Exception | None = None
        try:
            for tp in error.args[0]:
                if tp.partition in member.placed:
                    rows = await member.find_again(tp)
                    lost_rows += rows or 0
                    failure = error if rows == 0 else failure
        except (errors.KafkaError, TimeoutError) as one:
            failure = one
        self._intake.lost_rows[DELETED] += lost_rows
        if failure is not None and not lost_rows and not member.failed:
            await self._count_failure(failure, self._settings.poll_ns / NS_PER_S)
        self._check(member)

    def _assign(self, partitions: tuple[int, ...], given: tuple[int, ...]) -> None:
        """Take note of an assignment, whole when all that was `given` has its place.

        Rows of partitions that are read elsewhere now are not handed over, and that they are is told in
        its place: they may be back before anybody reads.
        """
        lost = set(self._assigned) - set(partitions)
        self._times_assigned += 1
        self._assigned, self._is_placing = partitions, partitions != given
        kept = [batch for batch in self._ready if not batch.rows or batch.partition in partitions]
        self._ready.clear()
        for batch in kept:
            ours = tuple(place for place in batch.places if place[0] in partitions)
            self._ready.append(replace(batch, places=ours))
        if lost:
            self._ready.append(self._tick(partitions))
        if self._is_placing:
            return
        self._rebalances += 1
        if partitions:
            log.info("reading %d partitions", len(partitions))
        else:
            log.info("standing by: another member of the group reads")

    def _tick(
        self, assigned: tuple[int, ...], caught_up: tuple[int, ...] = (), places: Places = ()
    ) -> RawBatch:
        return tick(self._settings.topic, time.time_ns(), assigned, caught_up, self.progress.tenure, places)

    async def _commit_often(self) -> None:
        """Tell the group how far reading has come; nothing depends on it, so no failure matters."""
        while True:
            await asyncio.sleep(self._commit_every_s)
            member = self.supervisor.member
            if member is not None:
                await member.watch_topic()
                self._commits_failed += not await member.commit()
