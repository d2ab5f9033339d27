"""What holds for every test: the same examples on every run, and kernels that are really compiled."""

import os

from hypothesis import settings

from engine.kernel import kernel

# No database: with the same examples on every run there is nothing to remember between runs.
settings.register_profile("callgauge", derandomize=True, deadline=None, database=None)
settings.load_profile("callgauge")


def pytest_sessionstart() -> None:
    """Refuse to test plain Python in the belief that it is compiled."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") == "0":
        assert hasattr(kernel(_nothing), "py_func"), "kernels are not compiled, and nobody asked for that"


def _nothing() -> None:
    pass
