"""What holds for every test: the same examples on every run, kernels that are really compiled, two workers.

The tests that need real servers go to one worker, so that each server is started once, and first of all,
since they take longest. The others go file by file to whoever is free: what a file prepares is prepared once.
"""

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from engine.commands.logs import LineFormatter
from engine.kernel import kernel

# No database: with the same examples on every run there is nothing to remember between runs.
settings.register_profile("callgauge", derandomize=True, deadline=None, database=None)
settings.load_profile("callgauge")

SERVERS = Path(__file__).parent / "integration"


def pytest_sessionstart() -> None:
    """Refuse to test plain Python in the belief that it is compiled."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") == "0":
        assert hasattr(kernel(_nothing), "py_func"), "kernels are not compiled, and nobody asked for that"


@pytest.hookimpl(trylast=True)  # behind pytest-randomly, which deals the files
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests with real servers come first."""
    items.sort(key=lambda item: SERVERS not in item.path.parents)


class FilesTogether(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types.
    """Gives all tests of a file to one worker, and all with real servers too: what is set up is set up once.

    xdist's own groups are marks, which it writes into names that newer versions of pytest do not read.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "servers" if path.startswith("tests/integration/") else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Say which tests stay together."""
    return FilesTogether(config, log)


def pytest_runtest_teardown() -> None:
    """Take down the logs of a command that a test ran: the stream that they went to ends with the test."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, LineFormatter):
            root.removeHandler(handler)
            root.setLevel(logging.WARNING)
            for name in ("aiokafka", "numba"):
                logging.getLogger(name).setLevel(logging.NOTSET)


def _nothing() -> None:
    pass
