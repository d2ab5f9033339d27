"""The folder of checkpoints: blobs under names of their own, and a manifest that names those of one cut.

The blobs are written first, then the manifest is renamed into place; so a manifest never names what is not
whole, and until then the one before holds. The one before that is kept as well (`manifest.prev`), with its
blobs. What proves to be of no use is set aside under `.bad`, one of each name, and is never fatal. Two
processes that write into one folder, one of them by mistake, only set each other back: state and offsets
travel together. A file that nobody names is removed, also when a save fails: at once if this process wrote
it, else when it is ten minutes old.
"""

from __future__ import annotations

import contextlib
import functools
import re
import time
from typing import TYPE_CHECKING, NamedTuple

from engine.state.blob import TOO_LARGE, BlobHead, blob_bytes
from engine.state.durable import DISK, Disk, put_in_place, read_whole, sync_folder, write_new
from engine.state.encoding import StateError
from engine.state.line_state import PARTITION, USUAL
from engine.state.manifest import (
    BLOB_NAME,
    FOR_NOW,
    MANIFEST_BYTES_MAX,
    REPLACED,
    UNREADABLE,
    BlobEntry,
    Candidate,
    Manifest,
    Refused,
    manifest_bytes,
    manifest_of,
    read_blobs,
)

if TYPE_CHECKING:
    from pathlib import Path

    from engine.state.line_state import Capture, Digests, Read

MANIFEST, PREVIOUS, BAD = "manifest", "manifest.prev", ".bad"
FORGOTTEN_S = 600.0
LISTINGS_MAX = 5  # while another process writes here
FOLDER_MODE = 0o700


class Stamp(NamedTuple):
    """What is written beside the state."""

    topic: str
    digests: Digests
    watermark_ns: int
    written_ns: int
    topic_id: str = ""
    told_ns: int = -1


class Found(NamedTuple):
    """A checkpoint that was read."""

    manifest: Manifest
    read: Read


class Written(NamedTuple):
    """A blob that the checkpoint in force names, and that the next one may name as well."""

    head: BlobHead
    pieces: list[bytes]
    entry: BlobEntry


