"""Detectors against figures: what each reaches, beside what was asked for and what usual rules reach.

One module per detector, each with `BENCHMARK`; they are found by being here.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.harness import Benchmark


def benchmarks() -> tuple[Benchmark, ...]:
    """Give the benchmark of every module here that has one, in order of names."""
    modules = [
        importlib.import_module(f"{__name__}.{one.name}")
        for one in pkgutil.iter_modules(__path__)
        if not one.name.startswith("_")
    ]
    return tuple(module.BENCHMARK for module in modules if hasattr(module, "BENCHMARK"))
