"""Checkpoints in a compacted topic, for a member on a host that has none of its own.

A cut is one record for each blob and one for its manifest, which is sent last, when all others are
acknowledged. Cuts take turns between two slots, so that one that was cut short leaves the one before whole
through compaction; and all lie in the lowest partition, so that they are read from its end alone, and found
when partitions are added. Earlier ones lay where the number of partitions said, and are looked for there. A
record says which file it was: a manifest never takes the blob of another cut. Nothing here is fatal.
"""

from __future__ import annotations

import asyncio
import functools
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition, errors

from engine.errors import SourceError
from engine.source.kafka_connection import close_consumer, connection_options
from engine.source.kafka_insides import partitions_of
from engine.source.kafka_producer import start_producer, stop_producer
from engine.state.encoding import StateError
from engine.state.manifest import MANIFEST_BYTES_MAX, Candidate, Refused, manifest_bytes, manifest_of

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

    from engine.settings import Settings
    from engine.state.manifest import Manifest

MANIFEST, FILE = "manifest", "file"
CLIENT_ID = "callgauge-state"
SLOTS = 2
RECORD_BYTES_MAX = 16 << 20
OVERHEAD_BYTES = 4096  # of a record: key, header, and what Kafka adds
TAIL_ROWS = 64  # looked at first; then eight times as many
REQUEST_MS = 8000
READ_S = 20.0
# What keeps a topic from being read or written: brokers, the network, secrets that cannot be read.
TROUBLES = (errors.KafkaError, TimeoutError, OSError, SourceError)
TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)


class Kept(NamedTuple):
    """One record."""

    file: str
    value: bytes


