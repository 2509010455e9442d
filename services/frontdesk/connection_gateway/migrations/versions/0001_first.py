"""Everything the connection-gateway owns.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("account_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("platform", sa.String(length=32), nullable=False),
        sa.Column("platform_user_id", sa.String(length=128), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("credentials", sa.LargeBinary(), nullable=False),
        sa.Column("token", sa.LargeBinary(), nullable=True),
        sa.Column("token_expires_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("device_id", sa.String(length=128), nullable=False),
        sa.Column("synced_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("reason_code", sa.String(length=32), server_default="", nullable=False),
        sa.Column("action_url", sa.Text(), server_default="", nullable=False),
        sa.Column("state_since_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_heartbeat_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("replica", sa.String(length=128), server_default="", nullable=False),
        sa.Column("epoch", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("accounted_until_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("account_id"),
        sa.UniqueConstraint("platform", "platform_user_id", name="uq_accounts_platform_user"),
        sa.UniqueConstraint("organization_id", "request_id", name="uq_accounts_request"),
    )
    op.create_index("ix_accounts_organization", "accounts", ["organization_id", "account_id"])
    op.create_index("ix_accounts_shard", "accounts", ["shard"])
    op.create_index("ix_accounts_updated", "accounts", ["updated_at_ms"])
    op.create_table(
        "sends",
        sa.Column("outgoing_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("account_id", sa.String(length=128), nullable=False),
        sa.Column("chat_id", sa.String(length=128), nullable=False),
        sa.Column("decision_id", sa.String(length=128), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("started_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("platform_message_id", sa.String(length=128), nullable=True),
        sa.Column("platform_created_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("outgoing_id"),
        sa.UniqueConstraint("account_id", "platform_message_id", name="uq_sends_platform_message"),
    )
    op.create_index("ix_sends_chat", "sends", ["account_id", "chat_id", "updated_at_ms"])
    op.create_index("ix_sends_decision", "sends", ["decision_id", "part"])
    op.create_index("ix_sends_updated", "sends", ["updated_at_ms"])
    op.create_table(
        "uptime",
        sa.Column("account_id", sa.String(length=128), nullable=False),
        sa.Column("hour_ms", sa.BigInteger(), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("connected_seconds", sa.Float(), server_default="0", nullable=False),
        sa.Column("enabled_seconds", sa.Float(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("account_id", "hour_ms"),
    )


def downgrade() -> None:
    op.drop_table("uptime")
    op.drop_index("ix_sends_updated", table_name="sends")
    op.drop_index("ix_sends_decision", table_name="sends")
    op.drop_index("ix_sends_chat", table_name="sends")
    op.drop_table("sends")
    op.drop_index("ix_accounts_updated", table_name="accounts")
    op.drop_index("ix_accounts_shard", table_name="accounts")
    op.drop_index("ix_accounts_organization", table_name="accounts")
    op.drop_table("accounts")
