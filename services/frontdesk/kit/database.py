"""A service's own database: SQLite in WAL by default, PostgreSQL by URL, the same statements on both.

`Database.write()` and `Database.read()` give a connection inside a transaction. On SQLite a write begins with
BEGIN IMMEDIATE, so that what a transaction read is still true when it writes, and writers of one process
queue on a lock instead of on the file. On PostgreSQL a row is locked with `.with_for_update()`, which SQLite
ignores. A database that is locked, full or gone raises Unavailable: the work is tried again, never lost. A
block does database work only, and does not call out while it holds a transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import BindParameter, bindparam, event, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from frontdesk.kit import sqlite
from frontdesk.kit.errors import InvalidArgument, Unavailable

BACKENDS = ("sqlite", "postgresql")
MIB = 1024 * 1024

# SQLite's primary result codes after which the same transaction may succeed later.
_SQLITE_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)
# The like of PostgreSQL: connection, rollback asked for (a deadlock), resources, operator; a lock not had in
# time; a server that became a standby.
_POSTGRES_AWAY = ("08", "40", "53", "57", "55P03", "25P03")
_POSTGRES_READ_ONLY = "25006"


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """How a service uses its database; times in seconds."""

    url: str
    schema: str
    pool_size: int = 5
    busy_timeout: float = 5.0
    # NORMAL keeps every commit through a crash of the process; a power cut may lose the last; FULL syncs.
    sqlite_synchronous: str = "NORMAL"


class Database:
    """Transactions on one service's schema."""

    def __init__(self, options: DatabaseOptions) -> None:
        self.options = options
        url = make_url(options.url)
        if url.get_backend_name() not in BACKENDS:
            raise InvalidArgument("database_url", f"must begin with {' or '.join(BACKENDS)}")
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", options.schema):
            raise InvalidArgument("schema", "must be lower-case letters, digits and underscores")
        self.sqlite = url.get_backend_name() == "sqlite"
        self._writer_lock = asyncio.Lock()
        if self.sqlite:
            if not url.database or ":memory:" in url.database:
                raise InvalidArgument("database_url", "must name a file: readers and writers share it")
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._sqlite_engine("BEGIN IMMEDIATE", 1)
            self._reader = self._sqlite_engine("BEGIN DEFERRED", options.pool_size, read_only=True)
        else:
            self._writer = self._postgres_engine()
            self._reader = self._writer.execution_options(postgresql_readonly=True)

    def _sqlite_engine(self, begin: str, pool_size: int, *, read_only: bool = False) -> AsyncEngine:
        options = self.options
        pragmas = {
            "journal_mode": "WAL",
            "synchronous": options.sqlite_synchronous,
            "journal_size_limit": 64 * MIB,  # what a long reader made the WAL grow is given back
            "foreign_keys": "ON",
            "temp_store": "MEMORY",
            "query_only": "ON" if read_only else "OFF",
        }
        script = "".join(f"PRAGMA {name}={value};" for name, value in pragmas.items())
        engine = create_async_engine(
            make_url(options.url).set(drivername="sqlite+aiosqlite"),
            module=sqlite.dbapi(script, options.busy_timeout),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=options.busy_timeout,
            connect_args={
                "timeout": options.busy_timeout,
                "isolation_level": None,  # BEGIN is ours, see below
                "cached_statements": 512,
            },
            **_JSON,
        )

        @event.listens_for(engine.sync_engine, "begin")
        def began(connection: Any) -> None:
            connection.connection.dbapi_connection.begin(begin)

        return engine

    def _postgres_engine(self) -> AsyncEngine:
        options = self.options
        milliseconds = int(options.busy_timeout * 1000)
        return create_async_engine(
            make_url(options.url).set(drivername="postgresql+asyncpg"),
            pool_size=options.pool_size,
            max_overflow=options.pool_size,
            pool_timeout=options.busy_timeout,
            pool_pre_ping=True,
            connect_args={
                "timeout": options.busy_timeout,
                "command_timeout": 2 * options.busy_timeout,
                "server_settings": {
                    "search_path": options.schema,
                    "lock_timeout": str(milliseconds),
                    # A replica that was paused inside a transaction must not hold its rows.
                    "idle_in_transaction_session_timeout": str(2 * milliseconds),
                    "jit": "off",  # compiling costs more than our statements
                },
            },
            **_JSON,
        )

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write; commits at the end of the block, rolls back when the block raises.

        Raises Unavailable, also when earlier writers of this process take longer than `busy_timeout`.
        """
        async with contextlib.AsyncExitStack() as stack:
            if self.sqlite:
                await stack.enter_async_context(self._writing())
            with _as_unavailable(writing=True):
                async with self._writer.begin() as connection:
                    yield connection

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.options.busy_timeout):
                await self._writer_lock.acquire()
        except TimeoutError:
            raise Unavailable("the database is busy with other writes") from None
        try:
            yield
        finally:
            self._writer_lock.release()

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads; a statement that writes is refused. Raises Unavailable."""
        with _as_unavailable(writing=False):
            async with self._reader.connect() as connection:
                yield connection

    async def check(self) -> None:
        """Raise Unavailable unless the database answers."""
        async with self.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection."""
        await self._writer.dispose()
        if self.sqlite:
            await self._reader.dispose()


def any_of(name: str) -> BindParameter[Any]:
    """For `column.in_(any_of("keys"))` in a statement that is made once and kept, as to make one costs more
    than to run it: the values, a list, come with each execution.
    """
    return bindparam(name, expanding=True)


def _dumps(value: object) -> str:
    return orjson.dumps(value).decode()


_JSON: dict[str, Any] = {"json_serializer": _dumps, "json_deserializer": orjson.loads}


@contextlib.contextmanager
def _as_unavailable(*, writing: bool) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if error.connection_invalidated or _away(error.orig, writing):
            raise Unavailable(f"the database is away: {_first_line(error.orig)}") from error
        raise
    except (PoolTimeout, ConnectionError, TimeoutError, socket.gaierror) as error:
        raise Unavailable(f"the database is away: {_first_line(error)}") from error


def _away(error: BaseException | None, writing: bool) -> bool:
    """Whether the same transaction may succeed later."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return code in _SQLITE_AWAY or (writing and code == sqlite3.SQLITE_READONLY)
    state = str(getattr(error, "sqlstate", None) or "")
    return state.startswith(_POSTGRES_AWAY) or (writing and state == _POSTGRES_READ_ONLY)


def _first_line(error: BaseException | None) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
