"""Rejected rows in a topic: the shape of a row is the value; where it lay and why are headers.

Rows wait in a bounded queue that the thread of the line fills and the loop empties, and while brokers are
away what has no room is dropped and counted. The rate is kept before, by the quarantine itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from typing import TYPE_CHECKING

from aiokafka import errors

from engine.errors import SourceError
from engine.source.kafka_producer import start_producer, stop_producer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import AIOKafkaProducer

    from engine.decode.rejects import Reject
    from engine.settings import KafkaSettings

CLIENT_ID = "callgauge-quarantine"
WAITING_MAX = 1024
RECORD_BYTES_MAX = 8192  # a shape has at most 512
REQUEST_MS = 5000
SEND_EVERY_S = 0.5
AGAIN_S = 5.0  # after a failure

log = logging.getLogger(__name__)


class QuarantineTopic:
    """Sends rows to one topic. `offer` may be called from another thread, all else from the loop's."""

    def __init__(self, topic: str, kafka: KafkaSettings, request_ms: int = REQUEST_MS) -> None:
        """Open nothing; `request_ms` is how long a broker may take for an answer."""
        self._request_ms = request_ms
        self._topic = topic
        self._kafka = kafka
        self._waiting: deque[Reject] = deque()
        self._producer: AIOKafkaProducer | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closing = asyncio.Event()
        self._trouble = ""
        self.written = self.dropped = self.failed = 0

    def offer(self, rejects: Sequence[Reject]) -> None:
        """Let rows wait to be sent, as far as there is room."""
        taken = rejects[: max(WAITING_MAX - len(self._waiting), 0)]
        self._waiting.extend(taken)
        self.dropped += len(rejects) - len(taken)

    def start(self) -> None:
        """Begin to send what comes."""
        self._task = asyncio.create_task(self._send_often(), name="quarantine")

    async def close(self) -> None:
        """Send what waits, once, and end."""
        self._is_closing.set()
        if self._task is not None:
            await self._task
        await self._send()
        self.failed += len(self._waiting)
        self._waiting.clear()
        await self._let_go()

    async def _let_go(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_producer(producer)

    async def _send_often(self) -> None:
        while not self._is_closing.is_set():
            pause_s = SEND_EVERY_S if await self._send() else AGAIN_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_closing.wait(), pause_s)

    async def _send(self) -> bool:
        """Send what waits; False: it could not be sent, and the row in turn is lost."""
        while self._waiting:
            one = self._waiting.popleft()
            try:
                if self._producer is None:
                    self._producer = await start_producer(
                        self._kafka, CLIENT_ID, self._request_ms, RECORD_BYTES_MAX
                    )
                key = f"{one.sample.topic}/{one.sample.partition}".encode()
                await self._producer.send_and_wait(
                    self._topic, one.shape.encode(), key, headers=_headers(one)
                )
            except (errors.KafkaError, TimeoutError, OSError, SourceError) as error:
                self.failed += 1
                if type(error).__name__ != self._trouble:
                    self._trouble = type(error).__name__
                    log.warning("rejected rows cannot be written to %s: %s", self._topic, self._trouble)
                await self._let_go()  # The next one is made with the password of then.
                return False
            self._trouble = ""
            self.written += 1
        return True


def _headers(reject: Reject) -> list[tuple[str, bytes]]:
    sample = reject.sample
    fields = {
        "topic": sample.topic,
        "partition": sample.partition,
        "offset": sample.offset,
        "reason": sample.reason.name.lower(),
        "size_bytes": reject.size_bytes,
    }
    return [(name, str(value).encode()) for name, value in fields.items()]
