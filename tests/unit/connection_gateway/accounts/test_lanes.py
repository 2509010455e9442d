"""Lanes: one speaker a chat."""

from __future__ import annotations

import asyncio

from frontdesk.connection_gateway.accounts.lanes import Lanes


async def test_one_at_a_time_in_order() -> None:
    """Users of one chat follow each other, those of another do not wait."""
    lanes, said = Lanes(), []
    first_may_go = asyncio.Event()

    async def speak(chat: str, name: str, wait: asyncio.Event | None = None) -> None:
        async with lanes.hold(chat):
            if wait is not None:
                await wait.wait()
            said.append(name)

    tasks = [
        asyncio.create_task(speak("a", "first", first_may_go)),
        asyncio.create_task(speak("a", "second")),
        asyncio.create_task(speak("b", "other")),
    ]
    while "other" not in said:
        await asyncio.sleep(0)
    assert said == ["other"]
    first_may_go.set()
    await asyncio.gather(*tasks)
    assert said == ["other", "first", "second"]


async def test_nothing_is_kept_of_a_chat_that_nobody_uses() -> None:
    """Also after a user that was cancelled while it waited."""
    lanes = Lanes()
    async with lanes.hold("a"):
        waiting = asyncio.create_task(lanes.hold("a").__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
    assert not lanes._lanes
