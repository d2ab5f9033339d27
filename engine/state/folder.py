"""The folder of checkpoints: blobs under names of their own, and a manifest that names those of one cut.

The blobs are written first, then the manifest is renamed into place; so a manifest never names what is not
whole, and until then the one before holds. The one before that is kept as well (`manifest.prev`), with its
blobs. What cannot be used is set aside under `.bad`, one of each name, and is never fatal. Two processes that
write into one folder, one of them by mistake, only set each other back: state and offsets travel together.
A file that nobody names is removed: at once if this process wrote it, else when it is ten minutes old.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from engine.state.blob import BlobHead, blob_bytes, parts_of
from engine.state.durable import DISK, Disk, put_in_place, read_whole, sync_folder, write_new
from engine.state.encoding import StateError
from engine.state.line_state import PARTITION, Digests

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.state.line_state import Capture, Read

MANIFEST, PREVIOUS, BAD = "manifest", "manifest.prev", ".bad"
TITLE = b"callgauge-checkpoint"
VERSION = 1
MANIFEST_BYTES_MAX = 4 << 20
BLOBS_MAX = 100_000
FORGOTTEN_S = 600.0
BLOB_NAME = re.compile(r"[a-z0-9-]{1,40}\.[0-9]{1,20}-[0-9a-f]{8}\.blob")
FOLDER_MODE = 0o700


class BlobEntry(msgspec.Struct, frozen=True):
    """A blob as the manifest names it."""

    file: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True):
    """One cut: what it was made under, how far it had come, and its blobs."""

    sequence: int
    written_ns: int
    topic: str
    core_digest: str
    detectors_digest: str
    watermark_ns: int
    next_offsets: dict[int, int]
    blobs: dict[str, BlobEntry]

    @property
    def digests(self) -> Digests:
        """What it was made under."""
        return Digests(self.core_digest, self.detectors_digest)


class Stamp(NamedTuple):
    """What is written beside the state."""

    topic: str
    digests: Digests
    watermark_ns: int
    written_ns: int


class Found(NamedTuple):
    """A checkpoint that was read."""

    manifest: Manifest
    read: Read


class Refused(NamedTuple):
    """A checkpoint that was set aside."""

    reason: str
    text: str


class Folder:
    """Writes and reads checkpoints in one folder. One thread at a time."""

    def __init__(self, path: Path, bytes_max: int, run: str, disk: Disk = DISK) -> None:
        """Use a folder; `run` (8 hexadecimal digits) tells our files from those of other processes."""
        self.path = path
        self._disk = disk
        self._bytes_max = bytes_max
        self._run = run
        self._sequence = -1

    def prepare(self) -> None:
        """Make the folder, and see that it can be written to; OSError if not."""
        with contextlib.suppress(FileExistsError):
            self._disk.make_folder(self.path, FOLDER_MODE)
        probe = self.path / f"probe-{self._run}"
        with contextlib.suppress(FileNotFoundError):
            self._disk.unlink(probe)
        write_new(probe, [b"callgauge"], self._disk)
        self._disk.unlink(probe)

    def save(self, capture: Capture, stamp: Stamp) -> int:
        """Write a checkpoint; give its bytes. Until it returns, the one before is in force.

        OSError when the disk refuses, StateError when it would be larger than it may be.
        """
        self._sequence = max(self._sequence, self._newest_sequence()) + 1
        written: list[Path] = []
        entries: dict[str, BlobEntry] = {}
        try:
            for name, parts in capture.blobs.items():
                pieces = [piece for part in parts.values() for piece in part]
                lengths = tuple((part, sum(map(len, of))) for part, of in parts.items())
                partition = name.removeprefix(PARTITION)
                offset = capture.next_offsets.get(int(partition), -1) if partition.isdecimal() else -1
                head = BlobHead(name, stamp.topic, offset, stamp.digests.core, lengths)
                file = f"{name}.{self._sequence}-{self._run}.blob"
                used = sum(entry.bytes for entry in entries.values())
                length = write_new(
                    self.path / file, self._bounded(blob_bytes(head, pieces), used), self._disk
                )
                written.append(self.path / file)
                entries[name] = BlobEntry(file, length)
            manifest = Manifest(
                self._sequence, stamp.written_ns, stamp.topic, *stamp.digests, stamp.watermark_ns,
                capture.next_offsets, entries,
            )  # fmt: skip
            sync_folder(self.path, self._disk)
            fresh = self.path / f"{MANIFEST}.{self._run}.new"
            with contextlib.suppress(FileNotFoundError):
                self._disk.unlink(fresh)
            length = write_new(fresh, [_manifest_bytes(manifest)], self._disk)
        except BaseException:
            for path in written:
                with contextlib.suppress(OSError):
                    self._disk.unlink(path)
            raise
        put_in_place(fresh, self.path / MANIFEST, self.path / PREVIOUS, self._disk)
        self._clean()
        return length + sum(entry.bytes for entry in entries.values())

    def load(self, topic: str) -> tuple[Found | None, list[Refused]]:
        """Give the newest checkpoint of this topic that can be used, and what was set aside on the way."""
        refused: list[Refused] = []
        for name in (MANIFEST, PREVIOUS):
            path = self.path / name
            try:
                manifest = _manifest_of(read_whole(path, MANIFEST_BYTES_MAX, self._disk), topic)
                return Found(manifest, self._blobs_of(manifest)), refused
            except FileNotFoundError:
                continue
            except StateError as error:
                refused.append(Refused(error.reason, str(error)))
            except OSError as error:
                refused.append(Refused("unreadable", f"{name}: {error.strerror or error}"))
            self._set_aside(path)
        return None, refused

    def set_aside(self) -> None:
        """Let no start use the checkpoint in force again."""
        self._set_aside(self.path / MANIFEST)

    def _blobs_of(self, manifest: Manifest) -> Read:
        read: Read = {}
        left = self._bytes_max
        for name, entry in manifest.blobs.items():
            if not BLOB_NAME.fullmatch(entry.file):
                raise StateError("damaged", "the manifest names a file that is none of ours")
            try:
                data = read_whole(self.path / entry.file, self._bytes_max, self._disk)
            except OSError as error:
                raise StateError("missing", f"the blob {name}: {error.strerror or error}") from error
            head, read[name] = parts_of(data, name, left)
            partition = name.removeprefix(PARTITION)
            offset = manifest.next_offsets.get(int(partition), -1) if partition.isdecimal() else -1
            if (head.topic, head.core_digest, head.next_offset) != (
                manifest.topic, manifest.core_digest, offset,
            ):  # fmt: skip
                raise StateError("damaged", f"the blob {name} is not of this checkpoint")
            left -= sum(map(len, read[name].values()))
        return read

    def _bounded(self, pieces: Iterator[bytes], used: int) -> Iterator[bytes]:
        for piece in pieces:
            used += len(piece)
            if used > self._bytes_max:
                raise StateError("too_large", "the checkpoint is larger than state.bytes_max")
            yield piece

    def _newest_sequence(self) -> int:
        return max((one.sequence for one in self._manifests()), default=0)

    def _manifests(self) -> list[Manifest]:
        found = []
        for name in (MANIFEST, PREVIOUS):
            with contextlib.suppress(OSError, StateError):
                found.append(_manifest_of(read_whole(self.path / name, MANIFEST_BYTES_MAX, self._disk)))
        return found

    def _set_aside(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            self._disk.replace(path, path.with_name(path.name + BAD))

    def _clean(self) -> None:
        """Remove blobs that no manifest names. A failure costs room, and is tried again next time."""
        named = {entry.file for one in self._manifests() for entry in one.blobs.values()}
        with contextlib.suppress(OSError):
            for name, changed_s in self._disk.names(self.path):
                is_ours = name.endswith(f"-{self._run}.blob")
                is_blob = BLOB_NAME.fullmatch(name) and name not in named
                is_left = is_blob or re.fullmatch(r"manifest\.[0-9a-f]{8}\.new|probe-[0-9a-f]{8}", name)
                if is_left and (is_ours or time.time() - changed_s > FORGOTTEN_S):
                    self._disk.unlink(self.path / name)


def _manifest_bytes(manifest: Manifest) -> bytes:
    body = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    check = hashlib.blake2b(body, digest_size=16).hexdigest().encode()
    return b" ".join([TITLE, str(VERSION).encode(), check]) + b"\n" + body


def _manifest_of(data: bytes, topic: str | None = None) -> Manifest:
    """Read a manifest; StateError if it is none, of a newer version or of another topic."""
    first, _, body = data.partition(b"\n")
    title, _, rest = first.partition(b" ")
    version, _, check = rest.partition(b" ")
    if title != TITLE or not version.isdigit():
        raise StateError("damaged", "the manifest does not begin as one")
    if int(version) > VERSION:
        raise StateError("newer", "the checkpoint was written by a newer version of callgauge")
    if hashlib.blake2b(body, digest_size=16).hexdigest().encode() != check:
        raise StateError("damaged", "the checksum of the manifest does not fit")
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except msgspec.MsgspecError as error:
        raise StateError("damaged", "the manifest cannot be read") from error
    if topic is not None and manifest.topic != topic:
        raise StateError("other_topic", "the checkpoint is of another topic")
    if len(manifest.blobs) > BLOBS_MAX:
        raise StateError("damaged", "the manifest names too many blobs")
    return manifest
