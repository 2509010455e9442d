"""Ending tasks that do not hear."""

from __future__ import annotations

import asyncio

from frontdesk.kit import tasks


async def test_a_lost_cancellation_is_repeated() -> None:
    """A task that lives through its first cancellation is cancelled again."""
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost > 1:
                    raise

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await tasks.end([task], again_s=0.01)
    assert task.cancelled()
    assert lost == 2


async def test_who_gives_up_waiting_leaves_nobody_behind() -> None:
    """An end that is itself cancelled returns at once, and the deaf task is asked again all the same."""
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        while lost < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    ending = asyncio.create_task(tasks.end([task], again_s=0.01))
    await asyncio.sleep(0)
    ending.cancel()
    async with asyncio.timeout(5):
        await asyncio.wait({ending})
        assert ending.cancelled()
        await asyncio.wait({task})
    assert lost == 3


async def test_outcomes_are_not_raised() -> None:
    """A task that fails while it ends, and one that was done before, are just done."""

    async def fails() -> None:
        raise RuntimeError("mine")

    done = asyncio.create_task(fails())
    await asyncio.wait({done})
    ending = asyncio.create_task(fails())
    await tasks.end([done, ending])
    assert ending.done()
    assert isinstance(done.exception(), RuntimeError)
