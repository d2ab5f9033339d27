"""Recordings of a live run: every batch and tick as it was read, to be replayed exactly.

The raw bytes hold what callers' systems sent, call ids and all: the folder is 0700 and its files 0600;
treat it as customer data. Each run writes into a folder of its own (`run-0001`, ...) under the one that
was named, so that a service that is restarted never fails over an older recording. A run is a row of
segments of frames (`frames.py`): a header with the starting digest of what was configured and the length of
the segment before, then batches, ticks, and marks where limits were loaded anew. Frames reach the kernel as
they are written and the disk when a segment is full or closed: kill -9 costs at most the frame it tore, and
the reader stops there. Recordings made before that length was kept are read as well, but in them a segment
that was cut off exactly between two frames is noticed only if it is the last one.

Telemetry fails open: when `recording.bytes_max` over all runs in the folder is reached, or the disk
refuses, the recording ends with a word in the log, and the run goes on without it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from engine.errors import SourceError
from engine.settings import RecordingSettings
from engine.source.contract import RawBatch
from engine.source.frames import DAMAGE_HINT, FrameReader, FrameWriter, TornError, open_segment

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from numpy.typing import NDArray

FORMAT_VERSION = 1
SEGMENT_BYTES_MAX = 64 << 20
LAST_WORDS_BYTES = 4096  # a header or end may go this far beyond the bound
RUNS_MAX = 9999
RUN_NAME = re.compile(r"run-[0-9]{4}")
SEGMENT_NAME = "segment-{:06}.rec"
SEGMENTS = "segment-*.rec"

log = logging.getLogger(__name__)


class Header(msgspec.Struct, frozen=True, array_like=True, tag="header"):
    """First frame of each segment. Older readers pass over its last field."""

    version: int
    segment: int  # from 1
    digest: str  # of what the run started with
    bytes_before: int = -1  # of the segment before; -1: recorded when this was not kept


class Batch(msgspec.Struct, frozen=True, array_like=True, tag="batch"):
    """A batch or tick. Row i is data[row_end[i-1]:row_end[i]]; both arrays are int64, little-endian."""

    data: bytes
    row_end: bytes
    offset: bytes
    topic: str
    partition: int
    received_ns: int
    assigned: tuple[int, ...]
    caught_up: tuple[int, ...]


class Reload(msgspec.Struct, frozen=True, array_like=True, tag="reload"):
    """Limits and rules were loaded anew before the next batch."""

    digest: str


class End(msgspec.Struct, frozen=True, array_like=True, tag="end"):
    """The recording was closed, not cut off; `reason` is empty, or says why it ended before the run did."""

    reason: str


Record = Header | Batch | Reload | End


class RecordingWriter:
    """Writes one run. Only making it raises; `write` never does. One thread at a time."""

    def __init__(
        self,
        folder: str,
        digest: str,
        *,
        recording_bytes_max: int = RecordingSettings().bytes_max,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        fsync: Callable[[int], None] = os.fsync,
    ) -> None:
        """Make a folder for this run; SourceError if that cannot be."""
        self.stopped_because = ""
        self._digest = digest
        self._segment_bytes_max = segment_bytes_max
        self._fsync = fsync
        self._encoder = msgspec.msgpack.Encoder()
        self._segment = 0
        self._file: FrameWriter | None = None
        try:
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
            used = sum(path.stat().st_size for path in Path(folder).glob(f"run-*/{SEGMENTS}"))
            self._bytes_left = recording_bytes_max - used
            self.folder = _new_run(Path(folder))
            self._next_segment()
        except OSError as error:
            raise SourceError(
                "a recording cannot be written here", where=folder, cause=error.strerror or str(error),
                hint="name a folder that this user may write to, on a disk with room",
            ) from error  # fmt: skip

    def write(self, raw: RawBatch) -> None:
        """Record a batch or tick before it is stepped."""
        data, row_end = _packed(raw)
        self._append(
            Batch(
                data,
                row_end.astype("<i8").tobytes(),
                raw.offset.astype("<i8").tobytes(),
                raw.topic,
                raw.partition,
                raw.received_ns,
                raw.assigned,
                raw.caught_up,
            )
        )

    def mark_reload(self, digest: str) -> None:
        """Record that settings or limits changed before the next batch."""
        self._append(Reload(digest))

    def close(self) -> None:
        """Close the recording and bring it to the disk; closing twice is fine."""
        self._finish("")

    def _append(self, record: Record) -> None:
        """Write a record unless the recording has stopped; stop it when it is full or the disk refuses."""
        if self._file is None:
            return
        try:
            if self._file.size >= self._segment_bytes_max:
                self._next_segment()
            written = self._file.append(self._encoder.encode(record), bytes_left=self._bytes_left)
        except OSError as error:
            self._finish(error.strerror or "the disk refused")
            return
        self._bytes_left -= written
        if written == 0:
            self._finish("recording.bytes_max is reached, over all runs in the folder")

    def _next_segment(self) -> None:
        """Begin the next segment, then close the one before; if either fails, `_file` can take the end."""
        before = self._file
        file = FrameWriter(self.folder / SEGMENT_NAME.format(self._segment + 1), self._fsync)
        bytes_before = before.size if before is not None else 0
        header = Header(FORMAT_VERSION, self._segment + 1, self._digest, bytes_before)
        try:
            # It is written even when the recording is full: an empty recording says so when it is replayed.
            self._bytes_left -= file.append(self._encoder.encode(header), bytes_left=LAST_WORDS_BYTES)
        except OSError:
            file.close()
            raise
        self._file = file
        self._segment += 1
        if before is not None:
            before.close()

    def _finish(self, reason: str) -> None:
        """Write no more; `reason` says in the recording and in the log why it ends before the run does."""
        file, self._file = self._file, None
        if file is None:
            return
        self.stopped_because = reason
        if reason:
            log.warning("recording stopped, the run goes on: %s", reason)
        try:
            file.append(self._encoder.encode(End(reason)), bytes_left=LAST_WORDS_BYTES)
        except OSError:
            log.warning("the recording's last frame could not be written; it will look cut off")
        try:
            file.close()
        except OSError as error:
            log.warning("the recording's end may not be on the disk: %s", error.strerror or error)


class RecordingSource:
    """Replays one recorded run: the same batches and ticks, in the same order, received at the same times.

    `digest` is what the run started with; a replay with another one is another experiment. `reloads` are the
    digests of the reloads that were passed. `ended_because` is empty while reading and after a whole run.
    """

    def __init__(self, folder: Path | str, opened: Callable[[Path], BinaryIO] = open_segment) -> None:
        """Remember the folder; nothing is opened before `start`."""
        self._folder = Path(folder)
        self._opened = opened
        self._segments: list[Path] = []
        self._file: FrameReader | None = None
        self._segment = 0
        self._decoder: msgspec.msgpack.Decoder[Record] = msgspec.msgpack.Decoder(Record)
        self._is_open = False
        self._bytes_before = 0
        self._bytes_total = 0
        self.digest = ""
        self.reloads: list[str] = []
        self.ended_because = ""

    async def start(self) -> None:
        """Find the run's segments and read its header; SourceError says what is wrong with the folder."""
        await asyncio.to_thread(self._open)

    async def read(self) -> RawBatch | None:
        """Give the next batch or tick, None at the end; SourceError at damage, after all that precedes it."""
        return await asyncio.to_thread(self._next_batch) if self._is_open else None

    async def close(self) -> None:
        """Close the recording; closing twice is fine."""
        self._is_open = False
        if self._file is not None:
            self._file.close()
            self._file = None

    def progress(self) -> tuple[int, int]:
        """Give the bytes read and the bytes there are."""
        return self._bytes_before + (self._file.place if self._file is not None else 0), self._bytes_total

    def _open(self) -> None:
        folder = _one_run(self._folder)
        self._segments = sorted(folder.glob(SEGMENTS))
        self._bytes_total = sum(_bytes_in(path) for path in self._segments)
        self._is_open = True
        self._next_file()

    def _next_batch(self) -> RawBatch | None:
        while self._is_open and (record := self._next_record()) is not None:
            if isinstance(record, Batch):
                return _unpacked(record)
            if isinstance(record, Reload):
                self.reloads.append(record.digest)
                log.warning("limits were loaded anew here during the run; this replay keeps its own")
            if isinstance(record, End):
                if record.reason:
                    self._ends_early(record.reason)
                self._is_open = False
        return None

    def _next_record(self) -> Record | None:
        """Read a record from this segment or the next; None where the recording stops."""
        while self._is_open and self._file is not None:
            try:
                frame = self._file.read()
            except OSError as error:
                raise self._damage("cannot be read further", error.strerror or str(error)) from error
            except TornError:
                if self._segment < len(self._segments):
                    raise self._damage("a frame is cut off before the last segment") from None
                self._ends_early("it was cut off, as by kill -9")
                return None
            if frame is not None:
                return self._decoded(frame)
            if self._segment == len(self._segments):
                self._ends_early("it was cut off between two frames, as by kill -9")
                return None
            self._next_file()
        return None

    def _next_file(self) -> None:
        """Open the next segment and check its header."""
        ended_at = 0
        if self._file is not None:
            ended_at = self._file.place
            self._bytes_before += ended_at
            self._file.close()
        path = self._segments[self._segment]
        self._segment += 1
        try:
            self._file = FrameReader(path, self._opened)
            header = self._file.read()
        except OSError as error:
            raise _unreadable(path, error) from error
        except TornError:
            header = None
        if header is None:
            if self._segment < len(self._segments):
                raise self._damage("the segment has no header")
            self._ends_early("it was cut off at the start of a segment, as by kill -9")
            return
        self._check_header(self._decoded(header), ended_at)

    def _check_header(self, header: Record, ended_at: int) -> None:
        """Check that this is the next segment of a format of ours, and that the one before was whole."""
        if not isinstance(header, Header):
            raise self._damage("the segment does not begin with a header")
        if header.version != FORMAT_VERSION:
            raise SourceError(
                f"this recording has format {header.version}, and format {FORMAT_VERSION} is read here",
                where=str(self._folder), hint="replay it with the version of callgauge that recorded it",
            )  # fmt: skip
        if header.segment != self._segment:
            raise self._damage(f"segment {self._segment} is missing")
        if header.bytes_before not in (-1, ended_at):
            what = f"the segment ends here, and had {header.bytes_before} bytes when the next one began"
            where = f"{self._segments[self._segment - 2]}, byte {ended_at}"
            raise SourceError(what, where=where, hint=DAMAGE_HINT)
        self.digest = header.digest

    def _decoded(self, frame: bytes) -> Record:
        try:
            return self._decoder.decode(frame)
        except msgspec.MsgspecError as error:
            raise self._damage("a record cannot be decoded", str(error)) from error

    def _damage(self, what: str, cause: str = "") -> SourceError:
        place = f", byte {self._file.place}" if self._file is not None else ""
        return SourceError(
            what, where=f"{self._segments[self._segment - 1]}{place}", cause=cause, hint=DAMAGE_HINT
        )

    def _ends_early(self, because: str) -> None:
        self.ended_because = because
        self._is_open = False
        log.warning("the recording ends before the run did: %s", because)


