"""A wire to a real broker that flips bits of what it answers to fetches, by a seed, while it is told to.

It stands between: brokers name their own address in their answers, so it puts its own in its place. What it
flips is what an answer is made of: the records, or the frame round them. It spares the names and numbers of
partitions, since no client can find out that rows are of another one: against that there is TLS.
"""

import contextlib
import functools
import io
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from aiokafka.protocol.fetch import FetchResponse_v4, FetchResponse_v11

from tests.integration.kafka_broker import Kafka

FETCH = 1
HOST = b"127.0.0.1"
FRAME_BYTES, CORRELATION_BYTES = 4, 4
RESPONSES = {FetchResponse_v4.API_VERSION: FetchResponse_v4, FetchResponse_v11.API_VERSION: FetchResponse_v11}

Where = Callable[[bytes, int], list[tuple[int, int]]]


def records_in(frame: bytes, version: int) -> list[tuple[int, int]]:
    """Give where the records lie in an answer, as (begin, end)."""
    answer = RESPONSES[version].decode(io.BytesIO(frame[FRAME_BYTES + CORRELATION_BYTES :]))
    found, at = [], 0
    for _, partitions in answer.topics:
        for _, *_, records in partitions:
            if records:
                at = frame.index(records, at)
                found.append((at, at + len(records)))
                at += len(records)
    return found


def offsets_in(frame: bytes, version: int) -> list[tuple[int, int]]:
    """Give where the first batch of each partition has its offset, which is in no checksum."""
    return [(begin, begin + 8) for begin, _ in records_in(frame, version)]


def length_in(_frame: bytes, _version: int) -> list[tuple[int, int]]:
    """Give where an answer says how long it is."""
    return [(0, FRAME_BYTES)]


def correlation_in(_frame: bytes, _version: int) -> list[tuple[int, int]]:
    """Give where an answer says to what it is one."""
    return [(FRAME_BYTES, FRAME_BYTES + CORRELATION_BYTES)]


def lengths_of_records_in(frame: bytes, version: int) -> list[tuple[int, int]]:
    """Give where an answer says how long the records of a partition are."""
    return [(begin - 4, begin) for begin, _ in records_in(frame, version)]


class FlippingWire:
    """Listens at `bootstrap`; `flipped` counts the bits. Used as a context manager."""

    def __init__(self, kafka: Kafka, seed: int) -> None:
        """Listen; nothing is flipped yet."""
        self._kafka = kafka
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._port = self._listener.getsockname()[1]
        self.bootstrap = f"127.0.0.1:{self._port}"
        self.flipped = self.connections = 0
        self._generator = np.random.default_rng(seed)
        self._lock = threading.Lock()
        self._where: Where = records_in
        self._to_flip = 0
        self._chance = 0.0
        self._open: list[socket.socket] = []

    def __getattr__(self, name: str) -> Any:
        """Be the broker otherwise: topics are made and rows produced without a flip."""
        return getattr(self._kafka, name)

    def flip(self, where: Where, count: int, chance: float = 1.0) -> None:
        """Flip a bit in each answer that has one there, by chance, until so many are flipped."""
        with self._lock:
            self._where, self._to_flip, self._chance = where, count, chance

    @property
    def is_flipping(self) -> bool:
        """Say whether there are bits left to flip."""
        return self._to_flip > 0

    def __enter__(self) -> Self:
        """Accept connections."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything."""
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        host, _, port = self._kafka.bootstrap.rpartition(":")
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                broker = socket.create_connection((host, int(port)))
                self._open += [client, broker]
                asked: dict[int, tuple[int, int]] = {}
                for work in (
                    functools.partial(self._carry, client, broker, functools.partial(_note, asked)),
                    functools.partial(self._carry, broker, client, functools.partial(self._answer, asked)),
                ):
                    threading.Thread(target=work, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes]) -> None:
        """Hand on frame by frame until either side is gone; then the other goes too."""
        with contextlib.suppress(OSError), source.makefile("rb") as stream:
            while len(head := stream.read(FRAME_BYTES)) == FRAME_BYTES:
                sink.sendall(change(head + stream.read(int.from_bytes(head, "big"))))
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _answer(self, asked: dict[int, tuple[int, int]], frame: bytes) -> bytes:
        api, version = asked.pop(int.from_bytes(frame[4:8], "big"), (-1, -1))
        if api == FETCH:
            return self._hurt(frame, version)
        port = struct.pack(">i", int(self._kafka.bootstrap.rpartition(":")[2]))
        return frame.replace(HOST + port, HOST + struct.pack(">i", self._port))

    def _hurt(self, frame: bytes, version: int) -> bytes:
        with self._lock:
            places = self._where(frame, version) if self._to_flip else []
            if not places or not records_in(frame, version) or self._generator.random() >= self._chance:
                return frame
            self._to_flip -= 1
            self.flipped += 1
            begin, end = places[int(self._generator.integers(len(places)))]
            hurt = bytearray(frame)
            hurt[int(self._generator.integers(begin, end))] ^= 1 << int(self._generator.integers(8))
            return bytes(hurt)


def _note(asked: dict[int, tuple[int, int]], frame: bytes) -> bytes:
    """Remember what is asked: an answer does not say what it is."""
    api, version, correlation = struct.unpack_from(">hhi", frame, FRAME_BYTES)
    asked[correlation] = api, version
    return frame
