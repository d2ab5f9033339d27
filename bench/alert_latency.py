"""How long from an event to Alertmanager? Service, Kafka and Alertmanager are real, and so is the time.

Ten minutes of history are in Kafka when the service starts; then calls are produced as they happen, on trunks
that fill and decline. Alertmanager says when it took an alert (`updatedAt`, when first seen). A decline is
timed from the first `call.declined` of its trunk. A forecast pages when two evaluations in a row, 15 s apart,
say so: it is timed from the last event of the first of the two slices, and from that of the second.
"""

from __future__ import annotations

import contextlib
import threading
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from confluent_kafka import Producer

from bench.harness import FULL, SMOKE, TINY, Benchmark, Result, Row, at_most, digest_of, spread
from bench.live import TOPIC, Service, Stack, alongside, load_kernels, stack
from engine.source.synthetic import generate_rows
from engine.source.traffic import NS_PER_S, Ramp, Scenario, Tenant
from tests.integration.kafka_broker import call_id_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

SEED = 20_260_605
SLICE_S, BOUND_S, EVALUATE_S = 5.0, 5.0, 15.0
DECLINE_BUDGET_S = BOUND_S + 1.0
FORECAST_BUDGET_S = SLICE_S + BOUND_S + 31.0
HISTORY_S = {TINY: 60.0, SMOKE: 600.0, FULL: 600.0}
LIVE_S = {TINY: 20.0, SMOKE: 110.0, FULL: 110.0}
TRUNKS = {TINY: 1, SMOKE: 8, FULL: 16}
CAP = {TINY: 3, SMOKE: 40, FULL: 40}
GROWTH = {TINY: 6.0, SMOKE: 0.5, FULL: 0.5}  # calls a second, more every minute
LEAD_S = 25.0  # between making the history and its end: producing it and starting the service fit in
ASK_S = 0.05
AFTER_S = 8.0


class Seen(NamedTuple):
    """An alert as Alertmanager first showed it; times are ns since the epoch."""

    starts_ns: int
    taken_ns: int


class Watch:
    """Asks Alertmanager all the time, in a thread, and keeps when each alert was first there."""

    def __init__(self, over: Stack) -> None:
        """Watch the Alertmanager of `over`."""
        self.seen: dict[tuple[str, str, str], Seen] = {}  # by name, severity and trunk
        self._alertmanager = over.alertmanager

    def ask(self, over: threading.Event) -> None:
        """Ask until it is over."""
        while not over.wait(ASK_S):
            alerts: Any = self._alertmanager.get_json("/api/v2/alerts")
            for alert in alerts:
                labels = alert["labels"]
                key = (labels["alertname"], labels["severity"], labels.get("trunk", ""))
                self.seen.setdefault(key, Seen(_ns(alert["startsAt"]), _ns(alert["updatedAt"])))


@contextlib.contextmanager
def watching(over: Stack) -> Iterator[Watch]:
    """Watch in a thread."""
    watch = Watch(over)
    with alongside(watch.ask, "watch"):
        yield watch


def scenario(size: str, live_ns: int) -> Scenario:
    """Give trunks that are half full, and fill from the moment `live_ns` on."""
    steady_s, cap = HISTORY_S[size], CAP[size]
    tenants = tuple(
        Tenant(
            name=f"tenant-{number}", trunk=f"sip-{number}", rate_per_s=cap / 100.0, holding_mean_s=60.0,
            ramps=(Ramp(from_s=steady_s, per_s_per_minute=GROWTH[size]),),
        )
        for number in range(TRUNKS[size])
    )  # fmt: skip
    return Scenario(
        duration_s=steady_s + LIVE_S[size],
        tenants=tenants,
        start_ns=live_ns - int(steady_s * NS_PER_S),
        caps={tenant.trunk: cap for tenant in tenants},
        turn_every_s=5.0,
    )


