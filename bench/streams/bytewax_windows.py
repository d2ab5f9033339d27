"""bytewax: counts and p50, p99 of latencies by minute and tenant, from a topic read to its end.

Arguments: address, topic, how many rows there are. Prints one line of JSON: rows, processor seconds from the
start of the flow to its end, windows, and the sum of their counts.
"""

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import orjson
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
from ddsketch import DDSketch

NS_PER_S = 1e9
RELATIVE_ERROR = 0.01


class Kept(StatelessSinkPartition[Any]):  # type: ignore[misc]
    """Counts what comes out."""

    windows = 0
    counted = 0

    def write_batch(self, items: list[Any]) -> None:
        """Count windows and what is in them."""
        Kept.windows += len(items)
        Kept.counted += sum(item[1] for item in items)


class Sink(DynamicSink[Any]):  # type: ignore[misc]
    """Gives the counter to the one worker."""

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> Kept:
        """Make it."""
        return Kept()


class State:
    """One window of one tenant."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.count = 0
        self.latencies: dict[str, Any] = {}


def fold(state: State, event: dict[str, Any]) -> State:
    """Add an event."""
    state.count += 1
    for stage, value in event.get("latency_ms", {}).items():
        sketch = state.latencies.get(stage)
        if sketch is None:
            sketch = state.latencies[stage] = DDSketch(RELATIVE_ERROR)
        for one in value if isinstance(value, list) else (value,):
            sketch.add(one)
    return state


def merge(one: State, other: State) -> State:
    """Merge two windows; tumbling ones never are."""
    one.count += other.count
    return one


def asked(item: tuple[str, tuple[int, State]]) -> tuple[str, int, list[tuple[str, float, float]]]:
    """Give what a window says."""
    key, (_, state) = item
    quantiles = [
        (stage, one.get_quantile_value(0.5), one.get_quantile_value(0.99))
        for stage, one in state.latencies.items()
    ]
    return key, state.count, quantiles


def main(bootstrap: str, topic: str, rows: str) -> None:
    """Read to the end."""
    flow = Dataflow("windows")
    source: Any = KafkaSource([bootstrap], [topic], tail=False, batch_size=10_000)
    read = op.input("read", flow, source)
    events = op.map("parse", read, lambda message: orjson.loads(message.value))
    keyed = op.key_on("tenant", events, lambda event: event.get("tenant", ""))
    clock = win.EventClock(
        ts_getter=lambda event: datetime.fromtimestamp(event["time"] / NS_PER_S, UTC),
        wait_for_system_duration=timedelta(seconds=5),
    )
    windower = win.TumblingWindower(length=timedelta(minutes=1), align_to=datetime(2025, 1, 1, tzinfo=UTC))
    windowed = win.fold_window("window", keyed, clock, windower, State, fold, merge)
    op.output("out", op.map("ask", windowed.down, asked), Sink())
    begin = time.process_time()
    run_main(flow)
    seconds = time.process_time() - begin
    said = {"rows": int(rows), "seconds": seconds, "windows": Kept.windows, "counted": Kept.counted}
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
