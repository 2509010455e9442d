"""The alarm of a call: it rings into waits of ours only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from frontdesk.ai_proxy.deadline import Alarm
from frontdesk.kit.errors import DeadlineExceeded
from support.completions import ManualLater, forever


async def test_it_cancels_the_wait_and_says_so() -> None:
    later = ManualLater()
    alarm = Alarm(3, later)
    task = asyncio.create_task(alarm.within(forever))
    await asyncio.sleep(0)
    assert later.seconds == [3]
    later.ring()
    with pytest.raises(DeadlineExceeded, match="within 3 s"):
        await task


async def test_it_does_not_ring_into_its_callers_own_code() -> None:
    """It rings between two waits: the caller goes on, its next wait does not begin."""
    later = ManualLater()
    alarm = Alarm(3, later)
    begun = []

    async def work() -> None:
        begun.append(1)

    await alarm.within(work)
    later.ring()
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded):
        await alarm.within(work)
    assert len(begun) == 1


async def test_somebody_elses_cancellation_stays_one() -> None:
    """Also when both come at once, whichever is first."""
    later = ManualLater()

    async def case(*requests: Callable[[asyncio.Task[object]], object]) -> None:
        task: asyncio.Task[object] = asyncio.create_task(Alarm(3, later).within(forever))
        await asyncio.sleep(0)
        for request in requests:
            request(task)
        with pytest.raises(asyncio.CancelledError):
            await task

    def ring(task: asyncio.Task[object]) -> None:
        later.ring()

    await case(asyncio.Task.cancel)
    await case(ring, asyncio.Task.cancel)
    await case(asyncio.Task.cancel, ring)


async def test_a_request_of_before_is_not_this_waits_own() -> None:
    """A task that was cancelled and goes on all the same still hears of its time."""
    later = ManualLater()

    async def caller() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            await Alarm(3, later).within(forever)

    task = asyncio.create_task(caller())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    later.ring()
    with pytest.raises(DeadlineExceeded):
        await task


async def test_work_that_ends_all_the_same_gives_its_value() -> None:
    """And no cancellation is left behind for the caller."""
    later = ManualLater()
    alarm = Alarm(3, later)

    async def stubborn() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            return "done"
        raise AssertionError

    async def caller() -> tuple[str, int]:
        value = await alarm.within(stubborn)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task
        return value, task.cancelling()

    task = asyncio.create_task(caller())
    await asyncio.sleep(0)
    later.ring()
    assert await task == ("done", 0)


async def test_a_closed_one_does_not_ring() -> None:
    later = ManualLater()
    alarm = Alarm(3, later)
    alarm.close()
    later.ring()
    assert not alarm.over
