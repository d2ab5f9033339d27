"""Runs of the command line for its tests: in this process, or as one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from engine import cli

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[1]
RUN_S = 170.0  # kernels may have to be compiled
CALLGAUGE = (sys.executable, "-m", "engine.cli")


class Ran(NamedTuple):
    """What came of a command."""

    code: int
    out: str
    err: str


def run_here(capfd: pytest.CaptureFixture[str], *arguments: str) -> Ran:
    """Run `callgauge` in this process, which has loaded everything already."""
    capfd.readouterr()
    words, sys.argv = sys.argv, ["callgauge", *arguments]
    code: object = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = words
    out, err = capfd.readouterr()
    return Ran(code if isinstance(code, int) else int(code is not None), out, err)


def run_apart(*command: str, cwd: Path, stdin: bytes = b"", variables: dict[str, str] | None = None) -> Ran:
    """Run a command as a process of its own; `callgauge` is the one of these sources."""
    words = [*CALLGAUGE, *command[1:]] if command[0] == "callgauge" else command
    done = subprocess.run(
        words, cwd=cwd, env={**environment(), **(variables or {})}, input=stdin, capture_output=True,
        timeout=RUN_S, check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def environment() -> dict[str, str]:
    """Give an environment in which these sources are found, and no settings."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("CALLGAUGE_")}
    kept.pop("PYTHONUNBUFFERED", None)  # Users have none: what a buffer holds at the exit is theirs too.
    return {**kept, "PYTHONPATH": str(ROOT)}
