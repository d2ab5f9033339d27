"""One simulation: what happens to a story on its way, to the processes that read it, and what must hold."""

from __future__ import annotations

import zlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine.app import Configuration
from engine.settings import AlertmanagerSettings, EngineSettings, KafkaSettings, Settings, StateSettings
from tests.line_runs import shipped_rules
from tests.line_traffic import REGISTER, START_NS, TOPIC, Story, Traffic, event, make_story
from tests.process_folder import process_folder
from tests.simulated_disk import Crash, DiskFaults, SimulatedDisk
from tests.simulated_host import Around, Host
from tests.simulated_world import Alertmanager, Broker, VirtualClock
from tests.simulation_checks import check_commit, check_end

S = 1_000_000_000
PARTITIONS = 2
STORIES = 8
TRAFFIC = Traffic(duration_s=135, rate_first=0.6, rate_last=2.4, holding_s=20.0, lost_ratio=0.02)
TAIL_S = (400, 75)  # in which nobody calls: of the first story, so long that what fired is resolved
CONTROLS = ("offsets before the state", "offsets apart from the state", "pages of the past")
NOTES_MAX = 4_000
QUIET_TURNS, OWING_TURNS_MAX = 4, 20  # of 31 s: a page that is owed ends four resends after it was taken


class Mix(NamedTuple):
    """How often each fault happens, 0: never; a ratio of events, or a chance per turn."""

    dropped: float
    duplicated: float
    disordered: float  # within the bound
    beyond: float  # of the bound: too late for their slice
    late: float  # too late for anything
    ahead: float  # a producer's clock
    skew_s: float  # of the clock of receipt
    killed: float  # a process
    power: float  # a machine, with what was not on its disk
    stopped: float  # in order
    moved: float
    flickers: float  # moved away and back before anybody has read
    short: float  # writes
    full: float
    bad_sync: float
    alertmanager: float
    deleted: float  # rows, by the broker
    shares_folder: bool
    is_idle_on: bool  # partitions without rows hold nobody up

    @property
    def is_exact(self) -> bool:
        """Say whether the fate of a row depends on rows alone, and not on when it was read."""
        return not (self.ahead or self.skew_s or self.deleted or self.is_idle_on)


def draw_mix(generator: np.random.Generator) -> Mix:
    """Choose some faults, and how often: swarms find what averages hide."""

    def maybe(low: float, high: float) -> float:
        is_on, rate = generator.random() < 0.4, float(np.exp(generator.uniform(np.log(low), np.log(high))))
        return rate if is_on else 0.0

    skew_s = float(generator.choice([-400.0, -20.0, -2.0, 3.0, 900.0])) if generator.random() < 0.2 else 0.0
    return Mix(
        dropped=maybe(0.005, 0.1), duplicated=maybe(0.005, 0.2), disordered=maybe(0.05, 0.9),
        beyond=maybe(0.005, 0.05), late=maybe(0.002, 0.02), ahead=maybe(0.002, 0.05) * (skew_s == 0.0),
        skew_s=skew_s, killed=maybe(0.01, 0.08), power=maybe(0.01, 0.08), stopped=maybe(0.005, 0.03),
        moved=maybe(0.01, 0.06), flickers=maybe(0.01, 0.04), short=maybe(0.05, 0.5),
        full=maybe(0.005, 0.05), bad_sync=maybe(0.01, 0.2), alertmanager=maybe(0.01, 0.05),
        deleted=maybe(0.005, 0.02) * (generator.random() < 0.5),
        shares_folder=bool(generator.random() < 0.5), is_idle_on=bool(generator.random() < 0.4),
    )  # fmt: skip


@cache
def told_story(number: int) -> Story:
    """Make up what happens; the same for many seeds. In the end time goes on in every partition."""
    calls, events = make_story(TRAFFIC._replace(seed=number))
    end_s = TRAFFIC.duration_s + TAIL_S[number > 0]
    tail = [
        event(START_NS + at_s * S, "change.made", what="deploy", id=f"tail-{at_s}-{each}")
        for at_s in (*range(TRAFFIC.duration_s, end_s, 15), end_s)
        for each in range(4)
    ]
    return Story(calls, (*events, *tail))


@cache
def configured(*, is_idle_on: bool) -> Configuration:
    """Give the configuration of every process, with one key for call ids."""
    key_file = process_folder("callgauge-") / "call.key"
    key_file.write_text("00" * 16)
    key_file.chmod(0o600)
    settings = Settings(
        engine=EngineSettings(
            call_key_file=str(key_file),
            slice_ns=15 * S,
            idle_ns=10 * S if is_idle_on else 3600 * S,
            series_max=256,
            causes_max=64,  # Tables of the usual room would take most of a start.
        ),
        kafka=KafkaSettings(topic=TOPIC, member_id="simulated"),
        state=StateSettings(folder="/state", period_ns=30 * S),
        alertmanager=AlertmanagerSettings(urls=("http://localhost:9093",)),
    )
    return Configuration(settings, REGISTER, shipped_rules(), Path("limits.yaml"))


