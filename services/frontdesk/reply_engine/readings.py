"""What a reply-engine tells of what waits: its consumers, and the database's chats and sends, which are the
same for all replicas."""

from __future__ import annotations

from sqlalchemy import func, literal_column, select

from frontdesk.kit.bus import Bus, gauges
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database
from frontdesk.kit.telemetry import names
from frontdesk.kit.telemetry.readings import Gauge, Readings, Sample
from frontdesk.reply_engine.model import UNREPORTED
from frontdesk.reply_engine.tables import chats, outgoing
from frontdesk.reply_engine.topology import CONSUMERS

CHATS = Gauge(names.CHATS_WAITING, "{chat}", "Chats that wait for a person.")
CHATS_AGE = Gauge(names.CHATS_WAITING_AGE, "s", "For how long the first of them waits.")
SENDS = Gauge(names.SENDS_UNREPORTED, "{message}", "Answers that nobody reported on in time.")

# No parameters, or no planner would know that the partial index covers it.
_WITH_A_PERSON = (
    chats.c.waiting_since_ms > literal_column("0"),
    chats.c.waiting_reason != literal_column("''"),
)
CHATS_WAIT = select(func.count(), func.min(chats.c.waiting_since_ms)).where(*_WITH_A_PERSON)


class DatabaseReading:
    """One transaction that counts; `unreported_ms` is after how long a send should have been reported on."""

    def __init__(self, database: Database, clock: Clock, unreported_ms: int) -> None:
        self._database = database
        self._clock = clock
        self._unreported_ms = unreported_ms

    async def read(self) -> list[Sample]:
        """All samples; raises Unavailable."""
        now = self._clock.now_ms()
        late = outgoing.c.updated_at_ms < now - self._unreported_ms
        unreported = select(func.count()).where(outgoing.c.state.in_(UNREPORTED), late)
        async with self._database.read() as connection:
            waiting, since_ms = (await connection.execute(CHATS_WAIT)).one()
            sends = (await connection.execute(unreported)).scalar_one()
        age = (now - since_ms) / 1000 if waiting else 0.0
        return [Sample(CHATS, waiting), Sample(CHATS_AGE, age), Sample(SENDS, sends)]


def add_readings(readings: Readings, bus: Bus, database: Database, clock: Clock, unreported_ms: int) -> None:
    """Have them read."""

    async def consumers() -> list[Sample]:
        return await gauges.consumers(bus.js, CONSUMERS)

    readings.add("nats", gauges.OF_CONSUMERS, consumers)
    counting = DatabaseReading(database, clock, unreported_ms)
    readings.add("database", [CHATS, CHATS_AGE, SENDS], counting.read)
