"""What must hold in a simulation, whatever happened: said over the whole history, not over a moment."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.app import build_line
from engine.deliver.jsonl import alert_change_line
from engine.judge.lifecycle import FIRING, RESOLVED
from engine.observe.calls import IN_FLIGHT, KEY, STATE
from engine.state.folder import Folder
from engine.state.line_state import state_hash
from tests.integration.kill_loop import known_to
from tests.line_traffic import TOPIC, raw_batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.app import Line
    from engine.observe.observer import Observer
    from engine.source.contract import RawBatch
    from tests.simulated_host import History, Host
    from tests.simulated_world import Alertmanager, Broker
    from tests.simulation import Simulation

HASH_KEY = bytes(16)
BYTES_MAX = 64 << 20
FORGOTTEN_NS = 700_000_000_000
BLOBS_OF_ALL = 3  # shared, judge, usual


def check_commit(host: Host) -> None:
    """See that a crash now, at its worst, leaves a checkpoint that is not behind what this host commits."""
    committed = host.source.progress.committable(host.member.placed)
    if not committed:
        return
    disk = host.disk.surely_kept()
    found, refused = Folder(Path("/state"), BYTES_MAX, "0" * 8, disk.calls).load(TOPIC)
    assert not refused, refused
    kept = found.manifest.next_offsets if found is not None else {}
    ahead = {
        one: (offset, kept.get(one, 0)) for one, offset in committed.items() if offset > kept.get(one, 0)
    }
    assert not ahead, f"committed, and not on the disk: {ahead}"


def check_end(simulation: Simulation) -> None:
    """See that nothing is missing, nothing counted twice, and nobody paged for it."""
    host = simulation.hosts[simulation.owner]
    check_rows(host.history, simulation.around.broker)
    known = check_same(host)
    check_active(host, simulation.around.alertmanager, is_exact=simulation.mix.is_exact)
    if simulation.mix.is_exact:
        check_notifications(host.history, simulation.around.alertmanager)
        if not simulation.mix.beyond and not simulation.mix.late:
            check_known(simulation, host)
    check_folder(simulation, host, known)


def check_rows(history: History, broker: Broker) -> None:
    """Promise P1: each row that Kafka retained once, in order."""
    for number, log in enumerate(broker.logs):
        offsets = [one.raw.offset for one in history if one.raw.rows and one.raw.partition == number]
        seen = np.concatenate(offsets) if offsets else np.empty(0, np.int64)
        assert (np.diff(seen) > 0).all(), f"partition {number}: rows were taken twice"
        missing = np.setdiff1d(np.arange(log.begin, log.end), seen)
        assert not len(missing), f"partition {number}: rows {missing.tolist()} were never taken"


def check_same(host: Host) -> str:
    """Promise P7: a line that takes the same batches without a fault knows and says the same."""
    line = build_line(host.configuration._replace(inferred=host.inferred), HASH_KEY)
    for one in host.history:
        assert line.pipeline.step(one.raw).changes == one.changes
        line.publisher.publish(one.raw.received_ns)
    known = state_hash(host.line.line.pipeline)
    assert known == state_hash(line.pipeline)
    return known


def check_known(simulation: Simulation, host: Host) -> None:
    """Let a line read the topic once, in other batches: it knows and says the same."""
    line, changes = whole_topic(simulation, host)
    assert known_to(host.line.line) == known_to(line)
    told = [alert_change_line(change) for one in host.history for change in one.changes]
    assert told == changes


def whole_topic(simulation: Simulation, host: Host) -> tuple[Line, list[bytes]]:
    """Read what Kafka retained, a hundred rows at a time."""
    line = build_line(simulation.configuration, HASH_KEY)
    changes: list[bytes] = []
    last = host.history[-1].raw
    for raw in _in_turns(simulation.around.broker, last):
        changes += [alert_change_line(change) for change in line.pipeline.step(raw).changes]
    return line, changes


def _in_turns(broker: Broker, last: RawBatch) -> Iterator[RawBatch]:
    for first in range(0, max(log.end for log in broker.logs), 100):
        for number, log in enumerate(broker.logs):
            rows = [record.value for record in log.records[first : first + 100]]
            if rows:
                raw = raw_batch(rows, number, first, len(broker.logs))
                object.__setattr__(raw, "received_ns", last.received_ns)
                yield raw


def check_active(host: Host, alertmanager: Alertmanager, *, is_exact: bool) -> None:
    """Promise P2: what fires in the end is known to Alertmanager.

    Nothing else is, where a row that is read again, and later, means what it meant.
    """
    assert not host.duty.handover.is_catching_up
    firing = {one.labels for one in host.line.line.pipeline.judge.book.alerts() if one.state == FIRING}
    assert firing <= alertmanager.active(), "it fires, and nobody was paged"
    if is_exact:
        assert alertmanager.active() == firing | host.duty.handover._early.keys()


def check_notifications(history: History, alertmanager: Alertmanager) -> None:
    """Promise P2: no page and no end beyond those that the uninterrupted line has, outages up to 5 min."""
    states = {"page": FIRING, "resolved": RESOLVED, "lapsed": RESOLVED}
    happened = Counter((change.state, change.labels) for one in history for change in one.changes)
    told = Counter((states[one.what], one.labels) for one in alertmanager.told if one.what in states)
    assert not told - happened, f"nothing has happened for {told - happened}"


def check_folder(simulation: Simulation, host: Host, known: str) -> None:
    """See that the last checkpoint is the line as it stands, and that nothing is left lying about."""
    simulation.clock.at_ns += FORGOTTEN_NS
    taken = host.duty.last_cut()
    assert taken is not None
    host.take_note(taken)
    assert host.write()
    blobs = len(simulation.around.broker.logs) + BLOBS_OF_ALL
    assert len(host.disk.files) <= 2 * blobs + 2, host.disk.files
    host.disk.crash()
    resumed = host.duty.checkpoints.resume(simulation.configuration)
    assert resumed.line is not None
    assert state_hash(resumed.line.pipeline) == known


def known_calls(observer: Observer) -> int:
    """Count the calls that are in flight by looking at each."""
    tables = [partition.calls[:-1] for partition in observer._partitions.values()]
    return sum(int(((one[:, KEY] != 0) & (one[:, STATE] & IN_FLIGHT > 0)).sum()) for one in tables)
