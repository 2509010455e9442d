"""The cache of what decisions go by."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import update

from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.migrations import migrate
from frontdesk.reply_engine.model import Snapshot
from frontdesk.reply_engine.service import VERSIONS
from frontdesk.reply_engine.snapshot import SnapshotCache
from frontdesk.reply_engine.tables import organizations


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(f"sqlite:///{tmp_path}/e.db", "reply_engine"))
    await migrate(database, VERSIONS)
    async with database.write() as connection:
        rows = [{"organization_id": name, "config_version": 1} for name in ("a", "b", "c")]
        await connection.execute(organizations.insert(), rows)
    yield database
    await database.close()


async def get(database: Database, cache: SnapshotCache, name: str) -> Snapshot:
    async with database.read() as connection:
        return (await cache.get(connection, [name]))[name]


async def test_a_snapshot_is_kept_until_something_changed(database: Database) -> None:
    """RE-23: the same object while the version stands, a new one in the transaction that sees the next."""
    cache = SnapshotCache()
    first = await get(database, cache, "a")
    assert await get(database, cache, "a") is first
    async with database.write() as connection:
        await connection.execute(
            update(organizations).where(organizations.c.organization_id == "a").values(config_version=2)
        )
    second = await get(database, cache, "a")
    assert (second is first, second.version) == (False, 2)


async def test_the_cache_is_bounded(database: Database) -> None:
    """PL-09: organizations that were not used for the longest time are forgotten."""
    cache = SnapshotCache(limit=2)
    first = await get(database, cache, "a")
    for name in ("b", "c"):
        await get(database, cache, name)
    assert len(cache._cached) == 2
    assert await get(database, cache, "a") is not first
