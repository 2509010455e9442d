"""`frontdesk knowledge …`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import grpc.aio
import typer
from rich.table import Table

from frontdesk.api.ai.v1 import knowledge_service_pb2 as pb
from frontdesk.api.ai.v1.knowledge_service_pb2_grpc import KnowledgeServiceStub
from frontdesk.cli.client import DATA, Address, Data, Target, Token, call, console
from frontdesk.cli.words import moment

app = typer.Typer(no_args_is_help=True, help="What the AI may tell buyers: documents of the shop.")

FORMATS = {
    ".md": pb.DOCUMENT_FORMAT_MARKDOWN,
    ".markdown": pb.DOCUMENT_FORMAT_MARKDOWN,
    ".csv": pb.DOCUMENT_FORMAT_FAQ_CSV,
    ".txt": pb.DOCUMENT_FORMAT_TEXT,
}

Account = Annotated[str, typer.Option("--account", help="Only for answers of this account.")]
Item = Annotated[str, typer.Option("--item", help="Only for answers about this item.")]


@app.command("add")
def add(
    file: Annotated[Path, typer.Argument(help="*.md, *.txt, or *.csv with the columns question and answer.")],
    title: Annotated[str, typer.Option("--title", help="The file's name when not given.")] = "",
    account: Account = "",
    item: Item = "",
    replace: Annotated[str, typer.Option("--replace", help="The id of the document it replaces.")] = "",
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Add a document; answers know it from the next question on."""
    if file.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"must end with {', '.join(FORMATS)}", param_hint="file")
    try:
        content = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"can't be read as UTF-8: {error}", param_hint="file") from error
    document = pb.Document(
        document_id=replace,
        account_id=account,
        item_id=item,
        title=title or file.stem,
        format=FORMATS[file.suffix.lower()],
        content=content,
    )

    async def work(channel: grpc.aio.Channel) -> pb.Document:
        stub = KnowledgeServiceStub(channel)
        if replace:
            changed = await stub.UpdateDocument(pb.UpdateDocumentRequest(document=document), timeout=60)
            stored: pb.Document = changed.document
        else:
            made = await stub.CreateDocument(pb.CreateDocumentRequest(document=document), timeout=60)
            stored = made.document
        return stored

    stored = call(Target(data, address, token), work)
    console.print(f"stored {stored.document_id}: {stored.passages} passages")


@app.command("list")
def list_documents(data: Data = DATA, address: Address = "", token: Token = "") -> None:
    """List documents."""

    async def work(channel: grpc.aio.Channel) -> list[pb.Document]:
        found: list[pb.Document] = []
        page = ""
        while True:
            request = pb.ListDocumentsRequest(page_size=1000, page_token=page)
            response = await KnowledgeServiceStub(channel).ListDocuments(request, timeout=10)
            found.extend(response.documents)
            page = response.next_page_token
            if not page:
                return found

    table = Table("document", "title", "for", "passages", "changed")
    for document in call(Target(data, address, token), work):
        scope = " ".join(part for part in (document.account_id, document.item_id) if part) or "all"
        table.add_row(
            document.document_id,
            document.title,
            scope,
            str(document.passages),
            moment(document.updated_at_ms),
        )
    console.print(table)


@app.command("search")
def search(
    query: str,
    account: Account = "",
    item: Item = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=50, help="At most this many.")] = 5,
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """What an answer to this question would know."""
    request = pb.SearchRequest(query=query, account_id=account, item_id=item, limit=limit)

    async def work(channel: grpc.aio.Channel) -> pb.SearchResponse:
        response: pb.SearchResponse = await KnowledgeServiceStub(channel).Search(request, timeout=10)
        return response

    for passage in call(Target(data, address, token), work).passages:
        path = " › ".join((passage.title, *passage.headings))
        console.print(f"[bold]{passage.score:.2f}[/]  {path}", highlight=False)
        console.print(f"      {passage.text}", highlight=False, markup=False)


@app.command("import")
def import_url(
    url: str,
    account: Account = "",
    item: Item = "",
    data: Data = DATA,
    address: Address = "",
    token: Token = "",
) -> None:
    """Fetch a public page as a document, where the installation allows it."""
    request = pb.ImportUrlRequest(url=url, account_id=account, item_id=item)

    async def work(channel: grpc.aio.Channel) -> pb.Document:
        response = await KnowledgeServiceStub(channel).ImportUrl(request, timeout=60)
        stored: pb.Document = response.document
        return stored

    stored = call(Target(data, address, token), work)
    console.print(f"stored {stored.document_id}: {stored.title}, {stored.passages} passages")


@app.command("delete")
def delete(document_id: str, data: Data = DATA, address: Address = "", token: Token = "") -> None:
    """Remove a document."""

    async def work(channel: grpc.aio.Channel) -> None:
        request = pb.DeleteDocumentRequest(document_id=document_id)
        await KnowledgeServiceStub(channel).DeleteDocument(request, timeout=10)

    call(Target(data, address, token), work)
    console.print("removed")
