"""kit/batch.py: gathering, bounds, errors, cancellation and closing."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from frontdesk.kit.batch import BUSY, Batcher
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.errors import FrontdeskError, Unavailable


class Gate:
    """A handler that records its batches and answers when it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.running = 0
        self.most_running = 0

    async def __call__(self, items: list[int]) -> list[int | Exception]:
        self.batches.append(items)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.open.wait()
        finally:
            self.running -= 1
        return [-item for item in items]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_lone_item_runs_at_once() -> None:
    """An idle batcher does not wait for company."""
    gate = Gate()
    gate.open.set()
    async with asyncio.timeout(5):
        assert await Batcher(gate).submit(7) == -7
    assert gate.batches == [[7]]


async def test_items_gather_while_a_batch_runs() -> None:
    """What comes during a batch makes the next one, in order, cut at max_size."""
    gate = Gate()
    batcher = Batcher(gate, max_size=3)
    callers = [asyncio.create_task(batcher.submit(0))]
    await settle()
    callers += [asyncio.create_task(batcher.submit(n)) for n in range(1, 6)]
    await settle()
    gate.open.set()
    assert await asyncio.gather(*callers) == [0, -1, -2, -3, -4, -5]
    assert gate.batches == [[0], [1, 2, 3], [4, 5]]


async def test_at_most_concurrency_batches_run_at_once() -> None:
    """With concurrency 2 a third batch waits for the first two."""
    gate = Gate()
    batcher = Batcher(gate, max_size=1, concurrency=2)
    callers = [asyncio.create_task(batcher.submit(n)) for n in range(4)]
    await settle()
    assert gate.batches == [[0], [1]]
    gate.open.set()
    await asyncio.gather(*callers)
    assert gate.most_running == 2


async def test_behind_a_busy_batch_the_next_waits_for_company() -> None:
    """A caller that comes right behind a busy batch waits for others, for `gather_s` and no longer."""
    gate, clock = Gate(), ManualClock()
    gate.open.set()
    batcher = Batcher(gate, gather_s=0.05, clock=clock)
    first = [asyncio.create_task(batcher.submit(n)) for n in range(BUSY)]
    await asyncio.gather(*first)
    callers = [asyncio.create_task(batcher.submit(8))]
    await clock.advance(0.049)
    callers.append(asyncio.create_task(batcher.submit(9)))
    await settle()
    assert gate.batches == [list(range(BUSY))]
    await clock.advance(0.001)
    assert await asyncio.gather(*callers) == [-8, -9]
    assert gate.batches[1:] == [[8, 9]]


async def test_behind_a_small_batch_nobody_waits() -> None:
    """In a calm hour no caller waits for company, also right behind another one."""
    gate = Gate()
    gate.open.set()
    batcher = Batcher(gate, gather_s=60, clock=ManualClock())
    async with asyncio.timeout(5):
        await asyncio.gather(*(batcher.submit(n) for n in range(BUSY - 1)))
        assert await batcher.submit(99) == -99


async def test_gathering_ends_when_the_batch_is_full() -> None:
    """A full batch starts although the clock stands still."""
    gate = Gate()
    gate.open.set()
    batcher = Batcher(gate, max_size=BUSY, gather_s=60, clock=ManualClock())
    async with asyncio.timeout(5):
        assert len(await asyncio.gather(*(batcher.submit(n) for n in range(3 * BUSY)))) == 3 * BUSY


async def test_closing_ends_the_gathering() -> None:
    """Whoever waits for company when the batcher closes is handled at once."""
    gate = Gate()
    gate.open.set()
    batcher = Batcher(gate, gather_s=60, clock=ManualClock())
    await asyncio.gather(*(batcher.submit(n) for n in range(BUSY)))
    late = asyncio.create_task(batcher.submit(99))
    await settle()
    async with asyncio.timeout(5):
        await batcher.close()
        assert await late == -99


