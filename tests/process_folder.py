"""A folder for what many tests of one process share; it goes with the process."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path


def process_folder(prefix: str) -> Path:
    """Make a folder that is removed when this process ends, unless it is killed."""
    folder = tempfile.mkdtemp(prefix=prefix)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
