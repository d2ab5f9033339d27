"""What `/metrics` says of checkpoints: how old the last one is, what it took, and what came of a restore."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.deliver.families import COUNTER, GAUGE, Family, by_label, single

if TYPE_CHECKING:
    from collections.abc import Iterator


class CheckpointStats:
    """Counters of this process; written by whoever works on checkpoints, read at a scrape."""

    def __init__(self) -> None:
        """Nothing was written or read yet."""
        self.last_s = 0.0  # wall clock of the last one that is on the disk; 0: none
        self.bytes = 0
        self.take_s = self.write_s = 0.0
        self.count = self.topic_count = 0
        self.topic_last_s = 0.0
        self.topic_bytes = 0
        self.failures: dict[str, int] = {}
        self.outcomes: dict[str, int] = {}

    def written(self, size: int, take_s: float, write_s: float, now_s: float) -> None:
        """Note a checkpoint: its bytes, how long the line stood still, and how long it took to write."""
        self.count += 1
        self.bytes, self.take_s, self.write_s, self.last_s = size, take_s, write_s, now_s

    def written_to_topic(self, size: int, now_s: float) -> None:
        """Note one that is in the topic as well."""
        self.topic_count += 1
        self.topic_bytes, self.topic_last_s = size, now_s

    def failed(self, reason: str) -> None:
        """Count one that was not written."""
        self.failures[reason] = self.failures.get(reason, 0) + 1

    def restored(self, what: str) -> None:
        """Count a checkpoint that was taken over, `whole` or the `alerts` alone."""
        self.outcomes[what] = self.outcomes.get(what, 0) + 1

    def refused(self, reason: str) -> None:
        """Count one that was set aside."""
        self.restored(f"refused_{reason}")


def checkpoint_families(stats: CheckpointStats) -> Iterator[Family]:
    """Give the figures; those of the last checkpoint only once there is one."""
    help_text = "Checkpoints that were written to the disk."
    yield single("callgauge_checkpoints_total", COUNTER, help_text, stats.count)
    if stats.count:
        help_text = "When the last checkpoint was on the disk."
        yield single("callgauge_checkpoint_timestamp_seconds", GAUGE, help_text, stats.last_s)
        help_text = "Size of the last checkpoint."
        yield single("callgauge_checkpoint_size_bytes", GAUGE, help_text, stats.bytes)
        help_text = "How long the line stood still for the last checkpoint."
        yield single("callgauge_checkpoint_take_seconds", GAUGE, help_text, stats.take_s)
        help_text = "How long the last checkpoint took to be on the disk."
        yield single("callgauge_checkpoint_write_seconds", GAUGE, help_text, stats.write_s)
    if stats.topic_count:
        help_text = "Checkpoints that were written to state.topic."
        yield single("callgauge_state_topic_checkpoints_total", COUNTER, help_text, stats.topic_count)
        help_text = "When the last checkpoint was in state.topic."
        yield single("callgauge_state_topic_timestamp_seconds", GAUGE, help_text, stats.topic_last_s)
        help_text = "Size of the last checkpoint in state.topic."
        yield single("callgauge_state_topic_size_bytes", GAUGE, help_text, stats.topic_bytes)
    help_text = "Checkpoints that could not be written, by reason."
    yield by_label(
        "callgauge_checkpoint_failures_total", COUNTER, help_text, "reason", sorted(stats.failures.items())
    )
    help_text = "Checkpoints that were read at an assignment, by what came of them."
    yield by_label(
        "callgauge_checkpoint_restores_total", COUNTER, help_text, "outcome", sorted(stats.outcomes.items())
    )
