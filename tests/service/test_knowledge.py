"""KnowledgeService on SQLite and on a real PostgreSQL: what is written is found, by whom it may be."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import select

from frontdesk.ai_proxy.knowledge.search import Knowledge
from frontdesk.ai_proxy.knowledge.store import KnowledgeLimits, KnowledgeStore
from frontdesk.ai_proxy.knowledge.tables import knowledge_bases, words
from frontdesk.ai_proxy.rpc.knowledge import KnowledgeServicer
from frontdesk.api.ai.v1 import knowledge_service_pb2 as pb
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.database import Database
from frontdesk.kit.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from frontdesk.kit.principal import Principal, current_principal
from support.postgres import PostgresServer
from support.recall import open_knowledge

LIMITS = KnowledgeLimits(
    document_bytes=2_000, documents=3, document_passages=10, passages=15, passage_chars=100
)
CONTEXT: Any = None
_numbers = itertools.count()


@dataclass
class Base:
    """A knowledge base and its door; the tests of a database share it, each with organizations of its own."""

    database: Database
    organization_id: str
    knowledge: Knowledge
    door: KnowledgeServicer

    def become(self, suffix: str = "", role: str = "manager") -> str:
        """Call as somebody of the test's organization, or of another one; its id."""
        organization_id = self.organization_id + suffix
        current_principal.set(Principal("u", kind="user", organization_id=organization_id, role=role))
        return organization_id

    async def write(self, content: str, request_id: str = "", **fields: Any) -> pb.Document:
        document = pb.Document(
            **{"title": "店规", "format": pb.DOCUMENT_FORMAT_TEXT, "content": content, **fields}
        )
        request = pb.CreateDocumentRequest(request_id=request_id, document=document)
        return (await self.door.CreateDocument(request, CONTEXT)).document

    async def find(self, query: str, account: str = "", item: str = "", limit: int = 0) -> list[str]:
        request = pb.SearchRequest(query=query, account_id=account, item_id=item, limit=limit)
        return [passage.text for passage in (await self.door.Search(request, CONTEXT)).passages]

    async def counts(self) -> tuple[tuple[int, int, int], dict[str, int]]:
        """Documents, passages and words of the organization, and in how many passages each word is."""
        async with self.database.read() as connection:
            base = (
                await connection.execute(
                    select(knowledge_bases).where(knowledge_bases.c.organization_id == self.organization_id)
                )
            ).one()
            rows = await connection.execute(
                select(words).where(words.c.organization_id == self.organization_id)
            )
            return (base.documents, base.passages, base.words), {row.word: row.passages for row in rows}


@pytest.fixture(scope="module")
def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('knowledge')}/ai.db"


@pytest.fixture(scope="module")
def postgres_url(_shared_server: PostgresServer) -> Iterator[str]:
    _shared_server.query("CREATE DATABASE knowledge")
    yield _shared_server.url("knowledge")
    _shared_server.query("DROP DATABASE knowledge WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgres"])
async def base(request: pytest.FixtureRequest) -> AsyncIterator[Base]:
    database = await open_knowledge(request.getfixturevalue(f"{request.param}_url"))
    store, knowledge = KnowledgeStore(database, ManualClock(), LIMITS), Knowledge(database)
    door = KnowledgeServicer(store, knowledge, None)
    yield Base(database, f"o{next(_numbers)}", knowledge, door)
    await database.close()


@pytest.fixture(autouse=True)
def manager(base: Base) -> Iterator[None]:
    before = current_principal.get()
    base.become()
    yield
    current_principal.set(before)


async def test_what_is_written_is_found_changed_and_forgotten(base: Base) -> None:
    """The index and the counts follow a document through its life."""
    written = await base.write("全国包邮。\n\n不支持退货。", title="发货 说明")
    assert (written.passages, written.content, written.organization_id) == (2, "", base.organization_id)
    got = await base.door.GetDocument(pb.GetDocumentRequest(document_id=written.document_id), CONTEXT)
    assert got.document.content == "全国包邮。\n\n不支持退货。"
    assert await base.find("包邮吗") == ["全国包邮。"]
    before = await base.counts()
    other = await base.write("可以自提，地铁站见。")
    assert await base.find("能自提吗") == ["可以自提，地铁站见。"]
    changed = pb.Document(
        document_id=other.document_id,
        title="t",
        format=pb.DOCUMENT_FORMAT_MARKDOWN,
        content="# 面交\n当面验货。",
    )
    updated = await base.door.UpdateDocument(pb.UpdateDocumentRequest(document=changed), CONTEXT)
    assert updated.document.passages == 1
    assert await base.find("自提 地铁") == []
    request = pb.SearchRequest(query="面交")
    (found,) = (await base.door.Search(request, CONTEXT)).passages
    assert (found.title, list(found.headings), found.text) == ("t", ["面交"], "当面验货。")
    assert found.score > 0
    await base.door.DeleteDocument(pb.DeleteDocumentRequest(document_id=other.document_id), CONTEXT)
    assert await base.find("面交") == []
    assert await base.counts() == before


