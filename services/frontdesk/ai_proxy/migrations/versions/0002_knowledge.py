"""Documents and their passages, with a full text index that follows them.

The words of a passage are cut by the service (knowledge/segment.py); the index only has to find them again,
so that neither SQLite's tokenizer nor PostgreSQL's parser decides what a Chinese word is.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

# The content stays in `passages`; FTS5 has to be told the old words of a row that goes (external content).
SQLITE = (
    """CREATE VIRTUAL TABLE passage_index USING fts5(
        scope_word, head_words, body_words,
        content='passages', content_rowid='passage_number', tokenize='unicode61 remove_diacritics 0')""",
    """CREATE TRIGGER passages_indexed AFTER INSERT ON passages BEGIN
        INSERT INTO passage_index (rowid, scope_word, head_words, body_words)
        VALUES (new.passage_number, new.scope_word, new.head_words, new.body_words);
    END""",
    """CREATE TRIGGER passages_forgotten AFTER DELETE ON passages BEGIN
        INSERT INTO passage_index (passage_index, rowid, scope_word, head_words, body_words)
        VALUES ('delete', old.passage_number, old.scope_word, old.head_words, old.body_words);
    END""",
)
POSTGRESQL = (
    """ALTER TABLE passages ADD COLUMN word_index tsvector GENERATED ALWAYS AS (
        array_to_tsvector(array_remove(
            string_to_array(scope_word || ' ' || head_words || ' ' || body_words, ' '), ''))) STORED""",
    "CREATE INDEX ix_passages_words ON passages USING gin (word_index)",
)


def upgrade() -> None:
    op.create_table(
        "knowledge_bases",
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("documents", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("passages", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("words", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("organization_id"),
    )
    op.create_table(
        "documents",
        sa.Column("document_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=True),
        sa.Column("account_id", sa.String(length=128), nullable=False),
        sa.Column("item_id", sa.String(length=128), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("format", sa.String(length=16), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("source_url", sa.Text(), server_default="", nullable=False),
        sa.Column("passages", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("document_id"),
        sa.UniqueConstraint("organization_id", "request_id", name="uq_documents_request"),
    )
    op.create_index("ix_documents_organization", "documents", ["organization_id", "document_id"])
    op.create_table(
        "passages",
        sa.Column(
            "passage_number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("document_id", sa.String(length=128), nullable=False),
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("account_id", sa.String(length=128), nullable=False),
        sa.Column("item_id", sa.String(length=128), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("headings", sa.JSON(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("scope_word", sa.String(length=64), nullable=False),
        sa.Column("head_words", sa.Text(), nullable=False),
        sa.Column("body_words", sa.Text(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.Column("vector_bits", sa.LargeBinary(), nullable=True),
        sa.Column("vector_model", sa.String(length=200), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("passage_number"),
    )
    op.create_index("ix_passages_document", "passages", ["document_id"])
    op.create_index("ix_passages_vectors", "passages", ["organization_id", "vector_model"])
    op.create_table(
        "words",
        sa.Column("organization_id", sa.String(length=128), nullable=False),
        sa.Column("word", sa.String(length=64), nullable=False),
        sa.Column("passages", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("organization_id", "word"),
    )
    for statement in SQLITE if op.get_bind().dialect.name == "sqlite" else POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER passages_forgotten")
        op.execute("DROP TRIGGER passages_indexed")
        op.execute("DROP TABLE passage_index")
    op.drop_table("words")
    op.drop_table("passages")
    op.drop_table("documents")
    op.drop_table("knowledge_bases")
