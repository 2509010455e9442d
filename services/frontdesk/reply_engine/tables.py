"""What the reply-engine owns: one table a thing, `organization_id` on every row.

A chat's key is `<account id>/<chat id>`; it is the row that a decision locks. Times are Unix milliseconds,
and 0 means "never". JSON columns hold what is only read whole.
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
    text,
)

metadata = MetaData()
_WAITING = text("waiting_since_ms > 0")


def _id(name: str, *, primary_key: bool = False, nullable: bool = False) -> Column[str]:
    return Column(name, String(128), primary_key=primary_key, nullable=nullable)


def _ms(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, default=0, server_default="0")


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, default="", server_default="")


organizations = Table(
    "organizations",
    metadata,
    _id("organization_id", primary_key=True),
    Column("switch", String(16), nullable=False, default="on", server_default="on"),
    _ms("answer_after_ms"),
    # Raised by every change of rules, defaults or settings: replicas drop what they cached.
    Column("config_version", BigInteger, nullable=False, default=0, server_default="0"),
)

account_settings = Table(
    "account_settings",
    metadata,
    _id("account_id", primary_key=True),
    _id("organization_id"),
    Column("switch", String(16), nullable=False, default="on"),
    Column("debounce_ms", Integer, nullable=False),
    Column("chain", JSON, nullable=False),
    Column("ai_enabled", Boolean, nullable=False),
    Column("takeover_minutes", Integer, nullable=False),
    Column("replies_per_minute", Integer, nullable=False),
    _ms("answer_after_ms"),
    Column("time_zone", String(64), nullable=False),
    Index("ix_account_settings_organization", "organization_id"),
)

rules = Table(
    "rules",
    metadata,
    _id("rule_id", primary_key=True),
    _id("organization_id"),
    _id("request_id", nullable=True),
    Column("body", JSON, nullable=False),
    _ms("updated_at_ms"),
    Index("ix_rules_organization", "organization_id", "rule_id"),
    UniqueConstraint("organization_id", "request_id", name="uq_rules_request"),
)

default_replies = Table(
    "default_replies",
    metadata,
    _id("default_reply_id", primary_key=True),
    _id("organization_id"),
    # `global`, `account/<id>` or `item/<id>`: one default reply a scope.
    Column("scope_key", String(300), nullable=False),
    Column("body", JSON, nullable=False),
    UniqueConstraint("organization_id", "scope_key", name="uq_default_replies_scope"),
)

chats = Table(
    "chats",
    metadata,
    Column("chat_key", String(260), primary_key=True),
    _id("organization_id"),
    _id("account_id"),
    _id("chat_id"),
    _text("buyer_id"),
    _text("buyer_name"),
    _text("item_id"),
    _text("last_text"),
    _ms("last_message_at_ms"),
    # Platform time of the last message that the seller typed by hand or sent as a person.
    _ms("last_seller_at_ms"),
    _ms("waiting_since_ms"),
    _text("waiting_reason"),
    Column("waiting_count", Integer, nullable=False, default=0, server_default="0"),
    # A person was called and has not come: since when and why, whatever was answered to later messages.
    _ms("called_at_ms"),
    _text("called_reason"),
    _ms("due_at_ms"),
    _ms("paused_until_ms"),
    _text("pause_reason"),
    # While the AI works on this chat: whose answer is awaited, and until when others keep out.
    _text("deciding_token"),
    _ms("deciding_until_ms"),
    # Automatic answers in the minute that began at `minute_ms`.
    _ms("minute_ms"),
    Column("minute_count", Integer, nullable=False, default=0, server_default="0"),
    # The trace of the newest message that waits, so that an answer after a debounce is in the same trace.
    Column("traceparent", String(64), nullable=False, default="", server_default=""),
    Index("ix_chats_organization", "organization_id", "last_message_at_ms"),
    Index("ix_chats_due", "due_at_ms"),
    Index("ix_chats_waiting", "waiting_since_ms", sqlite_where=_WAITING, postgresql_where=_WAITING),
)

messages = Table(
    "messages",
    metadata,
    _id("account_id", primary_key=True),
    _id("message_id", primary_key=True),
    _id("organization_id"),
    Column("chat_key", String(260), nullable=False),
    Column("author", String(16), nullable=False),
    _text("sender_id"),
    _text("sender_name"),
    _text("text"),
    Column("image_urls", JSON, nullable=False),
    _text("item_id"),
    _ms("created_at_ms"),
    _ms("received_at_ms"),
    # `waiting`, `decided`, `person`, `stored`; `reason` says why a buyer's message is with a person.
    Column("state", String(16), nullable=False),
    _text("reason"),
    _text("decision_id"),
    Index("ix_messages_chat", "chat_key", "created_at_ms"),
    Index("ix_messages_state", "chat_key", "state"),
)

OF_AI = ("item_id", "intent", "offered_price", "provider", "model")

decisions = Table(
    "decisions",
    metadata,
    _id("decision_id", primary_key=True),
    _id("organization_id"),
    Column("chat_key", String(260), nullable=False),
    Column("origin", String(16), nullable=False),
    _text("step"),
    _text("rule_id"),
    # Where the AI was asked: about which item, and what it said, also when it left it to a person. The price
    # is decimal text.
    *(Column(name, Text, nullable=False, server_default="") for name in OF_AI),
    # What was tried, in order, as sentences.
    Column("trace", JSON, nullable=False),
    _ms("created_at_ms"),
    _id("request_id", nullable=True),
    Index("ix_decisions_chat", "chat_key", "created_at_ms"),
    UniqueConstraint("organization_id", "request_id", name="uq_decisions_request"),
)

outgoing = Table(
    "outgoing",
    metadata,
    _id("outgoing_id", primary_key=True),
    _id("decision_id"),
    Column("part", Integer, nullable=False),
    _id("organization_id"),
    _id("account_id"),
    _id("chat_id"),
    Column("chat_key", String(260), nullable=False),
    _text("buyer_id"),
    Column("origin", String(16), nullable=False),
    _text("text"),
    Column("image", JSON, nullable=True),
    _ms("answers_until_ms"),
    _ms("decided_at_ms"),
    # `queued`, then what the gateway reports: sent, confirmed, unconfirmed, rejected, failed, dropped.
    Column("state", String(16), nullable=False),
    _text("reason"),
    _text("message_id"),
    Column("traceparent", String(64), nullable=False, default="", server_default=""),
    _ms("updated_at_ms"),
    Index("ix_outgoing_state", "state", "updated_at_ms"),
    Index("ix_outgoing_chat", "chat_key"),
)

rule_uses = Table(
    "rule_uses",
    metadata,
    Column("chat_key", String(260), primary_key=True),
    _id("rule_id", primary_key=True),
    _id("organization_id"),
    Column("uses", Integer, nullable=False),
    _ms("last_used_ms"),
)

orders = Table(
    "orders",
    metadata,
    _id("account_id", primary_key=True),
    _id("order_id", primary_key=True),
    _id("organization_id"),
    _text("chat_id"),
    _text("item_id"),
    _text("buyer_id"),
    Column("status", String(16), nullable=False),
    Column("quantity", Integer, nullable=False, default=0, server_default="0"),
    # "" (none set), `pending`, `sending`, `delivered`, `shipped`, `failed`.
    Column("delivery_state", String(16), nullable=False, default="", server_default=""),
    _text("delivery_reason"),
    _text("delivery_decision_id"),
    Column("delivery_tries", Integer, nullable=False, default=0, server_default="0"),
    _ms("delivery_due_ms"),
    _ms("created_at_ms"),
    _ms("updated_at_ms"),
    Index("ix_orders_organization", "organization_id", "updated_at_ms"),
    Index("ix_orders_delivery", "delivery_state", "delivery_due_ms"),
)

deliveries = Table(
    "deliveries",
    metadata,
    _id("account_id", primary_key=True),
    _id("item_id", primary_key=True),
    _id("organization_id"),
    _text("template"),
    Column("enabled", Boolean, nullable=False),
    Column("confirm_shipping", Boolean, nullable=False),
    # Encrypted, as the stock is; NULL takes cards from the stock.
    Column("fixed_card", LargeBinary, nullable=True),
)

cards = Table(
    "cards",
    metadata,
    _id("card_id", primary_key=True),
    _id("organization_id"),
    _id("account_id"),
    _id("item_id"),
    # Encrypted; `digest` tells a card that is there already.
    Column("secret", LargeBinary, nullable=False),
    Column("digest", String(64), nullable=False),
    # The order that got it; NULL while in stock. A card is handed over once and never taken back.
    _id("order_id", nullable=True),
    _ms("taken_at_ms"),
    UniqueConstraint("account_id", "item_id", "digest", name="uq_cards_digest"),
    Index("ix_cards_stock", "account_id", "item_id", "order_id"),
)
