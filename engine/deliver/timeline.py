"""The history of a deployment: alerts, changes and limit events, one JSON line each, appended to a file.

Every line has `time` (event time) and `kind`. The file is opened for each append and closed again: appends
are rare, and so a rotated, deleted or remounted file needs no care. Lines are written whole, by one call, to
a file that only its owner may read. When the file is full it becomes `<path>.1`, replacing the one before:
two files of `bytes_max` at most. Nothing here may stop the engine: what cannot be written is counted and
logged.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from engine.decode.events import EventType, Note
from engine.deliver.jsonl import alert_change_fields
from engine.deliver.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.judge.judge import FirstDeclined
    from engine.judge.lifecycle import AlertChange
    from engine.settings import TimelineSettings

FILE_MODE = 0o600
TAIL_BYTES = 256 * 1024  # of an existing file that is looked at for where it ends
REPORTED_LIMITS_MAX = 4096  # (limit, labels) whose last reported value is remembered; when full, forgotten

log = logging.getLogger(__name__)


class Timeline:
    """Appends to the file of the settings; without a path it does nothing. A write is short, and blocks."""

    def __init__(self, settings: TimelineSettings) -> None:
        self._path = settings.path
        self._bytes_max = settings.bytes_max
        self._reported: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._is_line_open = False
        self._trouble = ""
        self._written_until = newest_time(settings.path) if settings.path else ""
        self.lines_written = 0
        self.lines_failed = 0

    def alert_changes(self, changes: Iterable[AlertChange], *, is_history: bool = False) -> None:
        """Keep alerts that began to fire or were resolved.

        `is_history`: they come from events that are read again after a start; what the file has is not
        written twice.
        """
        self._append(
            [{**_begin(change.time_ns, "alert"), **alert_change_fields(change)} for change in changes],
            is_history=is_history,
        )

    def notes(
        self,
        notes: Iterable[Note],
        declared: Callable[[Note], float | None],
        *,
        is_history: bool = False,
    ) -> None:
        """Keep changes, announced load, and reported limits that are not what `declared` says of them.

        A platform may report the same mismatch every few seconds: it is kept once, until the value changes.
        """
        kept = []
        for note in notes:
            if note.type_id in {EventType.CHANGE_MADE, EventType.LOAD_PLANNED}:
                kept.append(_note_fields(note))
            elif note.type_id == EventType.LIMIT_REPORTED and self._is_new_mismatch(note, declared(note)):
                kept.append({**_note_fields(note), "declared": declared(note)})
        self._append(kept, is_history=is_history)

    def first_declines(self, declines: Iterable[FirstDeclined], *, is_history: bool = False) -> None:
        """Keep the first decline of each limit since the start."""
        entries = [
            {**_begin(one.time_ns, "first_decline"), "labels": dict((("limit", one.limit), *one.split))}
            for one in declines
        ]
        self._append(entries, is_history=is_history)

    def _is_new_mismatch(self, note: Note, declared: float | None) -> bool:
        fields = dict(note.fields)
        reported = fields.get("max")
        if not isinstance(reported, int | float):
            return False
        key = (str(fields.get("limit", "")), note.labels)
        before = self._reported.get(key)
        if len(self._reported) >= REPORTED_LIMITS_MAX:
            self._reported.clear()
        self._reported[key] = reported
        return reported not in (declared, before)

    def _append(self, entries: list[dict[str, object]], *, is_history: bool = False) -> None:
        if is_history:
            entries = [entry for entry in entries if str(entry["time"]) > self._written_until]
        if not self._path or not entries:
            return
        try:
            lines = b"".join(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE) for entry in entries)
            self._write(lines)
        except (OSError, TypeError) as error:
            self.lines_failed += len(entries)
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("the timeline %s cannot be written: %s", self._path, error)
        else:
            self.lines_written += len(entries)
            self._trouble = ""

    def _write(self, lines: bytes) -> None:
        descriptor = self._open()
        try:
            size = os.fstat(descriptor).st_size
            if size and size + len(lines) > self._bytes_max:
                Path(self._path).replace(self._path + ".1")
                os.close(descriptor)
                descriptor = -1
                descriptor = self._open()
            # A full disk may have cut the line before: end it, so that only that one is lost.
            data = b"\n" + lines if self._is_line_open else lines
            written = os.write(descriptor, data)
            self._is_line_open = written < len(data) and (written > 0 or self._is_line_open)
            if written < len(data):
                raise OSError(f"only {written} of {len(data)} bytes were written")
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _open(self) -> int:
        # Without O_NONBLOCK a pipe that nobody reads would hold the engine up.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, FILE_MODE)
        try:
            _restrict(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor


def _restrict(descriptor: int) -> None:
    """Leave the file to its owner; a device such as /dev/null must not lose the rights that others need."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError("not a regular file")
    os.fchmod(descriptor, FILE_MODE)


def newest_time(path: str) -> str:
    """Give the newest time in the last lines of a timeline; "" when there is none, or it cannot be read.

    Times are written in one form, so their texts compare as they do.
    """
    try:
        if not Path(path).is_file():  # Opening a pipe would wait for somebody to write.
            return ""
        with Path(path).open("rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - TAIL_BYTES, 0))
            lines = file.read(TAIL_BYTES).splitlines()
    except OSError:
        return ""
    newest = ""
    for line in lines:
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:  # Cut at the beginning, or by a crash at the end.
            continue
        if isinstance(entry, dict):
            newest = max(newest, str(entry.get("time", "")))
    return newest


def _begin(time_ns: int, kind: str) -> dict[str, object]:
    return {"time": rfc3339(time_ns), "kind": kind}


def _note_fields(note: Note) -> dict[str, object]:
    fields = {name: value for name, value in note.fields if name != "call_keys"}
    until_ns = fields.pop("until_ns", None)
    if isinstance(until_ns, int):
        fields["until"] = rfc3339(until_ns)
    return {**_begin(note.time_ns, EventType(note.type_id).wire), "labels": dict(note.labels), **fields}
