"""The locks of a chat, and what is written back.

Statements are made once and kept: to build one costs more than to run it for a row.

Chats are always locked in the order of their keys, so two transactions never wait for each other in a ring.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Row, Update, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.kit.database import any_of
from frontdesk.reply_engine.tables import chats

ChatRow = Row[tuple[Any, ...]]
_LOCK_CHATS = (
    select(chats).where(chats.c.chat_key.in_(any_of("keys"))).order_by(chats.c.chat_key).with_for_update()
)


async def lock_chats(connection: AsyncConnection, keys: Collection[str]) -> dict[str, ChatRow]:
    """Lock the chats that exist among `keys` until the transaction ends."""
    rows = await connection.execute(_LOCK_CHATS, {"keys": sorted(keys)})
    return {row.chat_key: row for row in rows}


async def update_chats(connection: AsyncConnection, changes: Sequence[Mapping[str, Any]]) -> None:
    """Write back changed chats; every mapping has `chat_key` and the same other columns."""
    if not changes:
        return
    columns = tuple(name for name in changes[0] if name != "chat_key")
    values = [{"key_": c["chat_key"], **{f"new_{n}": c[n] for n in columns}} for c in changes]
    await connection.execute(_update_chats(columns), values)


@lru_cache(16)
def _update_chats(columns: tuple[str, ...]) -> Update:
    return (
        update(chats)
        .where(chats.c.chat_key == bindparam("key_"))
        .values({name: bindparam(f"new_{name}") for name in columns})
    )
