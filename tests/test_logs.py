"""What a log may not hold, at whatever level."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli_runs import run_apart

LEVELS = """
import logging
from engine.commands.logs import set_up_logs
from engine.settings import Settings
set_up_logs(Settings(log_level=%r))
names = ("aiokafka.conn", "numba.core", "engine")
print(*(logging.getLevelName(logging.getLogger(name).getEffectiveLevel()) for name in names))
"""


@pytest.mark.parametrize(
    ("level", "found"), [("debug", "INFO WARNING DEBUG"), ("error", "ERROR ERROR ERROR")]
)
def test_at_debug_the_client_of_kafka_does_not_write_its_requests_down(level: str, found: str) -> None:
    """The password of SASL PLAIN is in one of them."""
    done = run_apart(sys.executable, "-c", LEVELS % level, cwd=Path.cwd())
    assert done.out.split() == found.split(), done.err
