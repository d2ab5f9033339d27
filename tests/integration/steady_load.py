"""Calls at a steady rate with the usual faults, told to Kafka as they happen, by a process of its own.

Arguments: address of a broker, topic, seconds, events a second, file for the result. One event in a hundred
comes twice, one turn in a hundred up to three seconds late, and one row in a thousand is no JSON. What was
told is counted here, so that every row can be looked for.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from confluent_kafka import Producer

TICK_S = 0.02
HOLDING_S = 20.0
STARTS_RATIO, ENDS_RATIO = 0.1, 0.1  # of the events; the rest are turns
TWICE_RATIO, LATE_RATIO, BROKEN_RATIO = 0.01, 0.01, 0.001
LATE_S = 3.0
TENANTS = 50
BROKEN = b'{"time": 1, "type": "call.sta'


class Load:
    """Makes events up and counts them."""

    def __init__(self, bootstrap: str, topic: str, seed: int) -> None:
        """Begin without calls."""
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap, "linger.ms": 20, "acks": "all", "compression.type": "lz4",
                "enable.idempotence": True, "log_level": 0,
            }
        )  # fmt: skip
        self._topic = topic
        self._rng = np.random.default_rng(seed)
        self._up: list[int] = []
        self._late: list[tuple[float, bytes, bytes]] = []
        self.starts = self.ends = self.turns = self.turns_twice = self.broken = self.rows = self.failed = 0

    def tick(self, events: int) -> None:
        """Let so many events happen now."""
        now_s = time.time()
        for kind, fault, spot in self._rng.random((events, 3)).tolist():
            self._tell(now_s, fault, *self._event(now_s, kind, spot))
        due = [one for one in self._late if one[0] <= now_s]
        self._late = [one for one in self._late if one[0] > now_s]
        for _, row, key in due:
            self._send(row, key)
        self._producer.poll(0)

    def _event(self, now_s: float, kind: float, spot: float) -> tuple[str, int, bytes]:
        extra = ""
        if kind < STARTS_RATIO or not self._up:
            name, call = "call.started", self.starts
            self._up.append(call)
            self.starts += 1
        elif kind < STARTS_RATIO + ENDS_RATIO * len(self._up) / self.usual_up:
            at = int(spot * len(self._up))
            name, call = "call.ended", self._up[at]
            self._up[at] = self._up[-1]
            self._up.pop()
            self.ends += 1
            extra = ',"outcome":"completed"'
        else:
            name, call = "turn.completed", self._up[int(spot * len(self._up))]
            extra = (
                f',"id":"t{self.turns}","latency_ms":{{"llm":{300 + 500 * spot:.1f},"tts":{80 + spot:.1f}}}'
            )
            self.turns += 1
        row = (
            f'{{"time":{now_s:.6f},"type":"{name}","call_id":"c{call}","tenant":"t{call % TENANTS}"{extra}}}'
        )
        return name, call, row.encode()

    usual_up = 1.0  # calls, once the load is steady

    def _tell(self, now_s: float, fault: float, name: str, call: int, row: bytes) -> None:
        key = b"c%d" % call
        is_turn = name == "turn.completed"
        if fault < LATE_RATIO and is_turn:
            self._late.append((now_s + LATE_S * fault / LATE_RATIO, row, key))
        else:
            self._send(row, key)
        if LATE_RATIO <= fault < LATE_RATIO + TWICE_RATIO:
            self._send(row, key)
            self.turns_twice += is_turn
        if fault > 1 - BROKEN_RATIO:
            self._send(BROKEN, key)
            self.broken += 1

    def _send(self, row: bytes, key: bytes) -> None:
        self.rows += 1
        while True:
            try:
                self._producer.produce(self._topic, row, key, on_delivery=self._delivered)
                break
            except BufferError:
                self._producer.poll(0.1)

    def _delivered(self, error: object, _message: object) -> None:
        self.failed += error is not None

    def close(self) -> None:
        """Tell what is left: every call ends, and what was late comes."""
        now_s = time.time()
        for _, row, key in self._late:
            self._send(row, key)
        for call in self._up:
            self.ends += 1
            end = (
                f'{{"time":{now_s:.6f},"type":"call.ended","call_id":"c{call}","tenant":"t{call % TENANTS}"}}'
            )
            self._send(end.encode(), b"c%d" % call)
        self.failed += self._producer.flush(60)


def main(bootstrap: str, topic: str, seconds: str, events_per_s: str, result: str) -> None:
    """Go on for a time, at an even pace."""
    load = Load(bootstrap, topic, seed=1)
    load.usual_up = float(events_per_s) * STARTS_RATIO * HOLDING_S
    begin_s = time.perf_counter()
    done = 0
    while (passed_s := time.perf_counter() - begin_s) < float(seconds):
        due = int(passed_s * float(events_per_s))
        load.tick(due - done)
        done = due
        time.sleep(TICK_S)
    load.close()
    names = ("starts", "ends", "turns", "turns_twice", "broken", "rows", "failed")
    Path(result).write_text(json.dumps({name: getattr(load, name) for name in names}), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
