"""The time that one call has, across all that it waits for.

`asyncio.timeout` can't stay open while an async generator hands a piece to its caller: it would cancel the
caller's own code. An `Alarm` is one timer a call that only rings into a wait of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from frontdesk.kit.errors import DeadlineExceeded

T = TypeVar("T")


class Handle(Protocol):
    """A timer that was set."""

    def cancel(self) -> None:
        """It does not ring."""
        ...


Later = Callable[[float, Callable[[], None]], Handle]


def loop_later(seconds: float, ring: Callable[[], None]) -> Handle:
    """The running loop's timer."""
    return asyncio.get_running_loop().call_later(seconds, ring)


class Alarm:
    """Rings once, `seconds` after it was made, unless it was closed."""

    __slots__ = ("_asked_before", "_handle", "_rings", "_seconds", "_task", "over")

    def __init__(self, seconds: float, later: Later = loop_later) -> None:
        self.over = False
        self._seconds = seconds
        self._task: asyncio.Task[object] | None = None
        self._rings = False
        # Requests to cancel the task that had come before its wait.
        self._asked_before = 0
        self._handle = later(seconds, self._ring)

    def close(self) -> None:
        """The call is over."""
        self._handle.cancel()

    async def within(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work()` gives; cancels it and raises DeadlineExceeded when the time is over."""
        if self.over:
            raise self._exceeded()
        task = asyncio.current_task()
        assert task is not None
        self._task, self._asked_before = task, task.cancelling()
        try:
            return await work()
        except asyncio.CancelledError:
            rang, self._rings = self._rings, False
            if rang and task.uncancel() <= self._asked_before:
                raise self._exceeded() from None
            raise
        finally:
            self._task = None
            if self._rings:
                # It ended all the same: the request to end is taken back.
                self._rings = False
                task.uncancel()

    def _exceeded(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"no whole answer within {self._seconds:g} s")

    def _ring(self) -> None:
        self.over = True
        if self._task is not None and not self._rings:
            self._rings = True
            self._task.cancel()
