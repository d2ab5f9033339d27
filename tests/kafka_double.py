"""A Kafka broker of one topic that serves batches as they were written, to consumers without a group.

It speaks what aiokafka asks of such a broker: versions, metadata, offsets, fetches. It keeps `min_bytes` and
`max_wait`, so that settings of fetches can be measured. What it serves may be damaged, as a real broker's
answer may be, and costs next to no processor time of the reader's. Groups and transactions are tested against
a real Kafka (tests/integration).
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
import time
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TOPIC = "calls"
PRODUCE, FETCH, OFFSETS, METADATA, COORDINATOR, VERSIONS = 0, 1, 2, 3, 10, 18
# Nothing can be produced; librdkafka takes the version for a sign that the broker has this format of batches.
SPOKEN = {PRODUCE: 3, FETCH: 4, OFFSETS: 1, METADATA: 1, COORDINATOR: 0, VERSIONS: 0}
UNSUPPORTED_VERSION = 35
EARLIEST = -2
LOOK_AGAIN_S = 0.002
Parts = list[bytes | memoryview]


class Log(Protocol):
    """One partition."""

    @property
    def aborted(self) -> Sequence[tuple[int, int]]:
        """Give (producer, first offset) of transactions that were taken back."""

    def end_offset(self) -> int:
        """Give the offset after the last row that is there."""

    def read(self, offset: int, bytes_max: int) -> Parts:
        """Give batches from the one with this offset on: one at least, then as many as there is room for."""


class Written(NamedTuple):
    """A log of batches as they are, all there at once; the last one of an answer may be cut off."""

    batches: Sequence[tuple[int, bytes]]  # (first offset, batch)
    end: int
    aborted: Sequence[tuple[int, int]] = ()

    def end_offset(self) -> int:
        """Give the end that was stated."""
        return self.end

    def read(self, offset: int, bytes_max: int) -> Parts:
        """Give what was written, to the byte."""
        first = max(bisect_right([base for base, _ in self.batches], offset) - 1, 0)
        found: Parts = []
        room = bytes_max
        for _, batch in self.batches[first:] if offset < self.end else ():
            found.append(batch[: max(room, 0)] if found else batch)
            room -= len(batch)
        return found


class Cycle:
    """A log that fills up at a steady rate: the same batches again and again, at ever higher offsets.

    The offset of a batch is not under its checksum, so it is written anew and nothing else is.
    """

    aborted = ()

    def __init__(self, batches: Sequence[bytes], rows: Sequence[int], *, rows_per_s: float) -> None:
        """Take batches and how many rows each holds; the first one is there from now on."""
        self._batches = [memoryview(batch)[8:] for batch in batches]
        self._first = [sum(rows[:each]) for each in range(len(rows) + 1)]
        self._rows_per_s = rows_per_s
        self._since_s = time.monotonic()

    def end_offset(self) -> int:
        """Give how many rows are there by now."""
        due = int((time.monotonic() - self._since_s) * self._rows_per_s)
        turns, rest = divmod(due, self._first[-1])
        return turns * self._first[-1] + self._first[bisect_right(self._first, rest) - 1]

    def read(self, offset: int, bytes_max: int) -> Parts:
        """Give whole batches."""
        found: Parts = []
        size, end = 0, self.end_offset()
        turn, rest = divmod(offset, self._first[-1])
        number = bisect_right(self._first, rest) - 1
        while turn * self._first[-1] + self._first[number] < end:
            batch = self._batches[number]
            size += len(batch) + 8
            if found and size > bytes_max:
                break
            found += [struct.pack(">q", turn * self._first[-1] + self._first[number]), batch]
            turn, number = (turn, number + 1) if number + 1 < len(self._batches) else (turn + 1, 0)
        return found


class Reader:
    """Takes one field after another out of a request."""

    def __init__(self, data: bytes) -> None:
        """Begin at the first byte."""
        self._data = data
        self._at = 0

    def take(self, form: str) -> tuple[int, ...]:
        """Take numbers."""
        found = struct.unpack_from(">" + form, self._data, self._at)
        self._at += struct.calcsize(">" + form)
        return found

    def text(self) -> str:
        """Take a text behind its length."""
        (size,) = self.take("h")
        self._at += max(size, 0)
        return self._data[self._at - max(size, 0) : self._at].decode()


class KafkaDouble:
    """Serves partitions 0, 1, ... until it is closed; `bootstrap` is its address."""

    def __init__(self, logs: Sequence[Log]) -> None:
        """Listen on a free port; `serve` serves."""
        self.logs = logs
        self.fetches = 0
        self._closing = threading.Event()
        handler: Any = self._connected  # Any callable does; the types ask for a class.
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.bootstrap = f"127.0.0.1:{self._server.server_address[1]}"

    def serve(self) -> None:
        """Answer in this thread until another one closes."""
        self._server.serve_forever(0.05)

    def close(self) -> None:
        """Take no more connections."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, api: int, version: int, request: Reader) -> Parts:
        """Answer one request."""
        if api == FETCH:
            return self._fetched(request)
        if api == OFFSETS:
            return [self._offsets(request)]
        if api == METADATA:
            return [self._metadata()]
        if api == COORDINATOR:
            return [struct.pack(">hi", 0, 0), self._address()]
        assert api == VERSIONS, f"no answer to a request of kind {api}"
        spoken = b"".join(struct.pack(">hhh", one, version, version) for one, version in SPOKEN.items())
        # A client that asks in a newer way is told so, in the oldest, and asks again.
        error = 0 if version == SPOKEN[VERSIONS] else UNSUPPORTED_VERSION
        return [struct.pack(">hi", error, len(SPOKEN)), spoken]

    def _address(self) -> bytes:
        return _text("127.0.0.1") + struct.pack(">i", int(self._server.server_address[1]))

    def _metadata(self) -> bytes:
        brokers = struct.pack(">ii", 1, 0) + self._address() + struct.pack(">hi", -1, 0)
        partitions = b"".join(
            struct.pack(">hiiiiii", 0, number, 0, 1, 0, 1, 0) for number in range(len(self.logs))
        )
        topic = struct.pack(">ih", 1, 0) + _text(TOPIC) + b"\0" + struct.pack(">i", len(self.logs))
        return brokers + topic + partitions

    def _offsets(self, request: Reader) -> bytes:
        request.take("i")
        request.take("i")
        topic = request.text()
        (count,) = request.take("i")
        found = struct.pack(">i", 1) + _text(topic) + struct.pack(">i", count)
        for _ in range(count):
            number, since = request.take("iq")
            at = 0 if since == EARLIEST else self.logs[number].end_offset()
            found += struct.pack(">ihqq", number, 0, -1, at)
        return found

    def _fetched(self, request: Reader) -> Parts:
        self.fetches += 1
        _, wait_ms, bytes_min, bytes_max, _, _ = request.take("iiiibi")
        topic = request.text()
        (count,) = request.take("i")
        asked = [request.take("iqi") for _ in range(count)]
        give_up_s = time.monotonic() + wait_ms / 1000
        while True:
            found: Parts = [struct.pack(">ii", 0, 1), _text(topic), struct.pack(">i", count)]
            size = 0
            for number, offset, partition_bytes_max in asked:
                log = self.logs[number]
                batches = log.read(offset, min(partition_bytes_max, bytes_max))
                end, length = log.end_offset(), sum(map(len, batches))
                aborted = b"".join(struct.pack(">qq", *each) for each in log.aborted)
                found.append(struct.pack(">ihqqi", number, 0, end, end, len(log.aborted)) + aborted)
                found += [struct.pack(">i", length), *batches]
                size += length
            left_s = give_up_s - time.monotonic()
            if size >= bytes_min or left_s <= 0:
                return found
            self._closing.wait(min(LOOK_AGAIN_S, left_s))

    def _connected(self, connection: socket.socket, _address: object, _server: object) -> None:
        """Answer one consumer until it goes."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError, EOFError):
            while True:
                (size,) = struct.unpack(">i", _received(connection, 4))
                request = Reader(_received(connection, size))
                api, version, correlation = request.take("hhi")
                request.text()  # the client's name
                parts = self.answer(api, version, request)
                head = struct.pack(">ii", 4 + sum(map(len, parts)), correlation)
                connection.sendall(b"".join([head, *parts]))


def _received(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return bytes(data)


def _text(text: str) -> bytes:
    return struct.pack(">h", len(text)) + text.encode()


@contextlib.contextmanager
def serving(*logs: Log) -> Iterator[KafkaDouble]:
    """Serve these partitions in a thread."""
    double = KafkaDouble(logs)
    thread = threading.Thread(target=double.serve, daemon=True)
    thread.start()
    try:
        yield double
    finally:
        double.close()
        thread.join()
