"""A consumer of aiokafka whose `getmany` gives chunks of rows instead of a Python object for every record.

aiokafka makes a record out of every few hundred bytes before anybody has looked at one; that costs more than
all the rest. Its fetcher hands the bytes of an answer to two classes, `MemoryRecords` and `PartitionRecords`.
Here the same functions are bound to two others under these names, in subclasses of ours: aiokafka itself is
left as it is, and group, positions, commits, pauses and seeks are all its own. This leans on private names,
so it is used with the versions that it was tried with alone (tests/test_raw_contract.py), and records are
read otherwise. Copying the two functions was rejected: 200 lines of somebody else's to keep up with.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

import aiokafka
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, Fetcher

from engine.kernel import FAST_PATH
from engine.source.batch_reader import Fetched, Room, read_chunks
from engine.source.record_batch import SEGMENT_COLUMNS, frame_records

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.settings import KafkaSettings
    from engine.source.rows import Chunk

VERSIONS = ("0.14.0",)
BOUND_ANEW = (
    (Fetcher, "_proc_fetch_request", ("MemoryRecords", "PartitionRecords")),
    (AIOKafkaConsumer, "start", ("Fetcher",)),
)


def why_not_raw(version: str = aiokafka.__version__) -> str:
    """Say why whole batches cannot be taken out of the aiokafka that is installed; "" if they can."""
    if not FAST_PATH:
        return "CALLGAUGE_FAST_PATH is off"
    if version not in VERSIONS:
        return f"aiokafka {version} is not one of those it was tried with: {', '.join(VERSIONS)}"
    for owner, function, names in BOUND_ANEW:
        code = getattr(getattr(owner, function, None), "__code__", None)
        missing = [name for name in names if code is None or name not in code.co_names]
        if missing:
            return f"aiokafka's {owner.__name__}.{function} does not use {missing[0]}"
    return ""


def load_framing() -> None:
    """Compile or load the kernel, in whatever thread: the loop must not wait for it at the first row."""
    data = np.frombuffer(b"\0", np.uint8)
    frame_records(data, np.empty((0, SEGMENT_COLUMNS), np.int64), 0, np.empty((3, 0), np.int64))


def make_raw_consumer(settings: KafkaSettings, **options: Any) -> AIOKafkaConsumer:
    """Make a consumer of which `getmany` gives a list of `Chunk` by partition; `max_records` bounds them."""
    room = Room(settings.batch_bytes_max)

    def reader(*arguments: Any) -> ChunkReader:
        return ChunkReader(room, settings.batch_rows_max, *arguments)

    class RawFetcher(Fetcher):  # type: ignore[misc]
        _proc_fetch_request = bound_anew(
            Fetcher._proc_fetch_request,  # noqa: SLF001
            MemoryRecords=MessageSet,
            PartitionRecords=reader,
        )

    class RawConsumer(AIOKafkaConsumer):  # type: ignore[misc]
        start = bound_anew(AIOKafkaConsumer.start, Fetcher=RawFetcher)

    return RawConsumer(**options)


def bound_anew(function: Callable[..., Any], **names: object) -> FunctionType:
    """Make the same function, which finds other things under some of its global names."""
    assert isinstance(function, FunctionType), "it is written in Python"
    others = function.__globals__ | names
    twin = FunctionType(
        function.__code__, others, function.__name__, function.__defaults__, function.__closure__
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin


class MessageSet:
    """Stands in for `MemoryRecords`: the bytes, of which nothing is read yet."""

    def __init__(self, data: bytes) -> None:
        """Keep the bytes."""
        self.data = data

    def has_next(self) -> bool:
        """Say that there is something to read, a broken batch too: aiokafka would step over it."""
        return len(self.data) > 0

    def size_in_bytes(self) -> int:
        """Give the number of bytes."""
        return len(self.data)


class ChunkReader:
    """Stands in for `PartitionRecords`: an iterator, with the position of the consumer after each chunk."""

    def __init__(  # The arguments are those of `PartitionRecords`.
        self,
        room: Room,
        rows_max: int,
        _partition: TopicPartition,
        message_set: MessageSet,
        aborted: list[tuple[int, int]] | None,
        fetch_offset: int,
        _key_deserializer: object,
        _value_deserializer: object,
        _check_crcs: bool,  # noqa: FBT001
        isolation_level: int,
    ) -> None:
        """Read nothing yet: most of the work is done when the application asks for it."""
        self.next_fetch_offset = fetch_offset
        transactions = tuple((one[0], one[1]) for one in aborted or ())
        fetched = Fetched(message_set.data, fetch_offset, transactions, isolation_level == READ_COMMITTED)
        self._chunks = read_chunks(fetched, room, rows_max)

    def __iter__(self) -> ChunkReader:
        return self

    def __next__(self) -> Chunk:
        chunk = next(self._chunks)
        self.next_fetch_offset = chunk.next_offset
        return chunk
