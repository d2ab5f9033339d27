"""Fixtures that give real servers: `kafka`, `alertmanager`, `prometheus`.

Every test in this folder is marked `integration`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from tests.integration.kafka_broker import Kafka
from tests.integration.notified import Notified
from tests.integration.servers import ServerMissing, Web, start_alertmanager, start_prometheus, without


class StartWeb(Protocol):
    """Starts a server with this configuration; it is stopped after the test."""

    def __call__(
        self,
        config: str | Mapping[str, object],
        files: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> Web:
        """Give the running server."""
        ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a real server."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.integration)


def _started(start: Callable[..., Web], folder: Path) -> Iterator[StartWeb]:
    running: list[Web] = []

    def start_one(
        config: str | Mapping[str, object],
        files: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> Web:
        try:
            server = start(folder / str(len(running)), config, files, arguments)
        except ServerMissing as missing:
            without(missing)
        running.append(server)
        return server

    yield start_one
    for server in running:
        server.stop()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """Give one broker for all tests; a test makes topics of its own, and starts again what it stops."""
    try:
        broker = Kafka(tmp_path_factory.mktemp("kafka"))
    except ServerMissing as missing:
        without(missing)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[StartWeb]:
    """Give `alertmanager(config, files, arguments)`, which starts a real Alertmanager."""
    yield from _started(start_alertmanager, tmp_path / "alertmanager")


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[StartWeb]:
    """Give `prometheus(config, files, arguments)`, which starts a real Prometheus."""
    yield from _started(start_prometheus, tmp_path / "prometheus")


@pytest.fixture
def notified() -> Iterator[Notified]:
    """Give a receiver of notifications."""
    receiver = Notified()
    yield receiver
    receiver.close()
