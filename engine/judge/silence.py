"""When the stream last said nothing though calls were to be expected: ends of calls may be lost.

A call whose end was lost stays in flight until something heals it (a heartbeat that is missed, a list of live
calls, `engine.call_ttl`), so levels are too high after such a gap. Nothing tells which calls these are: a
page of a limit says that there was a gap (`pages.py`). What is expected is what came in the hour before: an
evening that goes quiet at once is a gap as well.
"""

from __future__ import annotations

from typing import NamedTuple

NS_PER_S = 1_000_000_000
MISSING_CALLS = 20  # as many are expected in a gap, at the rate of the hour before it
GAP_NS_MIN = 60 * NS_PER_S


class Gap(NamedTuple):
    """A time without any event, in event time."""

    from_ns: int
    to_ns: int


class Silence:
    """The newest gap. `gap` is None until there was one."""

    def __init__(self) -> None:
        """Start without a gap, before the first event."""
        self.gap: Gap | None = None
        self._from_ns = -1  # end of the newest slice in which anything came
        self._usual_per_s = 0.0  # calls that started, a second, in the hour before that

    def take(self, start_ns: int, end_ns: int, events: int, started_per_s: float) -> None:
        """Look at one slice: how many events came in it, and how many calls a second in the hour up to it."""
        if not events:
            return
        if self._from_ns >= 0:
            gap = Gap(self._from_ns, start_ns)
            silent_ns = gap.to_ns - gap.from_ns
            if silent_ns >= GAP_NS_MIN and self._usual_per_s * silent_ns / NS_PER_S >= MISSING_CALLS:
                self.gap = gap
        self._from_ns, self._usual_per_s = end_ns, started_per_s

    def within(self, end_ns: int, span_ns: int) -> Gap | None:
        """Give the newest gap if it ended less than `span_ns` before `end_ns`."""
        return self.gap if self.gap is not None and end_ns - self.gap.to_ns < span_ns else None
