"""Checksums and bounded decompression of record batches.

A few kilobytes can expand ten thousandfold, and the broker bounds only what is compressed. So everything is
expanded into a buffer of the size that one batch may have; no more memory is ever touched, and a length that
the compressed bytes state is believed only to refuse them. aiokafka's own codecs were rejected for that:
they expand whatever they are given. The libraries are the same, so what they accept is the same.
"""

from __future__ import annotations

import sys
import zlib
from typing import TYPE_CHECKING

import cramjam
from aiokafka.record.util import calc_crc32c

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

try:
    # By the processor's own instruction, some ten times as fast as the tables of aiokafka.
    from crc32c import crc32c as checksum
except ImportError:  # A platform for which there is no wheel.
    checksum = calc_crc32c

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CODECS", "TooLargeError", "UnreadableError", "checksum", "expand_into"]

GZIP_WINDOW_BITS = 31  # with the header and the checksum of gzip
GZIP_FEED_BYTES = 1 << 14  # each member copies what was fed behind it
XERIAL_HEADER = b"\x82SNAPPY\x00"  # snappy in blocks, as Java and librdkafka write it
XERIAL_HEADER_BYTES = 16
BLOCK_LENGTH_BYTES = 4
OUT_OF_ROOM = "failed to write whole buffer"  # cramjam's word for a buffer that is full


class TooLargeError(Exception):
    """The batch expands to more than there is room for."""


class UnreadableError(Exception):
    """The bytes are not what the codec writes."""


def expand_into(codec: int, packed: memoryview, room: memoryview) -> int:
    """Expand a batch to the begin of `room` and give its length; TooLargeError or UnreadableError.

    `codec` is the number in the batch's attributes.
    """
    expand = CODECS.get(codec)
    if expand is None:
        raise UnreadableError
    try:
        return expand(packed, room)
    except (cramjam.DecompressionError, zlib.error, zstd.ZstdError, ValueError) as error:
        raise (TooLargeError if OUT_OF_ROOM in str(error) else UnreadableError) from error


def _gzip(packed: memoryview, room: memoryview) -> int:
    """Expand members one after another, as gzip files may have them; zeros may follow the last one."""
    filled = 0
    member = zlib.decompressobj(GZIP_WINDOW_BITS)
    for at in range(0, len(packed), GZIP_FEED_BYTES):
        rest = bytes(packed[at : at + GZIP_FEED_BYTES])
        while rest:
            if member.eof:
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                member = zlib.decompressobj(GZIP_WINDOW_BITS)
            plain = member.decompress(rest, len(room) - filled + 1)
            if len(plain) > len(room) - filled:
                raise TooLargeError
            room[filled : filled + len(plain)] = plain
            filled += len(plain)
            rest = member.unused_data
    if packed and not member.eof:
        raise UnreadableError
    return filled


def _snappy(packed: memoryview, room: memoryview) -> int:
    if len(packed) <= XERIAL_HEADER_BYTES or bytes(packed[: len(XERIAL_HEADER)]) != XERIAL_HEADER:
        return _snappy_block(packed, room)
    filled = 0
    at = XERIAL_HEADER_BYTES
    while at < len(packed):
        begin = at + BLOCK_LENGTH_BYTES
        at = begin + int.from_bytes(packed[at:begin], "big")
        if at > len(packed):
            raise UnreadableError
        filled += _snappy_block(packed[begin:at], room[filled:])
    return filled


def _snappy_block(packed: memoryview, room: memoryview) -> int:
    if cramjam.snappy.decompress_raw_len(packed) > len(room):
        raise TooLargeError
    return int(cramjam.snappy.decompress_raw_into(packed, room))


def _lz4(packed: memoryview, room: memoryview) -> int:
    return int(cramjam.lz4.decompress_into(packed, room))


def _zstd(packed: memoryview, room: memoryview) -> int:
    stated = zstd.get_frame_info(packed).decompressed_size or 0  # None: not stated
    if stated > len(room):
        raise TooLargeError
    return int(cramjam.zstd.decompress_into(packed, room))


CODECS: dict[int, Callable[[memoryview, memoryview], int]] = {1: _gzip, 2: _snappy, 3: _lz4, 4: _zstd}
