"""Real servers for the integration tests: installed when missing, on free loopback ports, surely stopped.

Each server is a process group of its own with its data in a folder that the caller gives, and it goes
when the test run goes, however that ends. What cannot be had raises `ServerMissing` with a reason that a
person can act on; `without` turns it into a skip, or under CI=true into a failure. Apache Kafka comes
from Maven Central into the git-ignored folder `.servers/`, Prometheus and Alertmanager from Debian.
Containers were rejected: they need a daemon that many build machines do not have.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import NoReturn

import pytest

INSTALLED = Path(__file__).resolve().parents[2] / ".servers"
KAFKA_VERSION = "4.1.1"
START_S = 60.0
STOP_S = 10.0

KAFKA_POM = """\
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>callgauge</groupId><artifactId>kafka-broker</artifactId>
  <version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"""
COPY_DEPENDENCIES = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"


class ServerMissing(Exception):  # noqa: N818  # It is no error of the test.
    """A server cannot be had on this machine; the text says what would help."""


def without(missing: ServerMissing) -> NoReturn:
    """End the test that needs what is missing: skipped, or failed where everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"under CI=true every server and tool must be there: {missing}", pytrace=False)
    pytest.skip(str(missing))


def tool(*names: str, package: str) -> str:
    """Give the path of a command that a test needs, or end the test."""
    try:
        return installed_command(*names, package=package)
    except ServerMissing as missing:
        without(missing)


class ServerError(Exception):
    """A server is there but does not start; the text ends with its log."""


