"""Work that ends when its caller leaves."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from frontdesk.kit.presence import CallerLeft, WhileThere


class Caller:
    """One side of an HTTP connection; `left` says that it is closed."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.asked = 0

    async def receive(self) -> Message:
        self.asked += 1
        await self.left.wait()
        return {"type": "http.disconnect"}


async def test_work_ends_when_the_caller_leaves() -> None:
    """However long it would have taken; what it held is let go."""
    caller, let_go = Caller(), False
    caller.left.set()
    with pytest.raises(CallerLeft):
        async with WhileThere(caller.receive):
            try:
                await asyncio.Event().wait()
            finally:
                let_go = True
    assert let_go


async def test_quick_work_asks_nobody() -> None:
    """No task waits beside an answer that is there at once."""
    caller = Caller()
    async with WhileThere(caller.receive):
        await asyncio.sleep(0)
    assert not caller.asked
    assert len(asyncio.all_tasks()) == 1


async def test_another_cancellation_stays_one() -> None:
    """Who cancels the work itself gets no CallerLeft."""

    async def work() -> None:
        async with WhileThere(Caller().receive):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_work_is_its_own() -> None:
    """Also when the caller is gone meanwhile."""
    caller = Caller()
    with pytest.raises(ValueError, match="mine"):
        async with WhileThere(caller.receive):
            caller.left.set()
            raise ValueError("mine")
