"""The history of a deployment: alerts, changes and limit events, one JSON line each, appended to a file.

Every line has `time` (event time) and `kind`. How the file is written and bounded: `line_file.py`.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from engine.decode.events import EventType, Note
from engine.deliver.jsonl import alert_change_fields
from engine.deliver.line_file import LineFile
from engine.deliver.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.judge.judge import FirstDeclined
    from engine.judge.lifecycle import AlertChange
    from engine.settings import TimelineSettings

ALERT = "alert"
TAIL_BYTES = 256 * 1024  # of an existing file, and of the one before, that are looked at for what they have
REPORTED_LIMITS_MAX = 4096  # (limit, labels) whose last reported value is remembered; when full, forgotten


class Timeline:
    """Appends to the file of the settings; without a path it does nothing. A write is short, and blocks."""

    def __init__(self, settings: TimelineSettings) -> None:
        self._path = settings.path
        self._file = LineFile(settings.path, settings.bytes_max, "timeline")
        self._reported: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._tail = _tail(settings.path) if settings.path else frozenset()
        self._alerts_until = _newest_alert(self._tail)

    @property
    def lines_written(self) -> int:
        """How many lines are in the file since the start."""
        return self._file.written

    @property
    def lines_failed(self) -> int:
        """How many lines could not be written."""
        return self._file.failed

    def alert_changes(self, changes: Iterable[AlertChange], *, is_history: bool = False) -> None:
        """Keep alerts that began to fire or were resolved.

        `is_history`: they come from events that are read again after a start; what the file has is not
        written twice.
        """
        self._append(
            [{**_begin(change.time_ns, ALERT), **alert_change_fields(change)} for change in changes],
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
        if not self._path or not entries:
            return
        try:
            lines = [orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE) for entry in entries]
        except TypeError as error:  # A number of more than 64 bits.
            self._file.fail(len(entries), str(error))
            return
        if is_history:
            lines = [line for entry, line in zip(entries, lines, strict=True) if not self._has(entry, line)]
        if lines:
            self._file.append(lines)

    def _has(self, entry: dict[str, object], line: bytes) -> bool:
        """Say whether the file has a line of history.

        Alerts change in the order of their time, and may come out in other words after a start that reads
        back. First declines and notes may be late: no time says.
        What stands further back in the file than its tail is written twice.
        """
        if entry["kind"] == ALERT:
            return str(entry["time"]) <= self._alerts_until
        return line.rstrip() in self._tail


def _tail(path: str) -> frozenset[bytes]:
    """Give the last lines of a timeline, with those before it was rotated; none where they cannot be read."""
    lines: list[bytes] = []
    for name in (f"{path}.1", path):
        with contextlib.suppress(OSError):
            if not Path(name).is_file():  # Opening a pipe would wait for somebody to write.
                continue
            with Path(name).open("rb") as file:
                file.seek(max(os.fstat(file.fileno()).st_size - TAIL_BYTES, 0))
                lines += file.read(TAIL_BYTES).splitlines()
    return frozenset(lines)


def _newest_alert(lines: Iterable[bytes]) -> str:
    """Give the newest time of an alert; "" without any.

    Times are written in one form, so their texts compare as they do.
    """
    newest = ""
    for line in lines:
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:  # Cut at the beginning, or by a crash at the end.
            continue
        if isinstance(entry, dict) and entry.get("kind") == ALERT:
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
