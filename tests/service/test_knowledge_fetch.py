"""Pages fetched for a seller: a real server on loopback, which only a test's own connector may reach."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from frontdesk.ai_proxy.knowledge.documents import DocumentFormat
from frontdesk.ai_proxy.knowledge.fetch import FetchLimits, Page, PageFetcher
from frontdesk.ai_proxy.knowledge.search import Knowledge
from frontdesk.ai_proxy.knowledge.store import KnowledgeStore
from frontdesk.ai_proxy.rpc.knowledge import KnowledgeServicer
from frontdesk.api.ai.v1 import knowledge_service_pb2 as pb
from frontdesk.kit.addresses import public_only_connector
from frontdesk.kit.clock import ManualClock
from frontdesk.kit.errors import (
    DeadlineExceeded,
    FrontdeskError,
    InvalidArgument,
    PermissionDenied,
    Unavailable,
)
from support.recall import open_knowledge

LIMITS = FetchLimits(page_bytes=20_000, seconds=5.0, redirects=3)
HTML = "<title>店规</title><h1>发货</h1><p>全国包邮。</p>"


class Loopback(AbstractResolver):
    """Every name is the test's server."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        return


class Site:
    """A web server that records what it was asked."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []
        self.port = 0
        self.page = HTML
        self.release = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        name = request.path
        if name == "/slow":
            await self.release.wait()
        if name.startswith("/hop/"):
            left = int(name.removeprefix("/hop/"))
            response = web.Response(status=302, headers={"Location": f"/hop/{left - 1}" if left else "/page"})
            response.set_cookie("seen", "1")
            return response
        if name == "/away":
            return web.Response(status=302, headers={"Location": request.query["to"]})
        if name == "/bomb":
            response = web.Response(body=b"a" * 5_000_000, content_type="text/plain")
            response.enable_compression()
            return response
        if name == "/cut":
            assert request.transport is not None
            request.transport.abort()
        if name == "/of":
            headers = {"Content-Type": f"text/html; charset={request.query['charset']}"}
            return web.Response(body=self.page.encode(), headers=headers)
        kinds: dict[str, Any] = {
            "/text": {"text": "一行\n\n二行", "content_type": "text/plain"},
            "/gbk": {"body": HTML.encode("gbk"), "headers": {"Content-Type": "text/html; charset=gb2312"}},
            "/meta": {
                "body": b"<meta charset='gbk'>" + HTML.encode("gbk"),
                "headers": {"Content-Type": "text/html"},
            },
            "/odd": {"body": HTML.encode(), "headers": {"Content-Type": "text/html; charset=nonsense"}},
            "/image": {"body": b"\x89PNG", "content_type": "image/png"},
            "/error": {"status": 503, "text": "secret of the inside"},
            "/big": {"text": "a" * 30_000, "content_type": "text/plain"},
            "/empty": {"text": "", "content_type": "text/plain"},
        }
        return web.Response(**kinds.get(name, {"text": self.page, "content_type": "text/html"}))

    def url(self, path: str) -> str:
        return f"http://shop.example:{self.port}{path}"


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", site.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0)
    await listening.start()
    site.port = runner.addresses[0][1]
    yield site
    site.release.set()
    await runner.cleanup()


@pytest.fixture
async def fetcher() -> AsyncIterator[PageFetcher]:
    connector = aiohttp.TCPConnector(resolver=Loopback())
    yield PageFetcher(LIMITS, connector)
    await connector.close()


async def test_a_page_becomes_markdown(site: Site, fetcher: PageFetcher) -> None:
    """Its title and text, in whatever characters; a text stays a text."""
    expected = Page("店规", DocumentFormat.MARKDOWN, "# 发货\n\n全国包邮。")
    for path in ("/page", "/gbk", "/meta", "/odd"):
        assert await fetcher.fetch(site.url(path)) == expected
    assert await fetcher.fetch(site.url("/text")) == Page("", DocumentFormat.TEXT, "一行\n\n二行")


@pytest.mark.parametrize("charset", ["idna", "undefined", "utf-7", "punycode", "zlib", "unicode_escape"])
async def test_only_charsets_of_the_web_are_read(site: Site, fetcher: PageFetcher, charset: str) -> None:
    """Others, which could break or hold up the reader, are read as UTF-8."""
    site.page = HTML + "<p>+2AA- \\ud800 xn--" + "b" * 1000 + "</p>"
    page = await fetcher.fetch(site.url(f"/of?charset={charset}"))
    assert page.title == "店规"
    assert "+2AA- \\ud800" in page.content


async def test_redirects_are_followed_a_few_times_with_nothing_else(site: Site, fetcher: PageFetcher) -> None:
    """No cookie and no credential is sent; one hop too many is refused."""
    assert (await fetcher.fetch(site.url("/hop/2"))).title == "店规"
    assert [request.path for request in site.asked] == ["/hop/2", "/hop/1", "/hop/0", "/page"]
    for request in site.asked:
        assert not {"Cookie", "Authorization", "Referer"} & set(request.headers)
    with pytest.raises(InvalidArgument, match="redirects more than 3"):
        await fetcher.fetch(site.url("/hop/3"))


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("/image", InvalidArgument, "neither HTML nor text"),
        ("/error", InvalidArgument, "answers 503"),
        ("/big", InvalidArgument, "more than 20000 bytes"),
        ("/bomb", InvalidArgument, "more than 20000 bytes"),
        ("/cut", Unavailable, "broke off"),
        ("/away?to=ftp://a.example/", InvalidArgument, "http"),
        ("/away?to=file:///etc/passwd", InvalidArgument, "http"),
        ("/away?to=http://u:p@a.example/", InvalidArgument, "name or a password"),
        ("/away?to=http://[", InvalidArgument, "url"),
        ("/away?to=", InvalidArgument, "redirects more"),
    ],
)
async def test_bad_pages_are_refused(
    site: Site, fetcher: PageFetcher, path: str, error: type[FrontdeskError], message: str
) -> None:
    """With what is wrong, and without what the server said."""
    with pytest.raises(error, match=message) as refused:
        await fetcher.fetch(site.url(path))
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.example",
        "/etc/passwd",
        "ftp://a.example/",
        "file:///etc/passwd",
        "gopher://a.example/",
        "http://",
        "http://a:b@a.example/",
        "http://a.example:99999/",
        "http://[::1",
        "http://a.example/" + "a" * 2000,
    ],
)
async def test_bad_addresses_are_refused(fetcher: PageFetcher, url: str) -> None:
    """Before anything is asked."""
    with pytest.raises(InvalidArgument) as refused:
        await fetcher.fetch(url)
    assert refused.value.field == "url"


async def test_a_page_that_takes_too_long_is_given_up(site: Site) -> None:
    """The limit holds for all of a fetch."""
    connector = aiohttp.TCPConnector(resolver=Loopback())
    with pytest.raises(DeadlineExceeded):
        await PageFetcher(FetchLimits(seconds=0.2), connector).fetch(site.url("/slow"))
    await connector.close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0x7f000001", "169.254.169.254", "10.0.0.1"]
)
async def test_the_inside_is_out_of_reach(site: Site, host: str) -> None:
    """As it is used, no page of a private network is fetched, and the refusal names no address."""
    with pytest.raises(PermissionDenied, match="not a public one"):
        await PageFetcher(LIMITS).fetch(f"http://{host}:{site.port}/page")
    assert site.asked == []


async def test_a_name_or_a_redirect_that_leads_inside_is_refused(site: Site) -> None:
    """A public name that means loopback opens nothing."""
    connector = public_only_connector(limit=1, resolver=Loopback())
    with pytest.raises(PermissionDenied):
        await PageFetcher(LIMITS, connector).fetch(site.url("/page"))
    await connector.close()
    outside = _Outside(site.port)
    with pytest.raises(PermissionDenied):
        await PageFetcher(LIMITS, outside).fetch(site.url(f"/away?to=http://127.0.0.2:{site.port}/page"))
    await outside.close()
    assert [request.path for request in site.asked] == ["/away"]


class _Outside(aiohttp.TCPConnector):
    """The guard as it is, but that the test's server counts as public by its name."""

    def __init__(self, port: int) -> None:
        super().__init__(limit=1)
        self._guarded = public_only_connector(limit=1)
        self._open = aiohttp.TCPConnector(limit=1, resolver=Loopback())

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:
        inner = self._open if req.url.host == "shop.example" else self._guarded
        return await inner.connect(req, traces, timeout)

    async def close(self, **options: Any) -> None:
        await self._guarded.close()
        await self._open.close()
        await super().close()


