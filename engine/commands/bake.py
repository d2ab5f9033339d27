"""`callgauge warmup`: every kernel is compiled now, for this user, or into a folder of an image.

Into a folder: for a level of processors, readable by everybody and writable by nobody else, so that one image
starts at once on every machine of that level, whoever runs it, and on a read-only file system.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.baked_kernels import BAKED_FOLDER, seal
from engine.commands.warmup import warm_up
from engine.errors import UsageError
from engine.kernel_cache import cache_folder, cache_name
from engine.source.raw_fetch import load_framing

if TYPE_CHECKING:
    from engine.app import Configuration

BYTES_PER_MB = 1e6


def bake(configuration: Configuration, into: str | None) -> None:
    """Compile everything, and say what came of it on stderr."""
    warm_up(configuration)
    load_framing()
    folder = cache_folder()
    wanted = None if into is None else (Path(into) / BAKED_FOLDER).absolute()
    if folder is None or (wanted is not None and folder.parent.absolute() != wanted):
        hint = "name a folder that belongs to you, and that nobody else may enter"
        raise UsageError("no folder can keep the kernels", where=into or "NUMBA_CACHE_DIR", hint=hint)
    files = [path for path in folder.rglob("*") if path.is_file()]
    size_mb = sum(path.stat().st_size for path in files) / BYTES_PER_MB
    made_for = "this processor"
    if wanted is not None:
        target = seal(wanted, cache_name())
        made_for = f"{target.cpu} ({target.machine}); run with NUMBA_CACHE_DIR={into}"
    sys.stderr.write(f"{size_mb:.0f} MB of kernels are in {folder}, for {made_for}\n")
