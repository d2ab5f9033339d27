"""The slow twin of a partition's clock: how far a row moves the newest time. And the settings of twins."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.observe_events import MINUTE, S


@dataclass
class Rules:
    """The settings that the twin knows."""

    slice_ns: int = 5 * S
    out_of_order_ns: int = 5 * S
    late_ns: int = 60 * S
    ttl_ns: int = 4 * 3600 * S
    missed: int = 3
    heartbeat_ns: int = 30 * S
    beyond_late_ns: int = 5 * MINUTE
    list_delay_ns: int = 15 * S
    jump_ns: int = 60 * S  # of a plain log


@dataclass
class Clock:
    """The newest time of one partition, and a jump that is not believed yet."""

    newest_ns: int = -1
    jump: list[int] = field(default_factory=list)
    ahead: int = 0
    jump_ns: int = 60 * S
    ahead_ns: int = 300 * S

    def move(self, time_ns: int) -> None:
        """Move the newest time on; beyond a jump, when nine more rows lie there than do not."""
        is_jump = time_ns > self.newest_ns + self.jump_ns
        if is_jump:
            self.jump = sorted([*self.jump, time_ns])
            if len(self.jump) == 9:
                self.newest_ns = self.jump[0]
        else:
            self.newest_ns = max(self.newest_ns, time_ns)
        while self.jump and self.jump[0] <= self.newest_ns + self.jump_ns:
            self.newest_ns = max(self.newest_ns, self.jump.pop(0))
        if self.jump and not is_jump:
            self.jump.pop()
            self.ahead += 1

    def believable_ns(self) -> int:
        """Give the newest time that is believed where the log ends."""
        return max(self.newest_ns + self.ahead_ns, *self.jump, 0)

    def watermark_ns(self, rules: Rules) -> int:
        """Give how far the partition has come; -1 before its first row."""
        return self.newest_ns - rules.out_of_order_ns if self.newest_ns >= 0 else -1
