"""The C library takes what it is told about freed memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these thresholds")
def test_glibc_takes_every_threshold() -> None:
    """In a process of its own, since the thresholds hold for a whole process."""
    code = "from engine.commands.allocator import return_freed_memory as one; print(one())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
