"""`callgauge replay`: a recorded log through the very same line as a live stream, as fast as it goes.

Data goes to stdout, everything else to stderr. A plain log is closed at its end; a recording of a live run is
replayed batch by batch, ticks included, and ends where the run ended. A damaged log, such as one that is
still being written, shows what the rows before the damage led to, and then fails.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import orjson

from engine.app import REPLAY_HASH_KEY, OwnedLine, Span, read_hash_key
from engine.commands.expectations import Expectations, breaches
from engine.commands.merged_notes import merged_notes
from engine.commands.report import Outcome, headline, table
from engine.commands.stdout import stdout_may_fail
from engine.commands.warmup import start_note, warm_up
from engine.config_files import config_path
from engine.deliver.jsonl import alert_change_fields, alert_change_line
from engine.errors import MALFORMED_REASONS, ExpectationError, LossReason, SourceError, UsageError
from engine.source.file import FileSource
from engine.source.recording import RecordingSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.app import Configuration, LearningLine
    from engine.judge.lifecycle import AlertChange
    from engine.judge.snapshot import Snapshot
    from engine.source.contract import Source

OUTPUTS = ("table", "json", "jsonl")
# What makes a row no call event at all.
UNDECODED = {reason.name.lower() for reason in (*MALFORMED_REASONS, LossReason.TYPE_UNKNOWN)}


class ReplayOptions(NamedTuple):
    """What was asked for."""

    logs: tuple[str, ...]
    output: str
    span: Span
    expect: str | None


class Replayed(NamedTuple):
    """A finished replay."""

    line: OwnedLine
    changes: tuple[AlertChange, ...]
    first_ns: int  # event time of the first row; -1: there was none
    seconds: float  # how long it took here
    damage: SourceError | None  # what ended the input before its end


async def replay(configuration: Configuration, options: ReplayOptions) -> None:
    """Replay, print, and check expectations; raises what the command's exit code is made of."""
    expected = Expectations.load(Path(options.expect), configuration.settings) if options.expect else None
    write = _line_writer() if options.output == "jsonl" else None
    replayed = await run_log(configuration, options, write)
    with stdout_may_fail():
        if options.output == "json":
            sys.stdout.write(_json(replayed))
        if options.output == "table":
            sys.stdout.write(table(replayed.changes))
            sys.stdout.write(headline(outcome_of(replayed), replayed.changes))
        sys.stdout.flush()
    _report_losses(replayed, options)
    if replayed.damage is not None:
        raise replayed.damage
    if expected is not None:
        broken = breaches(expected, replayed.changes, outcome_of(replayed))
        if broken:
            raise ExpectationError(
                "the replay did not go as expected",
                where=str(options.expect),
                cause="".join(f"\n  - {breach}" for breach in broken),
            )


async def run_log(
    configuration: Configuration, options: ReplayOptions, write: Callable[[AlertChange], None] | None = None
) -> Replayed:
    """Take a log or a recording through the line; `write` sees every change as it comes."""
    source = open_source(options.logs, configuration)
    hash_key = read_hash_key(configuration.settings.engine.call_key_file, REPLAY_HASH_KEY)
    line = OwnedLine(configuration, hash_key, options.span)
    changes: list[AlertChange] = []
    try:
        await source.start()
        if isinstance(source, RecordingSource):
            _compare_digests(source, configuration)
        load_kernels(configuration)  # The time that is shown is that of the events, not of loading kernels.
        begin = time.perf_counter()
        damage = await read_all(source, line, changes, write)
    finally:
        await source.close()
    first_ns = line.line.pipeline.first_event_ns
    return Replayed(line, tuple(changes), first_ns, time.perf_counter() - begin, damage)


