"""The timer of the sweep, which finds what was stored and never went on: one timer of the whole fleet.

It is set while something is open, and only then: a service that nothing waits for may sleep, and a timer that
came due every few seconds would wake it. A sweep that finds only what is due later, such as a chat that is
paused, sets the next one for then. Whoever stores work sees to the timer after the commit and before the
acknowledgement, so that a crash in between leads to a repeat.
"""

from __future__ import annotations

from sqlalchemy import func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.kit.bus import Timers
from frontdesk.kit.clock import Clock
from frontdesk.reply_engine.model import OPEN_DELIVERIES, UNREPORTED
from frontdesk.reply_engine.tables import chats, orders, outgoing
from frontdesk.reply_engine.topology import SWEEP_TIMER

SWEEP_ID = "reply-engine"

# Two replicas may set the timer at the same moment, and the later time may win: it is never later than this.
LATEST_MS = 300_000


class SweepTimer:
    """Sets the timer; `every_ms` is the time between two sweeps, milliseconds."""

    def __init__(self, timers: Timers, clock: Clock, every_ms: int) -> None:
        self._timers = timers
        self._clock = clock
        self._every_ms = every_ms
        self._comes_ms = 0

    async def keep(self) -> None:
        """There is work: see to it that a sweep comes, at least half its time from now on."""
        now = self._clock.now_ms()
        if not now + self._every_ms / 2 <= self._comes_ms <= now + self._every_ms:
            await self.set()

    async def set(self, at_ms: int = 0) -> None:
        """Have the next sweep come at `at_ms`, but not before its time is over, nor minutes later.

        Every replica may: it is one timer.
        """
        now = self._clock.now_ms()
        await self._come(min(max(at_ms, now + self._every_ms), now + max(LATEST_MS, self._every_ms)))

    async def now(self) -> None:
        """Have a sweep come at once."""
        await self._come(self._clock.now_ms())

    async def _come(self, at_ms: int) -> None:
        await self._timers.set(SWEEP_TIMER, SWEEP_ID, at_ms)
        self._comes_ms = at_ms


async def next_work(connection: AsyncConnection) -> int | None:
    """When the first of what waits for a machine is due, in Unix milliseconds; None when nothing is open.

    A chat waits for its time, an order for its next step; a report is due since its part was published.
    """
    first = union_all(
        select(func.min(chats.c.due_at_ms).label("due_ms")).where(
            chats.c.due_at_ms > 0, chats.c.waiting_count > 0, chats.c.waiting_reason == ""
        ),
        select(func.min(outgoing.c.updated_at_ms)).where(outgoing.c.state.in_(UNREPORTED)),
        select(func.min(orders.c.delivery_due_ms)).where(
            orders.c.delivery_state.in_(OPEN_DELIVERIES), orders.c.delivery_due_ms > 0
        ),
    ).subquery()
    found: int | None = (await connection.execute(select(func.min(first.c.due_ms)))).scalar()
    return found
