"""What kafka_insides.py takes for granted of aiokafka, by version, and that nobody else looks inside.

A new version of aiokafka: run these; if they pass, or after a look at what changed, add it to `VERSIONS` and
its functions to `READ_BEFORE`.
"""

import asyncio
import hashlib
import inspect
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.group_coordinator import GroupCoordinator

from engine.settings import KafkaSettings
from engine.source.bounded import CancelledWithinError, bounded
from engine.source.kafka_insides import VERSIONS, Pulse
from engine.source.kafka_member import Member
from engine.source.kafka_places import Progress

SOURCES = Path(__file__).resolve().parents[1] / "engine" / "source"
LOOKS_INSIDE = re.compile(r"\bconsumer\._[a-z]")
# The functions that are used, or whose doings are relied on, as they were read: a digest of their source.
READ_BEFORE = {
    "0.14.0": {
        "GroupCoordinator._do_heartbeat": "dc1d6632aaa68e96",
        "GroupCoordinator._heartbeat_routine": "61d01028952239d0",
        "GroupCoordinator.ensure_active_group": "33c84c1a93012e81",
        "GroupCoordinator._push_error_to_user": "743ff515bd7e2e38",
        "GroupCoordinator.check_errors": "ba6ca51ad34838d9",
        "AIOKafkaConsumer.stop": "bc5da9c98595299a",
        "AIOKafkaConsumer.getmany": "bc6d248e42a4e9d9",
        "AIOKafkaClient.close": "02119d4d618ae493",
    }
}
OWNERS = {each.__name__: each for each in (GroupCoordinator, AIOKafkaConsumer, AIOKafkaClient)}


def digest_of(name: str) -> str:
    owner, function = name.split(".")
    return hashlib.sha256(inspect.getsource(getattr(OWNERS[owner], function)).encode()).hexdigest()[:16]


def test_the_version_that_is_installed_is_one_it_was_read_of() -> None:
    """pyproject.toml pins it: a new one needs a look at these tests first."""
    assert version("aiokafka") in VERSIONS
    assert set(VERSIONS) == set(READ_BEFORE)


@pytest.mark.parametrize("name", READ_BEFORE[VERSIONS[-1]])
def test_private_functions_are_the_ones_that_were_read(name: str) -> None:
    """A change may be harmless, but somebody has to look: the name of the function is in the failure."""
    assert digest_of(name) == READ_BEFORE[version("aiokafka")][name], f"aiokafka's {name} is not what it was"


def test_nobody_else_looks_inside_a_consumer() -> None:
    """One file to read again for a new version."""
    looking = {file.name for file in SOURCES.glob("*.py") if LOOKS_INSIDE.search(file.read_text("utf-8"))}
    assert {"kafka_insides.py"} == looking


class Coordinator:
    """Answers heartbeats as it is told."""

    def __init__(self) -> None:
        self.is_answered = True
        self.generation = 1

    async def _do_heartbeat(self) -> bool:
        return self.is_answered


async def test_a_pulse_is_an_answer_and_not_a_try() -> None:
    """What was not answered leaves it where it was; watching twice counts once."""

    class Consumer:
        _coordinator = Coordinator()

    consumer: Any = Consumer()
    pulse = Pulse()
    pulse.watch(consumer)
    pulse.watch(consumer)
    consumer._coordinator.is_answered = False
    assert not await consumer._coordinator._do_heartbeat()
    assert pulse.answered_s == -1.0
    consumer._coordinator.is_answered = True
    assert await consumer._coordinator._do_heartbeat()
    assert pulse.answered_s > 0


async def test_a_standby_whose_heartbeats_are_not_answered_is_not_well() -> None:
    """It has no partition by which to see it, and would wait for ever to take over."""

    class Consumer:
        _coordinator = Coordinator()

        def ignore(self, *_: object) -> None:
            """Do nothing."""

        pause = resume = ignore

    consumer: Any = Consumer()
    member = Member(consumer, KafkaSettings(), Progress(), lambda *_: None)
    assert "" == member.stuck(-1.0), "it has not joined yet"
    await member.on_partitions_assigned([])
    assert "" == member.stuck(60.0)
    member._watched_since_s -= 61.0
    assert "heartbeat" in member.stuck(60.0)
    await consumer._coordinator._do_heartbeat()
    assert "" == member.stuck(60.0)
    await member.on_partitions_revoked([])
    assert "" == member.stuck(-1.0), "while the group is arranged anew there are no heartbeats"


async def test_a_cancellation_from_within_is_an_error_like_others() -> None:
    """As aiokafka's `stop` has it when the broker is down; whoever awaits it is not cancelled."""

    async def cancels_itself() -> None:
        raise asyncio.CancelledError

    with pytest.raises(CancelledWithinError):
        await bounded(cancels_itself(), 60)
    task = asyncio.current_task()
    assert task is not None
    assert 0 == task.cancelling()


async def test_what_does_not_take_its_cancellation_is_left_behind() -> None:
    """The wait ends all the same, and so does one that is itself cancelled."""
    held = asyncio.Event()

    async def holds_on() -> None:
        while not held.is_set():
            try:
                await held.wait()
            except asyncio.CancelledError:
                continue

    with pytest.raises(TimeoutError):
        await bounded(holds_on(), 0.01)
    waiting = asyncio.create_task(bounded(holds_on(), 60))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    held.set()


async def test_what_comes_in_time_is_given() -> None:
    """Results and errors alike."""

    async def fails() -> None:
        raise ValueError("no")

    assert 7 == await bounded(asyncio.sleep(0, 7), 60)
    with pytest.raises(ValueError, match="no"):
        await bounded(fails(), 60)
