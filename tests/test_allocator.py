"""The C library takes what it is told about freed memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from engine.commands.allocator import MAPPED_FROM_BYTES, TRIMMED_ABOVE_BYTES
from engine.settings import KafkaSettings


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these thresholds")
def test_glibc_takes_every_threshold() -> None:
    """In a process of its own, since the thresholds hold for a whole process."""
    code = "from engine.commands.allocator import return_freed_memory as one; print(one())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_an_answer_of_the_usual_size_is_not_mapped_afresh() -> None:
    """Nor given back after each: what is free at the top of the heap may be as much as some answers."""
    assert MAPPED_FROM_BYTES > KafkaSettings().fetch_bytes_max
    assert TRIMMED_ABOVE_BYTES > 2 * KafkaSettings().fetch_bytes_max
