"""`callgauge run` as a process of its own, and the recorded go-live moved to any moment, for its tests."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from engine.config_files import config_path
from tests.integration.kafka_broker import Kafka
from tests.integration.kafka_cluster import KafkaCluster
from tests.integration.servers import Process, answers, free_ports, get, wait_until

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

S = 1_000_000_000
MINUTE_S = 60
ROOT = Path(__file__).resolve().parents[2]
GO_LIVE = config_path("demo/sip-go-live.events.jsonl.zst")
LIMIT = "sip-trunk-concurrency"
LIMITS = config_path("demo/limits.yaml").read_text("utf-8")
FIRST_START_S = 150.0  # kernels may have to be compiled
WHOLE_SECONDS = re.compile(rb'"time":([0-9]+)')


def seconds_of(row: bytes) -> int:
    """Give the event time of a row of the recording, in whole seconds."""
    found = WHOLE_SECONDS.search(row)
    assert found is not None
    return int(found[1])


def moved(row: bytes, by_s: int) -> bytes:
    """Move a row in time, digits of the fraction untouched."""
    return WHOLE_SECONDS.sub(b'"time":%d' % (seconds_of(row) + by_s), row, count=1)


def go_live(ending_s_ago: float) -> list[bytes]:
    """Give the recorded go-live as it would be had it ended so long ago, to the minute."""
    rows = zstd.decompress(GO_LIVE.read_bytes()).splitlines()
    last_s = max(seconds_of(row) for row in rows)
    by_s = int(time.time() - ending_s_ago - last_s) // MINUTE_S * MINUTE_S
    return [moved(row, by_s) for row in rows]


def hanging_up(rows: list[bytes], within_s: int = 20) -> list[bytes]:
    """Give the ends of the calls that are up when the recording stops, in order of time."""
    up: dict[str, dict[str, Any]] = {}
    for row in rows:
        event = orjson.loads(row)
        if event["type"] in {"call.ended", "call.declined"}:
            up.pop(event["call_id"], None)
        elif event["type"] == "call.started":
            up[event["call_id"]] = event
    last_s = max(map(seconds_of, rows))
    return [
        orjson.dumps({**event, "time": last_s + 1 + place * within_s // len(up), "type": "call.ended"})
        for place, event in enumerate(up.values())
    ]


def quiet_rows(rows: list[bytes], after_s: int, partitions: int = 4) -> list[bytes]:
    """Give a row for each partition that carries no load, but event time on."""
    at_s = max(map(seconds_of, rows)) + after_s
    return [b'{"time":%d,"type":"change.made","what":"nothing"}' % at_s] * partitions


def produce_quiet(kafka: Kafka | KafkaCluster, topic: str, rows: list[bytes]) -> None:
    """Produce one of the rows to each partition."""
    for partition, row in enumerate(rows):
        kafka.produce(topic, [row], partition=partition)


def run_command(*arguments: str, cwd: Path, timeout_s: float = 170.0) -> subprocess.CompletedProcess[bytes]:
    """Run `callgauge` as a process and wait for it."""
    return subprocess.run(
        [sys.executable, "-m", "engine.cli", *arguments],
        cwd=cwd, env=environment(), capture_output=True, timeout=timeout_s, check=False,
    )  # fmt: skip


def replayed(folder: Path, *arguments: str) -> list[bytes]:
    """Give the alert changes that `callgauge replay --output jsonl` prints."""
    limits = folder / "limits.yaml"
    limits.write_text(LIMITS, "utf-8")
    done = run_command("replay", *arguments, "--limits", str(limits), "--output", "jsonl", cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.splitlines(keepends=True)


def environment() -> dict[str, str]:
    """Give an environment in which these sources are found, and no settings."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("CALLGAUGE_")}
    return {**kept, "PYTHONPATH": str(ROOT)}


class Service:
    """One `callgauge run`. Its settings, limits, log and timeline are files in `folder`."""

    def __init__(
        self,
        folder: Path,
        kafka: Kafka | KafkaCluster | str,
        topic: str,
        /,
        *arguments: str,
        command: str = "engine.cli",
        **sections: Mapping[str, object],
    ) -> None:
        """Write the files and start nothing.

        `kafka` is a broker or an address, `sections` are settings, `command` the module that is run.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.folder = folder
        self.limits = folder / "limits.yaml"
        self.limits.write_text(LIMITS, "utf-8")
        self.timeline = folder / "timeline.jsonl"
        address = kafka if isinstance(kafka, str) else kafka.bootstrap
        settings: dict[str, dict[str, object]] = {
            "kafka": {
                "bootstrap_servers": address.split(","), "topic": topic, "group_id": f"group-{topic}",
                "member_id": folder.name, "session_timeout": "6s", "heartbeat": "1s", "poll": "100ms",
            },
            "web": {"listen": f"127.0.0.1:{port}"},
            "timeline": {"path": str(self.timeline)},
        }  # fmt: skip
        for name, section in sections.items():
            settings[name] = {**settings.get(name, {}), **section}
        (folder / "engine.yaml").write_text(json.dumps(settings), "utf-8")
        words = [
            *("env", *(f"{name}={text}" for name, text in environment().items() if name == "PYTHONPATH")),
            *(sys.executable, "-m", command, "run"),
            *("--config", "engine.yaml", "--limits", "limits.yaml", *arguments),
        ]
        self.process = Process(words, folder, lambda: answers(f"{self.url}/-/healthy"))

    def start(self) -> None:
        """Start it, and wait until it answers that it is healthy."""
        self.process.start()

    def start_ready(self) -> None:
        """Start it, and wait until it is ready."""
        self.start()
        wait_until(lambda: answers(f"{self.url}/-/ready"), what="callgauge is ready", timeout_s=FIRST_START_S)

    def metric(self, name: str, **labels: str) -> float:
        """Give the sum of the samples of a metric with these labels; 0: there is none."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        found = 0.0
        for line in get(f"{self.url}/metrics").splitlines():
            key, _, value = line.rpartition(" ")
            if key.partition("{")[0] == name and all(one in key for one in wanted):
                found += float(value)
        return found

    def wait_for_rows(self, rows: int) -> None:
        """Wait until it has read so many rows and judged what they allow."""
        wait_until(
            lambda: self.metric("callgauge_rows_read_total") >= rows, what=f"{rows} rows", timeout_s=60
        )

    def log(self) -> str:
        """Give what it has logged."""
        return self.process.log.read_text("utf-8")

    def changes(self) -> list[bytes]:
        """Give the alert changes of the timeline as `replay --output jsonl` would print them."""
        return list(_changes(self.timeline.read_bytes().splitlines() if self.timeline.exists() else []))


def _changes(lines: Iterable[bytes]) -> Iterable[bytes]:
    for line in lines:
        fields: dict[str, Any] = orjson.loads(line)
        if fields.pop("kind") == "alert":
            yield orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
