"""The timer of the sweep, which finds what was stored and never went on: one timer of the whole fleet.

It is set while something is open, and only then: a service that nothing waits for may sleep, and a timer that
came due every few seconds would wake it. Whoever stores work sees to the timer after the commit and before
the acknowledgement, so that a crash in between leads to a repeat.
"""

from __future__ import annotations

from sqlalchemy import exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.kit.bus import Timers
from frontdesk.kit.clock import Clock
from frontdesk.reply_engine.model import OPEN_DELIVERIES, UNREPORTED
from frontdesk.reply_engine.tables import chats, orders, outgoing
from frontdesk.reply_engine.topology import SWEEP_TIMER

SWEEP_ID = "reply-engine"

_OPEN_WORK = select(
    or_(
        exists().where(chats.c.due_at_ms > 0, chats.c.waiting_count > 0, chats.c.waiting_reason == ""),
        exists().where(outgoing.c.state.in_(UNREPORTED)),
        exists().where(orders.c.delivery_state.in_(OPEN_DELIVERIES), orders.c.delivery_due_ms > 0),
    )
)


class SweepTimer:
    """Sets the timer; `every_ms` is the time between two sweeps, milliseconds."""

    def __init__(self, timers: Timers, clock: Clock, every_ms: int) -> None:
        self._timers = timers
        self._clock = clock
        self._every_ms = every_ms
        self._set_at_ms = 0

    async def keep(self) -> None:
        """There is work: see to it that a sweep comes, at least half its time from now on."""
        if self._clock.now_ms() - self._set_at_ms >= self._every_ms / 2:
            await self.set()

    async def set(self) -> None:
        """Have the next sweep come when its time is over; every replica may, it is one timer."""
        now = self._clock.now_ms()
        await self._timers.set(SWEEP_TIMER, SWEEP_ID, now + self._every_ms)
        self._set_at_ms = now


async def open_work(connection: AsyncConnection) -> bool:
    """Whether something waits for a machine: a chat, a report, the next step of an order."""
    return bool((await connection.execute(_OPEN_WORK)).scalar())
