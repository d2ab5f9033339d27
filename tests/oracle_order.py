"""The twin of engine/observe/order.py: the order in which the rows of a slice take effect."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from engine.observe.order import KIND_ORDER
from tests.observe_events import Event, digest

if TYPE_CHECKING:
    from tests.observe_facts import Key


def comes_before(row: tuple[int, Event]) -> Key:
    """Give the place of a row in the total order of its slice; equal rows are interchangeable."""
    standing, event = row
    duration = (math.isnan(event.duration_ms), 0 if math.isnan(event.duration_ms) else event.duration_ms)
    cause = event.cause or ()
    return (standing, event.time_ns, KIND_ORDER.index(event.type_id), event.call, event.event_id,
    event.series,
            tuple(cause), duration, len(event.latencies), digest(event))  # fmt: skip