def _new_run(folder: Path) -> Path:
    """Make the folder of a new run."""
    taken = [int(path.name[4:]) for path in folder.iterdir() if RUN_NAME.fullmatch(path.name)]
    number = max(taken, default=0) + 1
    if number > RUNS_MAX:
        raise OSError(0, f"it holds {RUNS_MAX} runs already")
    run = folder / f"run-{number:04}"
    run.mkdir(mode=0o700)
    return run


def _one_run(folder: Path) -> Path:
    """Find the run to replay: the folder itself, or the only run in it."""
    try:
        if any(folder.glob(SEGMENTS)):
            return folder
        runs = sorted(path for path in folder.iterdir() if any(path.glob(SEGMENTS)))
    except OSError as error:
        raise _unreadable(folder, error) from error
    if not runs:
        hint = "name the folder that `callgauge run --record` was given; logs are named as files"
        raise SourceError("there is no recording in this folder", where=str(folder), hint=hint)
    if len(runs) > 1:
        names = ", ".join(run.name for run in runs[-5:])
        hint = f"name one of them, such as {runs[-1]}"
        raise SourceError(f"{len(runs)} runs are recorded here ({names})", where=str(folder), hint=hint)
    return runs[0]


def _bytes_in(segment: Path) -> int:
    try:
        return segment.stat().st_size
    except OSError as error:
        raise _unreadable(segment, error) from error


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError("cannot be read", where=str(path), cause=error.strerror or str(error))


def _packed(raw: RawBatch) -> tuple[bytes, NDArray[np.int64]]:
    """Lay the rows side by side, without what lies between them in the buffer."""
    length = raw.row_end - raw.row_start
    row_end = np.cumsum(length, dtype=np.int64)
    total = int(row_end[-1]) if raw.rows else 0
    if total == len(raw.data) and np.array_equal(row_end, raw.row_end):
        return raw.data, row_end
    bounds = zip(raw.row_start.tolist(), raw.row_end.tolist(), strict=True)
    return b"".join([raw.data[start:end] for start, end in bounds]), row_end


def _unpacked(batch: Batch) -> RawBatch:
    """Make the batch that was recorded; its arrays are read-only, as they view the frame."""
    row_end = np.frombuffer(batch.row_end, "<i8").astype(np.int64, copy=False)
    offset = np.frombuffer(batch.offset, "<i8").astype(np.int64, copy=False)
    row_start = np.concatenate((np.zeros(min(1, len(row_end)), np.int64), row_end[:-1]))
    row_start.setflags(write=False)
    return RawBatch(
        batch.data,
        row_start,
        row_end,
        offset,
        batch.topic,
        batch.partition,
        batch.received_ns,
        batch.assigned,
        batch.caught_up,
    )
