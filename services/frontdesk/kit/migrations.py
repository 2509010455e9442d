"""Alembic for a service: its scripts lie in `<service>/migrations/versions`, run in its own schema.

`migrate` may be called by every replica at its start: one works, by an advisory lock on PostgreSQL and by
BEGIN IMMEDIATE on SQLite, and the others find nothing to do. All steps are one transaction: a migration that
fails changes nothing. There is no env.py; a connection is handed to Alembic's own environment.
"""

from __future__ import annotations

import asyncio
import dataclasses
import weakref
import zlib
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from frontdesk.kit.database import Database

PATIENCE_SECONDS = 60.0  # for another replica's migration; one statement may take twice as long

# Alembic's `op` is a global of the process, so the services of `frontdesk up` migrate one after the other.
_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()


async def migrate(database: Database, versions: Path) -> None:
    """Bring the schema to the newest revision in `versions`; raises Unavailable when the database is away."""
    await database.check()  # what is away is told soon, not after the long patience
    schema = database.options.schema
    patient = Database(dataclasses.replace(database.options, busy_timeout=PATIENCE_SECONDS, pool_size=1))
    try:
        async with (
            _turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()),
            patient.write() as connection,
        ):
            if not database.sqlite:
                lock = text("SELECT pg_advisory_xact_lock(:key)")
                await connection.execute(lock, {"key": zlib.crc32(f"frontdesk:{schema}".encode())})
                await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
            await connection.run_sync(_upgrade, versions)
    finally:
        await patient.close()


async def current(database: Database) -> str | None:
    """The schema's revision, None before the first migration; raises Unavailable."""

    def read(connection: Connection) -> str | None:
        return MigrationContext.configure(connection).get_current_revision()

    async with database.read() as connection:
        return await connection.run_sync(read)


def head(versions: Path) -> str | None:
    """The newest revision in `versions`, None when there is none."""
    return _scripts(versions).get_current_head()


def _scripts(versions: Path) -> ScriptDirectory:
    return ScriptDirectory(str(versions.parent), version_locations=[str(versions)])


def _upgrade(connection: Connection, versions: Path) -> None:
    scripts = _scripts(versions)

    def steps(revision: Any, _context: MigrationContext) -> Any:
        return scripts._upgrade_revs("heads", revision)

    with EnvironmentContext(Config(), scripts, fn=steps) as environment:
        environment.configure(connection=connection, render_as_batch=connection.dialect.name == "sqlite")
        environment.run_migrations()
