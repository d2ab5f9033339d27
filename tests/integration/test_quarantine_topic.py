"""Rejected rows in a topic: redacted, with origin and reason as headers; what is lost is counted."""

import asyncio
import itertools

from confluent_kafka import Consumer, TopicPartition

from engine.decode.decoder import Sample
from engine.decode.rejects import Reject, shape_of
from engine.deliver.quarantine import Quarantine
from engine.deliver.quarantine_topic import WAITING_MAX, QuarantineTopic
from engine.errors import LossReason
from engine.settings import KafkaSettings, QuarantineSettings
from tests.integration.kafka_broker import Kafka

NAMES = itertools.count()
S = 1_000_000_000
ROW = b'{"type":"call.strated","caller":"+49 152 2345"}'


def rejects(count: int) -> list[Reject]:
    return [Reject(Sample("calls", 3, 41 + n, LossReason.NOT_JSON), 17, shape_of(ROW)) for n in range(count)]


async def test_rows_are_written_within_the_rate_with_where_and_why(kafka: Kafka) -> None:
    """Of twelve in one moment ten are taken; the topic alone is enough, without a file."""
    topic = f"rejected-{next(NAMES)}"
    kafka.create_topic(topic, 1)
    settings = QuarantineSettings(topic=topic, rows_per_s_max=10)
    quarantine = Quarantine(settings, KafkaSettings(bootstrap_servers=(kafka.bootstrap,)))
    quarantine.start()
    await asyncio.to_thread(quarantine.add, rejects(12), 0, 5 * S)
    await quarantine.close()
    assert (10, 0, 0) == quarantine.stats[3:]
    assert (0, 2, 0) == quarantine.stats[:3]
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "reader"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = [one for _ in range(20) if len(one := consumer.consume(10, 0.5))]
    consumer.close()
    messages = [message for some in found for message in some]
    assert len(messages) == 10
    headers = dict(messages[0].headers() or [])
    assert headers == {
        "topic": b"calls", "partition": b"3", "offset": b"41", "reason": b"not_json", "size_bytes": b"17",
    }  # fmt: skip
    assert messages[0].key() == b"calls/3"
    assert messages[0].value() == b'{"type":"call.a","a":"+0 0 0"}'


async def test_rows_that_cannot_be_sent_are_counted(kafka: Kafka) -> None:
    """Nobody made the topic; and what waits is bounded."""
    topic = QuarantineTopic(
        "nobody-made-it", KafkaSettings(bootstrap_servers=(kafka.bootstrap,)), request_ms=1000
    )
    topic.offer(rejects(WAITING_MAX + 7))
    await topic.close()
    assert (topic.written, topic.dropped, topic.failed) == (0, 7, WAITING_MAX)
