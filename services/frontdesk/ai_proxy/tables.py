"""What ai-proxy owns: one table a thing, `organization_id` on every row.

Times are Unix milliseconds. Money is text, decimal: a float would lose some. JSON columns hold what is only
read whole.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
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

# What a row raises that can't be made sense of, as one of another version; nothing that the database raises.
UNREADABLE = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)


def _id(name: str, *, primary_key: bool = False, nullable: bool = False) -> Column[str]:
    return Column(name, String(128), primary_key=primary_key, nullable=nullable)


def _ms(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, default=0, server_default="0")


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, default=0, server_default="0")


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, default="", server_default="")


def _money(name: str) -> Column[str]:
    return Column(name, String(40), nullable=False, default="0", server_default="0")


organizations = Table(
    "organizations",
    metadata,
    _id("organization_id", primary_key=True),
    # Raised by every change of providers, budgets or policies: replicas drop what they cached.
    Column("config_version", BigInteger, nullable=False, default=0, server_default="0"),
)

providers = Table(
    "providers",
    metadata,
    _id("provider_id", primary_key=True),
    _id("organization_id"),
    _id("request_id", nullable=True),
    Column("name", String(64), nullable=False),
    # kind, base_url, models, priority, weight, limits, disabled
    Column("body", JSON, nullable=False),
    Column("api_key", LargeBinary, nullable=True),
    _ms("updated_at_ms"),
    UniqueConstraint("organization_id", "name", name="uq_providers_name"),
    UniqueConstraint("organization_id", "request_id", name="uq_providers_request"),
)

budgets = Table(
    "budgets",
    metadata,
    _id("budget_id", primary_key=True),
    _id("organization_id"),
    _id("request_id", nullable=True),
    Column("scope", String(16), nullable=False),
    Column("subject", String(128), nullable=False, default="", server_default=""),
    Column("currency", String(8), nullable=False),
    Column("period", String(8), nullable=False),
    Column("time_zone", String(64), nullable=False, default="", server_default=""),
    _money("limit_amount"),
    Column("fallback_model", String(64), nullable=False, default="", server_default=""),
    Column("disabled", Boolean, nullable=False, default=False),
    # This period: when it began, what was used and set aside, the highest warning that is due and the highest
    # that was given (percent).
    _ms("period_start_ms"),
    _money("spent"),
    _money("reserved"),
    Column("warned_percent", Integer, nullable=False, default=0, server_default="0"),
    Column("told_percent", Integer, nullable=False, default=0, server_default="0"),
    UniqueConstraint("organization_id", "scope", "subject", "currency", "period", name="uq_budgets_scope"),
    UniqueConstraint("organization_id", "request_id", name="uq_budgets_request"),
)

# What calls under way have set aside; a row a call and budget, gone when the call is settled. An expired one
# was counted as used, and is kept while the call may still be settled after all.
reservations = Table(
    "reservations",
    metadata,
    _id("call_id", primary_key=True),
    _id("budget_id", primary_key=True),
    _id("organization_id"),
    # The period it was set aside in, and how much.
    _ms("period_start_ms"),
    _money("amount"),
    # After this the replica that made it is taken for dead, and the amount counts as used.
    _ms("expires_at_ms"),
    Column("expired", Boolean, nullable=False, default=False),
    Index("ix_reservations_budget", "budget_id", "expired", "expires_at_ms"),
    Index("ix_reservations_expiry", "expires_at_ms"),
)

spend = Table(
    "spend",
    metadata,
    _id("call_id", primary_key=True),
    _id("organization_id"),
    _id("account_id"),
    _id("api_key_id"),
    Column("provider", String(64), nullable=False),
    Column("requested_model", String(64), nullable=False),
    Column("model", String(128), nullable=False),
    Column("operation", String(16), nullable=False),
    _ms("started_at_ms"),
    _ms("duration_ms"),
    _ms("first_token_ms"),
    Column("code", String(32), nullable=False),
    _count("prompt_tokens"),
    _count("cached_tokens"),
    _count("completion_tokens"),
    Column("counted", Boolean, nullable=False),
    # Whole 10^-12 of the currency's unit, as sums in SQL must be exact (money.py).
    _count("cost_pico"),
    Column("currency", String(8), nullable=False, default="", server_default=""),
    Column("cached", Boolean, nullable=False),
    Index("ix_spend_age", "started_at_ms"),
    Index("ix_spend_organization", "organization_id", "started_at_ms"),
    Index("ix_spend_account", "organization_id", "account_id", "started_at_ms"),
)

policies = Table(
    "policies",
    metadata,
    _id("organization_id", primary_key=True),
    # Empty: of the organization, or of the whole account.
    _id("account_id", primary_key=True),
    _id("item_id", primary_key=True),
    Column("body", JSON, nullable=False),
    _ms("updated_at_ms"),
)