class Folder:
    """Writes and reads checkpoints in one folder. One thread at a time."""

    def __init__(self, path: Path, bytes_max: int, run: str, disk: Disk = DISK) -> None:
        """Use a folder; `run` (8 hexadecimal digits) tells our files from those of other processes."""
        self.path = path
        self._disk = disk
        self._bytes_max = bytes_max
        self._run = run
        self._sequence = -1
        self._usual: Written | None = None

    def prepare(self) -> None:
        """Make the folder, and see that it can be written to; OSError if not."""
        self._make_folder()
        self._clean()  # What others left may be what fills the disk.
        probe = self.path / f"probe-{self._run}"
        with contextlib.suppress(FileNotFoundError):
            self._disk.unlink(probe)
        write_new(probe, [b"callgauge"], self._disk)
        self._disk.unlink(probe)

    def _make_folder(self) -> None:
        with contextlib.suppress(FileExistsError):
            self._disk.make_folder(self.path, FOLDER_MODE)

    def save(self, capture: Capture, stamp: Stamp) -> int:
        """Write a checkpoint; give its bytes. Until it returns, the one before is in force.

        OSError when the disk refuses, StateError when it would be larger than may be read back.
        """
        plain_bytes = sum(
            len(piece) for parts in capture.blobs.values() for pieces in parts.values() for piece in pieces
        )
        if plain_bytes > self._bytes_max:
            raise StateError(TOO_LARGE, f"{plain_bytes} bytes are more than state.bytes_max")
        self._make_folder()  # It may have been removed since.
        self._sequence = max(self._sequence, self._newest_sequence()) + 1
        written: list[Path] = []
        entries: dict[str, BlobEntry] = {}
        try:
            for name, parts in capture.blobs.items():
                pieces = [piece for part in parts.values() for piece in part]
                lengths = tuple((part, sum(map(len, of))) for part, of in parts.items())
                partition = name.removeprefix(PARTITION)
                offset = capture.next_offsets.get(int(partition), -1) if partition.isdecimal() else -1
                head = BlobHead(name, stamp.topic, offset, stamp.digests.core, lengths, stamp.topic_id)
                known = self._written(head, pieces)
                if known is not None:
                    entries[name] = known
                    continue
                file = f"{name}.{self._sequence}-{self._run}.blob"
                length = write_new(self.path / file, blob_bytes(head, pieces), self._disk)
                written.append(self.path / file)
                entries[name] = BlobEntry(file, length)
                if name == USUAL:
                    self._usual = Written(head, pieces, entries[name])
            manifest = Manifest(
                self._sequence, stamp.written_ns, stamp.topic, *stamp.digests, stamp.watermark_ns,
                capture.next_offsets, entries, stamp.topic_id, stamp.told_ns,
            )  # fmt: skip
            sync_folder(self.path, self._disk)
            fresh = self.path / f"{MANIFEST}.{self._run}.new"
            with contextlib.suppress(FileNotFoundError):
                self._disk.unlink(fresh)
            length = write_new(fresh, [manifest_bytes(manifest)], self._disk)
        except BaseException:
            for path in written:
                with contextlib.suppress(OSError):
                    self._disk.unlink(path)
            self._clean()  # The next one may find room.
            raise
        put_in_place(fresh, self.path / MANIFEST, self.path / PREVIOUS, self._disk)
        self._clean()
        return length + sum(entry.bytes for entry in entries.values())

    def candidates(self, topic: str, topic_id: str = "") -> tuple[list[Candidate], list[Refused]]:
        """Give the checkpoints of this topic whose manifests can be used, and what was refused.

        Set aside is what proves to be of no use; what cannot be read now may be there at the next start.
        """
        found: list[Candidate] = []
        refused: list[Refused] = []
        for name in (MANIFEST, PREVIOUS):
            path = self.path / name
            try:
                data = read_whole(path, MANIFEST_BYTES_MAX, self._disk)
            except FileNotFoundError:
                continue
            except OSError as error:
                refused.append(Refused(UNREADABLE, f"{name}: {error.strerror or error}"))
                continue
            set_aside = functools.partial(self._set_aside, path, data)
            try:
                manifest = manifest_of(data, topic, topic_id)
            except StateError as error:
                refused.append(Refused(error.reason, str(error)))
                set_aside()
                continue
            get = functools.partial(self._blob_of, path, data)
            found.append(Candidate(manifest, name, get, set_aside))
        return found, refused

    def load(self, topic: str, topic_id: str = "") -> tuple[Found | None, list[Refused]]:
        """Give the newest checkpoint of this topic that can be used, and what was refused on the way."""
        all_refused: list[Refused] = []
        for _ in range(LISTINGS_MAX):
            found, refused = self._load(topic, topic_id)
            all_refused += refused
            if found is not None or REPLACED not in {one.reason for one in refused}:
                break
        return found, all_refused

    def _load(self, topic: str, topic_id: str) -> tuple[Found | None, list[Refused]]:
        candidates, refused = self.candidates(topic, topic_id)
        for one in candidates:
            try:
                return Found(one.manifest, read_blobs(one, self._bytes_max)), refused
            except StateError as error:
                refused.append(Refused(error.reason, str(error)))
                if error.reason not in FOR_NOW:
                    one.set_aside()
        return None, refused

    def newest(self) -> Manifest:
        """Give the manifest in force; OSError or StateError without one."""
        return manifest_of(read_whole(self.path / MANIFEST, MANIFEST_BYTES_MAX, self._disk))

    def read_blob(self, file: str, bytes_max: int) -> bytes:
        """Give the bytes of a blob; OSError if it is gone, or larger."""
        return read_whole(self.path / file, bytes_max, self._disk)

    def _written(self, head: BlobHead, pieces: list[bytes]) -> BlobEntry | None:
        """Give the blob if it is the one of what is usual, and lies there with the very same bytes."""
        known = self._usual
        if known is None or known.head != head:
            return None
        is_same = all(one is other for one, other in zip(known.pieces, pieces, strict=True))
        is_there = known.entry.file in {name for name, _ in self._disk.names(self.path)}
        return known.entry if is_same and is_there else None

    def _newest_sequence(self) -> int:
        with contextlib.suppress(OSError):
            return max((one.sequence for one in self._manifests(StateError)), default=0)
        return 0

    def _manifests(self, *passed_over: type[Exception]) -> list[Manifest]:
        """Read those that are there; OSError or StateError for one that cannot be, unless passed over."""
        found = []
        for name in (MANIFEST, PREVIOUS):
            with contextlib.suppress(FileNotFoundError, *passed_over):
                found.append(manifest_of(read_whole(self.path / name, MANIFEST_BYTES_MAX, self._disk)))
        return found

    def _blob_of(self, path: Path, data: bytes, file: str, bytes_max: int) -> bytes:
        """Give a blob as `read_blob` does, of a manifest with these bytes."""
        try:
            return self.read_blob(file, bytes_max)
        except FileNotFoundError:
            if self._holds(path, data):
                raise
            raise StateError(REPLACED, "another process has written newer ones meanwhile") from None

    def _set_aside(self, path: Path, data: bytes) -> None:
        """Set a manifest aside, unless another process has put a newer one in its place."""
        with contextlib.suppress(OSError):
            if self._holds(path, data):
                self._disk.replace(path, path.with_name(path.name + BAD))

    def _holds(self, path: Path, data: bytes) -> bool:
        try:
            return read_whole(path, MANIFEST_BYTES_MAX, self._disk) == data
        except FileNotFoundError:
            return False

    def _clean(self) -> None:
        """Remove blobs that no manifest names. A failure costs room, and is tried again next time.

        While there is one that we cannot read, of a newer version say, nobody knows what it names.
        """
        with contextlib.suppress(OSError, StateError):
            named = {entry.file for one in self._manifests() for entry in one.blobs.values()}
            for name, changed_s in self._disk.names(self.path):
                is_ours = name.endswith(f"-{self._run}.blob")
                is_blob = BLOB_NAME.fullmatch(name) and name not in named
                is_left = is_blob or re.fullmatch(r"manifest\.[0-9a-f]{8}\.new|probe-[0-9a-f]{8}", name)
                if is_left and (is_ours or time.time() - changed_s > FORGOTTEN_S):
                    self._disk.unlink(self.path / name)
