"""Providers, budgets, spend, policies.

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
        "budgets",
        sa.Column("budget_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=True),
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=128), server_default="", nullable=False),
        sa.Column("currency", sa.String(length=8), nullable=False),
        sa.Column("period", sa.String(length=8), nullable=False),
        sa.Column("time_zone", sa.String(length=64), server_default="", nullable=False),
        sa.Column("limit_amount", sa.String(length=40), server_default="0", nullable=False),
        sa.Column("fallback_model", sa.String(length=64), server_default="", nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.Column("period_start_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("spent", sa.String(length=40), server_default="0", nullable=False),
        sa.Column("reserved", sa.String(length=40), server_default="0", nullable=False),
        sa.Column("warned_percent", sa.Integer(), server_default="0", nullable=False),
        sa.Column("told_percent", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("budget_id"),
        sa.UniqueConstraint("organization_id", "request_id", name="uq_budgets_request"),
        sa.UniqueConstraint(
            "organization_id", "scope", "subject", "currency", "period", name="uq_budgets_scope"
        ),
    )
    op.create_table(
        "organizations",
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("config_version", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("organization_id"),
    )
    op.create_table(
        "policies",
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("account_id", sa.String(length=128), nullable=False),
        sa.Column("item_id", sa.String(length=128), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "account_id", "item_id"),
    )
    op.create_table(
        "providers",
        sa.Column("provider_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=True),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("api_key", sa.LargeBinary(), nullable=True),
        sa.Column("updated_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("provider_id"),
        sa.UniqueConstraint("organization_id", "name", name="uq_providers_name"),
        sa.UniqueConstraint("organization_id", "request_id", name="uq_providers_request"),
    )
    op.create_table(
        "reservations",
        sa.Column("call_id", sa.String(length=128), nullable=False),
        sa.Column("budget_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("period_start_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("amount", sa.String(length=40), server_default="0", nullable=False),
        sa.Column("expires_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("expired", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("call_id", "budget_id"),
    )
    op.create_index(
        "ix_reservations_budget", "reservations", ["budget_id", "expired", "expires_at_ms"], unique=False
    )
    op.create_index("ix_reservations_expiry", "reservations", ["expires_at_ms"], unique=False)
    op.create_table(
        "spend",
        sa.Column("call_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("account_id", sa.String(length=128), nullable=False),
        sa.Column("api_key_id", sa.String(length=128), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("requested_model", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("operation", sa.String(length=16), nullable=False),
        sa.Column("started_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("first_token_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("cost_pico", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("currency", sa.String(length=8), server_default="", nullable=False),
        sa.Column("cached", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("call_id"),
    )
    op.create_index(
        "ix_spend_account", "spend", ["organization_id", "account_id", "started_at_ms"], unique=False
    )
    op.create_index("ix_spend_age", "spend", ["started_at_ms"], unique=False)
    op.create_index("ix_spend_organization", "spend", ["organization_id", "started_at_ms"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_spend_organization", table_name="spend")
    op.drop_index("ix_spend_age", table_name="spend")
    op.drop_index("ix_spend_account", table_name="spend")
    op.drop_table("spend")
    op.drop_index("ix_reservations_expiry", table_name="reservations")
    op.drop_index("ix_reservations_budget", table_name="reservations")
    op.drop_table("reservations")
    op.drop_table("providers")
    op.drop_table("policies")
    op.drop_table("organizations")
    op.drop_table("budgets")
