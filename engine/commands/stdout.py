"""Standard streams: what is closed reads and writes nothing, a full disk behind stdout is no traceback."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import CallgaugeError

if TYPE_CHECKING:
    from collections.abc import Iterator


def open_what_is_closed() -> None:
    """Let the null device stand in for each standard stream that was closed at the start (`>&-`).

    Else the next file that is opened would take its number, and uvloop aborts the process.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Takes the least number that is free, and is open to the end.
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def drop_what_is_left() -> None:
    """Let nothing that is left in the buffer of stdout raise again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def stdout_may_fail() -> Iterator[None]:
    """Raise a `CallgaugeError` for what stdout does not take; a reader that goes away stays what it is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):
            drop_what_is_left()
        cause = error.strerror or type(error).__name__
        raise CallgaugeError("standard output cannot be written", cause=cause) from None


def write_out(text: str) -> None:
    """Write to stdout at once; a `CallgaugeError` if it does not take it."""
    with stdout_may_fail():
        sys.stdout.write(text)
        sys.stdout.flush()
