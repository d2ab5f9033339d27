"""Nobody joins a consumer group before the kernels are there: compiling would look like a dead member."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from tests.cli_runs import run_apart
from tests.integration.servers import free_ports

if TYPE_CHECKING:
    from pathlib import Path

# In a process of its own, where no other test has loaded a kernel. The source looks about when it is started,
# which is when a consumer would join, and ends the service then.
PROGRAM = """
import asyncio, gc, json, signal, sys
from numba.core.dispatcher import Dispatcher
from engine.app import load_configuration
from engine.commands.run import Service
from engine.commands.warmup import warm_up

def kernels():
    gc.unfreeze()  # What the service has frozen is not listed.
    return sum(
        len(one.signatures) for one in gc.get_objects()
        if isinstance(one, Dispatcher) and one.py_func.__module__.split(".")[0] in ("engine", "detectors")
    )

class Watching:
    async def start(self):
        self.joined = {"line": service.line is not None, "kernels": kernels()}
        signal.raise_signal(signal.SIGTERM)

    async def read(self):
        return None

    async def close(self):
        pass

def load():
    return load_configuration(None, None, None, {"web.listen": sys.argv[1]})

source = Watching()
service = Service(load(), source, None, load)
asyncio.run(service.serve())
warm_up(load())
print(json.dumps(source.joined | {"all": kernels()}))
"""


def test_every_kernel_is_loaded_before_the_consumer_joins(tmp_path: Path) -> None:
    """A line is there to take what is read, and warming up once more loads nothing."""
    (port,) = free_ports(1)
    ran = run_apart(sys.executable, "-c", PROGRAM, f"127.0.0.1:{port}", cwd=tmp_path)
    assert 0 == ran.code, ran.err
    found = json.loads(ran.out)
    assert found["line"]
    assert found["kernels"] == found["all"] > 20
