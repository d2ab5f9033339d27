"""Checkpoints of a run: when they are taken, who writes them, and what a member goes on with.

A cut is taken between two steps in the thread of the line, which copies arrays; it is compressed, written and
brought to the disk in a thread of its own while the line goes on, one at a time; now and then it goes to
`state.topic` as well. A failure is counted and said, and the next one is tried: telemetry goes on without.
What a member goes on with is read when it is given its partitions, not when it starts: a member that stood
by for a week then finds the newest checkpoint, here or in the topic.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from engine.app import HASH_KEY_BYTES, Line, build_line, read_hash_key
from engine.commands.call_key import CallKey
from engine.deliver.checkpoint_families import CheckpointStats
from engine.judge.lifecycle import FIRING
from engine.state.durable import DISK, Disk
from engine.state.encoding import StateError
from engine.state.folder import LISTINGS_MAX, Folder, Stamp
from engine.state.line_state import Capture, Digests, capture, digests_of, new_once, restored
from engine.state.manifest import FOR_NOW, REPLACED, Candidate, in_order, read_blobs
from engine.state.topic import StateTopic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Executor

    from engine.app import Configuration, OwnedLine
    from engine.judge.judge import FirstDeclined
    from engine.judge.lifecycle import Alert
    from engine.state.line_state import Outcome

NS_PER_S = 1_000_000_000
RUN_BYTES = 4
FINISH_S = 4.0
TOPIC_S = 20.0
SAVE_S = 5.0  # before partitions go elsewhere; the group waits for it
ALERTS_ALONE = Digests("-", "-")  # Nothing is made under these: what is known of rows is not taken over.

log = logging.getLogger(__name__)


class Taken(NamedTuple):
    """A cut, ready to be written."""

    capture: Capture
    stamp: Stamp
    seconds: float


class Saved(NamedTuple):
    """What came of writing a cut; a reason says why it is not on the disk."""

    reason: str = ""
    text: str = ""
    size: int = 0
    seconds: float = 0.0
    key_trouble: str = ""  # why the key without which it is of little use is not there


class Resumed(NamedTuple):
    """What a member goes on with; without a line, it starts anew."""

    line: Line | None = None
    next_offsets: Mapping[int, int] = {}
    firing: tuple[Alert, ...] = ()
    first_declines: tuple[FirstDeclined, ...] = ()
    written_ns: int = -1
    told_ns: int = -1  # when its alerts were last told


class Checkpoints:
    """Those of one process. Without a folder in the settings, nothing is written or found."""

    def __init__(
        self, configuration: Configuration, disk: Disk = DISK, topic: StateTopic | None = None
    ) -> None:
        """Touch nothing; `topic` takes the place of the one of the settings."""
        settings = configuration.settings.state
        self._settings = settings
        self._topic = configuration.settings.kafka.topic
        self._folder = Folder(Path(settings.folder), settings.bytes_max, secrets.token_hex(RUN_BYTES), disk)
        self._hash_key = b""
        self._own_key = CallKey(self._folder.path)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._writing: asyncio.Task[None] | None = None
        self._due_s = self._topic_due_s = 0.0
        self._topic_bound: asyncio.Timeout | None = None  # of what is being written to the topic
        self._is_hurried = False  # What waits is a last cut, which goes to the topic itself.
        self.told_ns = -1  # when alerts were last told, which a process that catches up has not yet
        self._state_topic = topic or (StateTopic(configuration.settings) if settings.topic else None)
        self._is_finished = False
        self.are_kept = False  # Whether the folder could be written to when it was opened.
        self._once = new_once()
        self._last_troubles: dict[bool, str] = {}  # of the topic, and of the disk
        self.stats = CheckpointStats()

    @property
    def is_on(self) -> bool:
        """Say whether there is a folder."""
        return bool(self._settings.folder)

    def open(self, configuration: Configuration) -> bytes:
        """Make the folder ready, and give the key that hides call ids: the same one after each start.

        Blocks. A folder that cannot be written to is said, and is no reason not to run.
        """
        key_file = configuration.settings.engine.call_key_file
        if not self.is_on:
            log.warning(
                "no checkpoints are kept (state.folder is not set): a start reads back over kafka.rewind"
            )
            self._hash_key = read_hash_key(key_file, secrets.token_bytes(HASH_KEY_BYTES))
            return self._hash_key
        try:
            self._folder.prepare()
            self.are_kept = True
        except OSError as error:
            self._fail("disk", f"{self._settings.folder} cannot be written to: {error.strerror or error}")
        self._hash_key = read_hash_key(key_file, b"")
        if not self._hash_key:
            self._hash_key, trouble = self._own_key.open()
            if trouble:
                self._fail("key", trouble)
        if self.are_kept:
            period_s = self._settings.period_ns / NS_PER_S
            log.info("checkpoints are kept in %s, every %g s", self._settings.folder, period_s)
        return self._hash_key

    async def go_on(
        self, configuration: Configuration, topic_id: str, log_ends: Mapping[int, int]
    ) -> Resumed:
        """Read the best checkpoint there is, in the folder or in the topic, into a new line. Never raises."""
        found: list[Candidate] = []
        if self._state_topic is not None:
            try:
                found, refused = await self._state_topic.read(self._topic, topic_id)
                for one in refused:
                    self._refuse(one.reason, one.text)
            except Exception as error:  # noqa: BLE001  # Nothing in it may keep the engine from watching.
                self.stats.refused(getattr(error, "reason", type(error).__name__.lower()))
                log.warning("checkpoints in state.topic are not used: %s", error)
        return await asyncio.to_thread(self.resume, configuration, topic_id, found, log_ends)

    def resume(
        self,
        configuration: Configuration,
        topic_id: str = "",
        others: Sequence[Candidate] = (),
        log_ends: Mapping[int, int] = MappingProxyType({}),
    ) -> Resumed:
        """Read the best checkpoint of the folder, or of `others`, into a new line. Blocks, never raises.

        If one reaches beyond these ends, as far as they are known, the log has lost rows that it counts, and
        nobody knows from where on: its alerts are taken over, and no start finds any of them again.
        """
        digests = digests_of(configuration.settings, configuration.learned, self._hash_key)
        for _ in range(LISTINGS_MAX):
            try:
                return self._best(configuration, digests, [*self._listed(topic_id), *others], log_ends)
            except StateError as error:
                self._refuse(error.reason, str(error))
        return self._best(configuration, digests, others, log_ends)

    def _listed(self, topic_id: str) -> list[Candidate]:
        """Give those of the folder."""
        try:
            candidates, refused = self._folder.candidates(self._topic, topic_id)
        except Exception as error:  # noqa: BLE001  # Whatever is in the folder: see `_cannot`.
            self._cannot(error)
            return []
        for one in refused:
            self._refuse(one.reason, one.text)
        return candidates

    def _best(
        self,
        configuration: Configuration,
        digests: Digests,
        candidates: Sequence[Candidate],
        log_ends: Mapping[int, int],
    ) -> Resumed:
        """Go on with the best of these; StateError (REPLACED): the folder has to be listed again."""
        best_first = in_order(candidates, digests.core, configuration.settings.kafka.rewind_ns)
        is_tail_lost = any(one.reaches_beyond(log_ends) for one in best_first)
        made_under = ALERTS_ALONE if is_tail_lost else digests
        tried = (self._resumed(configuration, one, made_under) for one in best_first)
        resumed = next((one for one in tried if one is not None), Resumed())
        for candidate in best_first if is_tail_lost else ():
            self._refuse("tail_lost", f"the log has lost rows that it counts ({candidate.where})")
            candidate.set_aside()
        return resumed

    def _cannot(self, error: Exception) -> None:
        """Say what nobody foresaw: whatever was kept, it must not keep the engine from watching."""
        log.error("a checkpoint could not be used in an unforeseen way", exc_info=error)
        self.stats.refused(type(error).__name__.lower())

    def _resumed(
        self, configuration: Configuration, candidate: Candidate, digests: Digests
    ) -> Resumed | None:
        """Go on with a checkpoint; None: it cannot be used. It is set aside, unless it may be used later.

        StateError (REPLACED): another process has meanwhile written newer ones.
        """
        is_for_now = False
        try:
            return self._read_into_a_line(configuration, candidate, digests)
        except (StateError, KeyError) as error:
            reason = getattr(error, "reason", "damaged")
            if reason == REPLACED:
                raise
            is_for_now = reason in FOR_NOW
            self._refuse(reason, f"{error} ({candidate.where})")
        except Exception as error:  # noqa: BLE001  # Only this candidate: the one before it may be fine.
            is_for_now = isinstance(error, OSError | MemoryError)
            self._cannot(error)
        if not is_for_now:
            candidate.set_aside()
        return None

    def _read_into_a_line(
        self, configuration: Configuration, candidate: Candidate, digests: Digests
    ) -> Resumed:
        manifest = candidate.manifest
        read = read_blobs(candidate, self._settings.bytes_max)
        line, outcome = restored(
            lambda: build_line(configuration, self._hash_key), read, manifest.digests, digests
        )
        if digests is ALERTS_ALONE:
            outcome = outcome._replace(refused=("windows, calls and detectors, which start anew",))
        judge = line.pipeline.judge
        firing = tuple(one for one in judge.book.alerts() if one.state == FIRING)
        offsets = manifest.next_offsets if outcome.is_whole else {}
        first_declines = tuple(judge.first_declines.values())
        self._say(outcome, candidate.where, (time.time_ns() - manifest.written_ns) / NS_PER_S)
        told_ns = manifest.told_ns if manifest.told_ns >= 0 else manifest.written_ns
        return Resumed(line, offsets, firing, first_declines, manifest.written_ns, told_ns)

    def _say(self, outcome: Outcome, where: str, age_s: float) -> None:
        self.stats.restored("whole" if outcome.is_whole else "alerts")
        what = "went on with" if outcome.is_whole else "took the alerts over from"
        log.info("%s a checkpoint that is %.0f s old (%s)", what, age_s, where)
        for one in outcome.refused:
            log.warning("not taken over from the checkpoint: %s", one)

    def _refuse(self, reason: str, text: str) -> None:
        self.stats.refused(reason)
        log.warning("a checkpoint is not used (%s): %s", reason, text)

    def take_if_due(self, line: OwnedLine, begun_at: Mapping[int, int]) -> Taken | None:
        """Take a cut if it is time; in the thread of the line."""
        if not self.is_on or not line.owns or self._writing is not None or time.monotonic() < self._due_s:
            return None
        self._due_s = time.monotonic() + self._settings.period_ns / NS_PER_S
        return self.take(line, begun_at)

    def take(self, line: OwnedLine, begun_at: Mapping[int, int]) -> Taken | None:
        """Take a cut, in the thread of the line; None: there is nothing to keep, or it cannot be."""
        if not self.is_on or not line.owns:
            return None
        if not line.is_whole:
            log.warning("no checkpoint is taken of a step that failed; its rows will be read again")
            return None
        begin_s = time.perf_counter()
        configuration, pipeline = line.configuration, line.line.pipeline
        try:
            cut = capture(pipeline, begun_at, self._once)
        except (TypeError, ValueError, OverflowError) as error:
            self._fail("encode", f"the state cannot be written down: {error}")
            return None
        digests = digests_of(configuration.settings, configuration.learned, self._hash_key)
        stamp = Stamp(
            self._topic, digests, pipeline.observer.watermark_ns, time.time_ns(), line.topic_id, self.told_ns
        )
        return Taken(cut, stamp, time.perf_counter() - begin_s)

    def write_soon(self, taken: Taken, durable: dict[int, int]) -> None:
        """Begin to write a cut; when it is on the disk, `durable` is updated with its offsets."""
        self._writing = asyncio.create_task(self.write(taken, durable), name="checkpoint")

    async def write(self, taken: Taken, durable: dict[int, int], *, is_last: bool = False) -> None:
        """Write a cut; see `write_soon`. The `is_last` before a pause goes to the topic too."""
        loop = asyncio.get_running_loop()
        try:
            saved = await loop.run_in_executor(self._writer, self.save, taken)
            self.note_saved(taken, saved, durable)
            is_due = is_last or (time.monotonic() >= self._topic_due_s and not self._is_hurried)
            if self._state_topic is not None and not saved.reason and is_due:
                await self._write_to(self._state_topic)
        finally:
            self._writing = None

    def save(self, taken: Taken) -> Saved:
        """Bring a cut to the disk, in the thread that writes; say what came of it."""
        begin_s = time.perf_counter()
        try:
            size = self._folder.save(taken.capture, taken.stamp)
        except OSError as error:
            return Saved("disk", error.strerror or str(error))
        except StateError as error:
            return Saved(error.reason, str(error))
        return Saved("", "", size, time.perf_counter() - begin_s, self._own_key.keep())

    def note_saved(self, taken: Taken, saved: Saved, durable: dict[int, int]) -> None:
        """Let the offsets of a cut be committed once it is on the disk, and never before."""
        if saved.reason:
            self._fail(saved.reason, saved.text)
            return
        durable.update(taken.capture.next_offsets)
        self.stats.written(saved.size, taken.seconds, saved.seconds, time.time())
        if saved.key_trouble:
            self._fail("key", saved.key_trouble)
        else:
            self._recovered(is_topic=False)

    async def _write_to(self, topic: StateTopic) -> None:
        """Write the checkpoint that is on the disk to the topic."""
        self._topic_due_s = time.monotonic() + self._settings.topic_period_ns / NS_PER_S
        try:
            async with asyncio.timeout(TOPIC_S) as self._topic_bound:
                manifest = await asyncio.to_thread(self._folder.newest)
                cut = Candidate(manifest, self._settings.folder, self._folder.read_blob, lambda: None)
                self.stats.written_to_topic(await topic.write(manifest, cut), time.time())
        except (StateError, OSError) as error:
            if not self._is_hurried:
                self._fail(
                    getattr(error, "reason", "topic"), str(error) or "no answer in time", is_topic=True
                )
        else:
            self._recovered(is_topic=True)
        finally:
            self._topic_bound = None

    async def save_now(
        self, worker: Executor, line: OwnedLine | None, begun_at: Mapping[int, int], durable: dict[int, int]
    ) -> None:
        """Write one at once, before partitions go elsewhere; `worker` steps the line."""
        if line is None or not self.is_on or not line.owns or self._is_finished:
            return
        try:
            async with asyncio.timeout(SAVE_S):
                await self._save(worker, line, begun_at, durable)
        except TimeoutError:
            log.warning("no checkpoint was written in time before the partitions were given up")

    async def _save(
        self, worker: Executor, line: OwnedLine | None, begun_at: Mapping[int, int], durable: dict[int, int]
    ) -> None:
        if line is None:
            return
        loop = asyncio.get_running_loop()
        if self._writing is not None:
            await self._until_on_disk(self._writing, loop.time())
        taken = await loop.run_in_executor(worker, self.take, line, begun_at)
        if taken is not None:
            await self.write(taken, durable, is_last=True)

    async def _until_on_disk(self, writing: asyncio.Task[None], now_s: float) -> None:
        """Wait until the cut that is being written is on the disk; there is no time for the topic."""
        self._is_hurried = True
        try:
            if self._topic_bound is not None and not self._topic_bound.expired():
                self._topic_bound.reschedule(now_s)
            await asyncio.shield(writing)
        finally:
            self._is_hurried = False

    async def finish(
        self, worker: Executor, line: OwnedLine | None, begun_at: Mapping[int, int], durable: dict[int, int]
    ) -> None:
        """Write a last one, so that the next start has nothing to read again; `worker` steps the line."""
        self._is_finished = True
        try:
            async with asyncio.timeout(FINISH_S):
                await self._save(worker, line, begun_at, durable)
        except TimeoutError:
            log.warning("the last checkpoint was not written in time; the one before is used")
        self._writer.shutdown(wait=False, cancel_futures=True)
        if self._state_topic is not None:
            await self._state_topic.close()

    def _fail(self, reason: str, text: str, *, is_topic: bool = False) -> None:
        """Count a checkpoint that was not written, and say so when it is news."""
        self.stats.failed(reason)
        if text != self._last_troubles.get(is_topic):
            log.warning("no checkpoint could be written (%s): %s", reason, text)
            self._last_troubles[is_topic] = text

    def _recovered(self, *, is_topic: bool) -> None:
        if self._last_troubles.pop(is_topic, ""):
            log.info("checkpoints are written %sagain", "to state.topic " if is_topic else "")
