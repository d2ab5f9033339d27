"""Consumers that are made anew: with the secrets of that moment."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from engine.errors import SourceError
from engine.settings import KafkaSettings
from engine.source.kafka_member import Member
from engine.source.kafka_places import Progress
from engine.source.kafka_supervisor import BACKOFF_FIRST_S, Supervisor, after_another
from tests.integration.servers import free_ports
from tests.kafka_double import TOPIC, Written, serving
from tests.line_traffic import START_NS
from tests.simulated_world import Broker, Consumer, VirtualClock


def descriptors() -> int:
    """Count what this process has open, at both ends of a connection to itself."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_each_consumer_is_made_with_the_password_of_that_moment(tmp_path: Path) -> None:
    """With the one of the start, a rotated password would be refused for ever."""
    secret = tmp_path / "password"
    secret.write_text("old\n")
    settings = KafkaSettings(
        bootstrap_servers=(f"127.0.0.1:{free_ports(1)[0]}",), security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN", sasl_username="engine", sasl_password_file=str(secret),
    )  # fmt: skip
    supervisor = Supervisor(settings, "member", Progress(), lambda *_: None)
    supervisor.begin()
    await supervisor.wait(1.0)  # Nobody is there, which is waited for.
    assert supervisor.member is None
    secret.unlink()
    with pytest.raises(SourceError, match="the password cannot be read"):
        await supervisor.wait(60.0)
    await supervisor.close()


async def test_a_consumer_that_did_not_get_into_the_group_leaves_no_connection() -> None:
    """Tries never end: what each left open would use up the descriptors."""
    with serving(Written((), 0)) as double:
        settings = KafkaSettings(bootstrap_servers=(double.bootstrap,), topic=TOPIC)
        supervisor = Supervisor(settings, "member", Progress(), lambda *_: None)
        before = descriptors()
        supervisor.begin()
        await supervisor.wait(1.0)  # The double knows no groups.
        assert supervisor.member is None
        assert descriptors() > before
        await supervisor.close()
        for _ in range(100):
            if descriptors() > before:
                await asyncio.sleep(0.05)  # The double hears of it in threads of its own.
        assert descriptors() <= before


@pytest.mark.parametrize(("durable", "committed"), [({0: 5}, {0: 5}), (None, {})])
async def test_what_the_last_checkpoint_holds_is_committed_at_the_end(
    durable: dict[int, int] | None, committed: dict[int, int]
) -> None:
    """Where none are kept, rows that were fetched last may not have been counted."""
    progress, told = Progress(), dict[int, int]()
    consumer: Any = Consumer(Broker(TOPIC, 1), VirtualClock(START_NS))

    async def commit(offsets: dict[TopicPartition, int]) -> None:
        told.update({tp.partition: offset for tp, offset in offsets.items()})

    async def nothing() -> None:
        """Neither it nor its connections are there."""

    consumer.commit, consumer.stop, consumer._client.close = commit, nothing, nothing
    supervisor = Supervisor(KafkaSettings(topic=TOPIC), "member", progress, lambda *_: None)
    supervisor.member = Member(consumer, KafkaSettings(topic=TOPIC), progress, lambda *_: None)
    supervisor.member.placed = {0}
    progress.begin(0, 7)
    progress.durable = durable
    await supervisor.close()
    assert told == committed


def test_tries_are_half_a_minute_apart_at_most() -> None:
    pauses_s = list(
        itertools.accumulate(range(8), lambda pause_s, _: after_another(pause_s), initial=BACKOFF_FIRST_S)
    )
    assert [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0] == pauses_s
