"""A broker that has lost the end of a log: what was read of it is counted, and others have its offsets."""

from __future__ import annotations

import time
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from aiokafka.errors import KafkaError

from engine.app import build_line
from engine.settings import KafkaSettings
from engine.source.kafka_member import PLACE_TRIES, Member
from engine.source.kafka_places import Progress
from tests.integration.kill_loop import known_to
from tests.line_traffic import START_NS, TOPIC, Event, Traffic, make_story
from tests.simulated_disk import SimulatedDisk
from tests.simulated_host import Around, Host
from tests.simulated_world import Alertmanager, Broker, Consumer, VirtualClock
from tests.simulation import configured
from tests.simulation_checks import HASH_KEY, _in_turns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.app import Line

S = 1_000_000_000
CUT_S, END_S, LOST_ROWS = 120, 200, 5
TRAFFIC = Traffic(duration_s=CUT_S + 20, rate_first=1.5, rate_last=3.0, holding_s=20.0, lost_ratio=0.0)


class World:
    """A story of calls on its way to one process."""

    def __init__(self) -> None:
        self.clock = VirtualClock(START_NS)
        self.broker = Broker(TOPIC, 2)
        self.alertmanager = Alertmanager()
        disk = SimulatedDisk(np.random.default_rng(5), self.clock.time_s)
        around = Around(self.clock, self.broker, self.alertmanager, {})
        self.host = Host(around, configured(is_idle_on=False), disk)
        self._events = iter(make_story(TRAFFIC).events)
        self._next: Event | None = next(self._events)
        self._at_s = 0

    def begin(self) -> None:
        """Start a process, which is given everything."""
        self.host.start()
        self.broker.generation += 1
        self.host.give(self.broker.places())

    def until(self, at_s: int) -> None:
        """Let time pass, second by second."""
        while self._at_s < at_s:
            self._at_s += 1
            self.clock.at_ns = START_NS + self._at_s * S
            while self._next is not None and self._next.time_ns <= self.clock.at_ns:
                log = self.broker.logs[zlib.crc32(self._next.key.encode()) % 2]
                log.append(self._next.row, self.clock.at_ns)
                self._next = next(self._events, None)
            for _ in range(4):
                self.host.read(1000, [0, 1])
                self.host.work()
            self.host.write()
            self.host.commit()
            self.host.send()

    def whole(self) -> Line:
        """Read the topic once."""
        line = build_line(self.host.configuration, HASH_KEY)
        for raw in _in_turns(self.broker, self.host.history[-1].raw):
            line.pipeline.step(raw)
        return line


@pytest.mark.parametrize(
    ("cut", "is_restarted"),
    [((), True), ((1,), False), ((1,), True), ((0, 1), True)],
    ids=["nothing lost", "while it runs", "before a restart", "of both partitions"],
)
def test_rows_count_once_though_the_end_of_a_log_was_lost(
    cut: tuple[int, ...], *, is_restarted: bool
) -> None:
    """Everything but the alerts begins anew: what is left is read again, what is gone is not known."""
    world = World()
    with world.clock.installed():
        world.begin()
        world.until(CUT_S)
        fired = world.alertmanager.active()
        assert fired
        assert world.host.source.progress.places == {n: log.end for n, log in enumerate(world.broker.logs)}
        taken = world.host.duty.last_cut()
        assert taken is not None
        world.host.take_note(taken)
        world.host.write()
        for number in cut:
            del world.broker.logs[number].records[-LOST_ROWS:]
        if cut:
            world.host.outcomes = {"alerts", "refused_tail_lost"}
        if is_restarted:
            world.begin()
        world.until(END_S)
        whole = world.whole()
    assert known_to(world.host.line.line) == known_to(whole)
    assert world.host.line.line.pipeline.observer.rows_absorbed == whole.pipeline.observer.rows_absorbed
    assert sum(rows for _, rows in world.host.source.stats().lost_rows) == 0
    assert fired <= world.alertmanager.active()
    pages = [one.labels for one in world.alertmanager.told if one.what == "page"]
    assert len(pages) == len(set(pages))


def a_member(start: str, resume: Mapping[int, int] | None = None) -> tuple[Member, Progress, Any]:
    """Give a member that has read all of two partitions with ten rows each, of which two are recent."""
    broker = Broker(TOPIC, 2)
    now_ns = time.time_ns()
    for log in broker.logs:
        for number in range(10):
            log.append(b"row", now_ns - (0 if number >= 8 else 24 * 3600 * S))
    consumer: Any = Consumer(broker, VirtualClock(now_ns))
    consumer.assign(broker.places())
    progress = Progress()

    async def resumed(_topic_id: str, log_ends: Mapping[int, int]) -> dict[int, int]:
        asked.append(dict(log_ends))
        return dict(resume or {})

    asked: list[dict[int, int]] = []
    consumer.asked = asked
    progress.resume = resumed
    return (
        Member(consumer, KafkaSettings(topic=TOPIC, start=start), progress, lambda *_: None),
        progress,
        consumer,
    )


@pytest.mark.parametrize(("start", "places"), [("latest", {0: 8, 1: 8}), ("earliest", {0: 0, 1: 0})])
async def test_the_start_policy_holds_and_latest_reads_back(start: str, places: dict[int, int]) -> None:
    """Rows have come since that nobody has read. No checkpoint of before is used, wherever it ends."""
    member, progress, consumer = a_member(start)
    partitions = sorted(consumer.assignment())
    progress.places |= {0: 12, 1: 10}
    member.placed = {0, 1}
    assert await member.find_again(partitions[0]) == 0
    assert (progress.tenure, progress.places, member.placed, bool(member.failed)) == (1, {}, set(), True)
    again = Member(consumer, KafkaSettings(topic=TOPIC, start=start), progress, lambda *_: None)
    await again.on_partitions_assigned(partitions)
    assert progress.places == places
    assert consumer.asked == [{0: -1, 1: -1}]
    assert not progress.is_tail_lost


@pytest.mark.parametrize("error", [TimeoutError(), KafkaError()])
async def test_a_checkpoint_is_used_where_nobody_tells_the_end_of_a_log(error: Exception) -> None:
    """One partition without a leader must not keep a start from the others."""
    member, progress, consumer = a_member("rewind", {0: 9, 1: 9})

    async def end_offsets(_: object) -> None:
        raise error

    consumer.end_offsets = end_offsets
    await member.on_partitions_assigned(sorted(consumer.assignment()))
    assert progress.places == {0: 9, 1: 9}
    assert consumer.asked == [{}]
    assert progress.asked_again == PLACE_TRIES - 1
