"""Alembic for a service: its scripts lie in `<service>/migrations/versions`, run in its own schema.

`migrate` may be called by every replica at its start: one works, by an advisory lock on PostgreSQL and by
BEGIN IMMEDIATE on SQLite, and the others find nothing to do. All steps are one transaction: a migration that
fails changes nothing. There is no env.py; a connection is handed to Alembic's own environment.

A script's file name begins with its revision, and revisions sort in their order: `0001_first.py`. So a
service whose schema is current starts without Alembic, and one that finds a revision after its own newest
knows that a newer version runs beside it, and leaves the schema alone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import weakref
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.kit.database import Database, DatabaseOptions
from frontdesk.kit.errors import FailedPrecondition, Unavailable
from frontdesk.kit.patience import Patience

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

log = logging.getLogger(__name__)

_NO_RIGHT, _NO_USAGE = "42501", "3F000"
PATIENCE_SECONDS = 60.0  # for another replica's migration; one statement may take twice as long

# Alembic's `op` is a global of the process, so the services of `frontdesk up` migrate one after the other.
_turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()


class SchemaMissing(FailedPrecondition):
    """There is no schema, and this role may not make it."""


async def open_database(options: DatabaseOptions, versions: Path, patience: Patience) -> Database:
    """A service's database with its schema up to date, when the server, the role and the schema are there.

    Raises InvalidArgument or FailedPrecondition for what waiting does not mend. A file of SQLite is there or
    can be made, so nothing is waited for.
    """
    database = Database(options)
    try:
        if database.sqlite:
            await migrate(database, versions)
        else:
            await patience.until("the database", lambda: _migrate(database, versions))
    except BaseException:
        await database.close()
        raise
    return database


async def _migrate(database: Database, versions: Path) -> None:
    try:
        await migrate(database, versions)
    except SchemaMissing as error:
        raise Unavailable(error.message) from error
    except DBAPIError as error:
        raise _explained(error, database.options) from error


def _explained(error: DBAPIError, options: DatabaseOptions) -> Exception:
    """Unavailable for what `frontdesk provision` mends, FailedPrecondition for what a person must."""
    state = str(getattr(error.orig, "sqlstate", None) or "")
    first = (str(error.orig).splitlines() or [""])[0]
    user = make_url(options.url).username
    if state.startswith("28") and "pg_hba.conf" not in first:
        # The server does not tell a role that is not there from a password that is wrong.
        return Unavailable(
            f"PostgreSQL refuses the user {user}: `frontdesk provision` makes it. If it did, is the password "
            "in FRONTDESK_DATABASE_URL right?"
        )
    if state.startswith("28"):
        return FailedPrecondition(f"PostgreSQL refuses the user {user}: {first}")
    if state == "3D000":
        return FailedPrecondition(f"make the database first, with `CREATE DATABASE`: {first}")
    if state in (_NO_RIGHT, _NO_USAGE):
        return FailedPrecondition(
            f"the role {user} lacks a right: {first}. `frontdesk provision` with an administrator's URL "
            f"makes the schema {options.schema} its own"
        )
    return error


async def migrate(database: Database, versions: Path) -> bool:
    """Bring the schema to the newest revision in `versions`; says whether there was anything to do.

    Raises Unavailable when the database is away, SchemaMissing when somebody else must make the schema.
    """
    # What is away is told soon, not after the long patience below.
    before, newest = await current(database), head(versions)
    if before is not None and newest is not None and before >= newest:
        if before > newest:
            log.warning("the schema is of a newer version: %s, here is %s", before, newest)
        return False
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
                await _make_schema(connection, schema)
            await connection.run_sync(_upgrade, versions)
    finally:
        await patient.close()
    return True


async def _make_schema(connection: AsyncConnection, schema: str) -> None:
    """Not IF NOT EXISTS: that asks for the right to make schemas even where there is nothing to make."""
    found = await connection.execute(
        text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": schema}
    )
    if found.first() is not None:
        return
    try:
        await connection.execute(text(f'CREATE SCHEMA "{schema}"'))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _NO_RIGHT:
            raise
        raise SchemaMissing(
            f"the schema {schema} is missing, and this role may not make it: `frontdesk provision` does"
        ) from error


async def current(database: Database) -> str | None:
    """The schema's revision, None before the first migration; raises Unavailable."""
    try:
        async with database.read() as connection:
            found = await connection.execute(text("SELECT version_num FROM alembic_version"))
            revision: str | None = found.scalar()
            return revision
    except DBAPIError:  # there is no such table; whatever else it is, the migration will say
        return None


def head(versions: Path) -> str | None:
    """The newest revision in `versions`, None when there is none."""
    return max((path.stem.partition("_")[0] for path in versions.glob("[0-9]*.py")), default=None)


def _scripts(versions: Path) -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(versions.parent), version_locations=[str(versions)])


def _upgrade(connection: Connection, versions: Path) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext

    scripts = _scripts(versions)

    def steps(revision: Any, _context: Any) -> Any:
        return scripts._upgrade_revs("heads", revision)

    with EnvironmentContext(Config(), scripts, fn=steps) as environment:
        environment.configure(connection=connection, render_as_batch=connection.dialect.name == "sqlite")
        environment.run_migrations()