class Arrival(NamedTuple):
    """A record, and when Kafka acknowledges it (clock of the receiver)."""

    at_ns: int
    partition: int
    row: bytes


def arrivals(story: Story, mix: Mix, generator: np.random.Generator) -> list[Arrival]:
    """Let the events travel."""
    found = []
    for one in story.events:
        chance = generator.random(5)
        if chance[0] < mix.dropped:
            continue
        delay_s = float(generator.uniform(0.02, 0.3))
        if chance[1] < mix.disordered:
            delay_s += float(generator.uniform(0.0, 4.0))
        if chance[2] < mix.beyond:
            delay_s += float(generator.uniform(5.0, 40.0))
        elif chance[2] > 1 - mix.late:
            delay_s += float(generator.uniform(60.0, 120.0))
        row = one.row
        if chance[3] < mix.ahead:
            ahead_ns = int(generator.choice([1, 20, 400])) * S
            row = row.replace(str(one.time_ns).encode(), str(one.time_ns + ahead_ns).encode(), 1)
        at_ns = one.time_ns + int((delay_s + mix.skew_s) * S)
        partition = zlib.crc32(one.key.encode()) % PARTITIONS
        found.append(Arrival(at_ns, partition, row))
        if chance[4] < mix.duplicated:
            found.append(Arrival(at_ns + int(generator.uniform(0.0, 3.0) * S), partition, row))
    return sorted(found, key=lambda one: one.at_ns)


