"""What holds for every test: the same examples on every run, kernels that are really compiled, two workers.

The tests that need real servers go to one worker, so that each server is started once, and first of all,
since they take longest. The others go file by file to whoever is free: what a file prepares is prepared once.
"""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import settings

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
    """Say which tests stay together, and which come first."""
    for item in items:
        name = "servers" if SERVERS in item.path.parents else item.path.name
        item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=lambda item: SERVERS not in item.path.parents)


def pytest_runtest_teardown() -> None:
    """Take down the logs of a command that a test ran: the stream that they went to ends with the test."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, LineFormatter):
            root.removeHandler(handler)
            root.setLevel(logging.WARNING)


def _nothing() -> None:
    pass
