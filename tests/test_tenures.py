"""Partitions that are lost and come back: what was read before is void, however little time there was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from engine.commands.duty import Duty
from engine.settings import KafkaSettings
from engine.source.kafka import KafkaSource
from engine.source.kafka_member import Member
from tests.line_traffic import START_NS, TOPIC
from tests.simulated_world import Broker, Consumer, VirtualClock, now
from tests.simulation import configured

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL = (TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1))


def a_member() -> tuple[KafkaSource, Member, Consumer]:
    """Give a source with a member that was given everything."""
    broker, clock = Broker(TOPIC, 2), VirtualClock(START_NS)
    source = KafkaSource(KafkaSettings(topic=TOPIC))
    consumer = Consumer(broker, clock)
    member = Member(consumer, source._settings, source.progress, source._assign)
    given(member, consumer, ALL)
    source._ready.clear()
    return source, member, consumer


def given(member: Member, consumer: Consumer, partitions: tuple[TopicPartition, ...]) -> None:
    consumer.assign(partitions)
    now(member.on_partitions_assigned(partitions))


def test_a_loss_is_told_even_if_all_is_back_before_anybody_reads() -> None:
    """A line that had not heard of it would take the rows that are read again into what it knows of them."""
    source, member, consumer = a_member()
    given(member, consumer, ())
    given(member, consumer, ALL)
    assert [one.assigned for one in source._ready] == [()]
    assert source._assigned == (0, 1)


def test_partitions_that_stay_are_no_new_tenure() -> None:
    """The group is arranged anew whenever somebody joins."""
    source, member, consumer = a_member()
    given(member, consumer, ALL)
    assert not source._ready
    assert source.progress.tenure == 0


def test_a_batch_of_an_earlier_tenure_is_not_taken() -> None:
    """It waited behind a slow line; the checkpoint that is gone back to since does not go with it."""
    source, member, consumer = a_member()
    duty = Duty(configured(is_idle_on=False))

    async def resume(_topic_id: str, _log_ends: Mapping[int, int]) -> dict[int, int]:
        return {}

    duty.follow(source.progress, resume)
    waiting = source._tick((0, 1))
    assert not duty.is_void(waiting)
    given(member, consumer, ())
    given(member, consumer, ALL)
    assert duty.is_void(waiting)
    assert not any(duty.is_void(one) for one in source._ready)


def test_what_was_fetched_while_partitions_went_and_came_is_fetched_again() -> None:
    """It was of other places: taken as of the new ones, the rows between would be lost without a count."""
    source, member, consumer = a_member()

    async def getmany(**_: int) -> dict[TopicPartition, list[str]]:
        for partitions in ((), ALL):
            consumer.assign(partitions)
            await member.on_partitions_assigned(partitions)
        consumer.seek(ALL[1], 60)  # Where the fetch would have gone on.
        return {ALL[1]: ["of an earlier tenure"]}

    source.supervisor.is_raw = True
    consumer.getmany = getmany  # type: ignore[attr-defined]
    assert now(source._fetch(member, 1.0)) == {}
    assert now(consumer.position(ALL[1])) == 0
