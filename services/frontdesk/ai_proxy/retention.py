"""How long what calls used is kept: rows of the spend log for a setting's days, expired reservations until no
event of their call can come any more. Old rows go in small transactions, so that nobody waits for them."""

from __future__ import annotations

import logging

from sqlalchemy import bindparam, delete, select, tuple_

from frontdesk.ai_proxy.tables import reservations, spend
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import FrontdeskError

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
# A day more than EVENTS keeps the event that may still settle it (kit/bus/topology.py).
RESERVATION_KEPT_MS = 8 * DAY_MS
BATCH = 1_000
# What one round deletes at most of each; the next round goes on.
BATCHES = 50
EVERY_S = 3_600.0

_OLD_SPEND = delete(spend).where(
    spend.c.call_id.in_(
        select(spend.c.call_id)
        .where(spend.c.started_at_ms < bindparam("before"))
        .order_by(spend.c.started_at_ms)
        .limit(BATCH)
    )
)
_KEY = (reservations.c.call_id, reservations.c.budget_id)
_OLD_RESERVATIONS = delete(reservations).where(
    tuple_(*_KEY).in_(
        select(*_KEY)
        .where(reservations.c.expires_at_ms < bindparam("before"), reservations.c.expired.is_(True))
        .order_by(reservations.c.expires_at_ms)
        .limit(BATCH)
    )
)


class Retention:
    """Deletes what is too old; every replica may run it."""

    def __init__(self, database: Database, clock: Clock, spend_days: int) -> None:
        self._database = database
        self._clock = clock
        self._spend_ms = spend_days * DAY_MS

    async def sweep(self) -> int:
        """Delete what is too old, at most `BATCHES` batches of each kind; says how many rows it were."""
        now = self._clock.now_ms()
        deleted = 0
        for statement, kept_ms in ((_OLD_SPEND, self._spend_ms), (_OLD_RESERVATIONS, RESERVATION_KEPT_MS)):
            for _ in range(BATCHES):
                async with self._database.write() as connection:
                    count = (await connection.execute(statement, {"before": now - kept_ms})).rowcount
                deleted += count
                if count < BATCH:
                    break
        return deleted

    async def run(self) -> None:
        """Sweep now and every hour, until cancelled."""
        while True:
            try:
                if deleted := await self.sweep():
                    log.info("%d rows of what calls used were too old", deleted)
            except FrontdeskError as error:
                log.warning("what is too old stays a while: %s", error.message)
            await self._clock.sleep(EVERY_S)
