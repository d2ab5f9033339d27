"""What the Kafka source says of itself, for metrics."""

from __future__ import annotations

from typing import NamedTuple


class KafkaStats(NamedTuple):
    """Counters since the start, and how things are now."""

    lag_rows: tuple[tuple[str, int, int], ...]  # (topic, partition, rows that wait)
    rebuilds: int
    rebalances: int
    queue_batches: int
    commits_failed: int
    unauthorized: int
    lost_rows: tuple[tuple[str, int], ...]  # (reason, rows) of what was in the log and could not be read
    tombstones: int  # rows without a value
    refetches: int  # times that a batch was fetched again, because it was damaged or its offset doubted
    doubts_forgotten: int  # doubted offsets that there was no room to remember: fetched again more often
    asked_again: int  # times that a broker was asked once more for the topic's id or where to begin
    raw_batches: bool  # whole batches are read, not record by record
    last_poll_ns: int  # 0: never polled
    state: str  # waiting | standby | reading | closed
    insecure: bool  # a broker elsewhere is read without encryption
