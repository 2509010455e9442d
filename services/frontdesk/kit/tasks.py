"""Ending tasks for sure, and letting some go on.

`task.cancel()` asks once, and the request can get lost: on Python 3.11 `asyncio.wait_for` returns the result
when it arrives in the same step as the cancellation, and libraries (nats-py's requests) are built on it. A
loop that lives through its cancellation runs for ever, and whoever waits for its end hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def end(tasks: Iterable[asyncio.Future[Any]], again_s: float = 1.0) -> None:
    """Cancel tasks until each is done, asking again every `again_s` seconds; raises none of their errors.

    Whoever is cancelled while it waits here gives up the waiting only: what is left is still asked.
    """
    left = {task for task in tasks if not task.done()}
    try:
        await _end(left, again_s)
    except asyncio.CancelledError:
        if any(not task.done() for task in left):
            background(_end(left, again_s))
        raise


async def _end(tasks: Iterable[asyncio.Future[Any]], again_s: float) -> None:
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=again_s)


_background: set[asyncio.Task[Any]] = set()


def background(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Let `work` go on to its end, whoever of those that wait for it gives up."""
    task = asyncio.create_task(work)
    _background.add(task)
    task.add_done_callback(_background.discard)
    return task
