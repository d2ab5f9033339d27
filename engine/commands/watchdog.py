"""Watches the two things on which everything else waits: the event loop, and the step in the worker thread.

How late the loop runs is measured with a timer that is due all the time. A step that does not end cannot be
ended from outside: a thread has no kill. So it is said: in the log, at `/metrics` and at `/-/healthy`, which
makes an orchestrator restart the process; with checkpoints that loses nothing. Nobody polls the consumer
meanwhile, so the group gives its partitions to a standby after `max_poll_interval`, whoever else acts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.deliver.metrics import Metrics

PROBE_S = 0.05
STEP_S_MAX = 120.0  # a step takes milliseconds, one for which numba must compile half a minute

log = logging.getLogger(__name__)


class Watchdog:
    """Belongs to the thread of the loop."""

    def __init__(self, metrics: Metrics, step_s_max: float = STEP_S_MAX) -> None:
        """Watch nothing before `run`."""
        self._metrics = metrics
        self._step_s_max = step_s_max
        self._step_since_s: float | None = None
        self._is_said = False

    def step_begins(self) -> None:
        """Note that a step was given to the worker thread."""
        self._step_since_s = time.monotonic()

    def step_ended(self) -> None:
        """Note that it is done, and all that belongs to it."""
        self._step_since_s = None
        if self._is_said:
            self._is_said = False
            log.warning("the step has ended after all")

    def step_age_s(self) -> float:
        """Give how long the step has taken that is under way; 0: there is none."""
        return 0.0 if self._step_since_s is None else time.monotonic() - self._step_since_s

    def not_healthy_because(self) -> str:
        """Say what only a restart can mend; "": nothing."""
        return f"a step has not ended in {self._step_s_max:.0f} s" if self._is_stuck() else ""

    async def run(self) -> None:
        """Measure how late the loop runs, and say so once when a step does not end."""
        while True:
            # Not the time of the loop, which uvloop reads once a turn.
            due_s = time.monotonic() + PROBE_S
            await asyncio.sleep(PROBE_S)
            self._metrics.loop_lagged(max(time.monotonic() - due_s, 0.0))
            self._metrics.step_runs(self.step_age_s())
            if self._is_stuck() and not self._is_said:
                self._is_said = True
                log.error("a step has not ended in %.0f s: nothing is judged any more", self._step_s_max)

    def _is_stuck(self) -> bool:
        return self.step_age_s() > self._step_s_max
