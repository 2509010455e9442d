"""Statements that SQLite and PostgreSQL write differently, and the locks of a chat.

Chats are always locked in the order of their keys, so two transactions never wait for each other in a ring.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Insert, Row, Table, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.reply_engine.tables import chats

ChatRow = Row[tuple[Any, ...]]


def insert_ignoring(connection: AsyncConnection, table: Table) -> Insert:
    """INSERT … ON CONFLICT DO NOTHING."""
    if connection.dialect.name == "sqlite":
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
    statement: Any = sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)
    changed = {name: statement.excluded[name] for name in replace}
    changed |= {name: table.c[name] + statement.excluded[name] for name in add}
    result: Insert = statement.on_conflict_do_update(index_elements=list(keys), set_=changed)
    return result


async def lock_chats(connection: AsyncConnection, keys: Collection[str]) -> dict[str, ChatRow]:
    """Lock the chats that exist among `keys` until the transaction ends."""
    rows = await connection.execute(
        select(chats).where(chats.c.chat_key.in_(sorted(keys))).order_by(chats.c.chat_key).with_for_update()
    )
    return {row.chat_key: row for row in rows}


async def update_chats(connection: AsyncConnection, changes: Sequence[Mapping[str, Any]]) -> None:
    """Write back changed chats; every mapping has `chat_key` and the same other columns."""
    if not changes:
        return
    columns = [name for name in changes[0] if name != "chat_key"]
    statement = (
        update(chats)
        .where(chats.c.chat_key == bindparam("key_"))
        .values({name: bindparam(f"new_{name}") for name in columns})
    )
    await connection.execute(
        statement, [{"key_": c["chat_key"], **{f"new_{n}": c[n] for n in columns}} for c in changes]
    )
