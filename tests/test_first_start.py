"""A first start has no compiled kernels: who waits is told, and who does not want to wait any more may go."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.commands.warmup import FIRST_START
from tests.cli_runs import CALLGAUGE, RUN_S, environment, run_apart
from tests.integration.servers import free_ports

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 20.0  # of those who would kill; all kernels take longer
PROGRAM = """
import engine.kernel_cache
from engine.commands.run import Service  # which imports every kernel
from engine.commands.warmup import start_note

print(start_note())
{compiled}
print(start_note())
"""
COMPILED = "(engine.kernel_cache.cache_folder() / 'engine_0' / 'kernel.1.nbi').write_bytes(b'')"


def test_a_start_without_compiled_kernels_says_so(tmp_path: Path) -> None:
    """Importing them makes folders in the cache, and compiling makes files in these."""
    program = PROGRAM.format(
        compiled=f"(engine.kernel_cache.cache_folder() / 'engine_0').mkdir()\n{COMPILED}"
    )
    ran = run_apart(sys.executable, "-c", program, cwd=tmp_path, variables={"NUMBA_CACHE_DIR": str(tmp_path)})
    assert (0, [FIRST_START, ""]) == (ran.code, ran.out.splitlines()), ran.err


@pytest.mark.parametrize(
    ("command", "sent", "code"),
    [
        ("run", signal.SIGTERM, 0),
        ("run", signal.SIGINT, 0),
        ("demo", signal.SIGINT, 128 + signal.SIGINT),
    ],
)
def test_a_signal_is_heeded_while_kernels_are_compiled(
    tmp_path: Path, command: str, sent: signal.Signals, code: int
) -> None:
    """Orchestrators kill after 30 s; the thread that compiles would go on for minutes."""
    (port,) = free_ports(1)
    variables = {"NUMBA_CACHE_DIR": str(tmp_path), "CALLGAUGE_WEB__LISTEN": f"127.0.0.1:{port}"}
    process = subprocess.Popen(
        [*CALLGAUGE, command], cwd=tmp_path, env={**environment(), **variables}, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert any(FIRST_START in line for line in process.stderr)
        process.send_signal(sent)
        _, said = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.wait(RUN_S)
    assert code == process.returncode, said
    assert ("stopping" in said) == (command == "run")
