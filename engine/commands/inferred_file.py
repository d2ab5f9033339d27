"""The file of inferred limits: read before a start, written whenever they have changed."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine.app import inferred_before
from engine.commands.whole_file import write_whole
from engine.judge.inferred_limits import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.judge.implicit import LearnedValue
    from engine.settings import EngineSettings

AGAIN_S = 10.0  # what a disk refused is written again after this

log = logging.getLogger(__name__)


class InferredFile:
    """Knows what is written down."""

    def __init__(self, settings: EngineSettings, now_s: Callable[[], float] = time.monotonic) -> None:
        """Read nothing yet; without `engine.learned_limits_file` nothing is ever written."""
        self._path = settings.learned_limits_file
        self._kept: tuple[LearnedValue, ...] = ()
        self._now_s = now_s
        self._again_s = -math.inf
        self._trouble = ""

    def before(self) -> tuple[LearnedValue, ...]:
        """Give what an earlier run has inferred; nothing if this is the first one."""
        return inferred_before(self._path)

    def begin(self, inferred: tuple[LearnedValue, ...]) -> None:
        """Take these as written down: they are what was read."""
        self._kept = inferred

    def is_behind(self, inferred: tuple[LearnedValue, ...]) -> bool:
        """Say whether `keep` has something to do by now; the same object is the same values."""
        return inferred is not self._kept and self._now_s() >= self._again_s

    def keep(self, inferred: tuple[LearnedValue, ...]) -> None:
        """Write them down if they have changed; a disk that refuses stops nothing. For a worker thread."""
        if self._path and inferred != self._kept:
            try:
                write_whole(Path(self._path), encode(inferred))
            except OSError as error:
                self._again_s = self._now_s() + AGAIN_S
                trouble = error.strerror or type(error).__name__
                if trouble != self._trouble:
                    log.warning("the inferred limits could not be written: %s", trouble)
                self._trouble = trouble
                return
            self._trouble = ""
        self._kept = inferred