class Simulation:
    """Two machines, one of which reads; everything follows from the seed."""

    def __init__(self, seed: int, control: str = "") -> None:
        self.seed, self._control = seed, control
        self.generator = np.random.default_rng(seed)
        self.mix = draw_mix(self.generator)
        if control:
            self.mix = self.mix._replace(power=0.08, killed=0.08, deleted=0.0, shares_folder=False)
        self.arrivals = arrivals(told_story(seed % STORIES), self.mix, self.generator)
        self.configuration = configured(is_idle_on=self.mix.is_idle_on)
        self.clock = VirtualClock(START_NS + int(self.mix.skew_s * S))
        self.around = Around(self.clock, Broker(TOPIC, PARTITIONS), Alertmanager(), {})
        disk = SimulatedDisk(self.generator, self.clock.time_s)
        other = disk if self.mix.shares_folder else SimulatedDisk(self.generator, self.clock.time_s)
        self.hosts = [Host(self.around, self.configuration, each) for each in (disk, other)]
        self.owner = 0
        self.deaths = 0
        self._due_ns = [0, 0]  # when a host that is down starts again
        self._alertmanager_due_ns = 0
        self._arrived = 0
        self._notes: list[str] = []

    def story(self) -> str:
        """Say what happened."""
        faults = {name: round(float(rate), 3) for name, rate in self.mix._asdict().items() if rate}
        return f"seed {self.seed}: {faults}\n" + "\n".join(self._notes)

    def note(self, text: str) -> None:
        """Write down what happens, for who looks into a seed."""
        if len(self._notes) < NOTES_MAX:
            self._notes.append(f"{(self.clock.at_ns - START_NS) / S:9.3f} {text}")

    def run(self) -> None:
        """Let everything happen, come to rest, and see."""
        with self.clock.installed():
            for host in self.hosts:
                host.control = self._control
                host.disk.faults = DiskFaults(self.mix.short, self.mix.full, self.mix.bad_sync)
            while self._arrived < len(self.arrivals):
                self.turn()
            self.settle()
            check_end(self)

    def turn(self) -> None:
        """Let some time go by, with whatever it brings."""
        is_busy = self.clock.at_ns < START_NS + int((TRAFFIC.duration_s + self.mix.skew_s) * S)
        self.clock.at_ns += int(self.generator.uniform(*(0.5, 8.0) if is_busy else (2.0, 25.0)) * S)
        self.arrive()
        self.around.alertmanager.wait(self.clock.at_ns)
        self._strike()
        for number, host in enumerate(self.hosts):
            if not host.is_up:
                if self.clock.at_ns >= self._due_ns[number]:
                    self.attempt(number, self._begin)
                continue
            if number == self.owner or self._hits(0.3):
                self.attempt(number, self._go_on)

    def arrive(self) -> None:
        """Let Kafka acknowledge what has arrived by now."""
        while self._arrived < len(self.arrivals) and self.arrivals[self._arrived].at_ns <= self.clock.at_ns:
            one = self.arrivals[self._arrived]
            self.around.broker.logs[one.partition].append(one.row, one.at_ns)
            self._arrived += 1

    def attempt(self, number: int, do: object) -> None:
        """Let a process do something, which it may not survive."""
        try:
            assert callable(do)
            do(number)
        except Crash:
            self.kill(number, is_power=self._hits(0.5) and self.mix.power > 0)

    def kill(self, number: int, *, is_power: bool) -> None:
        """End a process at once; with the power, all that use its disk, and what the disk had not kept."""
        host = self.hosts[number]
        self.deaths += 1
        self.note(f"host {number} {'loses power' if is_power else 'is killed'}")
        if is_power:
            host.disk.crash()
        else:
            host.disk.let_go()
        for other, one in enumerate(self.hosts):
            if one is host or (is_power and one.disk is host.disk):
                one.is_up = False
                self._due_ns[other] = self.clock.at_ns + int(self.generator.uniform(0.5, 25.0) * S)
        if not self.hosts[self.owner].is_up and self.hosts[1 - self.owner].is_up and self._hits(0.5):
            self.attempt(1 - self.owner, self._own)

    def _hits(self, chance: float) -> bool:
        return chance > 0 and bool(self.generator.random() < chance)

    def _begin(self, number: int) -> None:
        self.hosts[number].start()
        self.note(f"host {number} starts")
        if self.owner == number or not self.hosts[self.owner].is_up:
            self._own(number)

    def _own(self, number: int) -> None:
        """Give everything to one host."""
        broker = self.around.broker
        broker.generation += 1
        self.note(f"host {number} is given everything")
        self.owner = number
        for other, host in enumerate(self.hosts):
            if other != number and host.is_up:
                self.attempt(other, lambda each: self.hosts[each].give(()))
        self.hosts[number].give(broker.places())

    def _strike(self) -> None:
        """Let faults happen that come from outside of a process."""
        mix, around = self.mix, self.around
        for number, host in enumerate(self.hosts):
            if host.is_up and self._hits(mix.killed):
                self.kill(number, is_power=False)
            elif host.is_up and self._hits(mix.power):
                self.kill(number, is_power=True)
        other = 1 - self.owner
        if self.hosts[other].is_up and self._hits(mix.moved):
            self.attempt(other, self._own)
        if self.hosts[self.owner].is_up and self._hits(mix.flickers):
            self.attempt(self.owner, self._flicker)
        if around.alertmanager.is_up and self._hits(mix.alertmanager):
            around.alertmanager.is_up = False
            self._alertmanager_due_ns = self.clock.at_ns + int(self.generator.uniform(1, 60) * S)
        elif self.clock.at_ns >= self._alertmanager_due_ns:
            around.alertmanager.is_up = True
        if self._hits(mix.deleted):
            log = around.broker.logs[int(self.generator.integers(0, PARTITIONS))]
            log.begin = int(self.generator.integers(log.begin, log.end + 1))
            self.note(f"rows are deleted up to {log.begin}")

    def _flicker(self, number: int) -> None:
        """Take the partitions away and give them back before the process has read anything."""
        self.note(f"host {number} loses everything and gets it back")
        self.around.broker.generation += 1
        self.hosts[number].give(())
        self.around.broker.generation += 1
        self.hosts[number].give(self.around.broker.places())

    def _go_on(self, number: int) -> None:
        """Let a process do a few things in any order; with a disk that fails it may die amid one of them."""
        host, generator = self.hosts[number], self.generator
        if self._hits(self.mix.stopped):
            self._stop(number)
            return
        dies = self.mix.killed > 0 or self.mix.power > 0
        for action in generator.integers(0, 8, 6).tolist():
            if action < 3:
                host.read(int(generator.integers(1, 120)), generator.permutation(PARTITIONS).tolist())
            elif action < 5:
                host.work()
                host.work()
            elif action == 5:
                if host.writing is not None and dies and self._hits(0.15):
                    host.disk.crash_after = int(generator.integers(0, 40))
                if host.write():
                    self.note(f"host {number} has a checkpoint")
                host.disk.crash_after = -1
            elif action == 6:
                host.commit()
                self.check_commit(host)
            else:
                host.send()

    def check_commit(self, host: Host) -> None:
        """See what was committed; two processes in one folder may set each other back, which is no loss."""
        if not self.mix.shares_folder and host.is_up:
            check_commit(host)

    def _stop(self, number: int) -> None:
        """Stop in order: finish what was read, write a last checkpoint, send what is queued."""
        host = self.hosts[number]
        self.note(f"host {number} stops")
        while host.queue:
            host.work()
        if host.writing is not None:
            host.write()
        if (taken := host.duty.last_cut()) is not None:
            host.take_note(taken)
            host.write()
        host.commit()
        host.send()
        host.is_up = False
        self._due_ns[number] = self.clock.at_ns + int(self.generator.uniform(0.5, 25.0) * S)

    def settle(self) -> None:
        """Let all faults end, and the owner read to the end."""
        self.note("all faults end")
        self.around.alertmanager.is_up = True
        for number, host in enumerate(self.hosts):
            host.disk.faults = DiskFaults()
            if not host.is_up:
                self._begin(number)
        host = self.hosts[self.owner]
        quiet = 0
        # What nobody has heard yet is told as firing first, and ends minutes later: that must come too.
        while quiet < QUIET_TURNS or (host.owes() and quiet < OWING_TURNS_MAX):
            self.clock.at_ns += (1 if quiet == 0 else 31) * S
            self.around.alertmanager.wait(self.clock.at_ns)
            host.read(1000, list(range(PARTITIONS)))
            while host.queue:
                host.work()
            host.write()
            host.commit()
            self.check_commit(host)
            host.send()
            is_read = host.source.progress.places == {
                number: log.end for number, log in enumerate(self.around.broker.logs)
            }
            quiet = quiet + 1 if is_read and not host.source._ready else 0
