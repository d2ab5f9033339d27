"""`callgauge replay`: a recorded log through the very same line as a live stream, as fast as it goes.

Data goes to stdout, everything else to stderr. A plain log is closed at its end; a recording of a live run is
replayed batch by batch, ticks included, and ends where the run ended.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import orjson

from engine.app import REPLAY_HASH_KEY, build_line, read_hash_key
from engine.commands.expectations import Expectations, breaches
from engine.commands.report import Outcome, headline, table
from engine.commands.warmup import warm_up
from engine.decode.cut import TimeCut
from engine.deliver.jsonl import alert_change_fields, alert_change_line
from engine.errors import ExpectationError, UsageError
from engine.settings_file import digest
from engine.source.file import FileSource
from engine.source.recording import RecordingSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.app import Configuration, Line
    from engine.judge.lifecycle import AlertChange
    from engine.source.contract import Source

OUTPUTS = ("table", "json", "jsonl")


class ReplayOptions(NamedTuple):
    """What was asked for. Times are event time in ns; None: no bound."""

    logs: tuple[str, ...]
    output: str
    from_ns: int | None
    to_ns: int | None
    expect: str | None


class Replayed(NamedTuple):
    """A finished replay."""

    line: Line
    changes: tuple[AlertChange, ...]
    first_ns: int  # event time of the first row; -1: there was none
    seconds: float  # how long it took here


async def replay(configuration: Configuration, options: ReplayOptions) -> None:
    """Replay, print, and check expectations; raises what the command's exit code is made of."""
    expected = Expectations.load(Path(options.expect)) if options.expect else None
    write = _line_writer() if options.output == "jsonl" else None
    replayed = await run_log(configuration, options, write)
    if options.output == "json":
        sys.stdout.write(_json(replayed))
    if options.output == "table":
        sys.stdout.write(table(replayed.changes))
        sys.stdout.write(headline(outcome_of(replayed), replayed.changes))
    sys.stdout.flush()
    if expected is not None:
        broken = breaches(expected, replayed.changes, outcome_of(replayed))
        if broken:
            raise ExpectationError(
                "the replay did not do what was expected",
                where=str(options.expect),
                cause="".join(f"\n  - {breach}" for breach in broken),
            )


async def run_log(
    configuration: Configuration, options: ReplayOptions, write: Callable[[AlertChange], None] | None = None
) -> Replayed:
    """Take a log or a recording through the line; `write` sees every change as it comes."""
    source, is_recording = open_source(options.logs, configuration)
    line = build_line(
        configuration, read_hash_key(configuration.settings.engine.call_key_file, REPLAY_HASH_KEY)
    )
    if options.from_ns is not None or options.to_ns is not None:
        line.pipeline.decoder = TimeCut(line.pipeline.decoder, options.from_ns, options.to_ns)
    changes: list[AlertChange] = []
    warm_up(configuration)  # The time that is shown is that of the events, not of loading kernels.
    begin = time.perf_counter()
    await source.start()
    try:
        if isinstance(source, RecordingSource):
            _compare_digests(source, configuration)
        with Progress(source) as progress:
            while (raw := await source.read()) is not None:
                _keep(line.pipeline.step(raw).changes, changes, write)
                progress.show()
        if not is_recording:
            _keep(line.pipeline.finish().changes, changes, write)
    finally:
        await source.close()
    return Replayed(line, tuple(changes), line.pipeline.first_event_ns, time.perf_counter() - begin)


def _compare_digests(source: RecordingSource, configuration: Configuration) -> None:
    """Say so when a recording was made with another configuration: its alerts may then differ."""
    mine = digest(configuration.settings, configuration.register, configuration.rules)
    if source.digest != mine:
        sys.stderr.write(
            "note: the recording was made with other settings, limits or decline rules than these\n"
        )


def open_source(logs: tuple[str, ...], configuration: Configuration) -> tuple[Source, bool]:
    """Open a folder as a recording and anything else as logs; say which it was."""
    folders = [log for log in logs if Path(log).is_dir()]
    if not folders:
        return FileSource(logs, row_bytes_max=configuration.settings.engine.row_bytes_max), False
    if len(logs) > 1:
        raise UsageError(
            "a recording is replayed alone", where=folders[0], hint="give one folder, or only files"
        )
    return RecordingSource(Path(folders[0])), True


def outcome_of(replayed: Replayed) -> Outcome:
    """Gather what the headline and expectations speak of."""
    snapshot = replayed.line.publisher.publish(-1)
    judge = replayed.line.pipeline.judge
    return Outcome(
        first_ns=replayed.first_ns,
        first_declines=tuple(judge.first_declines.values()),
        limits=snapshot.limits,
        snapshot=snapshot,
        seconds=replayed.seconds,
    )


def _keep(
    fresh: tuple[AlertChange, ...], changes: list[AlertChange], write: Callable[[AlertChange], None] | None
) -> None:
    changes.extend(fresh)
    if write is not None:
        for change in fresh:
            write(change)


def _line_writer() -> Callable[[AlertChange], None]:
    out = sys.stdout.buffer

    def write(change: AlertChange) -> None:
        out.write(alert_change_line(change))

    return write


def _json(replayed: Replayed) -> str:
    outcome = outcome_of(replayed)
    document = {
        "changes": [alert_change_fields(change) for change in replayed.changes],
        "limits": [lead.as_fields() for lead in outcome.leads(replayed.changes)],
        "rows": {
            "read": outcome.snapshot.rows_read,
            "absorbed": outcome.snapshot.rows_absorbed,
            "lost": {reason: count for reason, count in outcome.snapshot.rows_lost if count},
        },
        "seconds": round(replayed.seconds, 3),
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()


class Progress:
    """A bar on stderr when that is a terminal and the input's size is known; else nothing."""

    def __init__(self, source: Source) -> None:
        """Watch `source`, which may or may not know how far it is."""
        self._source = source
        self._bar: Any = None  # rich.progress.Progress, imported for a terminal alone
        self._task: Any = None

    def __enter__(self) -> Self:
        """Draw the bar."""
        if sys.stderr.isatty() and isinstance(self._source, FileSource):
            from rich.console import Console
            from rich.progress import Progress as Bar

            self._bar = Bar(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("replaying", total=None)
        return self

    def show(self) -> None:
        """Move the bar to where the source is."""
        if self._bar is not None and isinstance(self._source, FileSource):
            done, total = self._source.progress()
            self._bar.update(self._task, completed=done, total=total or None)

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
