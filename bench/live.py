"""A real `callgauge run` between a real Kafka and a real Alertmanager, to measure the whole service."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from tests.integration.kafka_broker import Kafka
from tests.integration.servers import Web, free_ports, get, start_alertmanager
from tests.process_folder import process_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

TOPIC = "calls"
PARTITIONS = 4
POLL_S = 0.02
PATIENCE_S = 300.0
STOP_S = 30.0
NOBODY = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}


class Stack(NamedTuple):
    """What a service talks to, and a folder for its files."""

    kafka: Kafka
    alertmanager: Web
    folder: Path


@contextlib.contextmanager
def stack() -> Iterator[Stack]:
    """Start Kafka, with an empty topic, and Alertmanager, and stop both; it may raise ServerMissing."""
    with tempfile.TemporaryDirectory(prefix="callgauge-bench-") as name, contextlib.ExitStack() as running:
        folder = Path(name)
        kafka = Kafka(folder / "kafka")
        kafka.start()
        running.callback(kafka.stop)
        alertmanager = start_alertmanager(folder / "alertmanager", NOBODY)
        running.callback(alertmanager.stop)
        kafka.create_topic(TOPIC, PARTITIONS)
        yield Stack(kafka, alertmanager, folder)


@functools.cache
def kernel_cache() -> Path:
    """Give a folder for compiled kernels that the benchmarks of a process share; it goes with the process."""
    return process_folder("callgauge-bench-cache-")


def load_kernels(over: Stack) -> None:
    """Run a service until it is ready, so that the next one finds its kernels compiled."""
    if not any(kernel_cache().iterdir()):
        with Service(over, "kernels", []) as service:
            service.wait_for(service.is_ready, "it is ready")


@contextlib.contextmanager
def alongside(work: Callable[[threading.Event], None], name: str) -> Iterator[None]:
    """Let `work` run in a thread of its own; the event says when to end."""
    over = threading.Event()
    thread = threading.Thread(target=work, args=(over,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Service:
    """One `callgauge run`, in a consumer group of its own unless told otherwise."""

    def __init__(
        self,
        over: Stack,
        name: str,
        limits: list[dict[str, object]],
        *,
        command: Sequence[str] = (),
        **sections: Mapping[str, object],
    ) -> None:
        """Write its files; `name` must differ between the services of a stack.

        `command` takes the place of `callgauge`, `sections` are settings: another `group_id`, and it is one
        member of several.
        """
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._log = over.folder / f"{name}.log"
        settings: dict[str, dict[str, object]] = {
            "kafka": {
                "bootstrap_servers": [over.kafka.bootstrap],
                "topic": TOPIC,
                "group_id": name,
                "member_id": name,
            },
            "alertmanager": {"urls": [over.alertmanager.url]},
            "web": {"listen": f"127.0.0.1:{port}"},
        }
        for section, changes in sections.items():
            settings[section] = {**settings.get(section, {}), **changes}
        files = {"engine": settings, "limits": {"limits": limits}}
        for file, content in files.items():
            (over.folder / f"{name}.{file}.yaml").write_bytes(msgspec.yaml.encode(content))
        self._command = [
            *(command or [str(Path(sys.executable).with_name("callgauge"))]), "run",
            "--config", str(over.folder / f"{name}.engine.yaml"),
            "--limits", str(over.folder / f"{name}.limits.yaml"),
        ]  # fmt: skip
        self._environment = os.environ | {"NUMBA_CACHE_DIR": str(kernel_cache())}
        self._process: subprocess.Popen[bytes] | None = None
        self.started_s = 0.0

    def __enter__(self) -> Self:
        """Start the process; `started_s` is when, on the clock of `time.perf_counter`."""
        with self._log.open("wb") as log:
            self.started_s = time.perf_counter()
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it with -9; it can be started again."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def wait_for(self, met: Callable[[], bool], what: str, every_s: float = POLL_S) -> float:
        """Ask until something is so; give the seconds since the process was started."""
        assert self._process is not None
        while not met():
            waited_s = time.perf_counter() - self.started_s
            if self._process.poll() is not None or waited_s > PATIENCE_S:
                text = self._log.read_text("utf-8")[-2000:]
                raise RuntimeError(f"`callgauge run` did not get there in {waited_s:.0f} s: {what}\n{text}")
            time.sleep(every_s)
        return time.perf_counter() - self.started_s

    def metric(self, name: str) -> float:
        """Give a metric by its name, with its labels if it has any; NaN while there is none, or no answer."""
        try:
            found = re.search(rf"^{re.escape(name)} (\S+)$", get(f"{self.url}/metrics"), re.MULTILINE)
        except (OSError, urllib.error.URLError):
            return float("nan")
        return float(found.group(1)) if found else float("nan")

    def is_ready(self) -> bool:
        """Say whether it has read what there was."""
        try:
            get(f"{self.url}/-/ready")
        except (OSError, urllib.error.URLError):
            return False
        return True

    def resident_mb(self) -> float:
        """Give its resident memory in MB of 10^6 bytes."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None, "Linux says how much memory a process has"
        return int(found.group(1)) * 1024 / 1e6