async def test_a_search_stays_in_its_organization(base: Base) -> None:
    """Another's passages are not found and its words weigh nothing; its documents do not exist."""
    mine = await base.write("本店包邮。\n\n本店不退。")
    weights = (await base.knowledge.weigh(base.organization_id, "包邮")).weights
    base.become("other")
    await base.write("包邮包邮。\n\n全国包邮。")
    assert sorted(await base.find("包邮 不退")) == ["全国包邮。", "包邮包邮。"]
    for call in (
        base.door.GetDocument(pb.GetDocumentRequest(document_id=mine.document_id), CONTEXT),
        base.door.DeleteDocument(pb.DeleteDocumentRequest(document_id=mine.document_id), CONTEXT),
        base.door.UpdateDocument(pb.UpdateDocumentRequest(document=mine), CONTEXT),
    ):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(PermissionDenied):
        await base.door.Search(pb.SearchRequest(organization_id=base.organization_id, query="包邮"), CONTEXT)
    base.become()
    assert await base.find("包邮") == ["本店包邮。"]
    assert (await base.knowledge.weigh(base.organization_id, "包邮")).weights == weights


async def test_a_search_keeps_to_account_and_item(base: Base) -> None:
    """What is for all is found by all; what is for an account or an item only there."""
    for content, account, item in [("大家包邮。", "", ""), ("甲包邮。", "a", ""), ("甲一包邮。", "a", "1")]:
        await base.write(content, account_id=account, item_id=item)
    assert await base.find("包邮") == ["大家包邮。"]
    assert sorted(await base.find("包邮", "a")) == ["大家包邮。", "甲包邮。"]
    assert len(await base.find("包邮", "a", "1")) == 3
    assert await base.find("包邮", "b", "1") == ["大家包邮。"]
    assert len(await base.find("包邮", "a", "1", limit=2)) == 2


async def test_headings_and_rare_words_weigh_more(base: Base) -> None:
    """A word in a heading counts more than in the text, a word of one passage more than one of all."""
    content = (
        "# 电池\n\n健康度都写在标题里面。\n\n# 屏幕\n\n电池也写在标题里面。\n\n# 其他\n\n标题里面都会写清楚。"
    )
    await base.write(content, format=pb.DOCUMENT_FORMAT_MARKDOWN, title="手机")
    assert (await base.find("电池"))[0] == "健康度都写在标题里面。"
    assert (await base.find("标题写清楚"))[0] == "标题里面都会写清楚。"


async def test_a_query_is_words_and_no_language(base: Base) -> None:
    """What is an operator of FTS5 or of tsquery finds no more and breaks nothing."""
    await base.write("包邮。")
    for query in ('"', "' | '", "a:b OR *", "NEAR(x y)", "scope_word", "\\", "-", "的", "NOT", "*", "(:*"):
        assert await base.find(query) == []
    for query in ("!包邮 & <->", "\x00包邮", "包邮 ) OR scope_word:*", "'包邮\\'"):
        assert await base.find(query) == ["包邮。"]


async def test_a_repeated_request_creates_once(base: Base) -> None:
    """Also when the repeats come together; another organization's same id is another request."""
    made = await asyncio.gather(*(base.write("包邮。", request_id="r1") for _ in range(3)))
    assert len({document.document_id for document in made}) == 1
    assert (await base.counts())[0][:2] == (1, 1)
    base.become("other")
    assert (await base.write("包邮。", request_id="r1")).document_id != made[0].document_id


async def test_writers_that_come_together_count_right(base: Base) -> None:
    """Parallel writes and deletes of documents with the same words leave exact counts."""
    first = await base.write("包邮。\n\n自提。")
    delete = pb.DeleteDocumentRequest(document_id=first.document_id)
    await asyncio.gather(
        base.write("自提。\n\n包邮。"), base.write("包邮。"), base.door.DeleteDocument(delete, CONTEXT)
    )
    (documents, passages, _), holding = await base.counts()
    assert (documents, passages, holding["包邮"], holding["自提"]) == (2, 3, 2, 1)


