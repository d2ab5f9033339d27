"""Waiting for another's coroutine: whoever is cancelled ends, whenever that happens."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from engine.source.bounded import CancelledWithinError, bounded
from engine.source.topic_id import read_topic_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

TOPIC = "calls"
TURNS = 8  # of the loop, from the answer to whoever waits for it


class Client:
    """A client whose answer comes when it is told to."""

    def __init__(self, answer: asyncio.Future[Any]) -> None:
        self._answer = answer

    def get_random_node(self) -> int:
        return 0

    async def send(self, _node: int, _request: object) -> Any:
        return await self._answer


def topic_id(answer: asyncio.Future[Any]) -> Coroutine[Any, Any, str]:
    return read_topic_id(Client(answer), TOPIC)


def plain(answer: asyncio.Future[Any]) -> Coroutine[Any, Any, Any]:
    return bounded(Client(answer).send(0, None), 10.0)


@pytest.mark.parametrize("turns", range(TURNS))
@pytest.mark.parametrize("ask", [topic_id, plain])
async def test_a_cancellation_is_not_lost_when_the_answer_comes_at_that_moment(
    ask: Callable[[asyncio.Future[Any]], Coroutine[Any, Any, Any]], turns: int
) -> None:
    """Who commits would go on for ever, and whoever closes the source wait for it."""
    answer = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(ask(answer))
    await asyncio.sleep(0.01)
    answer.set_result(SimpleNamespace(topics=[(0, TOPIC, bytes(range(16)))]))
    for _ in range(turns):
        await asyncio.sleep(0)
    was_done = task.done()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled() or was_done


async def test_what_is_cancelled_within_is_an_error_and_what_is_late_too() -> None:
    """Neither may look as if whoever waits had been cancelled."""

    async def gone() -> None:
        raise asyncio.CancelledError

    async def ends(work: Awaitable[object], patience_s: float) -> type[BaseException] | None:
        try:
            await bounded(work, patience_s)
        except (CancelledWithinError, TimeoutError) as error:
            return type(error)
        return None

    assert await ends(gone(), 1.0) is CancelledWithinError
    assert await ends(asyncio.sleep(10.0), 0.01) is TimeoutError
    assert await ends(asyncio.sleep(0.0), 1.0) is None
