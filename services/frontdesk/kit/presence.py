"""Work that ends when the caller of an HTTP door has closed its connection."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final

from starlette.types import Receive

# Answers that come sooner need no task that waits beside them.
LOOK_AFTER_S: Final = 0.05


class CallerLeft(Exception):
    """The caller has closed its connection; nobody reads an answer."""


class WhileThere:
    """`async with WhileThere(receive):` runs its block until the caller leaves, and then raises CallerLeft.

    The request's body must have been read. Work that takes less than `LOOK_AFTER_S` runs to its end.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = False
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> WhileThere:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(LOOK_AFTER_S, self._look)
        return self

    def _look(self) -> None:
        self._watch = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left = True
        self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self._left and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise CallerLeft from error
