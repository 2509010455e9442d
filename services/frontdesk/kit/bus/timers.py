"""Timers as messages: kept by the server, fired as `due.<what>.<id>`, alive through any process's death.

nats-server 2.12+ keeps a message with `Nats-Schedule` and delivers it to `Nats-Schedule-Target` when due.
Publishing again on the same timer subject replaces the timer; purging the subject cancels it. A timer carries
no deduplication id: setting it again must always count.
"""

from __future__ import annotations

from nats.errors import Error as NatsError

from frontdesk.kit import subjects
from frontdesk.kit.bus.connection import Bus, Outgoing
from frontdesk.kit.clock import iso
from frontdesk.kit.errors import Unavailable

SCHEDULE = "Nats-Schedule"
TARGET = "Nats-Schedule-Target"


class Timers:
    """Set, replace and cancel timers; whoever consumes `due.<what>.*` is called."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def set(self, what: str, timer_id: str, at_ms: int, payload: bytes = b"") -> None:
        """Fire `due.<what>.<timer_id>` with `payload` at `at_ms` (Unix milliseconds; the past means now)."""
        await self._bus.publish(
            subjects.timer(what, timer_id), payload, headers=_headers(what, timer_id, at_ms)
        )

    async def set_all(self, what: str, timers: list[tuple[str, int]]) -> None:
        """Set many timers of one kind, as (id, at in Unix milliseconds)."""
        await self._bus.publish_all(
            [
                Outgoing(subjects.timer(what, timer_id), b"", headers=_headers(what, timer_id, at_ms))
                for timer_id, at_ms in timers
            ]
        )

    async def cancel(self, what: str, timer_id: str) -> None:
        """Forget a timer; one that fired already is not called back."""
        try:
            await self._bus.js.purge_stream(subjects.TIMERS, subject=subjects.timer(what, timer_id))
        except (NatsError, TimeoutError) as error:
            raise Unavailable(f"a timer could not be cancelled: {error}") from error


def _headers(what: str, timer_id: str, at_ms: int) -> dict[str, str]:
    return {SCHEDULE: f"@at {iso(at_ms)}", TARGET: subjects.due(what, timer_id)}
