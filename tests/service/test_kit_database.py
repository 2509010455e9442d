"""Transactions, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Integer,
    MetaData,
    String,
    Table,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError

from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.errors import InvalidArgument, Unavailable
from support.postgres import PostgresServer

metadata = MetaData()
counters = Table(
    "counters",
    metadata,
    Column("name", String(20), primary_key=True),
    Column("value", Integer, nullable=False),
    Column("extra", JSON),
)
ONE = counters.c.name == "one"


def options(url: str, **more: Any) -> DatabaseOptions:
    return DatabaseOptions(url, "public", **{"busy_timeout": 2.0, **more})


@contextlib.asynccontextmanager
async def opened(url: str, **more: Any) -> AsyncIterator[Database]:
    database = Database(options(url, **more))
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data/test.db"
    address: str = request.getfixturevalue("postgres")
    return address


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with opened(url) as made:
        await fill(made)
        yield made


async def fill(database: Database) -> None:
    async with database.write() as connection:
        await connection.run_sync(metadata.create_all)
        await connection.execute(insert(counters).values(name="one", value=0))


async def value(database: Database) -> int:
    async with database.read() as connection:
        return int((await connection.execute(select(counters.c.value).where(ONE))).scalar_one())


async def increment(database: Database) -> None:
    async with database.write() as connection:
        row = await connection.execute(select(counters.c.value).where(ONE).with_for_update())
        before = row.scalar_one()
        await asyncio.sleep(0)
        await connection.execute(update(counters).where(ONE).values(value=before + 1))


async def test_what_a_write_did_is_there_for_the_next_read(database: Database) -> None:
    """A write commits at the end of its block."""
    await increment(database)
    assert await value(database) == 1


async def test_json_comes_back_as_it_went_in(database: Database) -> None:
    """A JSON column keeps structure and Chinese text."""
    extra = {"chain": ["rule", "ai"], "text": "你好", "limit": 0, "none": None}
    async with database.write() as connection:
        await connection.execute(update(counters).where(ONE).values(extra=extra))
    async with database.read() as connection:
        assert (await connection.execute(select(counters.c.extra))).scalar_one() == extra


@pytest.mark.parametrize("error", [RuntimeError("mine"), asyncio.CancelledError()])
async def test_a_block_that_raises_changes_nothing(database: Database, error: BaseException) -> None:
    """An exception rolls back, comes out as it is, and leaves the database usable."""
    with pytest.raises(type(error)):
        async with database.write() as connection:
            await connection.execute(update(counters).values(value=7))
            raise error
    assert await value(database) == 0
    await increment(database)
    assert await value(database) == 1


async def test_no_update_is_lost_between_tasks(database: Database) -> None:
    """Forty tasks that read and write one row count to forty."""
    await asyncio.gather(*(increment(database) for _ in range(40)))
    assert await value(database) == 40


async def test_no_update_is_lost_between_replicas(database: Database, url: str) -> None:
    """Two replicas, each with its own connections, never write over what the other wrote."""
    async with opened(url) as other:
        await asyncio.gather(*(increment(each) for _ in range(15) for each in (database, other)))
    assert await value(database) == 30


async def test_a_cancelled_statement_leaves_no_transaction_open(database: Database) -> None:
    """A task that is cancelled within its transaction holds no lock afterwards."""
    for delay in (0, 1, 2, 3, 5, 8):
        task = asyncio.create_task(increment(database))
        for _ in range(delay):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        before = await value(database)
        await increment(database)
        assert await value(database) == before + 1


async def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    """While a write is open, reads see the state before it."""
    async with database.write() as connection:
        await connection.execute(update(counters).values(value=5))
        async with asyncio.timeout(1):
            assert await value(database) == 0
    assert await value(database) == 5


async def test_a_read_may_not_write(database: Database) -> None:
    """A statement that writes inside `read` is refused as a fault of the program."""
    with pytest.raises(DBAPIError):
        async with database.read() as connection:
            await connection.execute(update(counters).values(value=5))
    assert await value(database) == 0


async def test_a_fault_of_the_program_is_not_taken_for_a_lost_database(database: Database) -> None:
    """A broken constraint and a missing table come out as they are: trying again would not help."""
    with pytest.raises(IntegrityError):
        async with database.write() as connection:
            await connection.execute(insert(counters).values(name="one", value=1))
    with pytest.raises(DBAPIError):
        async with database.read() as connection:
            await connection.execute(text("SELECT 1 FROM nowhere"))


async def test_a_row_that_another_replica_keeps_locked_is_unavailable(database: Database, url: str) -> None:
    """Waiting for a lock ends after the busy time-out with Unavailable, and works once the lock is gone."""
    async with opened(url, busy_timeout=0.2) as other:
        async with database.write() as connection:
            await connection.execute(update(counters).where(ONE).values(value=3))
            with pytest.raises(Unavailable):
                await increment(other)
        await increment(other)
    assert await value(database) == 4


async def test_writers_of_one_process_wait_no_longer_than_the_busy_timeout(tmp_path: Path) -> None:
    """A write that holds on makes the next one of the process Unavailable, not endless."""
    async with opened(f"sqlite:///{tmp_path}/x.db", busy_timeout=0.05) as database:
        await fill(database)
        async with database.write():
            with pytest.raises(Unavailable, match="busy"):
                await increment(database)
        await increment(database)


async def test_a_locked_file_is_unavailable_until_it_is_free(tmp_path: Path) -> None:
    """Another program's lock on the SQLite file gives Unavailable; nothing is lost afterwards."""
    path = tmp_path / "x.db"
    async with opened(f"sqlite:///{path}", busy_timeout=0.1) as database:
        await fill(database)
        with contextlib.closing(sqlite3.connect(path)) as intruder:
            intruder.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="locked"):
                await increment(database)
            assert await value(database) == 0
            intruder.rollback()
        await increment(database)
        assert await value(database) == 1


