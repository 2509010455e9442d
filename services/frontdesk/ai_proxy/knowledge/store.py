"""Documents as they are stored: cut, segmented and counted, in one transaction with their passages.

Cutting a large document takes a part of a second, so it is done in a thread and before the transaction.
Writers of one organization take turns on the row of its knowledge base: its counts are exact.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from frontdesk.ai_proxy.knowledge.chunk import passages as cut
from frontdesk.ai_proxy.knowledge.documents import DocumentFormat, Paragraph, read_document
from frontdesk.ai_proxy.knowledge.segment import words
from frontdesk.ai_proxy.knowledge.tables import documents, knowledge_bases, passages
from frontdesk.ai_proxy.knowledge.tables import words as word_counts
from frontdesk.ai_proxy.knowledge.vectors import VectorFiller
from frontdesk.ai_proxy.model import new_id
from frontdesk.kit.clock import Clock
from frontdesk.kit.database import Database, any_of
from frontdesk.kit.errors import InvalidArgument, NotFound, ResourceExhausted
from frontdesk.kit.upserts import insert_ignoring, upsert

MAX_TITLE = 200
_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class KnowledgeLimits:
    """How much an organization may store. `passage_chars` is where a long paragraph is cut."""

    document_bytes: int = 512 * 1024
    documents: int = 1_000
    document_passages: int = 2_000
    passages: int = 20_000
    passage_chars: int = 400


@dataclass(frozen=True, slots=True)
class Document:
    """A document. `content` is empty in lists and after a write; `passages` and `updated_at_ms` are the
    store's."""

    organization_id: str
    title: str
    document_format: DocumentFormat
    content: str
    document_id: str = ""
    account_id: str = ""
    item_id: str = ""
    source_url: str = ""
    passages: int = 0
    updated_at_ms: int = 0


_COLUMNS = [column for column in documents.c if column.name not in ("content", "request_id")]


