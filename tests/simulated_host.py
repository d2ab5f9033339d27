"""A process of the service as the simulator runs it: the parts of `run`, called one after another.

The line, the checkpoints, the member, the source's bookkeeping, the handover and the queues of Alertmanagers
are the real ones. Left out is the loop that waits for a poll, a disk or an answer: each of these is a call
here, and between any two of them the process may be gone.
"""

from __future__ import annotations

import ssl
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import errors

from engine.commands.duty import Duty
from engine.deliver.access import Access
from engine.deliver.alertmanager import AlertmanagerSink
from engine.deliver.postings import OWED
from engine.source.kafka import KafkaSource
from engine.source.kafka_member import Member
from tests.simulated_world import NS_PER_S, Connection, Consumer, now

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aiokafka import TopicPartition

    from engine.app import Configuration
    from engine.commands.checkpoints import Taken
    from engine.judge.implicit import LearnedValue
    from engine.judge.lifecycle import AlertChange
    from engine.source.contract import RawBatch
    from tests.simulated_disk import SimulatedDisk
    from tests.simulated_world import Alertmanager, Broker, VirtualClock


# The connection is a stand-in: a process here begins without reading the certificates of the system.
NO_ACCESS = Access({}, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


class Stepped(NamedTuple):
    """A step that a line has taken."""

    raw: RawBatch
    changes: tuple[AlertChange, ...]


History = list[Stepped]


class Past(NamedTuple):
    """What led to a line as it is: the caps that it began with, and every step since."""

    inferred: tuple[LearnedValue, ...]
    history: History


class Around(NamedTuple):
    """What every process of one simulation shares."""

    clock: VirtualClock
    broker: Broker
    alertmanager: Alertmanager
    cuts: dict[int, Past]  # what a checkpoint holds, by when it was taken


class Host:
    """One process after another on one machine; `disk` is what stays of them."""

    def __init__(self, around: Around, configuration: Configuration, disk: SimulatedDisk) -> None:
        self.around, self.configuration, self.disk = around, configuration, disk
        self.is_up = False
        self.control = ""  # a fault of our own making that the checks must find
        self.outcomes = {"whole"}  # what may come of a checkpoint

    def start(self) -> None:
        """Begin a process, which knows nothing; `Crash` if it dies over it."""
        settings, clock = self.configuration.settings, self.around.clock
        self.duty = Duty(self.configuration, self.disk.calls)
        hash_key = self.duty.checkpoints.open(self.configuration)
        self.line = self.duty.begin(self.configuration, hash_key)
        self.source = KafkaSource(settings.kafka)
        self.duty.follow(self.source.progress, self._resume)
        self._make_consumer()
        self.sink = AlertmanagerSink(
            settings.alertmanager, "http://localhost", clock.time_ns, lambda: clock.time_ns() / NS_PER_S
        )
        self.sink._access = NO_ACCESS
        self.sink._session = Connection(self.around.alertmanager, clock)  # type: ignore[assignment]
        self.queue: deque[RawBatch] = deque()
        self.writing: Taken | None = None
        self.history: History = []
        self.inferred = self.configuration.inferred
        self._restored: Past | None = None
        self._handed_ns = 0  # when alerts were last handed over
        self.is_up = True

    def _make_consumer(self) -> None:
        self.consumer = Consumer(self.around.broker, self.around.clock)
        progress, assign = self.source.progress, self.source._assign
        self.member = Member(self.consumer, self.configuration.settings.kafka, progress, assign)

    def give(self, partitions: Collection[TopicPartition]) -> None:
        """Let the group assign these to the process."""
        now(self.member.on_partitions_revoked(self.consumer.assignment()))
        self.consumer.assign(partitions)
        now(self.member.on_partitions_assigned(partitions))
        assert not self.member.failed, self.member.failed

    async def _resume(self, topic_id: str, log_ends: Mapping[int, int]) -> dict[int, int]:
        resumed = self.duty.checkpoints.resume(self.configuration, topic_id, (), log_ends)
        offsets = self.duty.take_over(resumed, topic_id)
        outcomes = self.duty.checkpoints.stats.outcomes
        assert not outcomes.keys() - self.outcomes, f"a checkpoint was of no use: {outcomes}"
        self._restored = self.around.cuts[resumed.written_ns] if resumed.next_offsets else None
        if self.control == "offsets apart from the state":
            return dict(self.around.broker.committed)
        return offsets

    def read(self, rows_max: int, order: list[int]) -> None:
        """Poll once, and let the next batch or tick wait for the line, if there is room."""
        settings, source = self.configuration.settings.kafka, self.source
        now(self.consumer._do_heartbeat())
        source._alive_s = self.around.clock.time_s()
        if len(self.queue) >= settings.queue_batches_max:
            return
        if not source._ready:
            source._notice_pause(self.member)
            try:
                fetched = self.consumer.fetch(rows_max, order)
                source._last_poll_ns = self.around.clock.time_ns()
                now(source._take(self.member, fetched))
            except errors.OffsetOutOfRangeError as error:
                now(source._find_again(self.member, error))
            if self.member.failed:
                self._replace_consumer()
        if source._ready:
            self.queue.append(source._ready.popleft())
        else:
            at_end = now(self.member.caught_up())
            self.queue.append(source._tick(source._assigned, at_end, source._places()))

    def _replace_consumer(self) -> None:
        """Do what the supervisor does with one that is to be thrown away."""
        partitions = self.consumer.assignment()
        self._make_consumer()
        self.around.broker.generation += 1
        self.give(partitions)

    def work(self) -> None:
        """Take the next batch through the line, hand its alerts over, and cut if it is time."""
        if not self.queue:
            return
        raw = self.queue.popleft()
        if self.duty.is_void(raw):
            return
        if self.line.owns and not raw.assigned:
            self.inferred, self.history = self.line.line.pipeline.judge.inferred(), []
        if raw.assigned and not self.line.owns and self._restored is not None:
            self.inferred, self.history = self._restored.inferred, list(self._restored.history)
            self._restored = None
        step, snapshot = self.duty.step(raw)
        self.history.append(Stepped(raw, step.changes))
        self.check_accounts()
        if self.control == "pages of the past":
            self.duty.handover.is_catching_up = False
        alerts = self.duty.alerts(raw, step, snapshot)
        if alerts is not None:
            self._handed_ns = self.around.clock.time_ns()
            self.sink.update(alerts, self._handed_ns)
        if self.writing is None and (taken := self.duty.cut()) is not None:
            self.take_note(taken)

    def take_note(self, taken: Taken) -> None:
        """Keep in mind what a cut holds, until it is written."""
        self.writing = taken
        self.around.cuts[taken.stamp.written_ns] = Past(self.inferred, list(self.history))
        if self.control == "offsets before the state":
            self.duty._durable.update(taken.capture.next_offsets)

    def write(self) -> bool:
        """Bring a cut to the disk; say whether it is there."""
        if self.writing is None:
            return False
        taken, self.writing = self.writing, None
        saved = self.duty.checkpoints.save(taken)
        self.duty.note_saved(taken, saved)
        return not saved.reason

    def commit(self) -> None:
        """Tell the group how far reading has come."""
        offsets = self.source.progress.committable(self.member.placed)
        self.around.broker.committed.update(offsets)

    def send(self) -> None:
        """Post what is queued, as the send loops do when they wake.

        Only then somebody is there for Alertmanager, as of the step whose alerts are queued: a process may
        die between a step and that, again and again, come to no step, or have lost its partitions without
        having noticed. Nor does Alertmanager hear anybody while it is down itself: both outages are one.
        """
        alertmanager = self.around.alertmanager
        is_owner = self.line.owns and bool(self.consumer.assignment())
        if is_owner and not self.duty.handover.is_catching_up and alertmanager.is_up:
            alertmanager.note_current(self._handed_ns)
        for peer in self.sink._peers:
            while batch := peer.queue.take(peer.batch_alerts_max):
                if not now(self.sink._send(peer, batch)):
                    break

    def owes(self) -> bool:
        """Say whether the end of an alert waits for its page to be heard first."""
        return any(one.state == OWED for one in self.sink._handed.values())

    def check_accounts(self) -> None:
        """See that every row is somewhere, and that nothing has grown past its bound."""
        pipeline, settings = self.line.line.pipeline, self.configuration.settings
        decoder, observer = pipeline.decoder, pipeline.observer
        lost = int(decoder.losses.sum() + observer.losses.sum())
        assert decoder.rows_read == observer.rows_absorbed + observer.rows_held + lost, "rows are unaccounted"
        assert observer.rows_held <= settings.engine.held_rows_max
        assert observer.calls_in_flight <= settings.engine.calls_max
        assert len(pipeline.judge.book.alerts()) <= settings.engine.alerts_max
        assert len(self.queue) <= settings.kafka.queue_batches_max
        assert all(len(peer.queue) <= peer.queue.alerts_max for peer in self.sink._peers)