async def test_waiting_items_are_bounded() -> None:
    """With max_pending waiting, the next caller waits outside until a place is free."""
    gate = Gate()
    batcher = Batcher(gate, max_size=10, max_pending=2)
    callers = [asyncio.create_task(batcher.submit(0))]
    await settle()
    callers += [asyncio.create_task(batcher.submit(n)) for n in range(1, 6)]
    await settle()
    assert batcher.pending == 2
    gate.open.set()
    assert await asyncio.gather(*callers) == [0, -1, -2, -3, -4, -5]
    assert gate.batches[1] == [1, 2]


async def test_an_error_of_the_batch_reaches_every_caller() -> None:
    """When the handler raises, all callers of the batch get the error, and the next batch runs."""

    async def handle(items: list[int]) -> list[int | Exception]:
        if 1 in items:
            raise Unavailable("down")
        return list(items)

    batcher = Batcher(handle)
    results = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable, Unavailable]
    assert await batcher.submit(3) == 3


async def test_an_exception_as_a_result_reaches_its_caller_alone() -> None:
    """A result that is an exception is raised to one caller; the others get their results."""

    async def handle(items: list[int]) -> list[int | Exception]:
        return [ValueError("odd") if item % 2 else item for item in items]

    batcher = Batcher(handle)
    results = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)
    assert isinstance(results[0], ValueError)
    assert results[1] == 2


async def test_a_handler_that_loses_results_is_an_error() -> None:
    """Fewer results than items is told to every caller in place of a mix-up."""

    async def handle(items: list[int]) -> list[int | Exception]:
        return list(items[1:])

    batcher = Batcher(handle)
    results = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)
    assert [str(result) for result in results] == ["the batch of 2 items got 1 results"] * 2
    assert all(isinstance(result, FrontdeskError) for result in results)


async def test_a_cancelled_caller_takes_its_waiting_item_back() -> None:
    """An item whose caller is gone before its batch starts is not handled, and the others are."""
    gate = Gate()
    batcher = Batcher(gate)
    first = asyncio.create_task(batcher.submit(0))
    await settle()
    gone, stays = asyncio.create_task(batcher.submit(1)), asyncio.create_task(batcher.submit(2))
    await settle()
    gone.cancel()
    await settle()
    gate.open.set()
    assert [*await asyncio.gather(first, stays)] == [0, -2]
    assert gate.batches == [[0], [2]]


async def test_a_caller_cancelled_in_a_batch_disturbs_nobody() -> None:
    """An item in a running batch is handled although its caller is gone."""
    gate = Gate()
    batcher = Batcher(gate)
    gone, stays = asyncio.create_task(batcher.submit(1)), asyncio.create_task(batcher.submit(2))
    await settle()
    gone.cancel()
    gate.open.set()
    assert await stays == -2
    assert gate.batches == [[1, 2]]


async def test_close_handles_what_waits_and_refuses_the_rest() -> None:
    """Close returns after the waiting items; those outside and later ones get Unavailable."""
    gate = Gate()
    batcher = Batcher(gate, max_size=1, max_pending=1)
    inside = [asyncio.create_task(batcher.submit(0))]
    await settle()
    inside.append(asyncio.create_task(batcher.submit(1)))
    await settle()
    outside = asyncio.create_task(batcher.submit(2))
    await settle()
    closing = asyncio.create_task(batcher.close())
    await settle()
    gate.open.set()
    await closing
    assert await asyncio.gather(*inside) == [0, -1]
    for late in (outside, batcher.submit(3)):
        with pytest.raises(Unavailable):
            await late


async def test_a_cancelled_close_frees_every_caller() -> None:
    """When close is given up, running and waiting items are cancelled, none hangs."""
    gate = Gate()
    batcher = Batcher(gate, max_size=1)
    callers = [asyncio.create_task(batcher.submit(n)) for n in range(3)]
    await settle()
    closing = asyncio.create_task(batcher.close())
    await settle()
    closing.cancel()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 3


async def test_a_batch_runs_outside_every_callers_context() -> None:
    """The handler does not see one caller's context variables, such as its principal."""
    who: ContextVar[str] = ContextVar("who", default="nobody")
    seen: list[str] = []

    async def handle(items: list[int]) -> list[int | Exception]:
        seen.append(who.get())
        return list(items)

    who.set("the first caller")
    await Batcher(handle).submit(1)
    assert seen == ["nobody"]
