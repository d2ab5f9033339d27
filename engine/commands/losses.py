"""Rows that are not counted, told to the log: how many, why and where, never what is in them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.decode.decoder import Sample
    from engine.judge.snapshot import Snapshot

    Pairs = tuple[tuple[str, int], ...]

TELL_EVERY_S = 60.0
SAMPLES_TOLD_MAX = 3

log = logging.getLogger(__name__)


class LossLog:
    """Says at most once a minute what was lost since the last time, or since the line began here."""

    def __init__(self) -> None:
        """Start with nothing lost."""
        self._before: Pairs = ()
        self._last: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self._told_s = -TELL_EVERY_S

    def tell(self, snapshot: Snapshot, samples: tuple[Sample, ...], now_s: float) -> None:
        """Take the losses that a step published and the newest undecoded rows, at monotonic time `now_s`.

        Counts are cumulative and part of a checkpoint: those of another line begin elsewhere, also lower.
        """
        lost, before = dict(snapshot.rows_lost), snapshot.rows_lost_before
        if before != self._before or any(count < self._last.get(reason, 0) for reason, count in lost.items()):
            self._before, self._told = before, dict(before)
        self._last = lost
        fresh = {reason: count - self._told.get(reason, 0) for reason, count in lost.items()}
        fresh = {reason: count for reason, count in fresh.items() if count > 0}
        if not fresh or now_s - self._told_s < TELL_EVERY_S:
            return
        self._told, self._told_s = lost, now_s
        counts = ", ".join(f"{count} {reason}" for reason, count in fresh.items())
        places = ", ".join(
            f"{one.topic}/{one.partition} offset {one.offset} ({one.reason.name.lower()})"
            for one in samples[-SAMPLES_TOLD_MAX:]
        )
        log.warning("rows that are not counted: %s; for example: %s", counts, places or "none sampled")
