"""quixstreams: counts and p50, p99 of latencies by minute and tenant, from a topic read to its end.

Arguments: address, topic, how many rows there are. Its state is written to RocksDB, and sketches do not go
there: so a window keeps counts, sums and the largest latency of each stage, which is less than others do.
Prints one line of JSON as bytewax_windows does; the time is from the first row on.
"""

import json
import os
import sys
import tempfile
import time
from datetime import timedelta
from typing import Any

from quixstreams import Application

NS_PER_MS = 1_000_000
SILENCE_S = 5.0  # then it stops, having read all


def first(event: dict[str, Any]) -> dict[str, Any]:
    """Begin a window."""
    return added({"count": 0, "stages": {}}, event)


def added(state: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    """Add an event."""
    state["count"] += 1
    for stage, value in event.get("latency_ms", {}).items():
        cell = state["stages"].setdefault(stage, [0, 0.0, 0.0])
        for one in value if isinstance(value, list) else (value,):
            cell[0] += 1
            cell[1] += one
            cell[2] = max(cell[2], one)
    return state


class Watch:
    """Counts rows and takes the time; ends the application with the last row."""

    def __init__(self, rows: int) -> None:
        """Wait for the first row."""
        self.rows = 0
        self.wanted = rows
        self.begin = self.seconds = 0.0
        self.windows = self.counted = 0

    def row(self, _event: object) -> None:
        """Count a row."""
        if not self.rows:
            self.begin = time.process_time()
        self.rows += 1
        if self.rows == self.wanted:
            self.seconds = time.process_time() - self.begin

    def window(self, state: dict[str, Any]) -> None:
        """Count a window that was closed."""
        self.windows += 1
        self.counted += state["value"]["count"]


def main(bootstrap: str, topic: str, rows: str) -> None:
    """Read all rows, then stop."""
    watch = Watch(int(rows))
    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            broker_address=bootstrap, consumer_group=f"quix-{os.getpid()}", auto_offset_reset="earliest",
            auto_create_topics=False, use_changelog_topics=False, loglevel="ERROR", state_dir=folder,
        )  # fmt: skip
        calls = app.topic(
            topic, value_deserializer="json", key_deserializer="str",
            timestamp_extractor=lambda value, *_: value["time"] // NS_PER_MS,
        )  # fmt: skip
        frame = app.dataframe(calls).update(watch.row)
        windows = frame.tumbling_window(timedelta(minutes=1), grace_ms=5000).reduce(added, first).final()
        windows.update(watch.window)
        app.run(timeout=SILENCE_S, collect=False)
    said = {
        "rows": watch.rows, "seconds": watch.seconds, "windows": watch.windows, "counted": watch.counted
    }  # fmt: skip
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