class KnowledgeStore:
    """Reads and writes documents."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        limits: KnowledgeLimits | None = None,
        filler: VectorFiller | None = None,
    ) -> None:
        self._database = database
        self._filler = filler
        self._clock = clock
        self.limits = limits or KnowledgeLimits()

    async def create(self, document: Document, request_id: str = "") -> Document:
        """Store a new document; a repeat of `request_id` returns the first.

        Raises InvalidArgument for what it holds, ResourceExhausted when the organization has no room.
        """
        rows = await asyncio.to_thread(_prepare, document, self.limits)
        now = self._clock.now_ms()
        stored = replace(document, document_id=new_id(now), passages=len(rows), updated_at_ms=now, content="")
        async with self._database.write() as connection:
            base = await _lock(connection, document.organization_id)
            if request_id and (before := await _requested(connection, document.organization_id, request_id)):
                return before
            self._check_room(base, documents_more=1, passages_more=len(rows))
            values = {**_values(stored), "content": document.content, "request_id": request_id or None}
            await connection.execute(insert(documents).values(values))
            await _add(connection, stored, rows)
            await _count(connection, document.organization_id, _Tally(), rows, documents_more=1)
        self._wake(document.organization_id)
        return stored

    async def update(self, document: Document) -> Document:
        """Replace the document of that id and organization; raises as `create`, and NotFound.

        Where it was imported from stays as it was.
        """
        rows = await asyncio.to_thread(_prepare, document, self.limits)
        now = self._clock.now_ms()
        async with self._database.write() as connection:
            base = await _lock(connection, document.organization_id)
            before = await self._find(connection, document.document_id, document.organization_id)
            stored = replace(
                document,
                passages=len(rows),
                updated_at_ms=now,
                content="",
                source_url=before.source_url,
            )
            self._check_room(base, passages_more=len(rows) - before.passages)
            gone = await _remove(connection, document.document_id)
            await connection.execute(
                update(documents)
                .where(documents.c.document_id == document.document_id)
                .values({**_values(stored), "content": document.content})
            )
            await _add(connection, stored, rows)
            await _count(connection, document.organization_id, gone, rows)
        self._wake(document.organization_id)
        return stored

    def _wake(self, organization_id: str) -> None:
        if self._filler is not None:
            self._filler.wake(organization_id)

    async def delete(self, document_id: str, organization_id: str) -> None:
        """Remove a document and its passages; raises NotFound."""
        async with self._database.write() as connection:
            await _lock(connection, organization_id)
            await self._find(connection, document_id, organization_id)
            gone = await _remove(connection, document_id)
            await connection.execute(delete(documents).where(documents.c.document_id == document_id))
            await _count(connection, organization_id, gone, [], documents_more=-1)

    async def get(self, document_id: str) -> Document | None:
        """A document with its content."""
        async with self._database.read() as connection:
            row = (
                await connection.execute(select(documents).where(documents.c.document_id == document_id))
            ).one_or_none()
        return None if row is None else replace(_document(row), content=row.content)

    async def find_request(self, organization_id: str, request_id: str) -> Document | None:
        """The document that this request created, without its content."""
        async with self._database.read() as connection:
            return await _requested(connection, organization_id, request_id)

    async def organization_of(self, document_id: str) -> str | None:
        """Whose document it is, None when there is none."""
        query = select(documents.c.organization_id).where(documents.c.document_id == document_id)
        async with self._database.read() as connection:
            found: str | None = (await connection.execute(query)).scalar()
            return found

    async def page(self, organization_id: str, after: str, size: int) -> list[Document]:
        """At most `size` documents behind the id `after`, ordered by id, without their content."""
        query = (
            select(*_COLUMNS)
            .where(documents.c.organization_id == organization_id, documents.c.document_id > after)
            .order_by(documents.c.document_id)
            .limit(size)
        )
        async with self._database.read() as connection:
            return [_document(row) for row in await connection.execute(query)]

    async def _find(self, connection: AsyncConnection, document_id: str, organization_id: str) -> Document:
        query = select(*_COLUMNS).where(
            documents.c.document_id == document_id, documents.c.organization_id == organization_id
        )
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound("no such document")
        return _document(row)

    def _check_room(self, base: Row[Any], *, documents_more: int = 0, passages_more: int) -> None:
        limits = self.limits
        if base.documents + documents_more > limits.documents:
            raise _full("documents", limits.documents)
        if passages_more > 0 and base.passages + passages_more > limits.passages:
            raise _full("passages", limits.passages)


async def _requested(connection: AsyncConnection, organization_id: str, request_id: str) -> Document | None:
    query = select(*_COLUMNS).where(
        documents.c.organization_id == organization_id, documents.c.request_id == request_id
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _document(row)


def _full(what: str, limit: int) -> ResourceExhausted:
    error = ResourceExhausted(f"the knowledge base has room for {limit} {what}", limit=limit)
    error.retryable = False
    return error


def scope_word(organization_id: str) -> str:
    """A word of the full text index that only this organization's passages have."""
    return "z" + hashlib.blake2b(organization_id.encode(), digest_size=16).hexdigest()


def _prepare(document: Document, limits: KnowledgeLimits) -> list[dict[str, Any]]:
    """The rows of a document's passages, but for what is the document's; raises InvalidArgument."""
    if len(document.content.encode()) > limits.document_bytes:
        raise InvalidArgument("document.content", f"at most {limits.document_bytes} bytes")
    if "\x00" in document.content:
        raise InvalidArgument("document.content", "has a NUL in it")
    paragraphs = read_document(document.document_format, document.content, "document.content")
    cuts = list(cut(paragraphs, limits.passage_chars))
    if not cuts:
        raise InvalidArgument("document.content", "has no text in it")
    if len(cuts) > limits.document_passages:
        raise InvalidArgument(
            "document.content", f"has {len(cuts)} passages, at most {limits.document_passages}"
        )
    title = words(document.title)
    return [_row(title, passage) for passage in cuts]


def _row(title: list[str], passage: Paragraph) -> dict[str, Any]:
    head = [*title, *(word for heading in passage.headings for word in words(heading))]
    return {
        "headings": list(passage.headings),
        "text": passage.text,
        "head_words": " ".join(head),
        "body_words": " ".join(words(passage.text)),
    }


