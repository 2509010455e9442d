"""The life of one owned shard, from the lease written to the lease deleted or lost.

    opening ──acquired ok──▶ open ──leave──▶ draining ──release ok──▶ closed, lease deleted
       │                       │                │
       │ error, time-out       │ lease lost     │ error, time-out, lease lost
       └───────────────────────┴───────▶ listener.lost ──▶ closed, lease deleted unless it is lost

All the while the lease is renewed. A renewal that is not confirmed is repeated until compare-and-swap
decides: `holds` is false from the deadline on, the sessions stay until it is known that somebody else wrote
the lease. A lease is deleted only after the listener said that the shard is closed; if it never says so, the
lease runs out.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import random
from collections.abc import Coroutine
from typing import Any, Protocol

from frontdesk.kit import subjects, tasks
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import Unavailable
from frontdesk.kit.shards import lease
from frontdesk.kit.shards.model import ShardListener, ShardSettings
from frontdesk.kit.shards.store import Conflict, Record

log = logging.getLogger(__name__)


class LeaseStore(Protocol):
    """The writes of a lease; `kit.shards.store.ShardStore` says what they promise."""

    async def swap(self, key: str, value: bytes, last: int) -> int: ...
    async def delete(self, key: str, last: int) -> None: ...
    async def read(self, key: str) -> Record | None: ...


class State(enum.Enum):
    """Where a holding stands; see the module's text."""

    OPENING = "opening"
    OPEN = "open"
    DRAINING = "draining"
    CLOSED = "closed"


class Holding:
    """One lease of this member. `asked` is the time before the write that acquired it at revision `epoch`."""

    def __init__(
        self,
        shard: int,
        *,
        value: bytes,
        epoch: int,
        asked: float,
        store: LeaseStore,
        listener: ShardListener,
        settings: ShardSettings,
        clock: Clock,
    ) -> None:
        self.shard = shard
        self.epoch = epoch
        self.state = State.OPENING
        self.opened = False
        self.lost = False
        self._key = subjects.lease_key(shard)
        self._value = value
        self._revision = epoch
        self._settings = settings
        self._deadline = lease.deadline(asked, settings.ttl, settings.margin)
        self._store = store
        self._listener = listener
        self._clock = clock
        loop = asyncio.get_running_loop()
        self._leaving: asyncio.Future[None] = loop.create_future()
        self._hurried: asyncio.Future[None] = loop.create_future()

    def holds(self) -> bool:
        """Whether the shard may be used right now."""
        return self.owned and self._clock.monotonic() < self._deadline

    @property
    def owned(self) -> bool:
        """Whether the lease is this member's as far as it knows, be its deadline passed or not."""
        return not self.lost and self.state is not State.CLOSED

    def leave(self) -> None:
        """Hand the shard over: drain it once it is open, then delete the lease."""
        if not self._leaving.done():
            self._leaving.set_result(None)

    def hurry(self) -> None:
        """Cut short whatever the listener does; `lost` follows, then the end."""
        self.leave()
        if not self._hurried.done():
            self._hurried.set_result(None)

    async def live(self) -> None:
        """Serve the shard until it is handed over or lost."""
        renewing = asyncio.create_task(self._renew(), name=f"lease {self.shard}")
        try:
            closed = await self._serve(renewing)
            self.state = State.CLOSED
        finally:
            await tasks.end([renewing])
            if not renewing.cancelled() and (error := renewing.exception()) is not None:
                log.error("shard %d: renewing its lease crashed", self.shard, exc_info=error)
        if self.lost:
            return
        if closed:
            await self.give_back()
        else:
            log.error("shard %d did not close; its lease runs out by itself", self.shard)

    async def _serve(self, renewing: asyncio.Task[None]) -> bool:
        """Take the listener through the shard's states; returns whether it closed the shard."""
        listener, settings = self._listener, self._settings
        going_on = {renewing, self._hurried}
        opening = listener.acquired(self.shard, self.epoch)
        self.opened = await self._call("acquired", opening, settings.acquire_seconds, going_on)
        if self.opened:
            self.state = State.OPEN
            await asyncio.wait({*going_on, self._leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not renewing.done() and not self._hurried.done():
                self.state = State.DRAINING
                if await self._call(
                    "release", listener.release(self.shard), settings.drain_seconds, going_on
                ):
                    return True
        return await self._call("lost", listener.lost(self.shard), settings.close_seconds, set())

    async def _call(
        self, what: str, work: Coroutine[Any, Any, None], seconds: float, until: set[asyncio.Future[None]]
    ) -> bool:
        """Let the listener work; False when it failed, took longer or one of `until` came first."""
        task = asyncio.create_task(work, name=f"shard {self.shard} {what}")
        try:
            await asyncio.wait({task, *until}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                log.warning("shard %d: %s was cut short", self.shard, what)
                return False
            if task.cancelled() or (error := task.exception()) is not None:
                log.error(
                    "shard %d: %s failed", self.shard, what, exc_info=None if task.cancelled() else error
                )
                return False
            return True
        finally:
            if not task.done():
                task.cancel()
                # A listener that does not end when it is cancelled must not hold the lease for ever.
                await asyncio.wait({task}, timeout=self._settings.close_seconds)

    async def _renew(self) -> None:
        """Keep the lease; returns when it is lost."""
        settings, clock = self._settings, self._clock
        # Leases taken at one moment are renewed spread over time.
        wait = settings.renew_every * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        while True:
            await clock.sleep(wait)
            asked = clock.monotonic()
            try:
                self._revision = await self._store.swap(self._key, self._value, self._revision)
            except Conflict:
                mine = await self._still_mine()
                if mine is False:
                    self.lost = True
                    log.warning("shard %d: the lease of epoch %d is lost", self.shard, self.epoch)
                    return
                wait = 0.0 if mine else settings.retry_every
            except Unavailable:
                wait = settings.retry_every
            else:
                self._deadline = lease.deadline(asked, settings.ttl, settings.margin)
                wait = settings.renew_every

    async def _still_mine(self) -> bool | None:
        """After a conflict: whether the lease is still this holding's; None when NATS does not tell.

        An own write whose answer got lost is adopted, but the deadline stays: nobody knows when it was sent.
        """
        try:
            record = await self._store.read(self._key)
        except Unavailable:
            return None
        if record is None or record.value != self._value:
            return False
        self._revision = record.revision
        return True

    async def give_back(self) -> None:
        """Delete the lease, trying until its deadline; then it runs out by itself."""
        self.state = State.CLOSED
        while True:
            try:
                await self._store.delete(self._key, self._revision)
                return
            except Conflict:
                mine = await self._still_mine()
                if mine is False:
                    return
                wait = 0.0 if mine else self._settings.retry_every
            except Unavailable:
                wait = self._settings.retry_every
            if self._hurried.done() or self._clock.monotonic() + wait >= self._deadline:
                log.warning("shard %d: the lease could not be deleted; it runs out by itself", self.shard)
                return
            await self._clock.sleep(wait)
