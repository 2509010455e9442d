"""A service that sleeps when nothing waits for it in a stream, and has work that stands in none: calls.

KEDA sees what waits, so a service that answers call after call looks idle to it. As soon as `worked` says so,
and as long as it does every `every_s` seconds, a lease to stay up is left in WAKE; each counts for a minute
(kit/bus/topology.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from frontdesk.kit import subjects
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import FrontdeskError

log = logging.getLogger(__name__)

EVERY_S = 20.0
# As often as KEDA looks.
LOOK_S = 2.0


class Publisher(Protocol):
    """As much of the bus as is needed here."""

    async def publish(self, subject: str, message: bytes) -> int:
        """Store a message in its stream; raises FrontdeskError."""
        ...


class StaysAwake:
    """Keeps `service` up. `worked`: whether it had work since it was asked last."""

    def __init__(
        self,
        bus: Publisher,
        service: str,
        worked: Callable[[], bool],
        clock: Clock,
        every_s: float = EVERY_S,
        look_s: float = LOOK_S,
    ) -> None:
        self._bus = bus
        self._subject = subjects.wake(service)
        self._worked = worked
        self._clock = clock
        self._every_s = every_s
        self._look_s = look_s

    async def run(self) -> None:
        """Look and tell, until cancelled."""
        due, not_before = False, self._clock.monotonic()
        while True:
            await self._clock.sleep(self._look_s)
            due = self._worked() or due
            if not due or self._clock.monotonic() < not_before:
                continue
            due, not_before = False, self._clock.monotonic() + self._every_s
            try:
                await self._bus.publish(self._subject, b"")
            except FrontdeskError as error:
                # With NATS away KEDA sees nothing either, and leaves the replicas as they are.
                log.debug("the lease to stay up was not stored: %s", error)
