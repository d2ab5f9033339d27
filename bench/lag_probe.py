"""`callgauge run` that also notes how late its event loop runs: `bench.lag_probe OUT run --config FILE ...`.

A timer that is due every millisecond is set in the loop of the service; how late each came, and what had been
read by then, goes to the file OUT at the end (numpy). The service is the same in all else.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from array import array

import numpy as np
import uvloop

from engine.app import load_configuration
from engine.commands.allocator import return_freed_memory
from engine.commands.logs import set_up_logs
from engine.commands.run import Service
from engine.source.kafka import KafkaSource

PROBE_S = 0.001


async def probe(service: Service, lag_s: array[float], rows: array[float]) -> None:
    """Note how late the loop runs, beside the rows that were read."""
    while True:
        # Not the time of the loop, which uvloop reads once a turn.
        due_s = time.monotonic() + PROBE_S
        await asyncio.sleep(PROBE_S)
        snapshot = service.snapshot
        lag_s.append(max(time.monotonic() - due_s, 0.0))
        rows.append(snapshot.rows_read if snapshot is not None else 0)


async def serve(out: str, config: str, limits: str) -> None:
    """Serve until a signal, then write what was noted."""
    return_freed_memory()
    configuration = load_configuration(config, limits, None)
    set_up_logs(configuration.settings)
    source = KafkaSource(configuration.settings.kafka)
    service = Service(configuration, source, None, lambda: configuration)
    lag_s, rows = array("d"), array("d")
    probing = asyncio.create_task(probe(service, lag_s, rows))
    await service.serve()
    probing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await probing
    np.save(out, np.array((lag_s, rows)))


def main(words: list[str]) -> None:
    """Take the words of the command line."""
    config, limits = (words[words.index(name) + 1] for name in ("--config", "--limits"))
    uvloop.run(serve(words[0], config, limits))


if __name__ == "__main__":
    main(sys.argv[1:])
