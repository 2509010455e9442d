"""An organization's providers, budgets and policies, cached by version.

Every change raises the organization's `config_version` in its own transaction. What is cached is used for
`fresh_s` without asking; then the next call compares the version. So a change takes effect at once on the
replica that makes it and on every other within that time, and a busy organization costs one small query in
it. Calls that come together share one.
What of one organization can't be read is that organization's trouble alone; that is cached too, so it costs
one read and one line in the log a version.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.ai_proxy.tables import UNREADABLE, organizations
from frontdesk.kit.batch import Batcher
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database, any_of
from frontdesk.kit.errors import FrontdeskError
from frontdesk.kit.upserts import insert_ignoring

log = logging.getLogger(__name__)

T = TypeVar("T")
Load = Callable[[AsyncConnection, str], Awaitable[T]]

LATEST_S = 0.1

_VERSIONS = select(organizations).where(organizations.c.organization_id.in_(any_of("ids")))


class _Unreadable:
    """Stands for what can't be read."""


@dataclass(slots=True)
class _Known(Generic[T]):
    """What was read under a version, and when it was last known to hold, monotonic seconds."""

    version: int
    value: T | _Unreadable
    held_at: float = -math.inf


class Configuration(Generic[T]):
    """What `load` reads of the organizations used last, at most `limit` of them."""

    def __init__(
        self, database: Database, load: Load[T], clock: Clock, *, fresh_s: float = 1.0, limit: int = 512
    ) -> None:
        self._database = database
        self._load = load
        self._clock = clock
        self._fresh_s = fresh_s
        self._limit = limit
        self._cached: OrderedDict[str, _Known[T]] = OrderedDict()
        # Whose read is under way and sees all that this replica changed.
        self._reading: set[str] = set()
        self._reads: Batcher[str, T] = Batcher(self._read, gather_s=0)

    async def get(self, organization_id: str) -> T:
        """What holds now, or did `fresh_s` ago; raises Unavailable when the database is away, FrontdeskError
        when it holds what can't be read."""
        return await self._get(organization_id, self._fresh_s)

    async def latest(self, organization_id: str) -> T:
        """What holds now, or did a tenth of a second ago, as a change on another replica may matter: however
        often it is called, an organization costs ten queries a second. Raises as `get`."""
        return await self._get(organization_id, min(self._fresh_s, LATEST_S))

    @contextlib.asynccontextmanager
    async def change(self, organization_id: str) -> AsyncIterator[AsyncConnection]:
        """A transaction that changes what the organization set up; calls that come after it see that.

        It holds the organization from its beginning, so that two changes come one after the other. Raises
        Unavailable.
        """
        try:
            async with self._database.write() as connection:
                await _raise_version(connection, organization_id)
                yield connection
        finally:
            self._reading.discard(organization_id)
            known = self._cached.get(organization_id)
            if known is not None:
                known.held_at = -math.inf

    async def _get(self, organization_id: str, age_s: float) -> T:
        known = self._cached.get(organization_id)
        if known is not None and self._clock.monotonic() - known.held_at < age_s:
            if isinstance(known.value, _Unreadable):
                raise _error()
            return known.value
        return await self._reads.submit(organization_id)

    async def _read(self, organization_ids: list[str]) -> Sequence[T | Exception]:
        wanted = set(organization_ids)
        found: dict[str, T | _Unreadable] = {}
        now = self._clock.monotonic()
        self._reading = set(wanted)
        async with self._database.read() as connection:
            rows = await connection.execute(_VERSIONS, {"ids": sorted(wanted)})
            versions = {row.organization_id: row.config_version for row in rows}
            for organization_id in wanted:
                version = versions.get(organization_id, 0)
                known = self._cached.get(organization_id)
                if known is None or known.version != version:
                    value = await self._loaded(connection, organization_id)
                    known = self._cached[organization_id] = _Known(version, value)
                if organization_id in self._reading:
                    known.held_at = now
                self._cached.move_to_end(organization_id)
                found[organization_id] = known.value
        while len(self._cached) > self._limit:
            self._cached.popitem(last=False)
        values = (found[organization_id] for organization_id in organization_ids)
        return [_error() if isinstance(value, _Unreadable) else value for value in values]

    async def _loaded(self, connection: AsyncConnection, organization_id: str) -> T | _Unreadable:
        try:
            return await self._load(connection, organization_id)
        except UNREADABLE as error:
            # By its kind alone: the error's own text may quote what a seller wrote.
            kind = type(error).__name__
            log.error("what organization %s set up can't be read: %s", organization_id, kind)
            return _Unreadable()

    async def close(self) -> None:
        """Finish what is read."""
        await self._reads.close()


def _error() -> FrontdeskError:
    return FrontdeskError("what the organization set up can't be read")


async def _raise_version(connection: AsyncConnection, organization_id: str) -> None:
    await connection.execute(
        insert_ignoring(connection, organizations), [{"organization_id": organization_id}]
    )
    await connection.execute(
        update(organizations)
        .where(organizations.c.organization_id == organization_id)
        .values(config_version=organizations.c.config_version + 1)
    )