async def read_all(
    source: Source,
    line: OwnedLine | LearningLine,
    changes: list[AlertChange],
    write: Callable[[AlertChange], None] | None = None,
) -> SourceError | None:
    """Take everything that a started source gives through the line, and end the log; give what damaged it.

    A recording ends where its run ended: nothing is closed that was open then.
    """
    damage = None
    try:
        with Progress(source) as progress:
            while (raw := await source.read()) is not None:
                _keep(line.step(raw).changes, changes, write)
                progress.show()
    except SourceError as error:
        damage = error
    if not isinstance(source, RecordingSource):
        _keep(line.line.pipeline.finish().changes, changes, write)
    return damage


def load_kernels(configuration: Configuration) -> None:
    """Load or compile every kernel, and tell who waits what for.

    Ctrl-C ends it at once: the loop, which is held up meanwhile, would look at it afterwards.
    """
    of_the_loop = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if note := start_note():
            sys.stderr.write(f"{note}\n")
            sys.stderr.flush()
        warm_up(configuration)
    finally:
        signal.signal(signal.SIGINT, of_the_loop)


def _report_losses(replayed: Replayed, options: ReplayOptions) -> None:
    """Say on stderr which rows were of no use, or not told apart; SourceError if all were of no use."""
    snapshot = replayed.line.publish(-1)
    if snapshot.rows_read == 0 and replayed.damage is None:
        where = "" if options.span == Span() else " between --from and --to"
        sys.stderr.write(f"note: there is no event in the log{where}\n")
    _report_ignored(snapshot)
    sys.stderr.write("".join(f"note: {text}\n" for text in merged_notes(snapshot)))
    lost = [(reason, count) for reason, count in snapshot.rows_lost if count]
    if not lost:
        return
    counts = ", ".join(f"{reason} {count:,}" for reason, count in lost)
    samples = replayed.line.line.pipeline.decoder.samples()
    places = ", ".join(f"row {sample.offset + 1} ({sample.reason.name.lower()})" for sample in samples[:3])
    text = f"{sum(count for _, count in lost):,} of {snapshot.rows_read:,} rows were not used: {counts}"
    if places:
        text += f"; such as {places}"
    undecoded = sum(count for reason, count in lost if reason in UNDECODED)
    if undecoded == snapshot.rows_read and replayed.damage is None:
        raise SourceError(
            "no row is a call event", where=", ".join(options.logs), cause=text,
            hint="a log holds one JSON object a line, with time, type and call_id; README shows some",
        )  # fmt: skip
    sys.stderr.write(f"note: {text}\n")


def _report_ignored(snapshot: Snapshot) -> None:
    """Say on stderr of which fields there were values that could not be used, in rows that count."""
    ignored = [(field, count) for field, count in snapshot.fields_ignored if count]
    if ignored:
        counts = ", ".join(f"{field} {count:,}" for field, count in ignored)
        sys.stderr.write(
            f"note: values that could not be used, in rows that count without them: {counts}; "
            f"{config_path('events.md')} says what each field takes\n"
        )


def _compare_digests(source: RecordingSource, configuration: Configuration) -> None:
    """Say so when a recording was made with another configuration: its alerts may then differ."""
    if source.digest != configuration.digest():
        sys.stderr.write(
            "note: the recording was made with other settings, limits, decline rules or learned files than "
            "these\n"
        )


def open_source(logs: tuple[str, ...], configuration: Configuration) -> Source:
    """Open a folder as a recording, and anything else as logs."""
    folders = [log for log in logs if os.path.isdir(log)]  # noqa: PTH112  # Path's may raise.
    if not folders:
        return FileSource(logs, row_bytes_max=configuration.settings.engine.row_bytes_max)
    if len(logs) > 1:
        raise UsageError(
            "a recording is replayed alone", where=folders[0], hint="give one folder, or only files"
        )
    return RecordingSource(Path(folders[0]))


def outcome_of(replayed: Replayed) -> Outcome:
    """Gather what the headline and expectations speak of."""
    snapshot = replayed.line.publish(-1)
    judge = replayed.line.line.pipeline.judge
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
        with stdout_may_fail():
            out.write(alert_change_line(change))
            out.flush()  # Standard input may go on for hours.

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
