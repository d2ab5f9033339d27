"""Alert changes as JSON lines: what `replay --output jsonl` prints, and what the timeline keeps.

The same change is the same bytes, always: keys are in one order, labels and annotations in the order of the
change (sorted by name), and no clock is read.
"""

from __future__ import annotations

import orjson

from engine.deliver.timestamps import rfc3339
from engine.judge.lifecycle import AlertChange


def alert_change_fields(change: AlertChange) -> dict[str, object]:
    """Give a change as a JSON object would hold it."""
    labels = {name: str(value) for name, value in change.labels}
    return {
        "time": rfc3339(change.time_ns),
        "state": change.state,
        "alertname": labels.get("alertname", ""),
        "severity": labels.get("severity", ""),
        "labels": labels,
        "annotations": {name: str(text) for name, text in change.annotations},
    }


def alert_change_line(change: AlertChange) -> bytes:
    """Write a change as one line, line end included."""
    return orjson.dumps(alert_change_fields(change), option=orjson.OPT_APPEND_NEWLINE)
