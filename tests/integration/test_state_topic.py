"""Checkpoints in a compacted topic: whole or not there, and a host that has none goes on with them."""

import itertools
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions

from engine.settings import KafkaSettings, Settings, StateSettings
from engine.state.encoding import StateError
from engine.state.folder import Folder
from engine.state.manifest import Candidate, manifest_bytes, read_blobs
from engine.state.topic import StateTopic
from tests.integration.kafka_broker import Kafka
from tests.integration.kill_loop import Killed
from tests.integration.servers import wait_until
from tests.integration.service import Service
from tests.integration.test_kill_nine import a_story
from tests.test_state_folder import STAMP, a_capture, a_folder

S = 1_000_000_000
NAMES = itertools.count()
CALLS, GROUP = "calls", "group"
BYTES_MAX = 64 << 20
KEY = "00112233445566778899aabbccddeeff"


def a_state_topic(kafka: Kafka, **config: str) -> str:
    """Make a topic as the README says, with a partition that is not ours."""
    name = f"state-{next(NAMES)}"
    kafka.create_topic(name, 2, **{"cleanup_policy": "compact", "max_message_bytes": str(16 << 20), **config})
    return name


@pytest.fixture
async def open_topic(kafka: Kafka) -> AsyncIterator[Callable[..., StateTopic]]:
    """Give a function that makes a member's view of a topic; all are closed in the end."""
    opened: list[StateTopic] = []

    def open_one(name: str, **options: int) -> StateTopic:
        settings = Settings(
            kafka=KafkaSettings(bootstrap_servers=(kafka.bootstrap,), topic=CALLS, group_id=GROUP),
            state=StateSettings(folder="state", topic=name),
        )
        opened.append(StateTopic(settings, **options))
        return opened[-1]

    yield open_one
    for one in opened:
        await one.close()


async def write(topic: StateTopic, folder: Folder, number: int, size: int = 1000) -> int:
    """Write a cut of which every byte follows from its number, to the disk and to the topic."""
    folder.save(a_capture(number, size), STAMP)
    return await topic.write(folder.newest(), Candidate(folder.newest(), "", folder.read_blob, lambda: None))


def numbers_in(candidates: list[Candidate]) -> list[int]:
    """Say which cuts these are, and that they are so to the last byte."""
    for one in candidates:
        read = read_blobs(one, BYTES_MAX)
        for name, parts in a_capture(one.manifest.next_offsets[0]).blobs.items():
            assert read[name] == {part: b"".join(pieces) for part, pieces in parts.items()}
    return sorted(one.manifest.next_offsets[0] for one in candidates)


async def read(topic: StateTopic, topic_id: str = "") -> Any:
    return await topic.read(CALLS, topic_id)


async def test_the_two_newest_cuts_are_found_whatever_else_is_in_the_topic(
    kafka: Kafka, open_topic: Callable[[str], Any], tmp_path: Path
) -> None:
    """One that was begun and not ended leaves the one before; another member goes on in the other slot."""
    name = a_state_topic(kafka)
    folder, first = a_folder(tmp_path), open_topic(name)
    assert ([], []) == await read(first)
    for number in range(1, 31):
        await write(first, folder, number)
    assert [29, 30] == numbers_in((await read(open_topic(name)))[0])
    # Of a cut in the slot of 29, the manifest never came.
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    slot = first._slot
    for partition in range(2):
        key = f"{GROUP}/{CALLS}/{slot}/judge"
        producer.produce(name, b"begun", key, partition, headers={"file": "judge.99-00000000.blob"})
        for other in range(100):
            producer.produce(name, b"x" * 1000, f"another/{CALLS}/{other % 9}", partition)
    producer.flush(30)
    second = open_topic(name)
    assert [30] == numbers_in((await read(second))[0])
    await write(second, folder, 31)
    assert [30, 31] == numbers_in((await read(first))[0])


async def test_cuts_are_found_when_partitions_are_added(
    kafka: Kafka, open_topic: Callable[[str], Any], tmp_path: Path
) -> None:
    """They stay in one place. Those of before lay where the number of partitions said at their time."""
    name = a_state_topic(kafka)
    folder, prefix = a_folder(tmp_path), f"{GROUP}/{CALLS}/"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for number, partitions in enumerate((2, 3, 5), 1):
        if partitions > 2:
            admin.create_partitions([NewPartitions(name, partitions)])[name].result(30)
        folder.save(a_capture(number), STAMP)
        manifest = folder.newest()
        records = {
            key: (one.file, folder.read_blob(one.file, BYTES_MAX)) for key, one in manifest.blobs.items()
        }
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        for key, (file, value) in (*records.items(), ("manifest", ("manifest", manifest_bytes(manifest)))):
            place = zlib.crc32(prefix.encode()) % partitions
            producer.produce(name, value, f"{prefix}{number % 2}/{key}", place, headers={"file": file})
        producer.flush(30)
    first = open_topic(name)
    assert numbers_in((await read(first))[0])[-1] == 3
    await write(first, folder, 4)
    admin.create_partitions([NewPartitions(name, 8)])[name].result(30)
    second = open_topic(name)
    assert numbers_in((await read(second))[0])[-1] == 4
    await write(second, folder, 5)
    assert numbers_in((await read(first))[0])[-2:] == [4, 5]


