"""A producer for what callgauge itself writes to Kafka: checkpoints and rejected rows, never events."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer, errors

from engine.source.bounded import bounded
from engine.source.kafka_connection import connection_options

if TYPE_CHECKING:
    from engine.settings import KafkaSettings

STOP_S = 2.0


async def start_producer(
    settings: KafkaSettings, client_id: str, request_ms: int, bytes_max: int
) -> AIOKafkaProducer:
    """Give a producer of records of at most so many bytes; KafkaError if the brokers are away."""
    producer = AIOKafkaProducer(
        bootstrap_servers=list(settings.bootstrap_servers), client_id=client_id, acks="all",
        request_timeout_ms=request_ms, max_request_size=bytes_max, **connection_options(settings),
    )  # fmt: skip
    try:
        await producer.start()
    except BaseException:
        await stop_producer(producer)
        raise
    return producer


async def stop_producer(producer: AIOKafkaProducer) -> None:
    """Let a producer go within a bounded time; whatever it has not sent is not sent."""
    with contextlib.suppress(errors.KafkaError, TimeoutError, OSError):
        await bounded(producer.stop(), STOP_S)
