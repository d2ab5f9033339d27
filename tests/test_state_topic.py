"""Checkpoints in a topic, without a broker; with one: tests/integration/test_state_topic.py."""

from __future__ import annotations

import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import TopicPartition, errors

from engine.settings import KafkaSettings, Settings, StateSettings
from engine.state.encoding import StateError
from engine.state.manifest import BlobEntry, Candidate, Manifest, manifest_bytes
from engine.state.topic import MANIFEST, Kept, StateTopic

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_password_that_cannot_be_read_costs_the_topic_alone(tmp_path: Path) -> None:
    """It is a StateError, as a broker that is away is: nothing of a shutdown may be skipped for it."""
    kafka = KafkaSettings(
        security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN", sasl_username="engine",
        sasl_password_file=str(tmp_path / "gone"),
    )  # fmt: skip
    topic = StateTopic(Settings(kafka=kafka, state=StateSettings(topic="state")))
    manifest = Manifest(1, 1, "calls", "core", "detectors", 1, {0: 1}, {})
    with pytest.raises(StateError, match="was not read"):
        await topic.read("calls", "")
    with pytest.raises(StateError, match="was not written"):
        await topic.write(manifest, Candidate(manifest, "here", lambda *_: b"", lambda: None))


def test_cuts_stay_where_they_are_when_partitions_are_added() -> None:
    """Those of before lay where the number of partitions said: it is looked there as well, and here last."""
    topic = StateTopic(Settings(state=StateSettings(topic="state")))
    prefix = zlib.crc32(topic._prefix.encode())
    for count in range(1, 20):
        assert topic._partition(set(range(count))) == 0
        places = topic._places(set(range(count)))
        assert places[-1] == 0
        assert set(places) == {prefix % earlier for earlier in range(1, count + 1)}


class Producer:
    """Takes records for the one partition that there is, until it is told to fail."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.fails = False
        self.stops = 0

    async def partitions_for(self, _topic: str) -> set[int]:
        return {0}

    async def send_and_wait(self, _topic: str, _value: bytes, key: bytes, **_: Any) -> None:
        if self.fails:
            raise errors.KafkaTimeoutError
        self.keys.append(key.decode())

    async def stop(self) -> None:
        self.stops += 1


def a_cut(offset: int) -> Manifest:
    blobs = {"judge": BlobEntry(f"judge.{offset}-00000000.blob", 1)}
    return Manifest(offset, 1, "calls", "core", "detectors", 1, {0: offset}, blobs)


async def test_cuts_take_turns_and_the_manifest_goes_last() -> None:
    """One that is cut short leaves the one before whole, and is tried again in its own place."""
    topic, producer = StateTopic(Settings(state=StateSettings(topic="state"))), Producer()
    topic._producer = producer

    async def write(offset: int) -> None:
        manifest = a_cut(offset)
        await topic.write(manifest, Candidate(manifest, "here", lambda *_: b"", lambda: None))

    await write(1)
    producer.fails = True
    with pytest.raises(StateError, match="KafkaTimeoutError"):
        await write(2)
    # The next producer is made with the password of then.
    assert (producer.stops, topic.__dict__["_producer"]) == (1, None)
    producer.fails, topic._producer = False, producer
    await write(3)
    await write(4)
    slots = (0, 0, 1, 1, 0, 0)
    assert [key.removeprefix(topic._prefix) for key in producer.keys] == [
        f"{slot}/{name}" for slot, name in zip(slots, ("judge", MANIFEST) * 3, strict=True)
    ]


@pytest.mark.parametrize(("offsets", "slot"), [((5, 9), 0), ((9, 5), 1), ((9, 9), 0)])
def test_the_next_cut_takes_the_place_of_the_older_one(offsets: tuple[int, int], slot: int) -> None:
    """The newest stays whole until there is a newer one; whoever takes over has read which one that is."""
    topic = StateTopic(Settings(state=StateSettings(topic="state")))
    newest = {}
    for number, manifest in enumerate(map(a_cut, offsets)):
        newest[f"{number}/{MANIFEST}"] = Kept(MANIFEST, manifest_bytes(manifest))
        newest[f"{number}/judge"] = Kept(manifest.blobs["judge"].file, b"1")
    found, refused = topic._cuts(newest, "calls", "")
    assert ([one.manifest.sequence for one in found], refused, topic._slot) == ([*offsets], [], slot)


class Consumer:
    """Gives one large record of ours after another."""

    def __init__(self, key: str) -> None:
        self.key, self.at = key, 0

    def seek(self, _place: TopicPartition, offset: int) -> None:
        self.at = offset

    async def position(self, _place: TopicPartition) -> int:
        return self.at

    async def getmany(self, place: TopicPartition, **_: int) -> dict[TopicPartition, list[Any]]:
        self.at += 1
        key = f"{self.key}partition-{self.at}".encode()
        return {place: [SimpleNamespace(key=key, value=bytes(1000), headers=[])]}


async def test_a_topic_that_holds_more_than_checkpoints_may_is_not_read_into_memory() -> None:
    """Whoever may write to it makes us take twice `state.bytes_max` at most: that of both cuts."""
    topic = StateTopic(Settings(state=StateSettings(topic="state", bytes_max=5_000)))
    consumer = Consumer(f"{topic._prefix}0/")
    place = TopicPartition("state", 0)
    assert len(await topic._newest(consumer, place, 0, 10)) == 10
    with pytest.raises(StateError, match="bytes_max"):
        await topic._newest(consumer, place, 0, 100)
    assert consumer.at == 11
