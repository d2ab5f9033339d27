"""Promise P3: callgauge never blocks or slows a call, however it fares itself.

`python -m bench.smoke frozen_sidecar` measures what it adds to a call; here no call may fail, and afterwards
every event must be counted.
"""

import time
from pathlib import Path

import numpy as np
import pytest

from tests.integration.kafka_broker import Kafka
from tests.integration.platform_stub import EVENTS_PER_CALL, placed, placing
from tests.integration.servers import wait_until
from tests.integration.service import Service

CALLS_PER_S = 100.0


@pytest.mark.parametrize("phase_s", [2.0, pytest.param(9.0, marks=pytest.mark.full)])
def test_no_call_fails_while_the_sidecar_is_frozen_or_dead_and_every_event_is_counted(
    kafka: Kafka, tmp_path: Path, phase_s: float
) -> None:
    """The longer freeze outlasts the session with the broker, so that the group gives its partitions away."""
    topic, result = f"sidecar-{phase_s:g}", tmp_path / "placed.json"
    kafka.create_topic(topic)
    service = Service(tmp_path / "sidecar", kafka, topic, state={"folder": "state", "period": "300ms"})
    service.start_ready()
    spans: dict[str, tuple[float, float]] = {}
    with placing(kafka.bootstrap, topic, 4.5 * phase_s, CALLS_PER_S, result):
        for name in ("running", "frozen", "running again", "dead"):
            begin_s = time.time()
            if name == "frozen":
                service.process.pause()
            elif name == "running again":
                service.process.resume()
            elif name == "dead":
                service.process.kill()
            time.sleep(phase_s)
            spans[name] = (begin_s, time.time())
        service.start()
    found = placed(result)
    for name, span in spans.items():
        took_ms = found.took_between([span])
        print(f"{name}: p99 {np.quantile(took_ms, 0.99):.3f} ms of {len(took_ms)} calls")  # noqa: T201
    events = len(found.at_s) * EVENTS_PER_CALL
    assert (found.call_errors, found.events_left_out, found.events_told) == (0, 0, events)
    wait_until(lambda: service.metric("callgauge_rows_read_total") == events, what="every event is counted")
    wait_until(lambda: service.metric("callgauge_calls_in_flight") == 0, what="no call is left in flight")
    service.process.stop()
