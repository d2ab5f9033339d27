"""Limits by the value of a label that is hidden, told to the log: they have no cap, and nobody would know."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from engine.limits import ADDRESS_MASK, NUMBER_MASK

if TYPE_CHECKING:
    from engine.judge.snapshot import Snapshot

log = logging.getLogger(__name__)


class HiddenLog:
    """Says once of each limit that calls count under one hidden name, and so against no cap."""

    def __init__(self) -> None:
        """Start with nothing told."""
        self._told: set[str] = set()

    def tell(self, snapshot: Snapshot) -> None:
        """Take the limits that a step published."""
        for limit, text in hidden_limits(snapshot).items():
            if limit not in self._told:
                self._told.add(limit)
                log.warning("%s", text)


def hidden_limits(snapshot: Snapshot) -> dict[str, str]:
    """Give, by limit, what is to be said of those that count calls under a hidden name."""
    told: dict[str, str] = {}
    for one in snapshot.limits:
        hidden = [label for label, value in one.split if value in (NUMBER_MASK, ADDRESS_MASK)]
        if hidden and one.limit not in told:
            told[one.limit] = (
                f"limit {one.limit}: values of {' and '.join(hidden)} are numbers or addresses, which count "
                "under one name and so against no cap; set engine.label_key_file to tell them apart"
            )
    return told