async def test_pages_are_whole_and_ordered(base: Base) -> None:
    """A list goes on behind its last document and shows no content."""
    written = [(await base.write(f"第{n}份。")).document_id for n in range(3)]
    first = await base.door.ListDocuments(pb.ListDocumentsRequest(page_size=2), CONTEXT)
    rest = await base.door.ListDocuments(
        pb.ListDocumentsRequest(page_size=2, page_token=first.next_page_token), CONTEXT
    )
    assert [d.document_id for d in [*first.documents, *rest.documents]] == sorted(written)
    assert not rest.next_page_token
    assert not any(document.content for document in first.documents)


async def test_an_organization_has_limits(base: Base) -> None:
    """A full knowledge base refuses, changes nothing, and takes again what fits after something went."""
    big = "\n\n".join(f"第{n}段是一些说明文字吧。" for n in range(8))
    written = await base.write(big)
    with pytest.raises(ResourceExhausted, match="15 passages") as refused:
        await base.write(big)
    assert not refused.value.retryable
    for _ in range(2):
        await base.write("包邮。")
    with pytest.raises(ResourceExhausted, match="3 documents"):
        await base.write("包邮。")
    assert (await base.counts())[0][:2] == (3, 10)
    await base.door.DeleteDocument(pb.DeleteDocumentRequest(document_id=written.document_id), CONTEXT)
    await base.write(big)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"title": ""}, "document.title"),
    ({"title": "t" * 201}, "document.title"),
    ({"title": "a\nb"}, "document.title"),
    ({"format": pb.DOCUMENT_FORMAT_UNSPECIFIED}, "document.format"),
    ({"account_id": "a" * 129}, "document.account_id"),
    ({"item_id": "\x00"}, "document.item_id"),
    ({"content": ""}, "document.content"),
    ({"content": " \n# \n"}, "document.content"),
    ({"content": "包\x00邮"}, "document.content"),
    ({"content": "邮" * 667}, "document.content"),
    ({"content": "\n\n".join(["十二个字的一段话在这里呢"] * 11)}, "document.content"),
    ({"document_id": "mine"}, "document.document_id"),
    ({"request_id": "r" * 129}, "request_id"),
    ({"format": pb.DOCUMENT_FORMAT_FAQ_CSV, "content": "a,b\n1,2"}, "document.content"),
]


async def test_bad_documents_are_refused_with_their_field(base: Base) -> None:
    """Neither a new document nor a changed one is stored."""
    good: dict[str, Any] = {
        "title": "店规",
        "content": "# 包邮\n包邮。",
        "format": pb.DOCUMENT_FORMAT_MARKDOWN,
    }
    stored = await base.write(**good)
    for fields, field in BAD:
        with pytest.raises(InvalidArgument) as refused:
            await base.write(**{**good, **fields})
        assert refused.value.field == field
        if not fields.keys() & {"document_id", "request_id"}:
            changed = pb.Document(**{**good, **fields, "document_id": stored.document_id})
            with pytest.raises(InvalidArgument) as refused:
                await base.door.UpdateDocument(pb.UpdateDocumentRequest(document=changed), CONTEXT)
            assert refused.value.field == field
    assert (await base.counts())[0][:2] == (1, 1)
    assert await base.find("包邮") == ["包邮。"]


async def test_agents_read_and_managers_write(base: Base) -> None:
    """A viewer does neither; nothing is imported while that is off."""
    written = await base.write("包邮。")
    bad: list[Awaitable[object]] = [
        base.door.ImportUrl(pb.ImportUrlRequest(url="http://a.example/"), CONTEXT),
        base.door.Search(pb.SearchRequest(query=""), CONTEXT),
        base.door.Search(pb.SearchRequest(query="q", limit=51), CONTEXT),
        base.door.GetDocument(pb.GetDocumentRequest(), CONTEXT),
    ]
    for call in bad:
        with pytest.raises((FailedPrecondition, InvalidArgument)):
            await call
    base.become(role="agent")
    assert await base.find("包邮") == ["包邮。"]
    await base.door.ListDocuments(pb.ListDocumentsRequest(), CONTEXT)
    writes: list[Awaitable[object]] = [
        base.write("包邮。"),
        base.door.DeleteDocument(pb.DeleteDocumentRequest(document_id=written.document_id), CONTEXT),
        base.door.UpdateDocument(pb.UpdateDocumentRequest(document=written), CONTEXT),
        base.door.ImportUrl(pb.ImportUrlRequest(url="http://a.example/"), CONTEXT),
    ]
    for call in writes:
        with pytest.raises(PermissionDenied):
            await call
    base.become(role="viewer")
    with pytest.raises(PermissionDenied):
        await base.find("包邮")
