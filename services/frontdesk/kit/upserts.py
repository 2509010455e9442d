"""Inserts that meet a row that is there already, as SQLite and PostgreSQL write them.

Statements are made once and kept: to build one costs more than to run it for a row.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Insert, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


def insert_ignoring(connection: AsyncConnection, table: Table) -> Insert:
    """INSERT … ON CONFLICT DO NOTHING."""
    return _insert_ignoring(connection.dialect.name, table)


@lru_cache(64)
def _insert_ignoring(dialect: str, table: Table) -> Insert:
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()


def upsert(
    connection: AsyncConnection,
    table: Table,
    keys: Sequence[str],
    replace: Collection[str],
    add: Collection[str] = (),
) -> Insert:
    """INSERT … ON CONFLICT (keys) DO UPDATE: `replace` columns take the new value, `add` columns add it."""
    return _upsert(connection.dialect.name, table, tuple(keys), tuple(replace), tuple(add))


@lru_cache(64)
def _upsert(
    dialect: str, table: Table, keys: tuple[str, ...], replace: tuple[str, ...], add: tuple[str, ...]
) -> Insert:
    statement: Any = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    changed = {name: statement.excluded[name] for name in replace}
    changed |= {name: table.c[name] + statement.excluded[name] for name in add}
    result: Insert = statement.on_conflict_do_update(index_elements=list(keys), set_=changed)
    return result
