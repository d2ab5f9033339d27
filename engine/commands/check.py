"""`callgauge check-config`: the launch checklist of every cap and timeout, on stdout.

What is wrong with the files too.
"""

from __future__ import annotations

from pathlib import Path

from engine.check_config import check, render


def run_check(
    config: str | None, limits: str | None, declines: str | None, *, is_launch: bool
) -> tuple[str, int]:
    """Check; give what to print and the exit code."""
    report = check(
        Path(config) if config else None,
        Path(limits) if limits else None,
        Path(declines) if declines else None,
        launch=is_launch,
    )
    return render(report), report.exit_code
