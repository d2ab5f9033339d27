"""A line under attack, as a process of its own, so that its memory can be measured: prints what came of it.

Good calls run all the time, two a second on one trunk under a limit. Then a large platform joins: as many
tenants as fill the tables up to their bounds, with as many calls a second as there will be; what that takes
is `full_mb`. After that come the strangers at that rate: call ids and tenants that are new in every row,
rows of ten megabytes, nesting a hundred thousand deep, clocks an hour off either way, rubbish; what they add
is `grown_mb`. `python -m tests.hostile_traffic IDS SECONDS`.
"""

import json
import resource
import sys
from pathlib import Path
from typing import Any

from engine.app import REPLAY_HASH_KEY, Configuration, build_line
from engine.commands.allocator import return_freed_memory
from engine.register import parse_register
from engine.settings import Settings
from engine.source.contract import RawBatch
from tests.event_rows import raw_batch
from tests.line_runs import shipped_rules

S = 1_000_000_000
START_S = 1_795_000_000
WARM_S = 40
FILL_S_MAX = 400  # longer than calls that ended are remembered
TENANTS = 5_000  # more than there are series
GOOD_PER_S, HOLDING_S = 2, 30
HOUR_S = 3600
REGISTER = """
limits:
  - {name: good-trunk, kind: concurrency, value: 500, applies_to: {trunk: sip-1}, owner: us}
  - {name: each-tenant, kind: concurrency, value: 100, split_by: [tenant], owner: us}
"""


def event(time_s: float, kind: str, call_id: str, **fields: Any) -> bytes:
    return json.dumps({"time": time_s, "type": kind, "call_id": call_id, **fields}).encode()


def good(second: int) -> list[bytes]:
    """Write the rows of the good calls in one second."""
    labels = {"tenant": "acme", "trunk": "sip-1"}
    rows = []
    for number in range(GOOD_PER_S):
        at_s = START_S + second + number / GOOD_PER_S
        rows.append(event(at_s, "call.started", f"good-{second}-{number}", **labels))
        if second >= HOLDING_S:
            ended = f"good-{second - HOLDING_S}-{number}"
            rows.append(event(at_s, "call.ended", ended, **labels, outcome="completed"))
    return rows


def newcomers(second: int, each: int, tenants: int = 0) -> list[bytes]:
    """Write the rows of one second in which every id is new, and every tenant unless there are so many."""
    rows = []
    for number in range(each):
        at_s = START_S + second + number / each
        name = f"{second}-{number}"
        which = str((second * each + number) % tenants) if tenants else name
        labels = {"tenant": f"tenant-{which}", "trunk": f"trunk-{which}", "agent": f"agent-{which}"}
        rows.append(event(at_s, "call.started", f"bad-{name}", **labels, release=f"r{which}"))
        rows.append(
            event(at_s, "call.ended", f"bad-{name}", **labels, outcome="failed", reason=f"why {which}")
        )
    return rows


def strangers(second: int) -> list[bytes]:
    """Write rows that are no good."""
    rows = [
        event(START_S + second + off_s, "call.started", f"off-{second}-{off_s}", tenant="clock")
        for off_s in (-HOUR_S, HOUR_S)
    ]
    if second % 20 == 0:
        rows.append(b'{"type":"call.started","tenant":"' + b"x" * 10_000_000 + b'"}')
        rows.append(b"[" * 100_000)
        rows.append(b'{"type":"call.started","a":' + b'{"a":' * 100_000)
        rows.append(event(START_S + second, "call.ended", "deep", latency_ms=_nested(200)))
        rows.append(b"\x00\xff" * 1000)
    return rows


def _nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def batch(rows: list[bytes], second: int) -> RawBatch:
    return raw_batch(rows, second * 1_000_000, (START_S + second + 1) * S)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(ids: int, attack_s: int) -> dict[str, Any]:
    """Run it, and say what memory it took and what became of the good calls."""
    return_freed_memory()  # as `callgauge run` does first
    register = parse_register(REGISTER, "limits.yaml")
    configuration = Configuration(Settings(), register, shipped_rules(), Path("limits.yaml"))
    line = build_line(configuration, REPLAY_HASH_KEY)
    alerts: set[str] = set()
    full_at = WARM_S + min(attack_s, FILL_S_MAX)
    end = full_at + attack_s
    before_mb = full_mb = peak_mb()
    for second in range(end):
        rows = []
        if ids and second >= full_at:
            # They come first, and take whatever room there is.
            rows = [*newcomers(second, ids // attack_s), *strangers(second)]
        elif ids and second >= WARM_S:
            rows = newcomers(second, ids // attack_s, TENANTS)
        step = line.pipeline.step(batch([*rows, *good(second)], second))
        line.publisher.publish(0)
        named = [dict(change.labels) for change in step.changes]
        alerts |= {one["alertname"] for one in named if one.get("limit") == "good-trunk"}
        if second == WARM_S - 1:
            before_mb = peak_mb()
        elif second == full_at - 1:
            full_mb = peak_mb()
    snapshot = line.publisher.publish(0)
    lost = dict(snapshot.rows_lost)
    status = {
        one.limit: one for one in snapshot.limits if not one.split or dict(one.split) == {"tenant": "acme"}
    }
    started = dict(snapshot.counters)["calls_started"]
    acme = [place for place, labels in enumerate(snapshot.arrivals_total) if dict(labels)["tenant"] == "acme"]
    return {
        "full_mb": round(full_mb - before_mb, 1),
        "grown_mb": round(peak_mb() - full_mb, 1),
        "good_started": int(sum(started[place] for place in acme)),
        "good_used": status["good-trunk"].used,
        "tenant_used": status["each-tenant"].used,
        "alerts": sorted(alerts),
        "lost": lost,
        "bounds": dict(snapshot.bounds_met),
        "read": snapshot.rows_read,
        "balanced": snapshot.rows_read
        == snapshot.rows_absorbed + line.pipeline.observer.rows_held + sum(lost.values()),
        "collapsed": snapshot.series_collapsed,
    }  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))
