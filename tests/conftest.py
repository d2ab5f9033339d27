"""What holds for every test: the same examples on every run, and kernels that are really compiled."""

import logging
import os

from hypothesis import settings

from engine.commands.logs import LineFormatter
from engine.kernel import kernel

# No database: with the same examples on every run there is nothing to remember between runs.
settings.register_profile("callgauge", derandomize=True, deadline=None, database=None)
settings.load_profile("callgauge")


def pytest_sessionstart() -> None:
    """Refuse to test plain Python in the belief that it is compiled."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") == "0":
        assert hasattr(kernel(_nothing), "py_func"), "kernels are not compiled, and nobody asked for that"


def pytest_runtest_teardown() -> None:
    """Take down the logs of a command that a test ran: the stream that they went to ends with the test."""
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, LineFormatter):
            root.removeHandler(handler)
            root.setLevel(logging.WARNING)


def _nothing() -> None:
    pass
