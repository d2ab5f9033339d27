"""What a source can say of itself: counters since the start, and how it stands."""

from __future__ import annotations

from typing import NamedTuple


class SourceStats(NamedTuple):
    """A log has no lag and never rebuilds: what a source does not know stays as it is here."""

    lag_rows: tuple[tuple[str, int, int], ...] = ()  # (topic, partition, rows that wait)
    rebuilds: int = 0  # consumers made anew
    rebalances: int = 0
    queue_batches: int = 0  # that wait for the line
    commits_failed: int = 0
    unauthorized: int = 0  # times that the broker did not let us read
    lost_rows: tuple[tuple[str, int], ...] = ()  # (reason, rows) of what was in the log and could not be read
    tombstones: int = 0  # records without a value
    refetches: int = 0  # times that a batch was fetched again: it was damaged, or its offset doubted
    doubts_forgotten: int = 0  # doubted offsets that there was no room to remember
    asked_again: int = 0  # times that a broker was asked once more for the topic's id or where to begin
    raw_batches: bool = False  # whole record batches are read, not record by record
    state: str = "reading"  # waiting | standby | reading | closed
    insecure: bool = False  # calls come unencrypted from another machine