async def test_what_cannot_be_a_record_is_refused_and_said(
    kafka: Kafka, open_topic: Callable[[str], Any], tmp_path: Path
) -> None:
    """By us above 16 MB, by the broker above what it takes; what was there stays."""
    name = a_state_topic(kafka, max_message_bytes="100000")
    folder, topic = a_folder(tmp_path), open_topic(name)
    await write(topic, folder, 1)
    for number, size in ((2, 300_000), (3, 17 << 20)):
        with pytest.raises(StateError) as raised:
            await write(topic, folder, number, size)
        assert raised.value.reason == "topic_too_large"
    found, refused = await read(topic)
    assert ([1], []) == (numbers_in(found), refused)


async def test_a_topic_that_is_not_there_is_an_error_with_a_reason(
    open_topic: Callable[..., Any], tmp_path: Path
) -> None:
    topic = open_topic("nobody-made-it", request_ms=1000)
    for work in (read(topic), write(topic, a_folder(tmp_path), 1)):
        assert isinstance(work, Awaitable)
        with pytest.raises(StateError) as raised:
            await work
        assert raised.value.reason == "topic"


def on_another_host(killed: Killed, folder: Path) -> Service:
    """Give a service in an empty folder, with the same settings and key as the one that was killed."""
    old = killed.service
    (folder / "state").mkdir(parents=True)
    (folder / "call.key").write_text(KEY)
    (folder / "call.key").chmod(0o600)
    service = Service(folder, killed.kafka, killed.topic, engine=killed.engine, state=killed.state)
    service.limits.write_text(old.limits.read_text("utf-8"), "utf-8")
    return service


@pytest.mark.full
def test_partitions_that_move_to_another_host_go_on_there(kafka: Kafka, tmp_path: Path) -> None:
    """Killed with -9 in the middle of a go-live: calls, windows and alerts are those of one whole run."""
    state = a_state_topic(kafka)
    killed = Killed(
        tmp_path / "one", kafka, f"moved-{next(NAMES)}",
        state={"topic": state, "topic_period": "300ms"}, engine={"call_key_file": "call.key"},
    )  # fmt: skip
    (tmp_path / "one" / "call.key").write_text(KEY)
    (tmp_path / "one" / "call.key").chmod(0o600)
    events = a_story(2)
    rows, half = [one.row for one in events], len(events) // 2
    first = killed.service
    first.start_ready()
    kafka.produce(killed.topic, rows[:half])
    first.wait_for_rows(half)
    written = first.metric("callgauge_state_topic_checkpoints_total")
    wait_until(
        lambda: first.metric("callgauge_state_topic_checkpoints_total") >= written + 2, what="a checkpoint"
    )
    first.process.kill()
    kafka.produce(killed.topic, rows[half:])
    killed.service = on_another_host(killed, tmp_path / "two")
    killed.service.start_ready()
    assert killed.service.metric("callgauge_checkpoint_restores_total", outcome="whole") == 1
    killed.finish()
    assert "(state.topic)" in killed.service.log()
    expected, changes = killed.expected()
    assert killed.found() == expected
    assert {*first.changes(), *killed.told()} == changes
    assert expected.rows["read"] == len(rows)


@pytest.mark.full
def test_a_topic_made_anew_while_nobody_runs_is_read_from_its_start(kafka: Kafka, tmp_path: Path) -> None:
    """Its offsets would fit the checkpoint; its id does not."""
    killed = Killed(tmp_path / "one", kafka, f"anew-{next(NAMES)}")
    rows = [one.row for one in a_story(2)]
    killed.service.start_ready()
    kafka.produce(killed.topic, rows[:200])
    killed.service.wait_for_rows(200)
    killed.finish()
    kafka.delete_topic(killed.topic)
    time.sleep(1)
    kafka.create_topic(killed.topic, 4)
    kafka.produce(killed.topic, rows)
    killed.service.start_ready()
    restores = "callgauge_checkpoint_restores_total"
    assert killed.service.metric(restores, outcome="refused_topic_made_anew") > 0
    killed.finish()
    expected, _ = killed.expected()
    assert killed.found() == expected
    assert expected.rows["read"] == len(rows)
