"""The registry of detectors: plug-ins of step 6, one file each.

A new detector is one file here, one line below, and one scenario in tests/scenarios.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from detectors.arrivals_stopped import ArrivalsStopped
from detectors.headroom import Headroom
from detectors.hidden_cap import HiddenCap
from detectors.in_flight_drift import InFlightDrift
from detectors.limit_mismatch import LimitMismatch
from detectors.limit_reached import LimitReached
from detectors.limit_unconfirmed import LimitUnconfirmed
from detectors.stream_incomplete import StreamIncomplete
from detectors.watchdog import Watchdog

if TYPE_CHECKING:
    from engine.judge.detection import Detector
    from engine.settings import Settings


def make_detectors(settings: Settings) -> tuple[Detector, ...]:
    """Make every detector, in the order in which they are asked."""
    return (
        LimitReached(),
        Headroom(settings.headroom),
        HiddenCap(settings.detection.pages_per_week),
        ArrivalsStopped(),
        StreamIncomplete(settings.detection.pages_per_week),
        InFlightDrift(),
        LimitMismatch(),
        LimitUnconfirmed(),
        Watchdog(),
    )
