"""Makes consumers until one is in the group, throws it away when it is told to, and makes another.

An object of aiokafka that could not start, or lost its way, stays unusable, so every try has a new one. Tries
are apart by 0.5 to 30 s with jitter, and never end: only what no waiting can mend at the first start is an
error. A consumer that lives less than the longest pause counts as a try that failed, or one that is
refused again as soon as it has joined would make the whole group rearrange itself every second.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from typing import TYPE_CHECKING

import numpy as np
from aiokafka import errors

from engine.errors import SourceError
from engine.source.assignor import OneOwnerAssignor
from engine.source.kafka_connection import (
    close_consumer,
    connection_options,
    make_consumer,
    why_not_connected,
)
from engine.source.kafka_insides import lacks_topic
from engine.source.kafka_member import Member

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiokafka import AIOKafkaConsumer

    from engine.settings import KafkaSettings
    from engine.source.kafka_places import Progress

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
START_S = 45.0  # a join waits for members that are gone until their session times out
TOPIC_CHECK_S = 2.0
WAITING_LOG_S = 30.0
UNAUTHORIZED = (
    errors.TopicAuthorizationFailedError, errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
)  # fmt: skip

log = logging.getLogger(__name__)


class Supervisor:
    """One consumer at a time: `member`, or None while there is none. `is_raw`: the next one gives chunks."""

    def __init__(
        self,
        settings: KafkaSettings,
        member_id: str,
        progress: Progress,
        assigned: Callable[[tuple[int, ...], tuple[int, ...]], None],
    ) -> None:
        """Make nothing before `begin`; `assigned` is told what each consumer is given (`Member`)."""
        self.member: Member | None = None
        self.is_raw = False
        self.rebuilds = 0
        self.unauthorized = 0
        self.made_s = 0.0  # when `member` was made
        self._settings = settings
        self._member_id = member_id
        self._progress = progress
        self._assigned = assigned
        self._assignor = OneOwnerAssignor()
        self._building: asyncio.Task[None] | None = None
        self._was_connected = False
        self._backoff_s = BACKOFF_FIRST_S
        self._jitter = np.random.default_rng(zlib.crc32(member_id.encode()))
        self._waiting_logged_s = -WAITING_LOG_S

    def begin(self) -> None:
        """Begin to make the first consumer."""
        self._building = asyncio.create_task(self._build(None, is_at_once=True), name="kafka-build")

    def give_up(self, reason: str) -> None:
        """Throw the consumer away and begin to make another."""
        log.warning("the consumer is made anew: %s", reason)
        old, self.member = self.member, None
        self.rebuilds += 1
        has_lived = time.monotonic() - self.made_s >= BACKOFF_MAX_S
        if has_lived:
            self._backoff_s = BACKOFF_FIRST_S
        self._building = asyncio.create_task(self._build(old, is_at_once=has_lived), name="kafka-build")

    async def wait(self, patience_s: float) -> None:
        """Wait for a consumer that is being made; raise what cannot be mended by waiting."""
        building = self._building
        assert building is not None, "read before start"
        done, _ = await asyncio.wait({building}, timeout=patience_s)
        if done and not building.cancelled():
            building.result()

    async def close(self) -> None:
        """Make no more consumers and let the last one go; closing twice is fine."""
        building, self._building = self._building, None
        if building is not None:
            building.cancel()
            await asyncio.gather(building, return_exceptions=True)
        member, self.member = self.member, None
        if member is not None:
            if self._progress.durable is not None:
                await member.commit()
            await close_consumer(member.consumer)

    def note(self, error: BaseException) -> None:
        """Count and say that the broker does not let us read, whoever met that."""
        if isinstance(error, UNAUTHORIZED):
            self.unauthorized += 1
            self._say_waiting(
                f"the broker refuses access ({type(error).__name__}): this user needs Read on topic "
                f"'{self._settings.topic}' and on group '{self._settings.group_id}'"
            )

    async def _build(self, old: Member | None, *, is_at_once: bool) -> None:
        """Make a consumer, however long that takes; SourceError for what waiting cannot mend."""
        if old is not None:
            await close_consumer(old.consumer)
        if not is_at_once:
            await self._back_off()
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
                self.note(error)
                self._say_waiting(f"{type(error).__name__}: {error}")
            else:
                self.made_s = time.monotonic()
                self._was_connected = True
                self.member = member
                return
            await self._back_off()

    async def _back_off(self) -> None:
        await asyncio.sleep(self._backoff_s * self._jitter.uniform(0.5, 1.0))
        self._backoff_s = after_another(self._backoff_s)

    async def _open(self) -> Member:
        """Make one consumer and bring it into the group, or leave nothing behind.

        Passwords and certificates are read for each: they may have been rotated.
        """
        options = await asyncio.to_thread(connection_options, self._settings)
        consumer = make_consumer(self._settings, self._member_id, self._assignor, options, is_raw=self.is_raw)
        member = Member(consumer, self._settings, self._progress, self._assigned)
        starting = asyncio.create_task(self._start(consumer, member), name="kafka-start")
        try:
            deadline_s = time.monotonic() + START_S
            while not (await asyncio.wait({starting}, timeout=TOPIC_CHECK_S))[0]:
                if lacks_topic(consumer, self._settings.topic):
                    self._say_waiting(f"the topic '{self._settings.topic}' does not exist yet")
                if time.monotonic() > deadline_s:
                    starting.cancel()
            starting.result()
        except errors.KafkaConnectionError as error:
            await close_consumer(consumer)
            cause = await why_not_connected(self._settings, options)
            raise errors.KafkaConnectionError(cause or str(error)) from error
        except BaseException:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await close_consumer(consumer)
            raise
        return member

    async def _start(self, consumer: AIOKafkaConsumer, member: Member) -> None:
        consumer.subscribe([self._settings.topic], listener=member)
        await consumer.start()

    def _say_waiting(self, cause: str) -> None:
        """Say what is waited for, not too often."""
        now_s = time.monotonic()
        if now_s - self._waiting_logged_s >= WAITING_LOG_S:
            self._waiting_logged_s = now_s
            log.warning("waiting for Kafka: %s", cause)


def after_another(backoff_s: float) -> float:
    """Give the pause after one more try that failed: twice as long, up to the longest."""
    return min(2 * backoff_s, BACKOFF_MAX_S)