class StateTopic:
    """Writes and reads the cuts of one group and topic. Owned by the loop's thread."""

    def __init__(self, settings: Settings, request_ms: int = REQUEST_MS) -> None:
        """Open nothing; `request_ms` is how long a broker may take for an answer."""
        self._request_ms = request_ms
        self._kafka = settings.kafka
        self._topic = settings.state.topic
        self._bytes_max = settings.state.bytes_max
        self._prefix = f"{settings.kafka.group_id}/{settings.kafka.topic}/"
        self._producer: AIOKafkaProducer | None = None
        self._slot = 0

    async def write(self, manifest: Manifest, candidate: Candidate) -> int:
        """Write a cut that is on the disk; give its bytes. StateError says why it is not there."""
        sizes = [entry.bytes for entry in manifest.blobs.values()]
        if max(sizes, default=0) > RECORD_BYTES_MAX - OVERHEAD_BYTES:
            raise StateError("topic_too_large", f"a blob of {max(sizes)} bytes is no record of state.topic")
        try:
            producer = await self._started()
            slot = f"{self._prefix}{self._slot}/"
            partition = self._partition(await producer.partitions_for(self._topic))
            for name, entry in manifest.blobs.items():
                value = await asyncio.to_thread(candidate.get, entry.file, RECORD_BYTES_MAX)
                await self._send(producer, partition, slot + name, Kept(entry.file, value))
            data = manifest_bytes(manifest)
            await self._send(producer, partition, slot + MANIFEST, Kept(MANIFEST, data))
        except TOO_LARGE as error:
            raise StateError(
                "topic_too_large",
                "the broker takes no record so large: raise max.message.bytes of state.topic",
            ) from error
        except TROUBLES as error:
            await self.close()
            raise StateError("topic", f"state.topic was not written ({type(error).__name__})") from error
        self._slot = (self._slot + 1) % SLOTS
        return len(data) + sum(sizes)

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = await start_producer(self._kafka, CLIENT_ID, self._request_ms, RECORD_BYTES_MAX)
        return self._producer

    async def _send(self, producer: AIOKafkaProducer, partition: int, key: str, kept: Kept) -> None:
        headers = [(FILE, kept.file.encode())]
        await producer.send_and_wait(
            self._topic, kept.value, key.encode(), partition=partition, headers=headers
        )

    def _partition(self, partitions: set[int] | None) -> int:
        """Say where cuts are written: at the same place, however many partitions there are."""
        if not partitions:
            raise errors.UnknownTopicOrPartitionError(self._topic)
        return min(partitions)

    def _places(self, partitions: set[int] | None) -> list[int]:
        """Say where cuts may lie: by how many partitions there were, and at last where they are written."""
        lowest, numbers = self._partition(partitions), sorted(partitions or ())
        check = zlib.crc32(self._prefix.encode())
        earlier = {numbers[check % count] for count in range(1, len(numbers) + 1)}
        return [*sorted(earlier - {lowest}), lowest]

    async def read(self, topic: str, topic_id: str) -> tuple[list[Candidate], list[Refused]]:
        """Give the cuts that are there, and what was refused; StateError if it cannot be read."""
        try:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=list(self._kafka.bootstrap_servers), client_id=CLIENT_ID,
                max_partition_fetch_bytes=RECORD_BYTES_MAX, request_timeout_ms=self._request_ms,
                **connection_options(self._kafka),
            )  # fmt: skip
            try:
                async with asyncio.timeout(READ_S):
                    await consumer.start()
                    tails = await self._tails(consumer)
            finally:
                await close_consumer(consumer)
        except TROUBLES as error:
            raise StateError("topic", f"state.topic was not read ({type(error).__name__})") from error
        found: list[Candidate] = []
        refused: list[Refused] = []
        for newest in tails:  # The last one says which slot is next.
            found_there, refused_there = self._cuts(newest, topic, topic_id)
            found, refused = found + found_there, refused + refused_there
        return found, refused

    async def _tails(self, consumer: Any) -> list[dict[str, Kept]]:
        """Read each place from its end as far back as both slots need."""
        partitions = await partitions_of(consumer, self._topic)
        places = [TopicPartition(self._topic, number) for number in self._places(partitions)]
        consumer.assign(places)
        begins = await consumer.beginning_offsets(places)
        ends = await consumer.end_offsets(places)
        return [await self._tail(consumer, place, begins[place], ends[place]) for place in places]

    async def _tail(self, consumer: Any, place: TopicPartition, begin: int, end: int) -> dict[str, Kept]:
        consumer.assign([place])
        rows = TAIL_ROWS
        while True:
            first = max(end - rows, begin)
            newest = await self._newest(consumer, place, first, end)
            whole = [slot for slot in range(SLOTS) if self._manifest(newest, slot) is not None]
            if first == begin or len(whole) == SLOTS:
                return newest
            rows *= 8

    async def _newest(self, consumer: Any, place: TopicPartition, first: int, end: int) -> dict[str, Kept]:
        """Give the newest record of each key of ours."""
        consumer.seek(place, first)
        newest: dict[str, Kept] = {}
        while first < end:
            for record in (await consumer.getmany(place, timeout_ms=200, max_records=16)).get(place, []):
                key = (record.key or b"").decode(errors="replace")
                if key.startswith(self._prefix) and record.value is not None:
                    file = dict(record.headers).get(FILE, b"").decode(errors="replace")
                    newest[key.removeprefix(self._prefix)] = Kept(file, record.value)
                    if sum(len(one.value) for one in newest.values()) > SLOTS * self._bytes_max:
                        raise StateError("too_large", "state.topic holds more than state.bytes_max")
            first = await consumer.position(place)
        return newest

    def _manifest(self, newest: dict[str, Kept], slot: int) -> Kept | None:
        return newest.get(f"{slot}/{MANIFEST}")

    def _cuts(
        self, newest: dict[str, Kept], topic: str, topic_id: str
    ) -> tuple[list[Candidate], list[Refused]]:
        found: list[Candidate] = []
        refused: list[Refused] = []
        best = 0
        for slot in range(SLOTS):
            kept = self._manifest(newest, slot)
            if kept is None:
                continue
            try:
                manifest = manifest_of(kept.value[:MANIFEST_BYTES_MAX], topic, topic_id)
            except StateError as error:
                refused.append(Refused(error.reason, f"{error} (in state.topic)"))
                continue
            files = {one.file: one.value for key, one in newest.items() if key.startswith(f"{slot}/")}
            if not files.keys() >= {entry.file for entry in manifest.blobs.values()}:
                continue  # The next one was begun in its slot, and not ended.
            get = functools.partial(_get, files)
            found.append(Candidate(manifest, "state.topic", get, _leave))
            if sum(manifest.next_offsets.values()) >= best:
                best, self._slot = sum(manifest.next_offsets.values()), (slot + 1) % SLOTS
        return found, refused

    async def close(self) -> None:
        """Let the producer go; whatever it has not sent is not sent."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_producer(producer)


def _get(files: dict[str, bytes], file: str, bytes_max: int) -> bytes:
    data = files[file]
    if len(data) > bytes_max:
        raise OSError(None, "larger than state.bytes_max")
    return data


def _leave() -> None:
    """Leave a record that cannot be used where it is: the next cuts take its place."""
