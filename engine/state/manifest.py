"""One cut of the line as a manifest and the blobs that it names, wherever they lie.

The manifest is JSON under a line with a checksum. A blob says itself what it is of; both must agree. What a
start may go on with is a candidate: its manifest has been read and its blobs have not.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from engine.state.blob import TOO_LARGE, parts_of
from engine.state.encoding import StateError
from engine.state.line_state import PARTITION, Digests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from engine.state.line_state import Read

TITLE = b"callgauge-checkpoint"
VERSION = 1
VERSION_DIGITS_MAX = 9
MANIFEST_BYTES_MAX = 4 << 20
BLOBS_MAX = 100_000
UNREADABLE = "unreadable"
REPLACED = "replaced"
FOR_NOW = frozenset({UNREADABLE, TOO_LARGE, REPLACED})  # why a checkpoint is not used that may be later
BLOB_NAME = re.compile(r"[a-z0-9-]{1,40}\.[0-9]{1,20}-[0-9a-f]{8}\.blob")


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
    topic_id: str = ""  # of Kafka; "": not known
    told_ns: int = -1  # when alerts were last told; -1: not known

    @property
    def digests(self) -> Digests:
        """What it was made under."""
        return Digests(self.core_digest, self.detectors_digest)


class Refused(NamedTuple):
    """A checkpoint that is not used."""

    reason: str
    text: str


class Candidate(NamedTuple):
    """A checkpoint that a start may go on with."""

    manifest: Manifest
    where: str
    get: Callable[[str, int], bytes]  # a blob by its file and its most bytes; OSError, StateError
    set_aside: Callable[[], None]  # lets no start find it again

    def reaches_beyond(self, log_ends: Mapping[int, int]) -> bool:
        """Say whether it counts rows behind the end of a log."""
        offsets = self.manifest.next_offsets.items()
        return any(offset > log_ends.get(partition, offset) for partition, offset in offsets)


def manifest_bytes(manifest: Manifest) -> bytes:
    """Give a manifest as it is written."""
    body = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    check = hashlib.blake2b(body, digest_size=16).hexdigest().encode()
    return b" ".join([TITLE, str(VERSION).encode(), check]) + b"\n" + body


def manifest_of(data: bytes, topic: str | None = None, topic_id: str = "") -> Manifest:
    """Read a manifest; StateError if it is none, of a newer version or of another topic."""
    first, _, body = data.partition(b"\n")
    title, _, rest = first.partition(b" ")
    version, _, check = rest.partition(b" ")
    if title != TITLE or not version.isdigit() or len(version) > VERSION_DIGITS_MAX:
        raise StateError("damaged", "the manifest does not begin as one")
    if int(version) > VERSION:
        raise StateError("newer", "the checkpoint was written by a newer version of callgauge")
    if hashlib.blake2b(body, digest_size=16).hexdigest().encode() != check:
        raise StateError("damaged", "the checksum of the manifest does not fit")
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise StateError("damaged", "the manifest cannot be read") from error
    if topic is not None and manifest.topic != topic:
        raise StateError("other_topic", "the checkpoint is of another topic")
    if topic_id and manifest.topic_id and manifest.topic_id != topic_id:
        raise StateError("topic_made_anew", "the topic was deleted and made anew since the checkpoint")
    if len(manifest.blobs) > BLOBS_MAX:
        raise StateError("damaged", "the manifest names too many blobs")
    return manifest


def read_blobs(candidate: Candidate, bytes_max: int) -> Read:
    """Read the blobs of a checkpoint, as many plain bytes at most; StateError says why it is of no use."""
    manifest = candidate.manifest
    offsets = {f"{PARTITION}{number}": offset for number, offset in manifest.next_offsets.items()}
    read: Read = {}
    left = bytes_max
    for name, entry in manifest.blobs.items():
        if not BLOB_NAME.fullmatch(entry.file):
            raise StateError("damaged", "the manifest names a file that is none of ours")
        try:
            data = candidate.get(entry.file, bytes_max)
        except FileNotFoundError as error:
            raise StateError("missing", f"the blob {name} is gone") from error
        except OSError as error:
            raise StateError(UNREADABLE, f"the blob {name}: {error.strerror or error}") from error
        head, read[name] = parts_of(data, name, left)
        if (head.topic, head.topic_id, head.core_digest, head.next_offset) != (
            manifest.topic, manifest.topic_id, manifest.core_digest, offsets.get(name, -1),
        ):  # fmt: skip
            raise StateError("damaged", f"the blob {name} is not of this checkpoint")
        left -= sum(map(len, read[name].values()))
    return read


def in_order(candidates: Iterable[Candidate], core_digest: str, rewind_ns: int) -> list[Candidate]:
    """Give the best first: the furthest, then the youngest, then the first of equals.

    Those made under what we run under go before it, unless they are older than it by more than `rewind_ns`:
    then it costs less to read back that far with its alerts alone.
    """

    def place(one: Candidate) -> tuple[int, int]:
        return sum(one.manifest.next_offsets.values()), one.manifest.written_ns

    furthest_first = sorted(candidates, key=place, reverse=True)
    if not furthest_first:
        return []
    oldest_ns = furthest_first[0].manifest.written_ns - rewind_ns

    def is_passed_over(one: Candidate) -> bool:
        return one.manifest.core_digest != core_digest or one.manifest.written_ns < oldest_ns

    return sorted(furthest_first, key=is_passed_over)