async def test_an_import_is_stored_and_replaced_by_the_next(
    site: Site, fetcher: PageFetcher, tmp_path: Path
) -> None:
    """The same page for the same place is one document."""
    database = await open_knowledge(f"sqlite:///{tmp_path}/ai.db")
    store, knowledge = KnowledgeStore(database, ManualClock()), Knowledge(database)
    door = KnowledgeServicer(store, knowledge, fetcher)
    context: Any = None

    async def bring(path: str, **place: str) -> pb.Document:
        request = pb.ImportUrlRequest(organization_id="o", url=site.url(path), **place)
        return (await door.ImportUrl(request, context)).document

    try:
        first = await bring("/page")
        assert (first.title, first.source_url, first.format) == (
            "店规",
            site.url("/page"),
            pb.DOCUMENT_FORMAT_MARKDOWN,
        )
        (found,) = await knowledge.search("o", "", "", "包邮吗", 5)
        assert (found.headings, found.text) == (("发货",), "全国包邮。")
        site.page = "<p>可以自提。</p>"
        second = await bring("/page")
        assert (second.document_id, second.title) == (first.document_id, "shop.example")
        assert await knowledge.search("o", "", "", "包邮吗", 5) == []
        assert (await bring("/page", account_id="a")).document_id != first.document_id
        with pytest.raises(InvalidArgument, match="no text"):
            await bring("/empty")
    finally:
        await database.close()
