"""SQLite for asyncio with one thread hop a statement, where SQLAlchemy's aiosqlite shim takes four.

`dbapi()` is given to `create_async_engine(module=…)`. It is SQLAlchemy's own shim with two differences: a
statement, the fetch of its rows and the close of its cursor run as one job of the connection's thread, and a
BEGIN waits for the first statement and travels with it. A rollback of nothing (the pool asks for one at each
return) costs no hop. Small transactions take a third of the time; `tests/service/test_kit_database.py` holds
the number of hops.
"""

from __future__ import annotations

import collections
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any

import aiosqlite
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.util import EMPTY_DICT, await_only


class _Outcome:
    """What a closed cursor leaves."""

    __slots__ = ("arraysize", "description", "lastrowid", "rowcount", "rows")

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self.description = cursor.description
        self.rows: Sequence[Any] = cursor.fetchall() if cursor.description else ()
        self.rowcount = cursor.rowcount
        self.lastrowid = cursor.lastrowid
        self.arraysize = cursor.arraysize
        cursor.close()


class _Cursor(AsyncAdapt_aiosqlite_cursor):
    __slots__ = ()
    _cursor: Any

    def __init__(self, adapt_connection: Any) -> None:
        self._adapt_connection = adapt_connection
        self._connection = adapt_connection._connection
        self._cursor = None
        self._soft_closed_memoized = EMPTY_DICT
        self._rows = collections.deque()

    def execute(self, operation: Any, parameters: Any = None) -> None:
        self._run(lambda raw: raw.execute(operation, parameters or ()))

    def executemany(self, operation: Any, seq_of_parameters: Any) -> None:
        self._run(lambda raw: raw.executemany(operation, seq_of_parameters))

    def _run(self, statement: Callable[[sqlite3.Connection], sqlite3.Cursor]) -> None:
        connection: Any = self._adapt_connection
        self._cursor = connection.hop(lambda raw: _Outcome(statement(raw)), begin=True)
        self._rows = collections.deque(self._cursor.rows)

    async def _async_soft_close(self) -> None:
        return  # the cursor was closed where it was used

    def close(self) -> None:
        self._rows.clear()


class OneHopConnection(AsyncAdapt_aiosqlite_connection):
    """A connection whose every method is at most one job of its thread."""

    __slots__ = ("_begin", "_busy", "hops")
    _cursor_cls = _Cursor

    def __init__(self, dbapi: Any, connection: Any) -> None:
        super().__init__(dbapi, connection)
        self._begin = ""
        self._busy = False
        self.hops = 0

    def begin(self, statement: str) -> None:
        """Begin a transaction with `statement`, together with what is executed next."""
        self._begin = statement

    def hop(self, job: Callable[[sqlite3.Connection], Any], *, begin: bool = False) -> Any:
        """Run `job` in the connection's thread, after the BEGIN that waits."""
        connection: Any = self._connection
        pending, self._begin = (self._begin, "") if begin else ("", self._begin)

        def work() -> Any:
            raw = connection._conn
            if pending:
                raw.execute(pending).close()
            return job(raw)

        self.hops += 1
        self._busy = True  # stays so when the task is cancelled here: the job may still run
        try:
            result = await_only(connection._execute(work))
        except (sqlite3.Error, ValueError) as error:  # ValueError: the connection was closed
            self._busy = False
            self._handle_exception(error)
        self._busy = False
        return result

    def commit(self) -> None:
        self._end(lambda raw: raw.commit())

    def rollback(self) -> None:
        self._end(lambda raw: raw.rollback())

    def _end(self, job: Callable[[sqlite3.Connection], None]) -> None:
        self._begin = ""
        connection: Any = self._connection
        if connection._connection and (self._busy or connection.in_transaction):
            self.hop(job)


class _Dbapi(AsyncAdapt_aiosqlite_dbapi):
    def __init__(self, script: str, patience: float) -> None:
        super().__init__(aiosqlite, sqlite3)
        self._script, self._patience = script, patience

    def connect(self, *args: Any, **options: Any) -> OneHopConnection:
        raw = aiosqlite.connect(*args, **options)
        raw._thread.daemon = True  # a process that ends must not wait for a forgotten connection
        try:
            connection = OneHopConnection(self, await_only(raw))
        except BaseException:
            raw._thread.join()  # aiosqlite has told it to end; it must not outlive the event loop
            raise
        try:
            connection.hop(self._prepare)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, raw: sqlite3.Connection) -> None:
        """Every other statement waits for another connection's lock, the change of a fresh file to WAL does
        not; so it is tried again here, in the connection's thread.
        """
        deadline = time.monotonic() + self._patience
        while True:
            try:
                raw.executescript(self._script).close()
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)


def dbapi(script: str, patience: float) -> Any:
    """The module for `create_async_engine("sqlite+aiosqlite:///…", module=…)`. Every new connection runs the
    PRAGMAs of `script`, and tries for `patience` seconds while the file is locked.
    """
    return _Dbapi(script, patience)
