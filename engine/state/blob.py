"""One blob as the bytes of a file: magic, version, what it is, its parts in compressed frames, a checksum.

A frame holds at most FRAME_BYTES_MAX of plain bytes and says how many, so that reading one never takes more
memory than that. The checksum is over everything before it, for accidents, not against people: whoever can
write to the folder can write anything into it, and gets no more than wrong numbers.
"""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING

import msgspec

from engine.state.encoding import StateError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"cgst"
VERSION = 1
FRAME_BYTES_MAX = 16 << 20
PARTS_MAX = 256
LEVEL = 1
CHECK_BYTES = 16
LENGTH_BYTES = 4
HEAD_AT = len(MAGIC) + 1
TOO_LARGE = "too_large"  # why a checkpoint is not written, or not read


class BlobHead(msgspec.Struct, frozen=True, array_like=True):
    """What a blob is."""

    name: str
    topic: str
    next_offset: int  # of a partition; -1: it has none
    core_digest: str  # of what it was made under
    parts: tuple[tuple[str, int], ...]  # name and plain bytes, in order
    topic_id: str = ""  # of Kafka; "": not known


def blob_bytes(head: BlobHead, pieces: list[bytes]) -> Iterator[bytes]:
    """Give the bytes of a file, piece by piece; `pieces` are those of all parts, in order."""
    check = hashlib.blake2b(digest_size=CHECK_BYTES)
    encoded = msgspec.msgpack.encode(head)
    first = MAGIC + bytes([VERSION]) + len(encoded).to_bytes(LENGTH_BYTES, "little") + encoded
    check.update(first)
    yield first
    for plain in _frames(pieces):
        packed = zstd.compress(plain, level=LEVEL)
        lengths = len(plain), len(packed)
        frame = b"".join(one.to_bytes(LENGTH_BYTES, "little") for one in lengths) + packed
        check.update(frame)
        yield frame
    yield check.digest()


def _frames(pieces: list[bytes]) -> Iterator[bytes]:
    """Join small pieces and cut large ones."""
    waiting: list[bytes] = []
    room = FRAME_BYTES_MAX
    for piece in pieces:
        at = 0
        while len(piece) - at >= room:
            yield b"".join([*waiting, piece[at : at + room]])
            at += room
            waiting, room = [], FRAME_BYTES_MAX
        waiting.append(piece[at:])
        room -= len(piece) - at
    if room < FRAME_BYTES_MAX:
        yield b"".join(waiting)


def parts_of(data: bytes, name: str, bytes_max: int) -> tuple[BlobHead, dict[str, bytes]]:
    """Read a blob of this name; StateError says why it is of no use."""
    if data[: len(MAGIC)] != MAGIC or len(data) < HEAD_AT:
        raise StateError("damaged", f"the blob {name} does not begin as one")
    if data[len(MAGIC)] > VERSION:
        raise StateError("newer", f"the blob {name} was written by a newer version of callgauge")
    if hashlib.blake2b(data[:-CHECK_BYTES], digest_size=CHECK_BYTES).digest() != data[-CHECK_BYTES:]:
        raise StateError("damaged", f"the checksum of the blob {name} does not fit")
    try:
        head, plain = _read(memoryview(data)[:-CHECK_BYTES], bytes_max)
    except (msgspec.MsgspecError, zstd.ZstdError, ValueError, RecursionError) as error:
        raise StateError("damaged", f"the blob {name} cannot be read ({type(error).__name__})") from error
    if head.name != name or sum(length for _, length in head.parts) != len(plain):
        raise StateError("damaged", f"the blob {name} is not what the manifest says")
    parts, at = {}, 0
    for part, length in head.parts[:PARTS_MAX]:
        parts[part] = plain[at : at + length]
        at += length
    return head, parts


def _read(data: memoryview, bytes_max: int) -> tuple[BlobHead, bytes]:
    at = HEAD_AT + LENGTH_BYTES
    length = int.from_bytes(data[HEAD_AT:at], "little")
    head = msgspec.msgpack.decode(data[at : at + length], type=BlobHead)
    at += length
    frames, total = [], 0
    while at < len(data):
        plain_bytes, packed_bytes = (
            int.from_bytes(data[at + skip : at + skip + LENGTH_BYTES], "little") for skip in (0, LENGTH_BYTES)
        )
        at += 2 * LENGTH_BYTES
        total += plain_bytes
        if plain_bytes > FRAME_BYTES_MAX:
            raise ValueError("a frame is larger than it may be")
        if total > bytes_max:
            raise StateError(TOO_LARGE, "the checkpoint is larger than state.bytes_max")
        frame = zstd.ZstdDecompressor().decompress(data[at : at + packed_bytes], plain_bytes)
        if len(frame) != plain_bytes:
            raise ValueError("a frame is cut off")
        frames.append(frame)
        at += packed_bytes
    return head, b"".join(frames)
