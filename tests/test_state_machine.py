"""Anything in any order, chosen by Hypothesis: calls, late and repeated events, crashes, moves, reloads.

The model is as plain as can be: what Kafka acknowledged, which calls began and ended, and the limit that is
in force. What a process knows must be the model's, wherever it runs and whatever it was put through.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.judge.lifecycle import FIRING
from tests.line_traffic import CAPPED_TRUNK, REGISTER, START_NS, TOPIC, Event, event
from tests.simulated_disk import SimulatedDisk
from tests.simulated_host import Around, Host
from tests.simulated_world import Alertmanager, Broker, VirtualClock
from tests.simulation import PARTITIONS, configured
from tests.simulation_checks import check_commit, check_rows, known_calls

S = 1_000_000_000
EXAMPLES, STEPS = 4, 30
PARTS_SOAK, EXAMPLES_SOAK = 40, 500
LABELS = {"tenant": "acme", "trunk": CAPPED_TRUNK}
FEW = st.integers(1, 6)
WHICH = st.integers(0, 1)


class Service(RuleBasedStateMachine):
    """Two machines of one group, with a disk each; the first is given everything."""

    def __init__(self) -> None:
        super().__init__()
        generator = np.random.default_rng(1)
        self.clock = VirtualClock(START_NS)
        self.around = Around(self.clock, Broker(TOPIC, PARTITIONS), Alertmanager(), {})
        disks = [SimulatedDisk(generator, self.clock.time_s) for _ in range(2)]
        self.hosts = [Host(self.around, configured(is_idle_on=False), disk) for disk in disks]
        self.owner = 0
        self.rows = 0  # acknowledged
        self.flying: list[int] = []  # the model: calls that began and did not end
        self.newest_ns: dict[int, int] = {}  # of events, by partition
        self.calls = 0
        self.cap = 40.0
        self.patched = self.clock.installed()
        self.patched.__enter__()
        for host in self.hosts:
            host.start()
        self.give()

    def teardown(self) -> None:
        """Let everything be read, and compare."""
        try:
            self.settle()
        finally:
            self.patched.__exit__(None, None, None)

    def give(self) -> None:
        """Arrange the group anew."""
        self.around.broker.generation += 1
        self.hosts[1 - self.owner].give(())
        self.hosts[self.owner].give(self.around.broker.places())

    def tell(self, told: Event, call: int) -> None:
        """Let Kafka acknowledge an event of a call, which has a partition of its own."""
        self.around.broker.logs[call % PARTITIONS].append(told.row, self.clock.at_ns)
        self.newest_ns[call % PARTITIONS] = max(self.newest_ns.get(call % PARTITIONS, 0), told.time_ns)
        self.rows += 1

    @rule(count=FEW)
    def calls_begin(self, count: int) -> None:
        for _ in range(count):
            self.tell(event(self.clock.time_ns(), "call.started", f"call-{self.calls}", **LABELS), self.calls)
            self.flying.append(self.calls)
            self.calls += 1

    @precondition(lambda self: self.flying)
    @rule(count=FEW, is_twice=st.booleans())
    def calls_end(self, count: int, is_twice: bool) -> None:
        for call in self.flying[:count]:
            at_ns = self.clock.time_ns()
            end = event(at_ns, "call.ended", f"call-{call}", outcome="completed", **LABELS)
            for _ in range(1 + is_twice):
                self.tell(end, call)
        del self.flying[:count]

    @precondition(lambda self: self.newest_ns)
    @rule(delay_s=st.integers(120, 600), which=WHICH)
    def something_comes_far_too_late(self, delay_s: int, which: int) -> None:
        """Tell what has no effect, whatever it is: its time is over."""
        partition = sorted(self.newest_ns)[which % len(self.newest_ns)]
        at_ns = self.newest_ns[partition] - delay_s * S
        self.tell(event(at_ns, "call.started", f"late-{self.rows}", **LABELS), partition)

    @rule(partition=st.integers(0, PARTITIONS - 1), row=st.sampled_from([b"{", b"[]", b'{"type": 3}']))
    def rubbish_comes(self, partition: int, row: bytes) -> None:
        self.around.broker.logs[partition].append(row, self.clock.at_ns)
        self.rows += 1

    @rule(seconds=st.integers(1, 40))
    def time_goes_by(self, seconds: int) -> None:
        self.clock.at_ns += seconds * S
        self.around.alertmanager.wait(self.clock.at_ns)

    @rule(which=WHICH, rows=st.integers(1, 50))
    def it_reads(self, which: int, rows: int) -> None:
        self.hosts[which].read(rows, list(range(PARTITIONS)))

    @rule(which=WHICH, times=FEW)
    def it_works(self, which: int, times: int) -> None:
        for _ in range(times):
            self.hosts[which].work()

    @rule(which=WHICH)
    def it_writes_and_commits(self, which: int) -> None:
        host = self.hosts[which]
        host.write()
        host.commit()
        check_commit(host)
        host.send()

    @rule(which=WHICH, is_power=st.booleans())
    def it_crashes(self, which: int, is_power: bool) -> None:
        host = self.hosts[which]
        if is_power:
            host.disk.crash()
        host.start()
        self.give()

    @rule()
    def all_partitions_move(self) -> None:
        self.owner = 1 - self.owner
        self.give()

    @rule()
    def all_partitions_are_lost_and_back(self) -> None:
        self.owner = 1 - self.owner
        self.give()
        self.owner = 1 - self.owner
        self.give()

    @rule(cap=st.sampled_from([30.0, 40.0, 90.0]))
    def the_limit_changes(self, cap: float) -> None:
        """Both take the new register, as by a signal, and whoever starts from now on."""
        first, second = REGISTER.limits
        limits = (msgspec.structs.replace(first, value=cap), second)
        self.cap = cap
        for host in self.hosts:
            register = msgspec.structs.replace(REGISTER, limits=limits)
            host.configuration = host.configuration._replace(register=register)
            host.line.reload(host.configuration)

    @invariant()
    def every_row_is_somewhere(self) -> None:
        for host in self.hosts:
            host.check_accounts()

    def settle(self) -> None:
        """Let time pass in every partition, so that all slices close, and everything be read."""
        self.clock.at_ns += 10 * S
        for _ in range(2):
            self.clock.at_ns += 60 * S
            for partition in range(PARTITIONS):
                tail = event(self.clock.time_ns(), "change.made", what="end", id=f"{self.rows}")
                self.tell(tail, partition)
        host, quiet = self.hosts[self.owner], 0
        while quiet < 3:
            self.clock.at_ns += S
            host.read(1_000, list(range(PARTITIONS)))
            while host.queue:
                host.work()
            host.send()
            ends = {number: log.end for number, log in enumerate(self.around.broker.logs)}
            quiet += host.source.progress.places == ends and not host.source._ready
        self.compare(host)

    def compare(self, host: Host) -> None:
        """See that the process knows what the model knows."""
        check_rows(host.history, self.around.broker)
        pipeline: Any = host.line.line.pipeline
        assert pipeline.decoder.rows_read == self.rows
        assert pipeline.observer.calls_in_flight == known_calls(pipeline.observer) == len(self.flying)
        index = pipeline.judge.roller.index
        values = [one.limit.value for one in index.instances if one.name == REGISTER.limits[0].name]
        assert values in ([], [self.cap])
        firing = {one.labels for one in pipeline.judge.book.alerts() if one.state == FIRING}
        assert firing <= self.around.alertmanager.active()


def run_machines(machine: Any, examples: int, steps: int) -> None:
    """Run so many examples of a machine, or of whatever makes one."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),  # to shrink an example takes many times as long as to find it
        ),
    )


@pytest.mark.parametrize(
    ("examples", "steps"),
    [
        (EXAMPLES, STEPS),
        pytest.param(300, 50, marks=[pytest.mark.full, pytest.mark.timeout(3_600)]),
    ],
)
def test_whatever_happens_in_whatever_order(examples: int, steps: int) -> None:
    run_machines(Service, examples, steps)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(PARTS_SOAK))
def test_whatever_happens_for_hours(part: int) -> None:
    """In parts, each from a seed of its own: Hypothesis remembers all of a run."""
    run_machines(seed(part)(functools.partial(Service)), EXAMPLES_SOAK, 50)