def produce_live(over: Stack, rows: list[bytes], time_ns: NDArray[np.int64], live_ns: int) -> float:
    """Produce rows in their time; give by how many seconds, from `live_ns` on, the latest was late."""
    producer = Producer({"bootstrap.servers": over.kafka.bootstrap, "linger.ms": 5, "acks": "all"})
    late_ns = 0
    for row, due_ns in zip(rows, time_ns.tolist(), strict=True):
        while (wait_ns := due_ns - time.time_ns()) > 0:
            producer.poll(min(wait_ns / NS_PER_S, 0.1))
        late_ns = max(late_ns, -wait_ns) if due_ns >= live_ns else 0
        producer.produce(TOPIC, row, call_id_of(row))
    producer.flush(10)
    return late_ns / NS_PER_S


def first_declines(rows: list[bytes]) -> dict[str, int]:
    """Give the time of the first declined call by trunk."""
    found: dict[str, int] = {}
    for row in rows:
        if b'"call.declined"' in row:
            event = msgspec.json.decode(row, type=dict[str, Any])
            found.setdefault(event["trunk"], event["time"])
    return found


def forecast_delays(watch: Watch, time_ns: NDArray[np.int64], live_ns: int, before_s: float) -> list[float]:
    """Give how long forecasts took from the last event before `before_s` before they began to fire."""
    delays = []
    for (name, _, _), seen in sorted(watch.seen.items()):
        if name == "CallLimitApproaching" and seen.starts_ns > live_ns:
            last = np.searchsorted(time_ns, seen.starts_ns - int(before_s * NS_PER_S)) - 1
            delays.append((seen.taken_ns - int(time_ns[last])) / NS_PER_S)
    return delays


def run(size: str) -> Result:
    """Let history pass, then real time, and compare the two clocks."""
    limits: list[dict[str, object]] = [
        {"name": "trunk", "kind": "concurrency", "value": CAP[size], "split_by": ["trunk"], "owner": "bench"}
    ]
    with stack() as over, watching(over) as watch:
        load_kernels(over)
        live_ns = time.time_ns() + int(LEAD_S * NS_PER_S)
        rows = list(generate_rows(scenario(size, live_ns), SEED))
        time_ns = np.array([msgspec.json.decode(row, type=dict[str, Any])["time"] for row in rows], np.int64)
        now = int(np.searchsorted(time_ns, time.time_ns()))
        over.kafka.produce(TOPIC, rows[:now])
        with Service(over, "latency", limits) as service:
            late_s = produce_live(over, rows[now:], time_ns[now:], live_ns)
            ready = service.is_ready()
            time.sleep(AFTER_S)
    assert ready, "the service did not catch up with the history"
    declines = [
        (watch.seen["CallLimitReached", "critical", trunk].taken_ns - declined_ns) / NS_PER_S
        for trunk, declined_ns in sorted(first_declines(rows).items())
    ]
    late = f"Calls were produced at most {late_s * 1000:.0f} ms after their time"
    note = f"{late}; what Alertmanager calls `updatedAt`, when first seen, is when it took an alert."
    rows_found = _rows(watch, declines, time_ns, live_ns)
    return Result(rows_found, SEED, digest_of(len(rows), len(declines)), (note,))


def _rows(watch: Watch, declines: list[float], time_ns: NDArray[np.int64], live_ns: int) -> tuple[Row, ...]:
    what = "first declined call to Alertmanager"
    rows = [at_most(what, max(declines), DECLINE_BUDGET_S, "s", measured=spread(declines, "s", 3))]
    from_first = forecast_delays(watch, time_ns, live_ns, EVALUATE_S)
    if from_first:
        what = "forecast: last event of the first deciding slice to Alertmanager"
        rows.append(at_most(what, max(from_first), FORECAST_BUDGET_S, "s", measured=spread(from_first, "s")))
        from_second = forecast_delays(watch, time_ns, live_ns, 0.0)
        what = "forecast: last event of the second deciding slice to Alertmanager"
        rows.append(at_most(what, max(from_second), DECLINE_BUDGET_S, "s", measured=spread(from_second, "s")))
    return tuple(rows)


def _ns(text: str) -> int:
    """Read a time of Alertmanager, exact to the microsecond."""
    return int(datetime.fromisoformat(text).timestamp() * 1e6) * 1000


BENCHMARK = Benchmark("alert_latency", "How long from an event to Alertmanager?", run)
