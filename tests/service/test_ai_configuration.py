"""What an organization set up, as calls see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.ai_proxy.configuration import Configuration, change_configuration
from frontdesk.ai_proxy.service import VERSIONS
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.migrations import migrate


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(DatabaseOptions(f"sqlite:///{tmp_path}/ai.db", "ai_proxy"))
    await migrate(database, VERSIONS)
    yield database
    await database.close()


async def test_a_change_counts_within_its_time(database: Database) -> None:
    """Nobody looks while what is known is fresh; then one look sees the change of that organization."""
    loads: list[str] = []

    async def load(connection: AsyncConnection, organization_id: str) -> int:
        loads.append(organization_id)
        return len(loads)

    clock = ManualClock()
    configuration = Configuration(database, load, clock, fresh_s=1.0)
    assert [await configuration.get("a"), await configuration.get("b")] == [1, 2]
    async with database.write() as connection:
        await change_configuration(connection, "a")
    assert await configuration.get("a") == 1
    await clock.advance(1.0)
    assert [await configuration.get("a"), await configuration.get("b")] == [3, 2]
    assert loads == ["a", "b", "a"]
    await clock.advance(1.0)
    assert await configuration.get("a") == 3
