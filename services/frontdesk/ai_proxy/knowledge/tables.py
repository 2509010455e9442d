"""What the knowledge base keeps. Its full text index is beside it, made by the migration: the table
`passage_index` of FTS5 on SQLite, the column `passages.word_index` on PostgreSQL; both follow `passages` by
themselves.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
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


def _id(name: str, *, primary_key: bool = False, nullable: bool = False) -> Column[str]:
    return Column(name, String(128), primary_key=primary_key, nullable=nullable)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, default=0, server_default="0")


# What ranking has to know of an organization's passages, and the row that its writers lock.
knowledge_bases = Table(
    "knowledge_bases",
    metadata,
    _id("organization_id", primary_key=True),
    _number("documents"),
    _number("passages"),
    # Of all passages together.
    _number("words"),
)

documents = Table(
    "documents",
    metadata,
    _id("document_id", primary_key=True),
    _id("organization_id"),
    _id("request_id", nullable=True),
    # Empty: for answers of all accounts, about all items.
    _id("account_id"),
    _id("item_id"),
    Column("title", String(200), nullable=False),
    Column("format", String(16), nullable=False),
    Column("content", Text, nullable=False),
    Column("source_url", Text, nullable=False, default="", server_default=""),
    _number("passages"),
    _number("updated_at_ms"),
    UniqueConstraint("organization_id", "request_id", name="uq_documents_request"),
    Index("ix_documents_organization", "organization_id", "document_id"),
)

passages = Table(
    "passages",
    metadata,
    Column(
        "passage_number",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    _id("document_id"),
    _id("organization_id"),
    _id("account_id"),
    _id("item_id"),
    Column("title", String(200), nullable=False),
    Column("headings", JSON, nullable=False),
    Column("text", Text, nullable=False),
    # A word that stands for the organization, the words of title and headings, those of the text; by spaces.
    Column("scope_word", String(64), nullable=False),
    Column("head_words", Text, nullable=False),
    Column("body_words", Text, nullable=False),
    # What a model made of it: 32 bit floats, their signs, and the model; empty without one.
    Column("vector", LargeBinary, nullable=True),
    Column("vector_bits", LargeBinary, nullable=True),
    Column("vector_model", String(200), nullable=False, default="", server_default=""),
    Index("ix_passages_document", "document_id"),
    Index("ix_passages_vectors", "organization_id", "vector_model"),
)

# In how many of an organization's passages a word is.
words = Table(
    "words",
    metadata,
    _id("organization_id", primary_key=True),
    Column("word", String(64), primary_key=True),
    _number("passages"),
)
