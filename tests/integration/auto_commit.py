"""`callgauge run` as it must not be: it goes on at the offsets that the group has committed.

State from the checkpoint, offsets from Kafka, committed as rows are fetched: what most consumers do. It loses
rows at a kill, and a test that does not see that sees nothing. The command is that of `run`.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping

from confluent_kafka import Consumer, TopicPartition

from engine.app import load_configuration
from engine.commands.run import Service
from engine.settings import KafkaSettings
from engine.source.kafka import KafkaSource

COMMIT_EVERY_S = 0.05


class AutoCommitted:
    """A source whose places are committed as it fetches; those are what it goes on at."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.source = KafkaSource(settings)
        self._whole_resume: Callable[[str, Mapping[int, int]], Awaitable[dict[int, int]]] | None = None

    async def commit_often(self) -> None:
        """Commit what was fetched, whether or not it is in any checkpoint."""
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            progress = self.source.progress
            if progress.resume is not None and progress.durable is not None:
                self._whole_resume = progress.resume
                progress.durable, progress.resume = None, self._resume
            member = self.source.supervisor.member
            if member is not None:
                await member.commit()

    async def _resume(self, topic_id: str, log_ends: Mapping[int, int]) -> dict[int, int]:
        assert self._whole_resume is not None
        return await asyncio.to_thread(self._committed, await self._whole_resume(topic_id, log_ends))

    def _committed(self, known: dict[int, int]) -> dict[int, int]:
        consumer = Consumer(
            {
                "bootstrap.servers": self._settings.bootstrap_servers[0],
                "group.id": self._settings.group_id,
            }
        )
        places = consumer.committed([TopicPartition(self._settings.topic, one) for one in known], timeout=10)
        consumer.close()
        return {one.partition: one.offset for one in places if one.offset >= 0}


async def main(config: str, limits: str) -> None:
    """Serve with such a source."""
    configuration = load_configuration(config, limits, None)
    auto = AutoCommitted(configuration.settings.kafka)
    committing = asyncio.create_task(auto.commit_often())
    service = Service(configuration, auto.source, None, lambda: configuration)
    await service.serve()
    committing.cancel()


if __name__ == "__main__":
    words = sys.argv[1:]
    asyncio.run(main(words[words.index("--config") + 1], words[words.index("--limits") + 1]))
