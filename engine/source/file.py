"""Logs of call events: `.jsonl`, `.gz`, `.zst`, `.parquet`, globs, and `-` for standard input.

One file streams: its pieces are handed on as they are read, with the places of the rows. Several files
are merged by event time (`merge.py`); each must be roughly in order itself. Rows are numbered from 0
without gaps over all files; empty lines take no number. A plain log does not say when a row was received,
so every batch carries `PLAIN_LOG_RECEIVED_NS`, and the partition is never caught up: a log is over when
it ends, not when it is quiet. Reading happens in a thread, so that a slow pipe never holds up the loop;
while it is quiet, ticks come. Decompressing, merging and Parquet have a thread of their own (`ahead.py`).
Which span of time to replay is the pipeline's business, which knows the decoded time. A folder that a
recording run made is read by `recording.py`.
"""

from __future__ import annotations

import asyncio
import glob
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import SourceError
from engine.source.ahead import ReadAhead
from engine.source.columns import RowColumns
from engine.source.compression import STDIN
from engine.source.contract import NO_ROWS, PLAIN_LOG_RECEIVED_NS, RawBatch, tick
from engine.source.lines import LogRows, Rows
from engine.source.log import open_log
from engine.source.merge import LogMerge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

TOPIC = "log"
PARTITION = 0
BATCH_ROWS = 1 << 14


def _matched(path: str) -> list[str]:
    """Give the files that one path or glob names; OSError where one may not look."""
    if path == STDIN or Path(path).exists():
        return [path]
    found = glob.glob(path, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute pattern.
    return sorted(each for each in found if Path(each).is_file())


def expand(paths: Sequence[str]) -> list[str]:
    """Give the files that paths and globs name, each once; SourceError if one names none."""
    files: dict[str, str] = {}
    for path in paths:
        try:
            matched = _matched(path)
        except OSError as error:
            hint = "check the path and that you may enter its folder"
            raise SourceError(
                "cannot be opened", where=path, cause=error.strerror or str(error), hint=hint
            ) from error
        if not matched:
            if glob.has_magic(path):
                raise SourceError("no file matches", where=path, hint="check the folder and the pattern")
            hint = "check the path; `-` is standard input"
            raise SourceError("there is no such file", where=path, hint=hint)
        for file in matched:
            files.setdefault(file if file == STDIN else str(Path(file).resolve()), file)
    if not files:
        raise SourceError("no log was named", hint="name at least one file, or `-` for standard input")
    return list(files.values())


class FileSource:
    """Rows of one or more logs, as partition 0 of the topic `log`."""

    def __init__(self, paths: Sequence[str], *, row_bytes_max: int = 1 << 20) -> None:
        """Remember what to read; nothing is opened before `start`."""
        self._paths = tuple(paths)
        self._row_bytes_max = row_bytes_max
        self._log: LogRows | ReadAhead | None = None
        self._ready: deque[RawBatch] = deque()
        self._offset = 0
        # Serialises a read that was cancelled, whose thread still runs, with `close`.
        self._lock = threading.Lock()

    async def start(self) -> None:
        """Open the logs; a SourceError names the one that cannot be read."""
        await asyncio.to_thread(self._open)

    async def read(self) -> RawBatch | None:
        """Give the next rows, a tick while standard input is quiet, None at the end or after `close`."""
        if not self._ready:
            if isinstance(self._log, ReadAhead) and self._log.is_ready:
                await asyncio.sleep(0)  # Signals and other tasks get their turn.
                self._fill()
            else:
                await asyncio.to_thread(self._fill)
        return self._ready.popleft() if self._ready else None

    async def close(self) -> None:
        """Close every file; closing twice is fine."""
        await asyncio.to_thread(self._shut)

    def progress(self) -> tuple[int, int]:
        """Give the bytes read and the bytes there are, as stored; 0 of 0: not known (a pipe)."""
        return (0, 0) if self._log is None else (self._log.bytes_done, self._log.bytes_total)

    def _open(self) -> None:
        """Open one log to stream, or several to merge."""
        files = expand(self._paths)
        with self._lock:
            if len(files) > 1:
                self._log = ReadAhead(LogMerge(files, self._row_bytes_max))
                return
            log = open_log(files[0], self._row_bytes_max)
            self._log = log if isinstance(log, LogRows) and log.reader.is_plain else ReadAhead(log)

    def _fill(self) -> None:
        """Read on until there is at least one batch or tick, or the end."""
        with self._lock:
            read = self._log.read() if self._log is not None else None
            if read is None:
                return
            if isinstance(read, RowColumns):
                for first in range(0, read.rows, BATCH_ROWS):
                    self._ready.append(self._batch_of_columns(read.part(first, first + BATCH_ROWS)))
                return
            if not len(read.start):
                self._ready.append(tick(TOPIC, PLAIN_LOG_RECEIVED_NS, (PARTITION,), ()))
            for first in range(0, len(read.start), BATCH_ROWS):
                self._ready.append(self._batch(read, first))

    def _batch(self, rows: Rows, first: int) -> RawBatch:
        """Make a batch of up to `BATCH_ROWS` rows; batches of one piece share its buffer."""
        start = rows.start[first : first + BATCH_ROWS]
        end = rows.end[first : first + BATCH_ROWS]
        offset = self._offsets(len(start))
        received_ns = PLAIN_LOG_RECEIVED_NS
        return RawBatch(rows.data, start, end, offset, TOPIC, PARTITION, received_ns, (PARTITION,), ())

    def _batch_of_columns(self, columns: RowColumns) -> RawBatch:
        """Make a batch of rows that came as columns."""
        return RawBatch(
            b"", NO_ROWS, NO_ROWS, self._offsets(columns.rows), TOPIC, PARTITION, PLAIN_LOG_RECEIVED_NS,
            (PARTITION,), (), columns,
        )  # fmt: skip

    def _offsets(self, rows: int) -> NDArray[np.int64]:
        """Give the next rows their numbers."""
        offset = np.arange(self._offset, self._offset + rows, dtype=np.int64)
        offset.setflags(write=False)
        self._offset += rows
        return offset

    def _shut(self) -> None:
        """Close the logs and drop what was not read."""
        with self._lock:
            if self._log is not None:
                self._log.close()
            self._log = None
            self._ready.clear()
