"""What a snapshot looks like as metrics: families with base units, ready to be written in any format.

A `Family` is what is exported under one name: label sets and numbers, nothing else. Whole families are made
anew for each scrape; what makes that cheap is that `engine/deliver/text.py` keeps the written form of
every label set.
Rejected: one prometheus_client object per series; `bench/metrics_render.py` prints what its text costs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engine.deliver.fingerprint import Labels
from engine.errors import LossReason
from engine.judge.lifecycle import FIRING
from engine.judge.statuses import LIMIT_STATES
from engine.judge.windows import WINDOWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from engine.deliver.peer import PeerStats
    from engine.judge.quantiles import LatencyQuantiles
    from engine.judge.snapshot import LimitStatus, Snapshot
    from engine.judge.windows import WindowView

COUNTER, GAUGE = "counter", "gauge"
DROPPED_FOR = ("http_400", "queue_full", "shutdown", "stale")  # why alerts are given up
NS_PER_S = 1e9
TOTAL: Labels = ()


class Family(NamedTuple):
    """Samples of one name; `labels[i]` belongs to `values[i]`."""

    name: str
    kind: str  # counter | gauge
    help: str
    labels: Sequence[Labels]
    values: Sequence[float]


def single(name: str, kind: str, text: str, value: float) -> Family:
    """Make a family of one sample without labels."""
    return Family(name, kind, text, (TOTAL,), (value,))


def by_label(name: str, kind: str, text: str, label: str, counts: Iterable[tuple[str, float]]) -> Family:
    """Make a family of (value of a label, number) pairs."""
    pairs = tuple(counts)
    labels = tuple(((label, key),) for key, _ in pairs)
    return Family(name, kind, text, labels, tuple(value for _, value in pairs))


def snapshot_families(snapshot: Snapshot) -> Iterator[Family]:
    """Give every family of a snapshot but the latency histograms."""
    yield from _stream_families(snapshot)
    yield from _series_families(snapshot)
    yield from _limit_families(snapshot.limits)
    yield from _window_families(snapshot.windows, snapshot.quantiles)
    firing: dict[Labels, int] = {}
    for alert in snapshot.alerts:
        if alert.state == FIRING:
            named = dict(alert.labels)
            key = (("alertname", named.get("alertname", "")), ("severity", named.get("severity", "")))
            firing[key] = firing.get(key, 0) + 1
    text = "Alerts that fire now."
    yield Family("callgauge_alerts_firing", GAUGE, text, tuple(firing), tuple(firing.values()))


def _stream_families(snapshot: Snapshot) -> Iterator[Family]:
    rows = "callgauge_rows"
    yield single(f"{rows}_read_total", COUNTER, "Rows read from the source.", snapshot.rows_read)
    yield single(f"{rows}_absorbed_total", COUNTER, "Rows that are in the state.", snapshot.rows_absorbed)
    lost = {reason.name.lower(): 0 for reason in LossReason} | dict(snapshot.rows_lost)
    yield by_label(
        f"{rows}_lost_total", COUNTER, "Rows that are not in the state, by reason.", "reason", lost.items()
    )
    text = "Rows that came behind the watermark and were added afterwards."
    yield single(f"{rows}_amended_total", COUNTER, text, snapshot.rows_amended)
    text = "Rows whose time lay ahead of their receipt."
    yield single(f"{rows}_clock_ahead_total", COUNTER, text, snapshot.rows_clock_ahead)
    text = "Rows whose labels fell to __other__ because the series table was full."
    yield single(f"{rows}_collapsed_total", COUNTER, text, snapshot.series_collapsed)
    text = "Ends whose cause was cut down because the table of causes was full."
    yield single("callgauge_causes_collapsed_total", COUNTER, text, snapshot.causes_collapsed)
    text = "Latencies whose stage fell to __other__: the table of stages was full, or it was no stage name."
    yield single("callgauge_measures_collapsed_total", COUNTER, text, snapshot.measures_collapsed)
    text = "Values that could not be used, by field, in rows that were."
    yield by_label("callgauge_fields_ignored_total", COUNTER, text, "field", snapshot.fields_ignored)
    text = "Findings that became no alert because there were too many alerts already."
    yield single("callgauge_alerts_refused_total", COUNTER, text, snapshot.alerts_refused)
    text = (
        "Times that something did not fit within a bound, by bound; what then, ARCHITECTURE section 6 says."
    )
    yield by_label("callgauge_bounds_met_total", COUNTER, text, "bound", snapshot.bounds_met)
    if snapshot.watermark_ns >= 0:
        text = "Event time up to which the stream is taken as complete."
        yield single("callgauge_watermark_timestamp_seconds", GAUGE, text, snapshot.watermark_ns / NS_PER_S)
    if snapshot.received_ns >= 0:
        text = "When the newest batch was received."
        yield single("callgauge_received_timestamp_seconds", GAUGE, text, snapshot.received_ns / NS_PER_S)
    yield single("callgauge_calls_in_flight", GAUGE, "Calls in flight.", snapshot.calls_in_flight)
    yield single("callgauge_series", GAUGE, "Label combinations that are kept apart.", snapshot.series)
    text = "Slices of event time that were closed."
    yield single("callgauge_slices_closed_total", COUNTER, text, snapshot.slices_closed)
    text = "Calls taken out of flight although their end was never seen, by cause."
    yield by_label("callgauge_calls_healed_total", COUNTER, text, "cause", snapshot.in_flight_healed)


def _series_families(snapshot: Snapshot) -> Iterator[Family]:
    for name, totals in snapshot.counters:
        text = f"Calls and events by series: {name.replace('_', ' ')}."
        labels = snapshot.arrivals_total
        yield Family(f"callgauge_{name}_total", COUNTER, text, labels, totals.tolist())


def headroom_ratio(status: LimitStatus) -> float:
    """Give the free share of a limit, 0 when it is used up, NaN when its value or use is unknown."""
    if not status.value > 0 or math.isnan(status.used):
        return math.nan
    return max(0.0, 1.0 - status.used / status.value)


_LIMIT_GAUGES: tuple[tuple[str, str, Callable[[LimitStatus], float]], ...] = (
    ("used", "What is used of the limit now.", lambda status: status.used),
    (
        "unseen_use",
        "What the platform reports in use beyond the calls counted here.",
        lambda status: status.unseen_use,
    ),
    ("peak_used", "Highest use within the last slice.", lambda status: status.peak),
    ("value", "The limit itself.", lambda status: status.value),
    ("headroom_ratio", "Share of the limit that is free.", headroom_ratio),
    ("expected_used", "Forecast of the use at the page horizon.", lambda status: status.expected_used),
    (
        "reach_probability",
        "Probability that the limit is reached within the page horizon.",
        lambda status: status.probability,
    ),
    (
        "offered_load",
        "Arrival rate times mean holding time, in calls (Erlang).",
        lambda status: status.offered_load,
    ),
    ("holding_seconds", "Mean holding time of calls under the limit.", lambda status: status.holding_s),
    (
        "time_to_limit_seconds",
        "Expected time until the limit is reached; +Inf: not within the horizon.",
        lambda status: status.time_to_limit_s,
    ),
    (
        "time_to_limit_low_seconds",
        "Low end of the expected time until the limit is reached.",
        lambda status: status.time_to_limit_s_low,
    ),
    (
        "time_to_limit_high_seconds",
        "High end of the expected time until the limit is reached.",
        lambda status: status.time_to_limit_s_high,
    ),
    (
        "safe_load",
        "Offered load that the limit carries with few declines (Erlang B).",
        lambda status: status.safe_load,
    ),
)


def _limit_families(limits: tuple[LimitStatus, ...]) -> Iterator[Family]:
    keys: list[Labels] = [(("limit", status.limit), *status.split) for status in limits]
    for name, text, read in _LIMIT_GAUGES:
        yield _known(f"callgauge_limit_{name}", text, keys, [read(status) for status in limits])
    text = "Capacity declines put down to the limit."
    declined = [status.declined_total for status in limits]
    yield Family("callgauge_limit_declined_total", COUNTER, text, keys, declined)
    states = [(*key, ("state", state)) for key in keys for state in LIMIT_STATES]
    is_state = [int(status.state == state) for status in limits for state in LIMIT_STATES]
    text = "1 for the state that the limit is in, 0 for the others."
    yield Family("callgauge_limit_state", GAUGE, text, states, is_state)
    about = [
        (*key, ("kind", status.kind), ("owner", status.owner))
        for key, status in zip(keys, limits, strict=True)
    ]
    yield Family("callgauge_limit_info", GAUGE, "Kind and owner of the limit.", about, [1] * len(about))


def _known(name: str, text: str, labels: Sequence[Labels], values: Sequence[float]) -> Family:
    """Leave out what is not known: a gap in a graph says so better than a NaN."""
    rows = [row for row, value in enumerate(values) if not math.isnan(value)]
    return Family(name, GAUGE, text, [labels[row] for row in rows], [values[row] for row in rows])


def _window_families(windows: WindowView, quantiles: LatencyQuantiles) -> Iterator[Family]:
    with np.errstate(invalid="ignore", divide="ignore"):
        error_ratio = windows.errors / windows.ended
    by_row = [_scope(labels) for labels in windows.labels]
    keys = [(*labels, ("window", window)) for labels in by_row for window in WINDOWS]
    text = "Failed share of the attempts that ended in the window, capacity declines excluded."
    yield _known("callgauge_call_error_ratio", text, keys, _flat(error_ratio))
    rows = zip(windows.latency_row.tolist(), windows.latency_stage, strict=True)
    keys = [(*by_row[row], ("stage", stage), ("window", window)) for row, stage in rows for window in WINDOWS]
    text = "Latency of the {} of calls by stage in the window, as the detectors see it; not to be averaged."
    yield _known("callgauge_call_latency_p50_seconds", text.format("median"), keys, _flat(quantiles.p50_s))
    text = text.format("slowest hundredth")
    yield _known("callgauge_call_latency_p99_seconds", text, keys, _flat(quantiles.p99_s))


def _flat(values: NDArray[np.float64]) -> list[float]:
    flat: list[float] = values.ravel().tolist()
    return flat


def _scope(labels: Labels) -> Labels:
    """Say what a window was grouped by: `tenant="acme"` alone is not a series with that one label."""
    names = [name for name, _ in labels]
    return (*labels, ("by", "total" if not names else names[0] if len(names) == 1 else "series"))


def peer_families(peers: tuple[PeerStats, ...]) -> Iterator[Family]:
    """Give what is known of every Alertmanager."""
    keys: list[Labels] = [(("alertmanager", peer.peer),) for peer in peers]
    name = "callgauge_alertmanager"
    text = "Alerts that Alertmanager has accepted, resends included."
    yield Family(f"{name}_alerts_sent_total", COUNTER, text, keys, [peer.alerts_sent for peer in peers])
    for what, text, column, reasons in (
        (
            "batches_failed",
            "Batches that were not accepted as a whole, by reason.",
            "batches_failed_by_reason",
            (),
        ),
        (
            "alerts_dropped",
            "Alerts given up and not known to have arrived, by reason; of http_400 all but one may have.",
            "alerts_dropped_by_reason",
            DROPPED_FOR,
        ),
    ):
        # A counter that begins with its first event has no increase for Prometheus.
        by_reason = [(peer.peer, dict.fromkeys(reasons, 0) | dict(getattr(peer, column))) for peer in peers]
        counted = [(peer, *pair) for peer, many in by_reason for pair in sorted(many.items())]
        labels = [(("alertmanager", peer), ("reason", reason)) for peer, reason, _ in counted]
        yield Family(f"{name}_{what}_total", COUNTER, text, labels, [count for _, _, count in counted])
    text = "Alerts waiting to be sent."
    yield Family(f"{name}_queue_alerts", GAUGE, text, keys, [peer.queue_alerts for peer in peers])
    text = "Alerts that may wait at most."
    yield Family(f"{name}_queue_alerts_max", GAUGE, text, keys, [peer.queue_alerts_max for peer in peers])
    text = "Batches that were sent, whatever came of them."
    yield Family(f"{name}_batches_total", COUNTER, text, keys, [peer.batches for peer in peers])
    text = "Time spent sending batches; over batches_total this is the mean latency."
    yield Family(f"{name}_send_seconds_total", COUNTER, text, keys, [peer.latency_s for peer in peers])
    text = "When Alertmanager last accepted a batch; 0: never."
    yield Family(
        f"{name}_last_success_timestamp_seconds", GAUGE, text, keys, [peer.last_success_s for peer in peers]
    )
