"""What the connection-gateway owns: accounts with their secrets, the ledger of sends, uptime by the hour, and
people's conversations with a model.

Times are Unix milliseconds, and 0 means "never".
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()


def _id(name: str, *, primary_key: bool = False, nullable: bool = False) -> Column[str]:
    return Column(name, String(128), primary_key=primary_key, nullable=nullable)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, default=0, server_default="0")


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, default="", server_default="")


accounts = Table(
    "accounts",
    metadata,
    _id("account_id", primary_key=True),
    _id("organization_id"),
    Column("platform", String(32), nullable=False),
    _id("platform_user_id"),
    _text("name"),
    Column("enabled", Boolean, nullable=False),
    # Encrypted, bound to this row.
    Column("credentials", LargeBinary, nullable=False),
    Column("token", LargeBinary, nullable=True),
    _number("token_expires_at_ms"),
    _id("device_id"),
    # The platform's time up to which everything is stored; NULL before the first login's read-back.
    Column("synced_until_ms", BigInteger, nullable=True),
    Column("state", String(16), nullable=False),
    _text("reason"),
    Column("reason_code", String(32), nullable=False, default="", server_default=""),
    _text("action_url"),
    _number("state_since_ms"),
    Column("failures", Integer, nullable=False, default=0, server_default="0"),
    _number("last_heartbeat_ms"),
    # Who may write the session's columns: the replica that took the shard at this epoch.
    Column("replica", String(128), nullable=False, default="", server_default=""),
    _number("epoch"),
    Column("shard", Integer, nullable=False),
    _number("accounted_until_ms"),
    _id("request_id", nullable=True),
    _number("created_at_ms"),
    _number("updated_at_ms"),
    UniqueConstraint("platform", "platform_user_id", name="uq_accounts_platform_user"),
    UniqueConstraint("organization_id", "request_id", name="uq_accounts_request"),
    Index("ix_accounts_organization", "organization_id", "account_id"),
    Index("ix_accounts_shard", "shard"),
    Index("ix_accounts_updated", "updated_at_ms"),
)

sends = Table(
    "sends",
    metadata,
    _id("outgoing_id", primary_key=True),
    _id("organization_id"),
    _id("account_id"),
    _id("chat_id"),
    _id("decision_id"),
    Column("part", Integer, nullable=False),
    # `sending`, `unconfirmed`, `confirmed`, `rejected`, `failed`, `dropped`.
    Column("state", String(16), nullable=False),
    Column("digest", String(64), nullable=False),
    # On the platform's clock.
    _number("started_at_ms"),
    _id("platform_message_id", nullable=True),
    _number("platform_created_at_ms"),
    Column("attempts", Integer, nullable=False, default=0, server_default="0"),
    _text("reason"),
    _number("updated_at_ms"),
    UniqueConstraint("account_id", "platform_message_id", name="uq_sends_platform_message"),
    Index("ix_sends_chat", "account_id", "chat_id", "updated_at_ms"),
    Index("ix_sends_decision", "decision_id", "part"),
    Index("ix_sends_updated", "updated_at_ms"),
)

uptime = Table(
    "uptime",
    metadata,
    _id("account_id", primary_key=True),
    Column("hour_ms", BigInteger, primary_key=True),
    _id("organization_id"),
    Column("connected_seconds", Float, nullable=False, default=0, server_default="0"),
    Column("enabled_seconds", Float, nullable=False, default=0, server_default="0"),
)

# A person's conversation on `/chat` that has a session's name; `turns` counts all that were ever stored.
conversations = Table(
    "conversations",
    metadata,
    _id("conversation_id", primary_key=True),
    _id("organization_id"),
    Column("subject", String(256), nullable=False),
    _id("session_id"),
    Column("turns", Integer, nullable=False, default=0, server_default="0"),
    _number("created_at_ms"),
    _number("updated_at_ms"),
    UniqueConstraint("organization_id", "subject", "session_id", name="uq_conversations_session"),
    Index("ix_conversations_updated", "updated_at_ms"),
)

turns = Table(
    "turns",
    metadata,
    _id("conversation_id", primary_key=True),
    Column("number", Integer, primary_key=True),
    _id("organization_id"),
    # Whether the person said it, else the model.
    Column("person", Boolean, nullable=False),
    _text("text"),
    _number("created_at_ms"),
)
