"""What a process does with its partitions, in order: take over, step, cut, hand over. No loop and no thread.

`run` calls each part where it belongs, in the thread of the line or in that of the loop; a simulation calls
them one after another, with crashes in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.app import OwnedLine
from engine.commands.checkpoints import Checkpoints
from engine.deliver.handover import Handover
from engine.state.durable import DISK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from concurrent.futures import Executor

    from engine.app import Configuration
    from engine.commands.checkpoints import Resumed, Saved, Taken
    from engine.judge.lifecycle import Alert
    from engine.judge.snapshot import Snapshot
    from engine.pipeline import Step
    from engine.source.contract import RawBatch
    from engine.source.kafka_places import Progress
    from engine.state.durable import Disk


class Duty:
    """One process's line, its checkpoints, and what of its alerts is told."""

    def __init__(self, configuration: Configuration, disk: Disk = DISK) -> None:
        """Touch nothing; there is no line before `begin`."""
        self.checkpoints = Checkpoints(configuration, disk)
        self.handover = Handover()
        self.line: OwnedLine | None = None
        self._progress: Progress | None = None
        self._begun_at: dict[int, int] = {}  # where the source began, by partition
        self._durable: dict[int, int] = {}  # what checkpoints on the disk go on at

    def begin(self, configuration: Configuration, hash_key: bytes) -> OwnedLine:
        """Make the line, which has seen nothing; the kernels are loaded by now."""
        self.line = OwnedLine(configuration, hash_key)
        return self.line

    def follow(
        self,
        progress: Progress,
        resume: Callable[[str, Mapping[int, int]], Awaitable[dict[int, int]]],
        save: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Let the source commit what is on the disk alone, ask for its places at an assignment, and save."""
        self._progress = progress
        self._begun_at, progress.durable = progress.begun, self._durable
        progress.resume, progress.save = resume, save

    def take_over(self, resumed: Resumed, topic_id: str = "") -> dict[int, int]:
        """Go on with a checkpoint: the line at its first batch, the source at the offsets that are given."""
        assert self.line is not None, "there is a line before anything is read"
        self.line.adopt(resumed.line, topic_id)
        settings = self.line.configuration.settings.alertmanager
        # The last time they were sent may have been a resend before they were last handed over, and the next
        # one is late. The checkpoint may be younger: one that is cut while catching up has told nothing.
        runs_out_ns = resumed.told_ns + settings.ends_after_ns
        # A process that went on after it has sent them later, or resolved them. The longest outage leaves a
        # resend until they run out: half of it for the start, half to catch up.
        due_ns, grace_ns = runs_out_ns - 2 * settings.resend_ns, settings.resend_ns // 2
        self.handover.restore(resumed.firing, due_ns, grace_ns, resumed.told_ns)
        self.checkpoints.told_ns = resumed.told_ns
        return dict(resumed.next_offsets)

    def is_void(self, raw: RawBatch) -> bool:
        """Say whether a batch is of a tenure that has ended: a checkpoint was since gone back to, or will be.

        It would be taken into the line of the next one.
        """
        return self._progress is not None and raw.tenure != self._progress.tenure

    def step(self, raw: RawBatch) -> tuple[Step, Snapshot]:
        """Take one batch or tick, and publish what is known then."""
        assert self.line is not None, "there is a line before anything is read"
        return self.line.step(raw), self.line.publish(raw.received_ns)

    def shown(self, label: str, value: str) -> str:
        """Give what stands for a label's value in all that the line publishes; from any thread."""
        return value if self.line is None else self.line.line.pipeline.decoder.mask.shown(label, value)

    def cut(self) -> Taken | None:
        """Take a cut if it is time, in the thread of the line."""
        assert self.line is not None, "there is a line before anything is read"
        return self.checkpoints.take_if_due(self.line, self._begun_at)

    def last_cut(self) -> Taken | None:
        """Take a cut whether or not it is time, in the thread of the line."""
        return None if self.line is None else self.checkpoints.take(self.line, self._begun_at)

    def note_saved(self, taken: Taken, saved: Saved) -> None:
        """Let what is on the disk now be committed."""
        self.checkpoints.note_saved(taken, saved, self._durable)

    def write_soon(self, taken: Taken) -> None:
        """Begin to write a cut, in a thread of its own."""
        self.checkpoints.write_soon(taken, self._durable)

    async def save_now(self, worker: Executor) -> None:
        """Write a checkpoint before partitions go elsewhere; `worker` steps the line."""
        await self.checkpoints.save_now(worker, self.line, self._begun_at, self._durable)

    async def finish(self, worker: Executor) -> None:
        """Write a last checkpoint; `worker` steps the line."""
        await self.checkpoints.finish(worker, self.line, self._begun_at, self._durable)

    def alerts(self, raw: RawBatch, step: Step, snapshot: Snapshot) -> tuple[Alert, ...] | None:
        """Give what the sink shall be told after a step; None: nothing now."""
        found = self.handover.alerts(raw, snapshot, step.early, step.changes)
        self.checkpoints.told_ns = self.handover.told_ns
        return found
