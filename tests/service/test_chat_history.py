"""Stored conversations, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from frontdesk.connection_gateway.clients.history import Histories
from frontdesk.connection_gateway.clients.limits import ChatLimits
from frontdesk.connection_gateway.service import SCHEMA, VERSIONS
from frontdesk.connection_gateway.tables import conversations, turns
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.migrations import migrate
from frontdesk.kit.principal import Principal

ADA = Principal("ada", "org", "agent")
LIMITS = ChatLimits(turns=4, stored_turns=6, sessions_per_user=3)


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/gateway.db" if sqlite else request.getfixturevalue("postgres")
    database = Database(DatabaseOptions(url, SCHEMA))
    await migrate(database, VERSIONS)
    yield database
    await database.close()


async def texts(histories: Histories, principal: Principal = ADA, session: str = "s") -> list[str]:
    return [turn.text for turn in await histories.of(principal, session).read()]


async def rows(database: Database) -> tuple[int, int]:
    async with database.read() as connection:
        counts = [
            (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for table in (conversations, turns)
        ]
    return counts[0], counts[1]


async def test_conversations(database: Database) -> None:
    """The newest turns in order, of this person and session only, no more of them stored than the limit;
    turns that come at once keep together."""
    clock = ManualClock()
    histories = Histories(database, clock, LIMITS)
    assert await texts(histories) == []
    for number in range(5):
        await histories.of(ADA, "s").add(f"q{number}", f"a{number}")
    assert await texts(histories) == ["q3", "a3", "q4", "a4"]
    assert [turn.person for turn in await histories.of(ADA, "s").read()] == [True, False] * 2
    assert await rows(database) == (1, 6)
    for stranger in (Principal("eve", "org"), Principal("ada", "other")):
        assert await texts(histories, stranger) == []
    await asyncio.gather(*(histories.of(ADA, "t").add(f"q{n}", f"a{n}") for n in range(4)))
    together = await texts(histories, session="t")
    assert [question[1:] for question in together[::2]] == [answer[1:] for answer in together[1::2]]


async def test_what_is_old_is_forgotten(database: Database) -> None:
    """A person's sessions beyond the limit when a new one begins, and those that were quiet for long."""
    clock = ManualClock()
    histories = Histories(database, clock, LIMITS)
    await histories.of(Principal("eve", "org"), "s").add("q", "a")
    for number in range(5):
        await clock.advance(1)
        await histories.of(ADA, f"s{number}").add("q", "a")
    assert [await texts(histories, session=f"s{n}") for n in range(5)] == [[], [], *[["q", "a"]] * 3]
    assert await rows(database) == (4, 8)
    assert await histories.prune(clock.now_ms() - 1000) == 2
    assert [await texts(histories, session=f"s{n}") for n in (2, 3, 4)] == [[], ["q", "a"], ["q", "a"]]
    assert await rows(database) == (2, 4)
