"""Waiting for another's coroutine, never longer than said, and never taking its cancellation for ours.

With the broker down aiokafka cancels tasks of its own and lets CancelledError out of `stop`, `commit` and
`getmany`. It is no Exception, and looks as if whoever awaits it had been cancelled. In a task of its own it
stays there. `asyncio.wait_for` was not enough: it waits on for what does not take its cancellation, and where
an answer comes at the moment of a cancellation, Python 3.11 gives the answer and forgets the cancellation.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from aiokafka.errors import KafkaError

if TYPE_CHECKING:
    from collections.abc import Awaitable

Result = TypeVar("Result")


class CancelledWithinError(KafkaError):  # type: ignore[misc]
    """What was waited for was cancelled, and not by whoever waited."""


async def bounded(work: Awaitable[Result], patience_s: float) -> Result:
    """Give what comes of it; TimeoutError if nothing does in time, CancelledWithinError if cancelled."""
    task: asyncio.Future[Result] = asyncio.ensure_future(work)
    task.add_done_callback(_let_go)
    try:
        done, _ = await asyncio.wait({task}, timeout=patience_s)
    finally:
        task.cancel()
    if not done:
        raise TimeoutError
    if task.cancelled():
        raise CancelledWithinError
    return task.result()


def _let_go(task: asyncio.Future[Any]) -> None:
    """Look at what became of it, so that nothing is logged when nobody asks any more."""
    if not task.cancelled():
        task.exception()
