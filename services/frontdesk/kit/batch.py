"""Group commit: many callers hand in one item each, one call handles them together.

While a batch runs, the next one gathers. An idle batcher runs at once, so a lone caller pays no wait; behind
a batch of `BUSY` items or more the next one waits up to `GATHER_S` for company, as a batch of fifty costs
little more than one of five.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from frontdesk.kit.clock import Clock, SystemClock
from frontdesk.kit.errors import FrontdeskError, Unavailable

T = TypeVar("T")
R = TypeVar("R")

BUSY = 8
GATHER_S = 0.015

Handle = Callable[[list[T]], Awaitable[Sequence[R | Exception]]]


class Batcher(Generic[T, R]):
    """Calls `handle` with 1 to `max_size` items in the order they were submitted.

    `handle` returns one result per item, in the same order; a result that is an exception is raised to that
    item's caller alone, an exception raised by `handle` goes to every caller of the batch. At most
    `max_pending` items wait (further callers wait for a place), at most `concurrency` batches run at once.
    `gather_s`: how long a batch behind a busy one waits for more, unless it is full.
    """

    def __init__(
        self,
        handle: Handle[T, R],
        *,
        max_size: int = 100,
        gather_s: float = GATHER_S,
        max_pending: int = 1000,
        concurrency: int = 1,
        clock: Clock | None = None,
    ) -> None:
        if min(max_size, max_pending, concurrency) < 1 or gather_s < 0:
            raise ValueError("max_size, max_pending and concurrency are at least 1, gather_s at least 0")
        self._handle = handle
        self._max_size = max_size
        self._gather_s = gather_s
        self._concurrency = concurrency
        self._clock = clock or SystemClock()
        self._places = asyncio.Semaphore(max_pending)
        self._pending: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._full = asyncio.Event()
        self._closed = False

    @property
    def pending(self) -> int:
        """Items that wait for a batch."""
        return len(self._pending)

    async def submit(self, item: T) -> R:
        """The result of `item`; raises what its batch raised, and Unavailable after `close`.

        A caller that is cancelled while its item waits takes the item back; once in a batch it is handled.
        """
        await self._places.acquire()
        if self._closed:
            self._places.release()
            raise Unavailable("the batcher is closed")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._pending.append((item, future))
        if len(self._pending) >= self._max_size:
            self._full.set()
        if len(self._workers) < self._concurrency:
            # An empty context: a batch belongs to no single caller's trace or principal.
            worker = asyncio.create_task(self._work(), name="batcher", context=Context())
            self._workers.add(worker)
            worker.add_done_callback(self._worker_done)
        return await future

    async def close(self) -> None:
        """Refuse new items; return when all waiting ones are handled. Cancelling this cancels the batches."""
        self._closed = True
        self._full.set()
        try:
            while self._workers:
                await asyncio.wait(self._workers)
        except asyncio.CancelledError:
            for worker in self._workers:
                worker.cancel()
            raise

    def _worker_done(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if worker.cancelled():
            while batch := self._take():
                for _, future in batch:
                    future.cancel()

    async def _work(self) -> None:
        while self._pending:
            batch = self._take()
            if batch:
                await self._run(batch)
            if len(batch) >= BUSY and not self._closed:
                await self._gather()
        # Leaving and being counted out must be one step, or an item submitted in between finds nobody.
        worker = asyncio.current_task()
        assert worker is not None
        self._workers.discard(worker)

    async def _gather(self) -> None:
        """Wait until the next batch is full, the wait is over, or the batcher closes."""
        if len(self._pending) >= self._max_size:
            return
        self._full.clear()
        waits = [
            asyncio.ensure_future(self._clock.sleep(self._gather_s)),
            asyncio.ensure_future(self._full.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _take(self) -> list[tuple[T, asyncio.Future[R]]]:
        """The next items whose callers still wait; frees the places of all it looked at."""
        batch: list[tuple[T, asyncio.Future[R]]] = []
        while self._pending and len(batch) < self._max_size:
            entry = self._pending.popleft()
            self._places.release()
            if not entry[1].done():
                batch.append(entry)
        return batch

    async def _run(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._handle([item for item, _ in batch])
            if len(results) != len(batch):
                raise FrontdeskError(f"the batch of {len(batch)} items got {len(results)} results")
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - the boundary of the batch: every caller gets the error
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
