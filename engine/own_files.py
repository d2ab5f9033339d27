"""What the engine writes by itself, and whether it could: looked at before a start, and at one.

Nothing is made here: it would belong to whoever checks.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.settings import Settings


def folder_trouble(settings: Settings) -> list[UsageError]:
    """Say why no checkpoint can be kept; nothing if one can, or none is wanted. A run makes the folder."""
    folder = settings.state.folder
    path = Path(folder).absolute()
    if not folder or _is_writable(path):
        return []
    there = next(one for one in (path, *path.parents) if os.path.lexists(one))
    cause = _why_not(there)
    if not cause:
        return []
    return [
        UsageError(
            "no checkpoint can be kept there", where=f"state.folder {folder}", cause=cause,
            hint="name a folder that the user of `callgauge run` can make or write to",
        )
    ]  # fmt: skip


def file_troubles(settings: Settings) -> list[UsageError]:
    """Say which files cannot be written, for no run makes their folder; in `state.folder` they can."""
    named = (
        ("timeline.path", settings.timeline.path, _why_not_appended),
        ("quarantine.path", settings.quarantine.path, _why_not_appended),
        ("engine.learned_limits_file", settings.engine.learned_limits_file, _why_not_replaced),
    )
    state = Path(settings.state.folder).absolute() if settings.state.folder else None
    found = []
    for name, file, why_not in named:
        path = Path(file).absolute()
        if not file:
            continue
        cause = why_not(path)
        if not cause and path.parent != state:
            cause = _why_not(path.parent) if os.path.lexists(path.parent) else f"there is no {path.parent}"
        if cause:
            found.append(
                UsageError(
                    "this file cannot be written", where=f"{name} {file}", cause=cause,
                    hint="make the folder, for the user of `callgauge run`, or name another file",
                )
            )  # fmt: skip
    return found


def _why_not_appended(path: Path) -> str:
    """Say why `LineFile` cannot go on with a file that is there; "": it can, or there is none."""
    try:
        there = path.lstat()
    except OSError:
        return ""
    if not stat.S_ISREG(there.st_mode):
        return f"{path} is a folder" if _is_folder(path) else f"{path} is not a regular file"
    if os.geteuid() not in (0, there.st_uid):
        return f"{path} belongs to another user"
    return "" if os.access(path, os.W_OK) else f"this user may not write to {path}"


def _why_not_replaced(path: Path) -> str:
    return f"{path} is a folder" if _is_folder(path) else ""


def _why_not(folder: Path) -> str:
    """Say why nothing can be written into what is there; "": it can."""
    if _is_writable(folder):
        return ""
    return f"this user may not write to {folder}" if _is_folder(folder) else f"{folder} is not a folder"


def _is_writable(folder: Path) -> bool:
    return _is_folder(folder) and os.access(folder, os.W_OK | os.X_OK)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # One may not look into the folder above it.
        return False
