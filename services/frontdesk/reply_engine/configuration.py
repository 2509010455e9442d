"""Changes of an organization's configuration: one version for rules, default replies, settings and
switches."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.kit.upserts import insert_ignoring
from frontdesk.reply_engine.tables import organizations


async def change_configuration(connection: AsyncConnection, organization_id: str, **values: Any) -> None:
    """Raise the organization's version in the caller's transaction, with `values` of its row if given."""
    await connection.execute(
        insert_ignoring(connection, organizations), [{"organization_id": organization_id}]
    )
    await connection.execute(
        update(organizations)
        .where(organizations.c.organization_id == organization_id)
        .values(config_version=organizations.c.config_version + 1, **values)
    )
