"""A voice platform that places calls and tells Kafka of them, as a process of its own.

Arguments: address of a broker, topic, seconds, calls a second, file for the result. Telling never blocks a
call: the producer's queue is bounded, and what does not fit is left out and counted. How long each call took
is measured here, by the platform's own clock.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from tests.integration.service import ROOT, environment

QUEUE_EVENTS_MAX = 100_000
EVENTS_PER_CALL = 3
ERROR_TYPES = (OSError, RuntimeError, ValueError)


class Placed(NamedTuple):
    """What became of the calls."""

    at_s: NDArray[np.float64]  # (calls,): when each began, on the clock of `time.time`
    took_ms: NDArray[np.float64]  # (calls,)
    call_errors: int
    events_told: int  # acknowledged by Kafka
    events_left_out: int

    def took_between(self, spans: list[tuple[float, float]]) -> NDArray[np.float64]:
        """Give how long the calls took that began within one of some spans."""
        within = np.zeros(len(self.at_s), np.bool_)
        for begin_s, end_s in spans:
            within |= (self.at_s >= begin_s) & (self.at_s < end_s)
        return self.took_ms[within]


class Platform:
    """Places calls."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        """Connect in the background; no call waits for that."""
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap, "linger.ms": 5, "acks": "all", "enable.idempotence": True,
                "queue.buffering.max.messages": QUEUE_EVENTS_MAX, "log_level": 0,
            }
        )  # fmt: skip
        self.told = self.left_out = self.errors = 0

    def _tell(self, kind: str, call: str, **fields: object) -> None:
        row = json.dumps({"time": time.time_ns(), "type": kind, "call_id": call, "trunk": "sip-1", **fields})
        try:
            self._producer.produce(self._topic, row.encode(), call.encode(), on_delivery=self._delivered)
        except BufferError:
            self.left_out += 1

    def _delivered(self, error: object, _message: object) -> None:
        if error is None:
            self.told += 1
        else:
            self.left_out += 1

    def place(self, number: int) -> None:
        """Let one call start, be answered, and end; whatever fails here is an error of the call."""
        call = f"call-{number}"
        try:
            self._tell("call.started", call)
            self._tell("call.answered", call, latency_ms={"setup": 5})
            self._tell("call.ended", call, outcome="completed")
            self._producer.poll(0)
        except ERROR_TYPES:
            self.errors += 1

    def close(self) -> None:
        """Wait until Kafka has what was told; no call is up any more."""
        self.left_out += self._producer.flush(60)


@contextlib.contextmanager
def placing(
    bootstrap: str, topic: str, seconds: float, calls_per_s: float, result: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a platform beside what the caller does; it is killed if the caller fails."""
    words = [sys.executable, "-m", "tests.integration.platform_stub", bootstrap, topic]
    process = subprocess.Popen(
        [*words, str(seconds), str(calls_per_s), str(result)], cwd=ROOT, env=environment()
    )
    try:
        yield process
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()


def placed(result: Path) -> Placed:
    """Read what a platform wrote at its end."""
    found: dict[str, Any] = json.loads(result.read_text("utf-8"))
    return Placed(**{**found, "at_s": np.array(found["at_s"]), "took_ms": np.array(found["took_ms"])})


def main(bootstrap: str, topic: str, seconds: str, calls_per_s: str, result: str) -> None:
    """Place calls at an even pace for a time, and write down how long each took."""
    platform = Platform(bootstrap, topic)
    at_s: list[float] = []
    took_ms: list[float] = []
    begin_s = time.perf_counter()
    for number in range(int(float(seconds) * float(calls_per_s))):
        time.sleep(max(begin_s + number / float(calls_per_s) - time.perf_counter(), 0.0))
        at_s.append(time.time())
        called_s = time.perf_counter()
        platform.place(number)
        took_ms.append((time.perf_counter() - called_s) * 1000)
    platform.close()
    found = Placed(np.array(at_s), np.array(took_ms), platform.errors, platform.told, platform.left_out)
    written = {**found._asdict(), "at_s": at_s, "took_ms": took_ms}
    Path(result).write_text(json.dumps(written), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
