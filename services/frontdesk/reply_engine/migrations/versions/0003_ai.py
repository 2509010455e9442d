"""What the AI said of an answer, and the people it called."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

OF_DECISIONS = ("item_id", "intent", "offered_price", "provider", "model")


def upgrade() -> None:
    for name in OF_DECISIONS:
        op.add_column("decisions", sa.Column(name, sa.Text(), server_default="", nullable=False))
    op.add_column("chats", sa.Column("called_at_ms", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("chats", sa.Column("called_reason", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    op.drop_column("chats", "called_reason")
    op.drop_column("chats", "called_at_ms")
    for name in reversed(OF_DECISIONS):
        op.drop_column("decisions", name)