def free_ports(count: int) -> list[int]:
    """Give loopback ports that nobody listens on, all different."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def install_lock(name: str) -> Iterator[None]:
    """Let one test run install at a time."""
    INSTALLED.mkdir(exist_ok=True)
    with (INSTALLED / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def installed_kafka(version: str = KAFKA_VERSION) -> Path:
    """Give the folder with Kafka's jars, fetched by Maven on the first call."""
    jars = INSTALLED / f"kafka-{version}"
    if shutil.which("java") is None:
        raise ServerMissing("Apache Kafka needs java (17 or newer) on the PATH")
    with install_lock("kafka"):
        if jars.is_dir():
            return jars
        if shutil.which("mvn") is None:
            raise ServerMissing("Apache Kafka is fetched by Maven, and there is no mvn on the PATH")
        partial = INSTALLED / "kafka-partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        (partial / "pom.xml").write_text(KAFKA_POM.format(version=version), "utf-8")
        done = subprocess.run(
            ["mvn", "-B", "-q", COPY_DEPENDENCIES, "-DincludeScope=runtime", "-DoutputDirectory=jars"],
            cwd=partial, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise ServerMissing(f"Maven could not fetch Apache Kafka: {(done.stdout + done.stderr)[-800:]}")
        (partial / "jars").rename(jars)  # Last, so that an interrupted fetch is done again.
        shutil.rmtree(partial)
    return jars


def installed_command(*names: str, package: str) -> str:
    """Give the path of a command of Debian's package, which root installs if it is missing."""
    with install_lock("debian"):
        for attempt in range(2):
            for name in names:
                if found := shutil.which(name):
                    return found
            if attempt == 0 and os.geteuid() == 0 and shutil.which("apt-get"):
                _apt_get("update", "-qq")
                _apt_get("install", "-y", "-qq", "--no-install-recommends", package)
    raise ServerMissing(f"no {names[0]} on the PATH: root must install the package {package}")


def _apt_get(*arguments: str) -> None:
    done = subprocess.run(
        ["apt-get", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise ServerMissing(f"apt-get {arguments[0]} failed: {(done.stdout + done.stderr)[-400:]}")


def get(url: str, timeout_s: float = 5.0) -> str:
    """Fetch a page of a server of ours."""
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:
        return str(answer.read().decode("utf-8"))


def get_json(url: str) -> object:
    """Fetch and parse a page of a server of ours."""
    return json.loads(get(url))


def answers(url: str) -> bool:
    """Say whether a server answers; one that asks for a password does."""
    try:
        get(url, timeout_s=1.0)
    except urllib.error.HTTPError as error:
        return error.code == HTTPStatus.UNAUTHORIZED
    except (OSError, urllib.error.URLError):
        return False
    return True


def wait_until(met: Callable[[], bool], *, what: str, timeout_s: float = START_S) -> None:
    """Wait for a condition; AssertionError says what did not come."""
    deadline = time.monotonic() + timeout_s
    while not met():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)


class Process:
    """A server's process: it can be started again after it was stopped or killed.

    Start it from the main thread: the kernel's guard below watches the thread that started it.
    """

    def __init__(self, command: Sequence[str], folder: Path, ready: Callable[[], bool]) -> None:
        """Start nothing yet; `ready` says when the server can be used."""
        # The kernel ends the server when the test run dies, even by kill -9.
        guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        self.command = [*guard, *command]
        self.folder = folder
        self.log = folder / "server.log"
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None
        self.returncode: int | None = None  # of its last end

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Say whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it can be used."""
        self.begin()
        self.wait()

    def begin(self) -> None:
        """Start the server, which may need others to be of use."""
        assert self._process is None, "the server is running already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        """Wait until it can be used."""
        assert self._process is not None, "the server was not started"
        deadline = time.monotonic() + START_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"{self.command[-1]} did not start:\n{self.log.read_text('utf-8')[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Ask the server to stop, and wait; stopping twice is fine."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server with -9."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze the server: its ports stay open and nothing answers."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for each in (how, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, each)
                os.killpg(process.pid, signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.returncode = process.wait(STOP_S)
                return


class Web:
    """A server with an HTTP address: Prometheus or Alertmanager."""

    def __init__(self, process: Process, url: str, config: Path) -> None:
        """Wrap a process that listens on `url` and was configured by the file `config`."""
        self.process = process
        self.url = url
        self.config = config

    def start(self) -> None:
        """Start (again, on the same port and data)."""
        self.process.start()

    def stop(self) -> None:
        """Stop with SIGTERM."""
        self.process.stop()

    def kill(self) -> None:
        """Kill with -9."""
        self.process.kill()

    def get_json(self, path: str) -> object:
        """Fetch a page of its API, such as `/api/v2/alerts`."""
        return get_json(self.url + path)


def start_web(
    command: Sequence[str], folder: Path, config: str | Mapping[str, object], files: Mapping[str, str]
) -> Web:
    """Start a server whose configuration is a text, or a mapping (JSON is YAML); `{port}` is put in.

    `files` are further files (name -> text) that the configuration names, beside it in `folder`.
    """
    (port,) = free_ports(1)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    path = folder / "config.yml"
    path.write_text(config if isinstance(config, str) else json.dumps(config), "utf-8")
    url = f"http://127.0.0.1:{port}"
    filled = [part.replace("{port}", str(port)) for part in command]
    web = Web(Process(filled, folder, lambda: answers(f"{url}/-/ready")), url, path)
    web.start()
    return web


def start_alertmanager(
    folder: Path,
    config: str | Mapping[str, object],
    files: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> Web:
    """Start Alertmanager, alone unless `arguments` name a cluster."""
    command = installed_command("prometheus-alertmanager", "alertmanager", package="prometheus-alertmanager")
    alone = (
        ()
        if any("--cluster.listen-address" in each for each in arguments)
        else ("--cluster.listen-address=",)
    )
    return start_web(
        [
            command, "--config.file=config.yml", "--storage.path=data",
            "--web.listen-address=127.0.0.1:{port}", *alone, *arguments,
        ],
        folder, config, files or {},
    )  # fmt: skip


def start_prometheus(
    folder: Path,
    config: str | Mapping[str, object],
    files: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> Web:
    """Start Prometheus."""
    command = installed_command("prometheus", package="prometheus")
    return start_web(
        [
            command, "--config.file=config.yml", "--storage.tsdb.path=data",
            "--web.listen-address=127.0.0.1:{port}", *arguments,
        ],
        folder, config, files or {},
    )  # fmt: skip
