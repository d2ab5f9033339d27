"""Reading ahead: the same pieces in the same order, errors in their place, and no thread is left behind."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import pytest

from engine.errors import SourceError
from engine.source.ahead import PIECES_AHEAD_MAX, ReadAhead
from engine.source.compression import PIECE_BYTES
from engine.source.file import FileSource
from engine.source.lines import LogRows, Rows, rows_of
from tests.source_contract import rows_of as rows_of_batch

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LINES = [b'{"time":%d,"call_id":"call-%0120d"}' % (1_767_600_000 + n, n * 7919) for n in range(100_000)]
TEXT = b"\n".join(LINES)


@pytest.fixture
def log(tmp_path: Path) -> str:
    """Give a compressed log of many pieces."""
    assert len(TEXT) > 4 * PIECES_AHEAD_MAX * PIECE_BYTES
    (tmp_path / "log.zst").write_bytes(zstd.compress(TEXT))
    return str(tmp_path / "log.zst")


def readers() -> list[threading.Thread]:
    """Give the threads that read ahead now."""
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


def all_of(ahead: ReadAhead, rows: list[bytes]) -> list[bytes]:
    """Read on to the end."""
    while (piece := ahead.read()) is not None:
        assert isinstance(piece, Rows)
        rows += rows_of(piece)
    return rows


def test_it_gives_what_reading_gives(log: str) -> None:
    """In the same order, and the end again and again."""
    ahead = ReadAhead(LogRows(log, 1 << 20))
    assert LINES == all_of(ahead, [])
    assert ahead.read() is None
    assert ahead.bytes_done == ahead.bytes_total > 0
    ahead.close()
    ahead.close()
    assert [] == readers()


def test_an_error_comes_behind_the_pieces_before_it(tmp_path: Path) -> None:
    """And once; there is nothing behind it."""
    (tmp_path / "log.zst").write_bytes(zstd.compress(TEXT) + b"this is no frame")
    ahead = ReadAhead(LogRows(str(tmp_path / "log.zst"), 1 << 20))
    rows: list[bytes] = []
    with pytest.raises(SourceError, match="damaged"):
        all_of(ahead, rows)
    assert LINES == rows
    assert ahead.read() is None
    ahead.close()
    assert [] == readers()


def test_it_does_not_read_further_ahead_than_it_may(log: str) -> None:
    """What waits is bounded, so a file of any size takes the same memory."""
    ahead = ReadAhead(LogRows(log, 1 << 20))
    assert ahead.read() is not None
    ahead._thread.join(0.2)
    assert ahead._thread.is_alive()
    assert ahead._pieces.qsize() == PIECES_AHEAD_MAX
    ahead.close()
    assert [] == readers()


@pytest.mark.parametrize("pieces", [0, 1, 5])
async def test_who_stops_early_leaves_no_thread(log: str, pieces: int) -> None:
    """The thread waits for a place then, and would for ever."""
    source = FileSource([log])
    await source.start()
    for _ in range(pieces):
        assert await source.read() is not None
    await source.close()
    assert [] == readers()
    assert await source.read() is None


async def test_who_is_cancelled_leaves_no_thread(log: str) -> None:
    """A replay that is interrupted, wherever it is."""

    async def read_all() -> int:
        source = FileSource([log])
        await source.start()
        rows = 0
        try:
            while (raw := await source.read()) is not None:
                rows += len(rows_of_batch(raw))
                begun.set()
                await asyncio.sleep(0)
        finally:
            await source.close()
        return rows

    begun = asyncio.Event()
    task = asyncio.create_task(read_all())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [] == readers()
    assert len(LINES) == await read_all()
    assert [] == readers()
