"""An organization's providers, budgets and policies, cached by version.

Every change raises the organization's `config_version` in its own transaction. A call compares the version
before it uses what is cached, so a change takes effect with the next call on every replica; calls that come
together share one small query.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.ai_proxy.tables import organizations
from frontdesk.kit.batch import Batcher
from frontdesk.kit.database import Database, any_of
from frontdesk.kit.upserts import insert_ignoring

T = TypeVar("T")
Load = Callable[[AsyncConnection, str], Awaitable[T]]

_VERSIONS = select(organizations).where(organizations.c.organization_id.in_(any_of("ids")))


class Configuration(Generic[T]):
    """What `load` reads of the organizations used last, at most `limit` of them."""

    def __init__(self, database: Database, load: Load[T], limit: int = 512) -> None:
        self._database = database
        self._load = load
        self._limit = limit
        self._cached: OrderedDict[str, tuple[int, T]] = OrderedDict()
        self._reads: Batcher[str, T] = Batcher(self._read, gather_s=0)

    async def get(self, organization_id: str) -> T:
        """What holds now; raises Unavailable when the database is away."""
        return await self._reads.submit(organization_id)

    async def _read(self, organization_ids: list[str]) -> Sequence[T]:
        wanted = set(organization_ids)
        found: dict[str, T] = {}
        async with self._database.read() as connection:
            rows = await connection.execute(_VERSIONS, {"ids": sorted(wanted)})
            versions = {row.organization_id: row.config_version for row in rows}
            for organization_id in wanted:
                version = versions.get(organization_id, 0)
                cached = self._cached.get(organization_id)
                if cached is None or cached[0] != version:
                    cached = (version, await self._load(connection, organization_id))
                    self._cached[organization_id] = cached
                self._cached.move_to_end(organization_id)
                found[organization_id] = cached[1]
        while len(self._cached) > self._limit:
            self._cached.popitem(last=False)
        return [found[organization_id] for organization_id in organization_ids]

    async def close(self) -> None:
        """Finish what is read."""
        await self._reads.close()


async def change_configuration(connection: AsyncConnection, organization_id: str) -> None:
    """Raise the organization's version in the caller's transaction."""
    await connection.execute(
        insert_ignoring(connection, organizations), [{"organization_id": organization_id}]
    )
    await connection.execute(
        update(organizations)
        .where(organizations.c.organization_id == organization_id)
        .values(config_version=organizations.c.config_version + 1)
    )
