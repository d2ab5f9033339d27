"""Checkpoints of a run: when they are taken, who writes them, and what a member goes on with.

A cut is taken between two steps in the thread of the line, which copies arrays; it is compressed, written and
brought to the disk in a thread of its own while the line goes on, one at a time. A failure is counted and
said, and the next one is tried: telemetry goes on without. What a member goes on with is read when it is
given its partitions, not when it starts: a member that stood by for a week then finds the newest checkpoint.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine.app import HASH_KEY_BYTES, Line, build_line, read_hash_key
from engine.deliver.checkpoint_families import CheckpointStats
from engine.errors import UsageError
from engine.judge.lifecycle import FIRING
from engine.state.durable import DISK, Disk, sync_folder, write_new
from engine.state.encoding import StateError
from engine.state.folder import Folder, Stamp
from engine.state.line_state import Capture, capture, digests_of, restore

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Executor

    from engine.app import Configuration, OwnedLine
    from engine.judge.judge import FirstDeclined
    from engine.judge.lifecycle import Alert
    from engine.state.folder import Found, Refused
    from engine.state.line_state import Outcome

NS_PER_S = 1_000_000_000
RUN_BYTES = 4
KEY_FILE = "call.key"
FINISH_S = 4.0

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


class Resumed(NamedTuple):
    """What a member goes on with; without a line, it starts anew."""

    line: Line | None = None
    next_offsets: Mapping[int, int] = {}
    firing: tuple[Alert, ...] = ()
    first_declines: tuple[FirstDeclined, ...] = ()
    written_ns: int = -1


class Checkpoints:
    """Those of one process. Without a folder in the settings, nothing is written or found."""

    def __init__(self, configuration: Configuration, disk: Disk = DISK) -> None:
        """Touch nothing."""
        settings = configuration.settings.state
        self._settings = settings
        self._topic = configuration.settings.kafka.topic
        self._folder = Folder(Path(settings.folder), settings.bytes_max, secrets.token_hex(RUN_BYTES), disk)
        self._hash_key = b""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._writing: asyncio.Task[None] | None = None
        self._due_s = 0.0
        self._last_trouble = ""
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
        except OSError as error:
            self._fail("disk", f"{self._settings.folder} cannot be written to: {error.strerror or error}")
        self._hash_key = read_hash_key(key_file, b"") or self._own_key()
        log.info(
            "checkpoints are kept in %s, every %g s",
            self._settings.folder, self._settings.period_ns / NS_PER_S,
        )  # fmt: skip
        return self._hash_key

    def _own_key(self) -> bytes:
        """Give the key of this folder; the first start makes it."""
        path = self._folder.path / KEY_FILE
        try:
            if path.exists():
                return read_hash_key(str(path), b"")
        except UsageError as error:
            self._fail("key", f"calls are hidden under a new key: {error}")
        try:
            path.unlink(missing_ok=True)
            write_new(path, [secrets.token_hex(HASH_KEY_BYTES).encode() + b"\n"])
            sync_folder(path.parent)
            return read_hash_key(str(path), b"")
        except (OSError, UsageError) as error:
            self._fail("key", f"the key of call ids could not be kept: {error}")
            return secrets.token_bytes(HASH_KEY_BYTES)

    def resume(self, configuration: Configuration) -> Resumed:
        """Read the newest checkpoint that can be used into a new line. Blocks, never raises."""
        try:
            found, refused = self._folder.load(self._topic)
            for one in refused:
                self._refuse(one)
            return self._resumed(configuration, found) if found is not None else Resumed()
        except Exception as error:
            # Whatever is in the folder, it must not keep the engine from watching.
            log.exception("the checkpoint could not be used in an unforeseen way")
            self.stats.refused(type(error).__name__.lower())
            self._folder.set_aside()
            return Resumed()

    def _resumed(self, configuration: Configuration, found: Found) -> Resumed:
        manifest = found.manifest
        digests = digests_of(configuration.settings, configuration.learned, self._hash_key)
        line = build_line(configuration, self._hash_key)
        try:
            outcome = restore(line.pipeline, found.read, manifest.digests, digests)
        except (StateError, KeyError) as error:
            self.stats.refused(getattr(error, "reason", "damaged"))
            log.warning("the checkpoint is set aside, a new start is made: %s", error)
            self._folder.set_aside()
            return Resumed()
        self._say(outcome, (time.time_ns() - manifest.written_ns) / NS_PER_S)
        judge = line.pipeline.judge
        firing = tuple(one for one in judge.book.alerts() if one.state == FIRING)
        offsets = manifest.next_offsets if outcome.is_whole else {}
        first_declines = tuple(judge.first_declines.values())
        return Resumed(line, offsets, firing, first_declines, manifest.written_ns)

    def _say(self, outcome: Outcome, age_s: float) -> None:
        self.stats.restored("whole" if outcome.is_whole else "alerts")
        what = "went on with" if outcome.is_whole else "took the alerts over from"
        log.info("%s a checkpoint that is %.0f s old", what, age_s)
        for one in outcome.refused:
            log.warning("not taken over from the checkpoint: %s", one)

    def _refuse(self, one: Refused) -> None:
        self.stats.refused(one.reason)
        log.warning("a checkpoint was set aside (%s): %s", one.reason, one.text)

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
        begin_s = time.perf_counter()
        configuration, pipeline = line.configuration, line.line.pipeline
        try:
            cut = capture(pipeline, begun_at)
        except TypeError as error:
            self._fail("encode", f"the state cannot be written down: {error}")
            return None
        digests = digests_of(configuration.settings, configuration.learned, self._hash_key)
        stamp = Stamp(self._topic, digests, pipeline.observer.watermark_ns, time.time_ns())
        return Taken(cut, stamp, time.perf_counter() - begin_s)

    def write_soon(self, taken: Taken, durable: dict[int, int]) -> None:
        """Begin to write a cut; when it is on the disk, `durable` is updated with its offsets."""
        self._writing = asyncio.create_task(self.write(taken, durable), name="checkpoint")

    async def write(self, taken: Taken, durable: dict[int, int]) -> None:
        """Write a cut; see `write_soon`."""
        loop = asyncio.get_running_loop()
        try:
            saved = await loop.run_in_executor(self._writer, self.save, taken)
            self.note_saved(taken, saved, durable)
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
        return Saved(size=size, seconds=time.perf_counter() - begin_s)

    def note_saved(self, taken: Taken, saved: Saved, durable: dict[int, int]) -> None:
        """Let the offsets of a cut be committed once it is on the disk, and never before."""
        if saved.reason:
            self._fail(saved.reason, saved.text)
            return
        durable.update(taken.capture.next_offsets)
        self.stats.written(saved.size, taken.seconds, saved.seconds, time.time())
        if self._last_trouble:
            log.info("checkpoints are written again")
            self._last_trouble = ""

    async def finish(
        self, worker: Executor, line: OwnedLine, begun_at: Mapping[int, int], durable: dict[int, int]
    ) -> None:
        """Write a last one, so that the next start has nothing to read again; `worker` steps the line."""
        try:
            async with asyncio.timeout(FINISH_S):
                if self._writing is not None:
                    await self._writing
                loop = asyncio.get_running_loop()
                taken = await loop.run_in_executor(worker, self.take, line, begun_at)
                if taken is not None:
                    await self.write(taken, durable)
        except TimeoutError:
            log.warning("the last checkpoint was not written in time; the one before is used")
        self._writer.shutdown(wait=False, cancel_futures=True)

    def _fail(self, reason: str, text: str) -> None:
        """Count a checkpoint that was not written, and say so when it is news."""
        self.stats.failed(reason)
        if text != self._last_trouble:
            log.warning("no checkpoint could be written (%s): %s", reason, text)
            self._last_trouble = text
