"""The bytes of one log, whatever its compression, in bounded pieces.

`.gz` and `.zst` say what the file must be; anything else, standard input too, goes by its first bytes.
Several frames or members in a row are one log, as `cat a.gz b.gz` makes them. Output is taken in small
steps, because a decoder that finds damage throws away what it had decoded in that call: so the rows before
the damage are delivered, and only then comes the error with the place. So a file that expands ten
thousandfold costs no more memory than any other.
`gzip.open` and `zstd.open` were rejected: they can do neither.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import zlib
from typing import TYPE_CHECKING, ClassVar, Protocol

from engine.errors import SourceError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE_BYTES = 1 << 20  # a step of the engine has a price of its own, so that smaller pieces are slower
FEED_BYTES = 1 << 14  # how exactly the place of damage can be told
STEP_BYTES = 1 << 14  # what can be lost in front of damage: the rows in so many bytes
# A pipe that nobody writes to yet is opened at once, and is then as quiet as another. Elsewhere it may be
# at its end, so there opening it waits for a writer.
OPEN_FLAGS = os.O_RDONLY | (os.O_NONBLOCK if sys.platform == "linux" else 0)
WAIT_S = 0.2  # how long standard input is waited for
STDIN = "-"

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# Frames that hold no data begin with a byte 0x50 to 0x5f and these.
ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
ZSTD_SKIPPABLE_FIRST = range(0x50, 0x60)
ZSTD_WINDOW_LOG_MAX = 27  # of 2: how far back a frame may refer, which all has to be in memory
ZSTD_WINDOW_MIB = (1 << ZSTD_WINDOW_LOG_MAX) >> 20
ZSTD_TOO_LARGE = "too much memory"  # in the decoder's message
UTF8_MARK = b"\xef\xbb\xbf"


class _Decoder(Protocol):
    """Turns compressed bytes into plain ones; `midway` is true inside a frame, where no log may end."""

    name: str

    @property
    def midway(self) -> bool: ...

    def decode(self, fed: bytes) -> Iterator[bytes]: ...


class _Plain:
    """Bytes as they are."""

    name = "plain"
    midway = False

    def decode(self, fed: bytes) -> Iterator[bytes]:
        yield fed


class _Gzip:
    """Members of gzip, one after another; zeros behind the last are padding."""

    name = "gzip"

    def __init__(self) -> None:
        self._member: zlib._Decompress | None = None

    @property
    def midway(self) -> bool:
        return self._member is not None

    def decode(self, fed: bytes) -> Iterator[bytes]:
        while True:
            if self._member is None:
                fed = fed.lstrip(b"\0")
                if not fed:
                    return
                self._member = zlib.decompressobj(wbits=31)
            plain = self._member.decompress(fed, STEP_BYTES)
            if plain:
                yield plain
            if self._member.eof:
                fed = self._member.unused_data
                self._member = None
            elif self._member.unconsumed_tail:
                fed = self._member.unconsumed_tail
            elif len(plain) == STEP_BYTES:
                fed = b""  # The decoder may hold output back without holding input back.
            else:
                return


class _Zstd:
    """Frames of Zstandard, one after another."""

    name = "zstd"
    OPTIONS: ClassVar[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG_MAX}

    def __init__(self) -> None:
        self._frame: zstd.ZstdDecompressor | None = None

    @property
    def midway(self) -> bool:
        return self._frame is not None

    def decode(self, fed: bytes) -> Iterator[bytes]:
        while fed or (self._frame is not None and not self._frame.needs_input):
            if self._frame is None:
                self._frame = zstd.ZstdDecompressor(options=self.OPTIONS)
            plain = self._frame.decompress(fed, STEP_BYTES)
            fed = b""
            if plain:
                yield plain
            if self._frame.eof:
                fed = self._frame.unused_data
                self._frame = None


def _decoder_for(path: str, head: bytes) -> _Decoder:
    """Choose by the name where it says so, else by the first four bytes."""
    if path.endswith((".gz", ".gzip")):
        return _Gzip()
    if path.endswith((".zst", ".zstd")):
        return _Zstd()
    if head.startswith(GZIP_MAGIC):
        return _Gzip()
    skippable = head[0] in ZSTD_SKIPPABLE_FIRST and head[1:4] == ZSTD_SKIPPABLE
    return _Zstd() if skippable or head.startswith(ZSTD_MAGIC) else _Plain()


class LogReader:
    """One open log. `bytes_done` of `bytes_total` (0: not known) are read, counted as stored.

    `is_plain`: a file that is not compressed, so that reading it costs next to nothing. `is_read_once`: what
    was read is not there a second time, as in a pipe.
    """

    def __init__(self, path: str) -> None:
        """Open the file; a SourceError says why it cannot be."""
        self.path = path
        self.name = "standard input" if path == STDIN else path
        self.bytes_done = 0
        try:
            self._fd = os.dup(sys.stdin.fileno()) if path == STDIN else os.open(path, OPEN_FLAGS)
            mode = os.fstat(self._fd)
        except (OSError, ValueError) as error:
            raise SourceError(
                "cannot be opened", where=self.name, cause=str(getattr(error, "strerror", None) or error),
                hint="check the path and that you may read it",
            ) from error  # fmt: skip
        if stat.S_ISDIR(mode.st_mode):
            os.close(self._fd)
            raise SourceError(
                "is a directory, not a log", where=self.name,
                hint=f"name the files in it, such as '{path}/*.jsonl'",
            )  # fmt: skip
        if path != STDIN:
            os.set_blocking(self._fd, True)
        self.bytes_total = mode.st_size if stat.S_ISREG(mode.st_mode) else 0
        self._waits = not stat.S_ISREG(mode.st_mode)
        self.is_read_once = self._waits or path == STDIN
        head = b"" if self._waits else os.pread(self._fd, len(ZSTD_MAGIC), 0)
        self.is_plain = bool(head) and isinstance(_decoder_for(path, head), _Plain)
        self._open = True
        self._pieces = self._without_mark()

    def read(self) -> bytes | None:
        """Give the next piece, b"" when a pipe has none yet, None at the end; SourceError at damage."""
        return next(self._pieces, None)

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        if self._open:
            self._open = False
            self._pieces = iter(())
            os.close(self._fd)

    def _input(self) -> bytes | None:
        """Read compressed bytes: None when none have come within the wait, b"" at the end."""
        if self._waits and not select.select([self._fd], [], [], WAIT_S)[0]:
            return None
        try:
            return os.read(self._fd, PIECE_BYTES)
        except OSError as error:
            raise SourceError(
                "cannot be read further", where=self._place(), cause=error.strerror or str(error),
                hint="the rows before this place were read",
            ) from error  # fmt: skip

    def _without_mark(self) -> Iterator[bytes]:
        """Leave out a mark of UTF-8 at the head of the text, whatever its compression."""
        head = b""
        is_begun = False
        for piece in self._decoded():
            if is_begun or not piece:
                yield piece
                continue
            head += piece
            is_begun = len(head) >= len(UTF8_MARK) or not UTF8_MARK.startswith(head)
            if is_begun:
                yield head.removeprefix(UTF8_MARK)
        if not is_begun and head:
            yield head

    def _decoded(self) -> Iterator[bytes]:
        """Decode piece by piece; what was decoded before damage is given first."""
        head = b""
        while len(head) < len(ZSTD_MAGIC):
            more = self._input()
            if more == b"":
                break
            head += more or b""
            if more is None:
                yield b""
        if not head:
            return
        decoder = _decoder_for(self.path, head)
        fed: bytes | None = head
        while fed != b"":
            if fed is None:
                yield b""
            elif isinstance(decoder, _Plain):
                self.bytes_done += len(fed)
                yield fed
            else:
                yield from self._decoded_from(decoder, fed)
            fed = self._input()
        if decoder.midway:
            raise SourceError(
                f"the {decoder.name} data stops in the middle (truncated)", where=self._place(),
                hint="the rows before this place were read; copy the file again, or wait for its writer",
            )  # fmt: skip

    def _decoded_from(self, decoder: _Decoder, fed: bytes) -> Iterator[bytes]:
        """Decode one input piece step by step, gathering the output."""
        gathered: list[bytes] = []
        size = 0
        try:
            for at in range(0, len(fed), FEED_BYTES):
                for plain in decoder.decode(fed[at : at + FEED_BYTES]):
                    gathered.append(plain)
                    size += len(plain)
                    if size >= PIECE_BYTES:
                        yield b"".join(gathered)
                        gathered, size = [], 0
                self.bytes_done += len(fed[at : at + FEED_BYTES])
        except (zlib.error, zstd.ZstdError) as error:
            if gathered:
                yield b"".join(gathered)
            if ZSTD_TOO_LARGE in str(error):
                raise SourceError(
                    f"the zstd data has a window larger than {ZSTD_WINDOW_MIB} MiB", where=self._place(),
                    hint="the rows before this place were read; compress it again without --long: "
                    "zstd -dc --long=31 FILE | zstd > NEW.zst",
                ) from error  # fmt: skip
            raise SourceError(
                f"the {decoder.name} data is damaged", where=self._place(), cause=str(error),
                hint="the rows before this place were read; copy the file again from where it came",
            ) from error  # fmt: skip
        if gathered:
            yield b"".join(gathered)

    def _place(self) -> str:
        """Say where in the file the reader is."""
        total = f" of {self.bytes_total}" if self.bytes_total else ""
        return f"{self.name}, near byte {self.bytes_done}{total}"
