"""An index of the chats that wait, so that counting those with a person reads no others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

WAITING = sa.text("waiting_since_ms > 0")


def upgrade() -> None:
    op.create_index(
        "ix_chats_waiting",
        "chats",
        ["waiting_since_ms"],
        sqlite_where=WAITING,
        postgresql_where=WAITING,
    )


def downgrade() -> None:
    op.drop_index("ix_chats_waiting", table_name="chats")
