"""Logs of the running service: one line an event on stderr, logfmt or JSON, without anything of a caller."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.settings import Settings

MESSAGE_CHARS_MAX = 2_000
# Control and bidirectional characters would let a text forge lines or colours.
UNSAFE = dict.fromkeys(
    (*range(32), 127, *range(128, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), " "
)


class LineFormatter(logging.Formatter):
    """Formats a record as one line of logfmt or JSON."""

    def __init__(self, log_format: str) -> None:
        """Choose the format once."""
        super().__init__()
        self._is_json = log_format == "json"

    def format(self, record: logging.LogRecord) -> str:
        """Write the line."""
        message = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            message += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        fields = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": message.translate(UNSAFE)[:MESSAGE_CHARS_MAX],
        }
        if self._is_json:
            return json.dumps(fields)
        return " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())


def _quoted(value: str) -> str:
    return (
        json.dumps(value, ensure_ascii=False) if not value or any(char in value for char in ' "=') else value
    )


def set_up_logs(settings: Settings) -> None:
    """Send all logs to stderr at the level of the settings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(settings.log_format))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    # At debug aiokafka writes down its requests, a password among them, and numba every step of compiling.
    for name, least in (("aiokafka", logging.INFO), ("numba", logging.WARNING)):
        logging.getLogger(name).setLevel(max(least, logging.root.level))
