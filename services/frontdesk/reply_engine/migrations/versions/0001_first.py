"""Everything the reply-engine owns.

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
        "account_settings",
        sa.Column("account_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("switch", sa.String(length=16), nullable=False),
        sa.Column("debounce_ms", sa.Integer(), nullable=False),
        sa.Column("chain", sa.JSON(), nullable=False),
        sa.Column("ai_enabled", sa.Boolean(), nullable=False),
        sa.Column("takeover_minutes", sa.Integer(), nullable=False),
        sa.Column("replies_per_minute", sa.Integer(), nullable=False),
        sa.Column("answer_after_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("account_id"),
    )
    op.create_index("ix_account_settings_organization", "account_settings", ["organization_id"], unique=False)
    op.create_table(
        "cards",
        sa.Column("card_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("account_id", sa.String(length=128), nullable=False),
        sa.Column("item_id", sa.String(length=128), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("order_id", sa.String(length=128), nullable=True),
        sa.Column("taken_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("card_id"),
        sa.UniqueConstraint("account_id", "item_id", "digest", name="uq_cards_digest"),
    )
    op.create_index("ix_cards_stock", "cards", ["account_id", "item_id", "order_id"], unique=False)
    op.create_table(
        "chats",
        sa.Column("chat_key", sa.String(length=260), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("account_id", sa.String(length=128), nullable=False),
        sa.Column("chat_id", sa.String(length=128), nullable=False),
        sa.Column("buyer_id", sa.Text(), server_default="", nullable=False),
        sa.Column("buyer_name", sa.Text(), server_default="", nullable=False),
        sa.Column("item_id", sa.Text(), server_default="", nullable=False),
        sa.Column("last_text", sa.Text(), server_default="", nullable=False),
        sa.Column("last_message_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_seller_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("waiting_since_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("waiting_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("waiting_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("paused_until_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("pause_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("deciding_token", sa.Text(), server_default="", nullable=False),
        sa.Column("deciding_until_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("minute_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("minute_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("traceparent", sa.String(length=64), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("chat_key"),
    )
    op.create_index("ix_chats_due", "chats", ["due_at_ms"], unique=False)
    op.create_index("ix_chats_organization", "chats", ["organization_id", "last_message_at_ms"], unique=False)
    op.create_table(
        "decisions",
        sa.Column("decision_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("chat_key", sa.String(length=260), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("step", sa.Text(), server_default="", nullable=False),
        sa.Column("rule_id", sa.Text(), server_default="", nullable=False),
        sa.Column("trace", sa.JSON(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=True),
        sa.PrimaryKeyConstraint("decision_id"),
        sa.UniqueConstraint("organization_id", "request_id", name="uq_decisions_request"),
    )
    op.create_index("ix_decisions_chat", "decisions", ["chat_key", "created_at_ms"], unique=False)
    op.create_table(
        "default_replies",
        sa.Column("default_reply_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("scope_key", sa.String(length=300), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("default_reply_id"),
        sa.UniqueConstraint("organization_id", "scope_key", name="uq_default_replies_scope"),
    )
    op.create_table(
        "deliveries",
        sa.Column("account_id", sa.String(length=128), nullable=False),
        sa.Column("item_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("template", sa.Text(), server_default="", nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("confirm_shipping", sa.Boolean(), nullable=False),
        sa.Column("fixed_card", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("account_id", "item_id"),
    )
    op.create_table(
        "messages",
        sa.Column("account_id", sa.String(length=128), nullable=False),
        sa.Column("message_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("chat_key", sa.String(length=260), nullable=False),
        sa.Column("author", sa.String(length=16), nullable=False),
        sa.Column("sender_id", sa.Text(), server_default="", nullable=False),
        sa.Column("sender_name", sa.Text(), server_default="", nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("image_urls", sa.JSON(), nullable=False),
        sa.Column("item_id", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("received_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("decision_id", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("account_id", "message_id"),
    )
    op.create_index("ix_messages_chat", "messages", ["chat_key", "created_at_ms"], unique=False)
    op.create_index("ix_messages_state", "messages", ["chat_key", "state"], unique=False)
    op.create_table(
        "orders",
        sa.Column("account_id", sa.String(length=128), nullable=False),
        sa.Column("order_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("chat_id", sa.Text(), server_default="", nullable=False),
        sa.Column("item_id", sa.Text(), server_default="", nullable=False),
        sa.Column("buyer_id", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("quantity", sa.Integer(), server_default="0", nullable=False),
        sa.Column("delivery_state", sa.String(length=16), server_default="", nullable=False),
        sa.Column("delivery_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("delivery_decision_id", sa.Text(), server_default="", nullable=False),
        sa.Column("delivery_tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("delivery_due_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("account_id", "order_id"),
    )
    op.create_index("ix_orders_delivery", "orders", ["delivery_state", "delivery_due_ms"], unique=False)
    op.create_index("ix_orders_organization", "orders", ["organization_id", "updated_at_ms"], unique=False)
    op.create_table(
        "organizations",
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("switch", sa.String(length=16), server_default="on", nullable=False),
        sa.Column("answer_after_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("config_version", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("organization_id"),
    )
    op.create_table(
        "outgoing",
        sa.Column("outgoing_id", sa.String(length=128), nullable=False),
        sa.Column("decision_id", sa.String(length=128), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("account_id", sa.String(length=128), nullable=False),
        sa.Column("chat_id", sa.String(length=128), nullable=False),
        sa.Column("chat_key", sa.String(length=260), nullable=False),
        sa.Column("buyer_id", sa.Text(), server_default="", nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("image", sa.JSON(), nullable=True),
        sa.Column("answers_until_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("decided_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("message_id", sa.Text(), server_default="", nullable=False),
        sa.Column("traceparent", sa.String(length=64), server_default="", nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("outgoing_id"),
    )
    op.create_index("ix_outgoing_chat", "outgoing", ["chat_key"], unique=False)
    op.create_index("ix_outgoing_state", "outgoing", ["state", "updated_at_ms"], unique=False)
    op.create_table(
        "rule_uses",
        sa.Column("chat_key", sa.String(length=260), nullable=False),
        sa.Column("rule_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("last_used_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("chat_key", "rule_id"),
    )
    op.create_table(
        "rules",
        sa.Column("rule_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=True),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("rule_id"),
        sa.UniqueConstraint("organization_id", "request_id", name="uq_rules_request"),
    )
    op.create_index("ix_rules_organization", "rules", ["organization_id", "rule_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_rules_organization", table_name="rules")
    op.drop_table("rules")
    op.drop_table("rule_uses")
    op.drop_index("ix_outgoing_state", table_name="outgoing")
    op.drop_index("ix_outgoing_chat", table_name="outgoing")
    op.drop_table("outgoing")
    op.drop_table("organizations")
    op.drop_index("ix_orders_organization", table_name="orders")
    op.drop_index("ix_orders_delivery", table_name="orders")
    op.drop_table("orders")
    op.drop_index("ix_messages_state", table_name="messages")
    op.drop_index("ix_messages_chat", table_name="messages")
    op.drop_table("messages")
    op.drop_table("deliveries")
    op.drop_table("default_replies")
    op.drop_index("ix_decisions_chat", table_name="decisions")
    op.drop_table("decisions")
    op.drop_index("ix_chats_organization", table_name="chats")
    op.drop_index("ix_chats_due", table_name="chats")
    op.drop_table("chats")
    op.drop_index("ix_cards_stock", table_name="cards")
    op.drop_table("cards")
    op.drop_index("ix_account_settings_organization", table_name="account_settings")
    op.drop_table("account_settings")