def _values(document: Document) -> dict[str, Any]:
    return {
        "document_id": document.document_id,
        "organization_id": document.organization_id,
        "account_id": document.account_id,
        "item_id": document.item_id,
        "title": document.title,
        "format": document.document_format.value,
        "source_url": document.source_url,
        "passages": document.passages,
        "updated_at_ms": document.updated_at_ms,
    }


def _document(row: Row[Any]) -> Document:
    return Document(
        organization_id=row.organization_id,
        title=row.title,
        document_format=DocumentFormat(row.format),
        content="",
        document_id=row.document_id,
        account_id=row.account_id,
        item_id=row.item_id,
        source_url=row.source_url,
        passages=row.passages,
        updated_at_ms=row.updated_at_ms,
    )


async def _lock(connection: AsyncConnection, organization_id: str) -> Row[Any]:
    await connection.execute(
        insert_ignoring(connection, knowledge_bases), [{"organization_id": organization_id}]
    )
    query = select(knowledge_bases).where(knowledge_bases.c.organization_id == organization_id)
    return (await connection.execute(query.with_for_update())).one()


async def _add(connection: AsyncConnection, document: Document, rows: Sequence[Mapping[str, Any]]) -> None:
    shared = {
        "document_id": document.document_id,
        "organization_id": document.organization_id,
        "account_id": document.account_id,
        "item_id": document.item_id,
        "title": document.title,
        "scope_word": scope_word(document.organization_id),
    }
    for start in range(0, len(rows), _BATCH):
        await connection.execute(
            insert(passages).inline(), [{**shared, **row} for row in rows[start : start + _BATCH]]
        )


@dataclass(slots=True)
class _Tally:
    """Passages, their words, and in how many of them each word is."""

    passages: int = 0
    words: int = 0
    holding: Counter[str] = field(default_factory=Counter)

    def add(self, texts: Iterable[tuple[str, str]], times: int = 1) -> None:
        """Count passages in, or with `times` -1 out."""
        for head, body in texts:
            found = [*head.split(), *body.split()]
            self.passages += times
            self.words += times * len(found)
            for word in set(found):
                self.holding[word] += times


async def _remove(connection: AsyncConnection, document_id: str) -> _Tally:
    """Remove a document's passages, and say what they were."""
    query = select(passages.c.head_words, passages.c.body_words).where(passages.c.document_id == document_id)
    gone = _Tally()
    gone.add(((row.head_words, row.body_words) for row in await connection.execute(query)), -1)
    await connection.execute(delete(passages).where(passages.c.document_id == document_id))
    return gone


async def _count(
    connection: AsyncConnection,
    organization_id: str,
    change: _Tally,
    rows: Sequence[Mapping[str, Any]],
    *,
    documents_more: int = 0,
) -> None:
    """Count what went, `change`, and what came, `rows`: only words whose count changes are written."""
    change.add((row["head_words"], row["body_words"]) for row in rows)
    base = knowledge_bases.c
    await connection.execute(
        update(knowledge_bases)
        .where(base.organization_id == organization_id)
        .values(
            documents=base.documents + documents_more,
            passages=base.passages + change.passages,
            words=base.words + change.words,
        )
    )
    changed = [
        {"organization_id": organization_id, "word": word, "passages": more}
        for word, more in sorted(change.holding.items())
        if more
    ]
    statement = upsert(connection, word_counts, ("organization_id", "word"), (), ("passages",))
    for start in range(0, len(changed), _BATCH):
        await connection.execute(statement, changed[start : start + _BATCH])
    fewer = sorted(word for word, more in change.holding.items() if more < 0)
    forget = delete(word_counts).where(
        word_counts.c.organization_id == organization_id,
        word_counts.c.word.in_(any_of("words")),
        word_counts.c.passages <= 0,
    )
    for start in range(0, len(fewer), _BATCH):
        await connection.execute(forget, {"words": fewer[start : start + _BATCH]})
