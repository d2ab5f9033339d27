"""The registry of detectors: plug-ins of step 6, one file each.

A new detector is one file here, one line below, and one scenario in tests/scenarios.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from detectors.arrivals_stopped import ArrivalsStopped
from detectors.dependency_failing import DependencyFailing
from detectors.error_burn import ErrorBurn
from detectors.fail_open_engaged import FailOpenEngaged
from detectors.headroom import Headroom
from detectors.hidden_cap import HiddenCap
from detectors.in_flight_drift import InFlightDrift
from detectors.latency_shift import LatencyShift
from detectors.limit_mismatch import LimitMismatch
from detectors.limit_reached import LimitReached
from detectors.limit_unconfirmed import LimitUnconfirmed
from detectors.quality_drift import QualityDrift
from detectors.quota import Quota
from detectors.rate_limit import RateLimit
from detectors.release_regression import ReleaseRegression
from detectors.stream_incomplete import StreamIncomplete
from detectors.timeout_cliff import TimeoutCliff
from detectors.watchdog import Watchdog

if TYPE_CHECKING:
    from engine.judge.detection import Detector
    from engine.learned import Learned
    from engine.settings import Settings


def make_detectors(settings: Settings, learned: Learned | None = None) -> tuple[Detector, ...]:
    """Make every detector, in the order in which they are asked; `learned` is what a file of it says."""
    return (
        LimitReached(),
        Headroom(settings.headroom, learned=learned),
        RateLimit(),
        HiddenCap(settings.detection.pages_per_week),
        Quota(),
        ArrivalsStopped(settings.headroom.utc_offsets),
        TimeoutCliff(settings.detection.pages_per_week),
        ErrorBurn(settings.detection),
        LatencyShift(settings.detection.pages_per_week),
        QualityDrift(settings.detection.pages_per_week),
        StreamIncomplete(settings.detection.pages_per_week),
        InFlightDrift(),
        LimitMismatch(),
        LimitUnconfirmed(),
        ReleaseRegression(settings.detection),
        DependencyFailing(settings.detection),
        FailOpenEngaged(),
        Watchdog(),
    )
