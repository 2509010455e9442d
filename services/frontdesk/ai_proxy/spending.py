"""What calls used, told once each: an event on EVENTS that spend_writer.py counts.

`record` returns when NATS has stored the event, so that what a caller heard the end of is counted. While NATS
is away it does not hold up answers for long: events wait here and are published in the background, as often
as it takes. When too many wait, no call may begin any more (`check_room`) and those under way wait too: what
can't be counted must not be spent. What still waits when the service stops goes straight to the database.
A process that is killed while NATS is away takes what waits with it; what was set aside for it expires then
and counts as used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Protocol

from frontdesk.ai_proxy.deadline import Alarm
from frontdesk.ai_proxy.model import Caller, Usage
from frontdesk.ai_proxy.money import MOST_COST, amount_text, rounded
from frontdesk.api.ai.v1 import chat_pb2
from frontdesk.api.ai.v1.spend_pb2 import Spend
from frontdesk.api.events.v1.event_pb2 import Event
from frontdesk.kit import subjects, tasks
from frontdesk.kit.backoff import Backoff, exponential
from frontdesk.kit.bus.connection import Outgoing
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import FrontdeskError, Unavailable
from frontdesk.kit.telemetry.propagation import inject

log = logging.getLogger(__name__)

AGAIN = exponential(0.1, 2)


@dataclass(frozen=True, slots=True)
class SpendRecord:
    """One call that ended, well or not. Times in milliseconds; `first_token_ms` is 0 when nothing came or it
    was not streamed; `code` is `OK` or the name of the gRPC status; `cost` is None for a model without a
    price."""

    call_id: str
    caller: Caller
    provider: str
    requested_model: str
    model: str
    started_at_ms: int
    duration_ms: int
    first_token_ms: int
    code: str
    usage: Usage
    cost: Decimal | None = None
    currency: str = ""
    cached: bool = False

    @property
    def failed(self) -> bool:
        """Whether the call failed or broke off."""
        return self.code != "OK"


@dataclass(frozen=True, slots=True)
class SpendingLimits:
    """`hold_s`: how long an answer waits for NATS at most; `waiting`: events kept while NATS is away;
    `batch`: events published at once then."""

    hold_s: float = 0.5
    waiting: int = 10_000
    batch: int = 64


class Publisher(Protocol):
    """As much of the bus as is needed here."""

    async def publish_all(self, messages: Sequence[Outgoing]) -> None:
        """Store messages in their streams, a repeated id once; raises FrontdeskError."""
        ...


Store = Callable[[Sequence[bytes]], Awaitable[None]]


class Spending:
    """Tells what calls used. `store` writes events to the database without NATS; it is the last resort."""

    def __init__(
        self,
        bus: Publisher,
        store: Store,
        clock: Clock,
        limits: SpendingLimits | None = None,
        again: Backoff = AGAIN,
    ) -> None:
        self._bus = bus
        self._store = store
        self._clock = clock
        self._limits = limits or SpendingLimits()
        self._again = again
        self._waiting: deque[Outgoing] = deque()
        self._room = asyncio.Event()
        self._room.set()
        self._worker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Events that NATS does not have yet."""
        return len(self._waiting)

    def check_room(self) -> None:
        """Raises Unavailable while so many events wait for NATS that no call may begin."""
        if len(self._waiting) >= self._limits.waiting:
            raise Unavailable("what calls use can't be recorded, as NATS is away: no call begins until it is")

    async def record(self, spend: SpendRecord) -> None:
        """Tell of a call; the event is kept even when this is cancelled. Raises nothing of NATS."""
        message = _message(spend, self._clock.now_ms())
        if not self._waiting:
            alarm = Alarm(self._limits.hold_s)
            try:
                await alarm.within(lambda: self._bus.publish_all((message,)))
                return
            except FrontdeskError as error:
                log.warning("what a call used waits for NATS: %s", error.message)
            except asyncio.CancelledError:
                self._keep(message)
                raise
            finally:
                alarm.close()
        self._keep(message)
        await self._room.wait()

    def _keep(self, message: Outgoing) -> None:
        self._waiting.append(message)
        if len(self._waiting) >= self._limits.waiting:
            self._room.clear()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._publish(), name="spending")

    async def _publish(self) -> None:
        """Publish what waits until nothing does."""
        failures = 0
        while self._waiting:
            batch = list(islice(self._waiting, self._limits.batch))
            with contextlib.suppress(FrontdeskError):
                refused = await self._published(batch)
                self._done(len(batch), refused)
                if len(refused) < len(batch):
                    failures = 0
                    continue
            failures += 1
            await self._clock.sleep(self._again.delay(failures))
        log.info("NATS has everything that calls used")

    async def _published(self, batch: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """What of `batch` neither NATS nor the database will take; raises FrontdeskError when waiting mends
        it."""
        try:
            await self._bus.publish_all(batch)
        except FrontdeskError as error:
            if error.retryable:
                raise
            # What no waiting mends must not stand before the others for ever.
            return await self._stored(batch)
        return ()

    async def _stored(self, batch: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """What of `batch` the database will not take; raises FrontdeskError when it may take it later."""
        try:
            await self._store([message.payload for message in batch])
        except FrontdeskError as error:
            log.warning("what %d calls used could not be stored either: %s", len(batch), error.message)
            if error.retryable:
                raise
            if len(batch) == 1:
                return batch
            # One of them must not take the others along.
            return [refused for message in batch for refused in await self._stored([message])]
        return ()

    def _done(self, count: int, refused: Sequence[Outgoing] = ()) -> None:
        """The first `count` no longer wait, but for what was refused, which waits behind the others."""
        for _ in range(count):
            self._waiting.popleft()
        self._waiting.extend(refused)
        if len(self._waiting) < self._limits.waiting:
            self._room.set()

    async def stop(self, deadline_s: float) -> None:
        """Publish what waits, for half of `deadline_s` seconds; the rest goes straight to the database."""
        if self._worker is not None:
            await asyncio.wait((self._worker,), timeout=deadline_s / 2)
            await tasks.end([self._worker])
        lost: list[Outgoing] = []
        with contextlib.suppress(TimeoutError, FrontdeskError):
            async with asyncio.timeout(deadline_s / 2):
                while self._waiting:
                    batch = list(islice(self._waiting, self._limits.batch))
                    lost += await self._stored(batch)
                    self._done(len(batch))
        self._waiting.extend(lost)
        if self._waiting:
            log.error("what %d calls used is lost: neither NATS nor the database took it", len(self._waiting))


def _message(spend: SpendRecord, now_ms: int) -> Outgoing:
    """The event of a call, with the trace that it belongs to."""
    usage, caller = spend.usage, spend.caller
    event = Event(
        event_id=f"spend:{spend.call_id}",
        organization_id=caller.organization_id,
        account_id=caller.account_id,
        occurred_at_ms=now_ms,
        usage=Spend(
            call_id=spend.call_id,
            account_id=caller.account_id,
            api_key_id=caller.api_key_id,
            provider=spend.provider,
            requested_model=spend.requested_model,
            model=spend.model,
            operation=caller.operation,
            started_at_ms=spend.started_at_ms,
            duration_ms=spend.duration_ms,
            first_token_ms=spend.first_token_ms,
            code=spend.code,
            usage=chat_pb2.Usage(
                prompt_tokens=usage.prompt_tokens,
                cached_tokens=usage.cached_tokens,
                completion_tokens=usage.completion_tokens,
                counted=usage.counted,
                # What a provider makes up must not keep the call out of the log.
                cost=amount_text(min(rounded(spend.cost), MOST_COST)) if spend.cost is not None else "",
                currency=spend.currency if spend.cost is not None else "",
            ),
            cached=spend.cached,
        ),
    )
    subject = subjects.event("usage", caller.account_id or subjects.NO_ACCOUNT)
    return Outgoing(subject, event.SerializeToString(), msg_id=event.event_id, headers=inject({}))
