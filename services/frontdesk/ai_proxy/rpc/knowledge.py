"""KnowledgeService: what a seller writes down for answers."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import grpc.aio

from frontdesk.ai_proxy.knowledge.documents import DocumentFormat
from frontdesk.ai_proxy.knowledge.fetch import PageFetcher
from frontdesk.ai_proxy.knowledge.search import Knowledge
from frontdesk.ai_proxy.knowledge.store import MAX_TITLE, Document, KnowledgeStore
from frontdesk.api.ai.v1 import knowledge_service_pb2 as pb
from frontdesk.api.ai.v1.knowledge_service_pb2_grpc import KnowledgeServiceServicer
from frontdesk.kit import pages
from frontdesk.kit.access import allowed_organization, check_owner
from frontdesk.kit.errors import FailedPrecondition, InvalidArgument

MAX_ID = 128
MAX_QUERY = 4_000
MAX_FOUND = 50
_FORMATS = {
    pb.DOCUMENT_FORMAT_TEXT: DocumentFormat.TEXT,
    pb.DOCUMENT_FORMAT_MARKDOWN: DocumentFormat.MARKDOWN,
    pb.DOCUMENT_FORMAT_FAQ_CSV: DocumentFormat.FAQ_CSV,
}
_NUMBERS = {document_format: number for number, document_format in _FORMATS.items()}


class KnowledgeServicer(KnowledgeServiceServicer):
    """Changes are found by the next search, on every replica. Managers write, agents read."""

    def __init__(self, store: KnowledgeStore, knowledge: Knowledge, fetcher: PageFetcher | None) -> None:
        """`fetcher` is None while no page may be imported."""
        self._store = store
        self._knowledge = knowledge
        self._fetcher = fetcher

    async def CreateDocument(
        self, request: pb.CreateDocumentRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CreateDocumentResponse:
        organization_id = allowed_organization(request.document.organization_id, need="manager")
        _check_id(request.request_id, "request_id")
        if request.document.document_id:
            raise InvalidArgument(
                "document.document_id", "must be empty; use UpdateDocument for one that exists"
            )
        document = _from_proto(request.document, organization_id)
        stored = await self._store.create(document, request.request_id)
        return pb.CreateDocumentResponse(document=_to_proto(stored))

    async def GetDocument(
        self, request: pb.GetDocumentRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetDocumentResponse:
        _check_id(request.document_id, "document_id", needed=True)
        document = await self._store.get(request.document_id)
        check_owner(document.organization_id if document else None, need="agent", what="document")
        assert document is not None
        return pb.GetDocumentResponse(document=_to_proto(document))

    async def ListDocuments(
        self, request: pb.ListDocumentsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListDocumentsResponse:
        organization_id = allowed_organization(request.organization_id, need="agent")
        size = pages.page_size(request.page_size, default=100, most=1000)
        after = pages.decode(request.page_token, 1)
        found = await self._store.page(organization_id, after[0] if after else "", size + 1)
        token = pages.encode(found[size - 1].document_id) if len(found) > size else ""
        return pb.ListDocumentsResponse(
            documents=[_to_proto(document) for document in found[:size]], next_page_token=token
        )

    async def UpdateDocument(
        self, request: pb.UpdateDocumentRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.UpdateDocumentResponse:
        document_id = request.document.document_id
        organization_id = await self._owner(document_id, "document.document_id")
        if request.document.organization_id not in ("", organization_id):
            raise InvalidArgument("document.organization_id", "a document stays with its organization")
        document = replace(_from_proto(request.document, organization_id), document_id=document_id)
        return pb.UpdateDocumentResponse(document=_to_proto(await self._store.update(document)))

    async def DeleteDocument(
        self, request: pb.DeleteDocumentRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DeleteDocumentResponse:
        organization_id = await self._owner(request.document_id, "document_id")
        await self._store.delete(request.document_id, organization_id)
        return pb.DeleteDocumentResponse()

    async def _owner(self, document_id: str, field: str) -> str:
        _check_id(document_id, field, needed=True)
        owner = await self._store.organization_of(document_id)
        return check_owner(owner, need="manager", what="document")

    async def ImportUrl(
        self, request: pb.ImportUrlRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ImportUrlResponse:
        organization_id = allowed_organization(request.organization_id, need="manager")
        if self._fetcher is None:
            raise FailedPrecondition("pages are not imported here; the operator can turn it on")
        _check_id(request.account_id, "account_id")
        _check_id(request.item_id, "item_id")
        page = await self._fetcher.fetch(request.url)
        document = Document(
            organization_id=organization_id,
            title=(page.title or urlsplit(request.url).hostname or "page")[:MAX_TITLE],
            document_format=page.document_format,
            content=page.content,
            account_id=request.account_id,
            item_id=request.item_id,
            source_url=request.url,
        )
        # A page that is imported again for the same place replaces what it was.
        place = "\n".join((request.account_id, request.item_id, request.url))
        key = "url:" + hashlib.sha256(place.encode()).hexdigest()
        before = await self._store.find_request(organization_id, key)
        if before is None:
            stored = await self._store.create(document, key)
        else:
            stored = await self._store.update(replace(document, document_id=before.document_id))
        return pb.ImportUrlResponse(document=_to_proto(stored))

    async def Search(
        self, request: pb.SearchRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.SearchResponse:
        organization_id = allowed_organization(request.organization_id, need="agent")
        _check_id(request.account_id, "account_id")
        _check_id(request.item_id, "item_id")
        if not 1 <= len(request.query) <= MAX_QUERY:
            raise InvalidArgument("query", f"1 to {MAX_QUERY} characters")
        if not 0 <= request.limit <= MAX_FOUND:
            raise InvalidArgument("limit", f"must be 1 to {MAX_FOUND}, or 0 for 5")
        found = await self._knowledge.search(
            organization_id, request.account_id, request.item_id, request.query, request.limit or 5
        )
        return pb.SearchResponse(
            passages=[
                pb.Passage(
                    document_id=passage.document_id,
                    title=passage.title,
                    headings=passage.headings,
                    text=passage.text,
                    score=passage.score,
                )
                for passage in found
            ]
        )


def _check_id(value: str, field: str, *, needed: bool = False) -> None:
    if needed and not value:
        raise InvalidArgument(field, "is needed")
    if len(value) > MAX_ID:
        raise InvalidArgument(field, f"at most {MAX_ID} characters")
    if not value.isprintable():
        raise InvalidArgument(field, "has a character that no id has")


def _from_proto(document: pb.Document, organization_id: str) -> Document:
    _check_id(document.account_id, "document.account_id")
    _check_id(document.item_id, "document.item_id")
    title = document.title.strip()
    if not 1 <= len(title) <= MAX_TITLE or not title.isprintable():
        raise InvalidArgument("document.title", f"1 to {MAX_TITLE} printable characters")
    if document.format not in _FORMATS:
        raise InvalidArgument("document.format", f"{document.format} is not a value that this version knows")
    return Document(
        organization_id=organization_id,
        title=title,
        document_format=_FORMATS[document.format],
        content=document.content,
        account_id=document.account_id,
        item_id=document.item_id,
    )


def _to_proto(document: Document) -> pb.Document:
    return pb.Document(
        document_id=document.document_id,
        organization_id=document.organization_id,
        account_id=document.account_id,
        item_id=document.item_id,
        title=document.title,
        format=_NUMBERS[document.document_format],
        content=document.content,
        source_url=document.source_url,
        passages=document.passages,
        updated_at_ms=document.updated_at_ms,
    )