async def test_a_folder_that_can_not_hold_the_file_is_unavailable(tmp_path: Path) -> None:
    """A file that can't be opened is a database that is away."""
    (tmp_path / "x.db").mkdir()
    async with opened(f"sqlite:///{tmp_path}/x.db") as database:
        with pytest.raises(Unavailable):
            await database.check()


@pytest.mark.parametrize(
    ("url", "schema", "field"),
    [
        ("sqlite://", "public", "database_url"),
        ("sqlite:///:memory:", "public", "database_url"),
        ("mysql://host/x", "public", "database_url"),
        ("sqlite:///x.db", 'a"; DROP TABLE x', "schema"),
    ],
)
def test_an_unusable_address_is_told_by_its_field(url: str, schema: str, field: str) -> None:
    """A database that could not work is refused before anything is opened."""
    with pytest.raises(InvalidArgument) as caught:
        Database(DatabaseOptions(url, schema))
    assert caught.value.field == field


async def test_a_small_write_takes_two_thread_hops(tmp_path: Path) -> None:
    """BEGIN travels with the first statement and the rollback of nothing is left out."""
    async with opened(f"sqlite:///{tmp_path}/x.db") as database:
        await fill(database)
        async with database.write() as connection:
            raw: Any = (await connection.get_raw_connection()).dbapi_connection
            before = raw.hops
            await connection.execute(update(counters).values(value=1))
        assert raw.hops - before == 2


async def test_a_killed_postgres_is_unavailable_and_comes_back(postgres_server: PostgresServer) -> None:
    """While the server is gone every call is Unavailable; after its start the same object works again."""
    async with opened(postgres_server.url()) as database:
        await fill(database)
        await increment(database)
        with pytest.raises(Unavailable):
            async with database.write() as connection:
                await connection.execute(update(counters).values(value=9))
                await asyncio.to_thread(postgres_server.kill)
                await connection.execute(select(counters.c.value))
        with pytest.raises(Unavailable):
            await database.check()
        with pytest.raises(Unavailable):
            await increment(database)
        await asyncio.to_thread(postgres_server.start)
        await increment(database)
        assert await value(database) == 2


async def test_a_replica_paused_in_a_transaction_does_not_hold_its_rows(postgres: str) -> None:
    """PostgreSQL ends a transaction that stays idle, so a stopped process blocks nobody for long."""
    async with opened(postgres, busy_timeout=0.2) as paused, opened(postgres) as other:
        await fill(other)
        with pytest.raises(Unavailable):
            async with paused.write() as connection:
                await connection.execute(update(counters).values(value=9))
                await increment(other)
                await connection.execute(update(counters).values(value=10))
        assert await value(other) == 1
