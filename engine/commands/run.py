"""`callgauge run`: the line on a broker, for as long as it is wanted.

The event loop reads, serves HTTP and delivers; the line itself runs in one worker thread, at most one step at
a time, behind a bounded queue, so that heartbeats to the broker never wait for a kernel. Everything after a
step reads only the snapshot that the step published. On SIGTERM the queue is finished, what is queued for
Alertmanager is sent, and nothing is resolved: the process that takes over goes on with the same alerts. All
of that shares one deadline, which is shorter than the patience of those who would kill us.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from prometheus_client import CollectorRegistry

from engine.commands.collector import leave_alone_what_is_there
from engine.commands.duty import Duty
from engine.commands.hidden_values import HiddenLog
from engine.commands.inferred_file import InferredFile
from engine.commands.losses import LossLog
from engine.commands.preconditions import look_at_preconditions, say_which_limits
from engine.commands.reload import refuse_new_labels, say_what_waits
from engine.commands.warmup import start_note, warm_up
from engine.commands.watchdog import Watchdog
from engine.deliver.alertmanager import AlertmanagerSink
from engine.deliver.metrics import Metrics
from engine.deliver.quarantine import Quarantine
from engine.deliver.timeline import Timeline
from engine.errors import CallgaugeError
from engine.source.kafka import KafkaSource
from engine.source.recording import RecordingWriter
from engine.source.stats import SourceStats
from engine.web.listener import STOP_S as WEB_STOP_S
from engine.web.routes import Sources
from engine.web.server import WebServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engine.app import Configuration, OwnedLine
    from engine.commands.checkpoints import Taken
    from engine.decode.decoder import Sample
    from engine.decode.events import Note
    from engine.judge.implicit import LearnedValue
    from engine.judge.judge import FirstDeclined
    from engine.judge.lifecycle import Pairs
    from engine.judge.snapshot import Snapshot
    from engine.limits import Register
    from engine.pipeline import Step
    from engine.source.contract import RawBatch, Source

# From the signal on, all of it within STOP_S: orchestrators kill after 30 s.
STOP_S = 20.0
FINISH_S = 8.0  # for batches that were read
SEND_S = 14.0  # for alerts that are queued

log = logging.getLogger(__name__)


class Stepped(NamedTuple):
    """What the worker thread hands back after a step."""

    step: Step
    snapshot: Snapshot
    samples: tuple[Sample, ...]  # newest rows that could not be decoded
    first_declines: tuple[FirstDeclined, ...]  # of each limit, since the start
    inferred: tuple[LearnedValue, ...]  # caps that were in no register
    seconds: float
    taken: Taken | None  # a checkpoint to write


class Service:
    """One run. `serve` returns after a signal, or raises what ended it."""

    def __init__(
        self,
        configuration: Configuration,
        source: Source,
        record_dir: str | None,
        reload: Callable[[], Configuration],
    ) -> None:
        """Put the service together.

        Nothing is opened before `serve`. `reload` loads the configuration anew.
        """
        settings = configuration.settings
        self.configuration = configuration
        self.source = source
        self.snapshot: Snapshot | None = None
        self._load_again = reload
        self._fresh: Configuration | None = None  # loaded anew, for the next step to take over
        self._reloads: set[asyncio.Task[None]] = set()
        self._queue: asyncio.Queue[RawBatch] = asyncio.Queue(settings.kafka.queue_batches_max)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="line")
        self._stop = asyncio.Event()
        self._losses = LossLog()
        self._hidden = HiddenLog()
        self._duty = Duty(configuration)
        self._told: set[tuple[str, Pairs]] = set()  # limits whose first decline was written down
        self._inferred = InferredFile(settings.engine)
        scheme = "https" if settings.web.config_file else "http"
        external_url = settings.web.external_url or f"{scheme}://{settings.web.listen}"
        self.sink = AlertmanagerSink(settings.alertmanager, external_url)
        self.timeline = Timeline(settings.timeline)
        self.quarantine = Quarantine(settings.quarantine, settings.kafka)
        self.metrics = Metrics(
            CollectorRegistry(),
            lambda: self.snapshot,
            version=version("callgauge"),
            peers=self.sink.stats,
            source=self._source_stats,
            checkpoints=self._duty.checkpoints.stats if self._duty.checkpoints.is_on else None,
            web=lambda: self.web.stats(),  # noqa: PLW0108  # There is none yet.
            quarantine=lambda: self.quarantine.stats,
        )
        self.metrics.reloaded(is_successful=True, now_s=time.time())  # Kernels may take minutes from here.
        self._watchdog = Watchdog(self.metrics)
        self.web = WebServer(
            settings.web,
            Sources(
                get_snapshot=lambda: self.snapshot,
                render_metrics=self.metrics.render,
                not_ready_because=self._not_ready_because,
                not_healthy_because=self._watchdog.not_healthy_because,
                reload=self.reload,
                external_labels=settings.alertmanager.external_labels,
                clock_ns=time.time_ns,
                shown=self._duty.shown,
            ),
        )
        self._record_dir = record_dir
        self._recorder: RecordingWriter | None = None

    @property
    def line(self) -> OwnedLine | None:
        """Give the line, once its kernels are loaded."""
        return self._duty.line

    async def serve(self) -> None:
        """Run until a signal. HTTP is up first, so that health can be asked while kernels are loaded."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGINT, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._spawn_reload)
        await self.web.start()
        tasks: list[asyncio.Task[None]] = []
        stopping = asyncio.create_task(self._stop.wait(), name="signal")
        try:
            loading = asyncio.create_task(self._load(), name="load")
            await asyncio.wait([loading, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not loading.done():
                self._leave_at_once()
            await self._begin(loading.result())
            if self._stop.is_set():
                return
            tasks = [
                asyncio.create_task(work, name=name)
                for name, work in (
                    ("read", self._read()),
                    ("step", self._step()),
                    ("watch", self._watchdog.run()),
                )
            ]
            done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
        finally:
            stopping.cancel()
            await self._shut_down(tasks)

    def _leave_at_once(self) -> NoReturn:
        """End the process while kernels are loaded: nothing is held yet that anybody would miss.

        A thread that compiles cannot be stopped, and the interpreter would wait for it at its exit.
        """
        log.info("stopping")
        if self._recorder is not None:
            self._recorder.close()
        log.info("stopped before the kernels were loaded")
        logging.shutdown()
        os._exit(0)

    async def _load(self) -> bytes:
        """Find what the user must mend, then load the kernels, which may take a while; give the call key."""
        settings = self.configuration.settings
        self.configuration = self.configuration._replace(inferred=self._inferred.before())
        hash_key = await asyncio.to_thread(self._duty.checkpoints.open, self.configuration)
        if self._record_dir:
            self._recorder = RecordingWriter(
                self._record_dir,
                self.configuration.digest(),
                recording_bytes_max=settings.recording.bytes_max,
            )
            log.info("recording to %s", self._recorder.folder)
        await self.sink.start()
        self.quarantine.start()
        if note := start_note():
            log.info("%s", note)
        loading = asyncio.get_running_loop().run_in_executor(self._worker, warm_up, self.configuration)
        if isinstance(self.source, KafkaSource):
            await look_at_preconditions(settings, are_checkpoints_kept=self._duty.checkpoints.are_kept)
        await loading
        return hash_key

    async def _begin(self, hash_key: bytes) -> None:
        """Make the line, and begin to read."""
        line = self._duty.begin(self.configuration, hash_key)
        leave_alone_what_is_there()
        self._inferred.begin(line.line.pipeline.judge.inferred())
        if self._duty.checkpoints.is_on and isinstance(self.source, KafkaSource):
            self._duty.follow(self.source.progress, self._resume, lambda: self._duty.save_now(self._worker))
        if not self._stop.is_set():
            await self.source.start()

    async def _resume(self, topic_id: str, log_ends: Mapping[int, int]) -> dict[int, int]:
        """Go on with the newest checkpoint: the line at its first batch, the source at its offsets."""
        if self._recorder is not None:
            log.warning("what is recorded begins anew, so that it can be replayed: no checkpoint is used")
            return {}
        resumed = await self._duty.checkpoints.go_on(self.configuration, topic_id, log_ends)
        offsets = self._duty.take_over(resumed, topic_id)
        self._told.update((one.limit, one.split) for one in resumed.first_declines)
        return offsets

    async def _read(self) -> None:
        """Fetch as long as there is room in the queue; not calling `read` is what pauses the consumer."""
        while (raw := await self.source.read()) is not None:
            await self._queue.put(raw)

    async def _step(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            raw = await self._queue.get()
            if self._duty.is_void(raw):
                self._queue.task_done()
                continue
            self._watchdog.step_begins()
            fresh, self._fresh = self._fresh, None
            stepped = await loop.run_in_executor(self._worker, self._work, raw, fresh)
            is_history = self._deliver(raw, stepped)
            if self._inferred.is_behind(stepped.inferred):
                await loop.run_in_executor(self._worker, self._inferred.keep, stepped.inferred)
            if stepped.step.changes or stepped.step.notes or len(stepped.first_declines) > len(self._told):
                # A disk that hangs holds up the line, and neither heartbeats nor delivery.
                await loop.run_in_executor(self._worker, self._write_down, stepped, is_history)
            if stepped.taken is not None:
                self._duty.write_soon(stepped.taken)
            self._watchdog.step_ended()
            self._queue.task_done()

    def _work(self, raw: RawBatch, fresh: Configuration | None) -> Stepped:
        """One step, in the worker thread: record, step, publish. The clock here is for a metric alone."""
        assert self.line is not None, "there is a line before anything is read"
        begin = time.perf_counter()
        if fresh is not None:
            self.line.reload(fresh)
            if self._recorder is not None:
                self._recorder.mark_reload(fresh.digest())
        if self._recorder is not None:
            self._recorder.write(raw)
        step, snapshot = self._duty.step(raw)
        self.quarantine.add(*self.line.line.pipeline.decoder.rejects.take(), time.time_ns())
        samples = self.line.line.pipeline.decoder.samples()
        first = tuple(self.line.line.pipeline.judge.first_declines.values())
        inferred = self.line.line.pipeline.judge.inferred()
        seconds = time.perf_counter() - begin
        taken = self._duty.cut()
        return Stepped(step, snapshot, samples, first, inferred, seconds, taken)

    def _deliver(self, raw: RawBatch, stepped: Stepped) -> bool:
        """Hand over what a step brought; say whether it is of the time before the start."""
        self.snapshot = stepped.snapshot
        self.metrics.step_took(stepped.seconds)
        alerts = self._duty.alerts(raw, stepped.step, stepped.snapshot)
        if alerts is not None:
            self.sink.update(alerts, time.time_ns())
        bounds = (*stepped.snapshot.bounds_met, ("early_alerts_max", self._duty.handover.refused))
        self.snapshot = stepped.snapshot._replace(bounds_met=bounds)
        self._losses.tell(stepped.snapshot, stepped.samples, time.monotonic())
        self._hidden.tell(stepped.snapshot)
        # What fired while old events are read again is history.
        level = logging.DEBUG if self._duty.handover.is_catching_up else logging.INFO
        for change in stepped.step.changes:
            labels = dict(change.labels)
            named = [labels[name] for name in ("alertname", "severity", "limit", "problem") if name in labels]
            log.log(level, "alert %s: %s", change.state, " ".join(named))
        return self._duty.handover.is_catching_up

    # An executor passes no names, hence the flag by place.
    def _write_down(self, stepped: Stepped, is_history: bool) -> None:  # noqa: FBT001
        """Append to the timeline, in the worker thread."""
        register, step = self.configuration.register, stepped.step
        fresh = [one for one in stepped.first_declines if (one.limit, one.split) not in self._told]
        self._told.update((one.limit, one.split) for one in fresh)
        self.timeline.first_declines(fresh, is_history=is_history)
        self.timeline.alert_changes(step.changes, is_history=is_history)
        self.timeline.notes(step.notes, lambda note: _declared(register, note), is_history=is_history)
        self.metrics.wrote_down(lines=self.timeline.lines_written, failed=self.timeline.lines_failed)

    def _source_stats(self) -> SourceStats:
        stats = self.source.stats() if isinstance(self.source, KafkaSource) else SourceStats()
        return stats._replace(queue_batches=self._queue.qsize())

    def _not_ready_because(self) -> str:
        if self.line is None:
            return "kernels are being loaded"
        state = self._source_stats().state
        if state == "waiting":
            return "waiting for Kafka, or for the consumer group; the log says more"
        if self.snapshot is None:
            return "nothing has been read yet"
        if state == "standby":
            return ""  # It is ready for what it is there for: to take over.
        is_behind = self._duty.handover.is_catching_up
        return "events from before the start are being read again" if is_behind else ""

    def _spawn_reload(self) -> None:
        """Reload for a signal; `reload` itself says in the log and in a metric what came of it."""

        async def reload() -> None:
            with contextlib.suppress(CallgaugeError):
                await self.reload()

        task = asyncio.create_task(reload(), name="reload")
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def reload(self) -> None:
        """Load limits and decline rules anew.

        What cannot be loaded leaves the old ones in force and raises.
        """
        try:
            fresh = await asyncio.to_thread(self._load_again)
            if self.line is not None:
                refuse_new_labels(fresh, self.line.line.pipeline.decoder)
            self.web.reload()
        except CallgaugeError as error:
            self.metrics.reloaded(is_successful=False, now_s=time.time())
            log.warning("reload failed, the old configuration stays in force: %s", error)
            raise
        say_what_waits(self.configuration, fresh)
        self._fresh = self.configuration = self.configuration.reloaded(fresh)
        self.metrics.reloaded(is_successful=True, now_s=time.time())
        log.info("limits, decline rules, certificates and logins were loaded anew")
        say_which_limits(fresh)

    async def _shut_down(self, tasks: list[asyncio.Task[None]]) -> None:
        """Stop reading, finish what was read, send what is queued; resolve nothing."""
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        log.info("stopping")
        by_name = {task.get_name(): task for task in tasks}
        if "read" in by_name:
            by_name["read"].cancel()
            if not by_name["step"].done():
                try:
                    await asyncio.wait_for(self._queue.join(), FINISH_S)
                except TimeoutError:
                    log.warning("stopped with batches unfinished; they will be read again")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._duty.finish(self._worker)
        except Exception:  # Whatever it is, the alerts that are queued are sent.
            log.exception("the last checkpoint was not written")
        # A dead Alertmanager must not cost the time that a dead broker needs, nor the other way round.
        ends = {
            "the alerts": self.sink.drain(begun_s + SEND_S),
            "the consumer": self.source.close(),
            "the quarantine": self.quarantine.close(),
            "the last step": asyncio.to_thread(self._worker.shutdown, wait=True, cancel_futures=True),
        }
        left_s = begun_s + STOP_S - WEB_STOP_S - loop.time()
        ended = await asyncio.gather(
            *(asyncio.wait_for(each, left_s) for each in ends.values()), return_exceptions=True
        )
        for what, error in zip(ends, ended, strict=True):
            if isinstance(error, BaseException):
                log.warning("%s did not end in order: %s", what, type(error).__name__)
        if self._recorder is not None:
            self._recorder.close()
        await self.web.close()
        log.info("stopped")


def _declared(register: Register, note: Note) -> float | None:
    """Give what the register says of the limit that a note reports."""
    limit = register.named(str(dict(note.fields).get("limit", "")))
    return limit.value_at(note.time_ns) if limit is not None else None
