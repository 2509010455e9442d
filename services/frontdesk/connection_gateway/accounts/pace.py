"""How fast a replica opens connections: a storm of them is what platforms notice first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from frontdesk.kit.clock import Clock


class Pace:
    """At most `per_second` beginnings and `at_once` under way."""

    def __init__(self, per_second: float, at_once: int, clock: Clock) -> None:
        self._gap = 1 / per_second
        self._places = asyncio.Semaphore(at_once)
        self._clock = clock
        self._next = 0.0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and have it for the length of the block."""
        now = self._clock.monotonic()
        at = max(self._next, now)
        self._next = at + self._gap
        if at > now:
            await self._clock.sleep(at - now)
        async with self._places:
            yield
