"""Promise P6 over hours: a service at 5,000 events a second neither grows nor loses a row.

`SOAK_MINUTES` says how long the long run takes (120), `SOAK_EVENTS_PER_S` how much comes. What was told is
counted by who told it. Resident memory and the size of a checkpoint, which is all the state there is, are
sampled; what they grow by is the slope of a line through the second half.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.integration.kafka_broker import Kafka
from tests.integration.servers import free_ports, wait_until
from tests.integration.service import ROOT, Service, environment

SOAK_S = float(os.environ.get("SOAK_MINUTES", "120")) * 60
EVENTS_PER_S = float(os.environ.get("SOAK_EVENTS_PER_S", "5000"))
SAMPLE_S = 2.0
RELOAD_EVERY = 15  # samples
GROWTH_RATIO_MAX = 0.01  # an hour
SHORT_GROWTH_RATIO_MAX = 0.15  # in all, of the second half of a short run
HOUR_S = 3600.0


class Sample(NamedTuple):
    """A moment of the service's process."""

    at_s: float
    resident_bytes: int
    state_bytes: float
    descriptors: int
    threads: int


def sample(service: Service) -> Sample:
    """Look at the process, and at its newest checkpoint."""
    process = Path(f"/proc/{service.process.pid}")
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text("ascii").splitlines())
    return Sample(
        time.monotonic(),
        int(status["VmRSS"].split()[0]) * 1024,
        service.metric("callgauge_checkpoint_size_bytes"),
        len(list((process / "fd").iterdir())),
        int(status["Threads"]),
    )


def growth_per_hour(samples: list[Sample], name: str) -> float:
    """Give the slope of a line through the values, as a share of their mean an hour."""
    at_h = np.array([one.at_s for one in samples]) / HOUR_S
    values = np.array([float(getattr(one, name)) for one in samples])
    return float(np.polyfit(at_h - at_h[0], values, 1)[0] / values.mean())


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(180.0, marks=[pytest.mark.full, pytest.mark.timeout(900)], id="short"),
        pytest.param(SOAK_S, marks=[pytest.mark.soak, pytest.mark.timeout(SOAK_S + 1800)], id="long"),
    ],
)
def test_hours_of_load_grow_nothing_and_lose_nothing(kafka: Kafka, tmp_path: Path, seconds: float) -> None:
    """Alertmanager is dead, the configuration is loaded anew now and then, rows are doubled and broken."""
    topic, result = f"soak-{seconds:g}", tmp_path / "told.json"
    kafka.create_topic(topic, retention_ms="600000", segment_bytes="67108864")
    (dead,) = free_ports(1)
    service = Service(
        tmp_path / "soaked", kafka, topic, state={"folder": "state", "period": "5s"},
        alertmanager={"urls": [f"http://127.0.0.1:{dead}"]}, quarantine={"path": "quarantine.jsonl"},
    )  # fmt: skip
    service.start_ready()
    words = [sys.executable, "-m", "tests.integration.steady_load", kafka.bootstrap, topic]
    telling = subprocess.Popen(
        [*words, str(seconds), str(EVENTS_PER_S), str(result)], cwd=ROOT, env=environment()
    )
    samples: list[Sample] = []
    try:
        while telling.poll() is None:
            samples.append(sample(service))
            if len(samples) % RELOAD_EVERY == 0:
                os.kill(service.process.pid, signal.SIGHUP)
            time.sleep(SAMPLE_S)
    finally:
        telling.kill()
        telling.wait()
    assert telling.returncode == 0
    check_rows(service, json.loads(result.read_text("utf-8")))
    check_growth(samples, seconds)
    service.process.stop()
    assert service.process.returncode == 0


def check_rows(service: Service, told: dict[str, int]) -> None:
    """Find every row that was told, in the state or among the losses."""
    assert told["failed"] == 0
    wait_until(
        lambda: service.metric("callgauge_rows_read_total") >= told["rows"], what="all is read", timeout_s=120
    )
    wait_until(lambda: service.metric("callgauge_calls_in_flight") == 0, what="no call is up", timeout_s=60)
    lost = "callgauge_rows_lost_total"
    assert service.metric("callgauge_rows_read_total") == told["rows"]
    assert service.metric(lost, reason="not_json") == told["broken"]
    assert service.metric(lost) == told["broken"] + service.metric(lost, reason="duplicate")
    assert service.metric("callgauge_rows_absorbed_total") == told["rows"] - service.metric(lost)
    assert service.metric("callgauge_calls_started_total") == told["starts"]
    assert service.metric("callgauge_calls_ended_total") == told["ends"]
    print(f"{told['rows']} rows, each counted")  # noqa: T201


def check_growth(samples: list[Sample], seconds: float) -> None:
    """Compare the second half of the run with itself; in the first hour the windows of an hour fill up."""
    half = samples[len(samples) // 2 :]
    grown = {name: growth_per_hour(half, name) for name in ("resident_bytes", "state_bytes")}
    first, last = half[0], half[-1]
    print(f"growth an hour {grown}; {first} to {last}")  # noqa: T201
    later = half[len(half) // 2 :]
    for name in ("descriptors", "threads"):
        before = max(getattr(one, name) for one in samples[len(samples) // 4 : -len(later)])
        assert min(getattr(one, name) for one in later) <= before
        assert last.descriptors <= before + 8 if name == "descriptors" else last.threads <= before
    if seconds >= 2 * HOUR_S:
        assert all(one < GROWTH_RATIO_MAX for one in grown.values()), grown
    else:
        hours = (last.at_s - first.at_s) / HOUR_S
        assert grown["resident_bytes"] * hours < SHORT_GROWTH_RATIO_MAX, grown
