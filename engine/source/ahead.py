"""Reading ahead: a log is read in a thread of its own, a few pieces before they are asked for.

Decompressing, cutting lines and reading columns then go on while the engine works on the piece before, on
another core if there is one; the pieces, their order, and where an error comes among them stay the same.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.source.log import Log, Piece
    from engine.source.merge import LogMerge

PIECES_AHEAD_MAX = 3
WAIT_S = 0.05


class ReadAhead:
    """Reads a log ahead. `close` ends the thread, wherever it is; the log belongs to this until then."""

    def __init__(self, log: Log | LogMerge) -> None:
        """Begin to read."""
        self._log = log
        self._pieces: queue.Queue[Piece | Exception | None] = queue.Queue(PIECES_AHEAD_MAX)
        self._is_closed = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    @property
    def bytes_done(self) -> int:
        """How many bytes have been read."""
        return self._log.bytes_done

    @property
    def bytes_total(self) -> int:
        """How many bytes there are; 0: not known."""
        return self._log.bytes_total

    @property
    def is_ready(self) -> bool:
        """Say whether `read` will not wait."""
        return self._is_over or not self._pieces.empty()

    def read(self) -> Piece | None:
        """Give the next piece, None at the end; raises what reading it raised."""
        if self._is_over:
            return None
        piece = self._pieces.get()
        self._is_over = piece is None or isinstance(piece, Exception)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        """End the thread and close the log; closing twice is fine."""
        self._is_closed.set()
        self._is_over = True
        while self._thread.is_alive():
            try:
                self._pieces.get(timeout=WAIT_S)  # The thread may wait for a place.
            except queue.Empty:
                self._thread.join(WAIT_S)
        self._log.close()

    def _run(self) -> None:
        while not self._is_closed.is_set():
            try:
                piece: Piece | Exception | None = self._log.read()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is for who reads.
                piece = error
            self._pieces.put(piece)
            if piece is None or isinstance(piece, Exception):
                return
