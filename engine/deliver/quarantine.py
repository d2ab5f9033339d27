"""Rows that could not be decoded, redacted, a JSON line each in a file: where they lay, why, and their shape.

Off unless a path is given: a sidecar may have no disk, and how many rows are lost, why and where is in
metrics and log without it. Bounded three times: lines a second, bytes of a file, two files (`line_file.py`).
What is beyond is dropped and counted. There is no fsync: what a crash takes is only a hint. The topic itself
holds the rows: `topic`, `partition` and `offset` lead there. The same rows may go to a topic of their own
(`quarantine_topic.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import orjson

from engine.deliver.line_file import LineFile
from engine.deliver.quarantine_topic import QuarantineTopic
from engine.deliver.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.decode.rejects import Reject
    from engine.settings import KafkaSettings, QuarantineSettings

NS_PER_S = 1_000_000_000


class QuarantineStats(NamedTuple):
    """Lines since the start."""

    written: int = 0
    dropped: int = 0  # beyond the rate
    failed: int = 0  # the disk refused
    topic_written: int = 0
    topic_dropped: int = 0  # no room while the brokers were away
    topic_failed: int = 0


class Quarantine:
    """Appends to the file of the settings; without a path it does nothing. A write is short, and blocks."""

    def __init__(self, settings: QuarantineSettings, kafka: KafkaSettings | None = None) -> None:
        self._topic = QuarantineTopic(settings.topic, kafka) if settings.topic and kafka else None
        self._file = LineFile(settings.path, settings.bytes_max, "quarantine") if settings.path else None
        self._rate_max = settings.rows_per_s_max
        self._room = float(settings.rows_per_s_max)
        self._filled_ns = 0
        self._dropped = 0

    @property
    def stats(self) -> QuarantineStats:
        """What became of rows so far."""
        topic, file = self._topic, self._file
        return QuarantineStats(
            written=file.written if file else 0,
            dropped=self._dropped,
            failed=file.failed if file else 0,
            topic_written=topic.written if topic else 0,
            topic_dropped=topic.dropped if topic else 0,
            topic_failed=topic.failed if topic else 0,
        )

    def start(self) -> None:
        """Begin to write to the topic, if there is one."""
        if self._topic is not None:
            self._topic.start()

    async def close(self) -> None:
        """Write what waits for the topic, and let it go."""
        if self._topic is not None:
            await self._topic.close()

    def add(self, rejects: Sequence[Reject], dropped_before: int, now_ns: int) -> None:
        """Write rejected rows down, at wall clock `now_ns`; `dropped_before` more were not kept."""
        if self._file is None and self._topic is None:
            return
        past_s = max(now_ns - self._filled_ns, 0) / NS_PER_S
        self._room = min(self._room + past_s * self._rate_max, float(self._rate_max))
        self._filled_ns = now_ns
        taken = rejects[: int(self._room)]
        self._room -= len(taken)
        self._dropped += dropped_before + len(rejects) - len(taken)
        if self._topic is not None:
            self._topic.offer(taken)
        if taken and self._file is not None:
            self._file.append([_line(one, now_ns) for one in taken])


def _line(reject: Reject, now_ns: int) -> bytes:
    sample = reject.sample
    fields = {
        "at": rfc3339(now_ns),
        "topic": sample.topic,
        "partition": sample.partition,
        "offset": sample.offset,
        "reason": sample.reason.name.lower(),
        "size_bytes": reject.size_bytes,
        "shape": reject.shape,
    }
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
