"""JSON answers: never cached unless said, times as RFC 3339, and what is not known is null."""

from __future__ import annotations

import orjson
from aiohttp import web

from engine.deliver.timestamps import rfc3339


def moment(time_ns: int) -> str | None:
    """Write an event time; None where there is none."""
    return rfc3339(time_ns) if time_ns >= 0 else None


def json_answer(answer: dict[str, object], *, status: int = 200, cache: str = "no-store") -> web.Response:
    """Answer with JSON; NaN and infinity become null."""
    headers = {"Cache-Control": cache, "X-Content-Type-Options": "nosniff"}
    body = orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE)
    return web.Response(body=body, status=status, content_type="application/json", headers=headers)
