"""The engine as `callgauge run` has it before its first row, for benchmarks that step lines themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.app import load_configuration
from engine.commands.allocator import return_freed_memory
from engine.commands.warmup import warm_up
from engine.source.raw_fetch import load_framing

if TYPE_CHECKING:
    from engine.app import Configuration


def loaded_configuration() -> Configuration:
    """Load the kernels, and give the configuration that is shipped."""
    return_freed_memory()
    configuration = load_configuration(None, None, None)
    warm_up(configuration)
    load_framing()
    return configuration
