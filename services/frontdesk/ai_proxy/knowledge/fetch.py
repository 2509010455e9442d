"""A page of the public web, fetched for a seller who named its address.

The connector connects to public addresses only, whatever a name or a redirect says (kit/addresses.py); here
each redirect is followed by hand and looked at, nothing is sent but the request, and size, time and kind are
limited.
"""

from __future__ import annotations

import asyncio
import codecs
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from yarl import URL

from frontdesk.ai_proxy.knowledge.documents import DocumentFormat
from frontdesk.ai_proxy.knowledge.html import page_text
from frontdesk.kit.addresses import AddressRefused, public_only_connector
from frontdesk.kit.errors import DeadlineExceeded, InvalidArgument, PermissionDenied, Unavailable

MAX_URL = 2_000
_REDIRECTS = (301, 302, 303, 307, 308)
_FORMATS = {
    "text/html": DocumentFormat.MARKDOWN,
    "application/xhtml+xml": DocumentFormat.MARKDOWN,
    "text/markdown": DocumentFormat.MARKDOWN,
    "text/plain": DocumentFormat.TEXT,
}
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([a-zA-Z0-9_-]{2,20})""", re.IGNORECASE)
# What pages are written in, by Python's names. Others it knows are no characters of the web, and some take
# quadratic time (`punycode`) or make halves of characters (`utf-7`).
_CHARSETS = {
    *("utf-8", "utf-16", "utf-16-le", "utf-16-be", "ascii", "gb18030", "big5", "big5hkscs", "shift_jis"),
    *("cp932", "euc_jp", "iso2022_jp", "euc_kr", "cp949", "koi8-r", "koi8-u"),
    *(f"cp{page}" for page in (866, 874, *range(1250, 1259))),
    *(f"iso8859-{part}" for part in range(1, 17) if part != 12),
}


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Limits of a fetch: `page_bytes` unpacked, `seconds` for all of it, `at_once` on this replica."""

    page_bytes: int = 1024 * 1024
    seconds: float = 10.0
    redirects: int = 3
    at_once: int = 4


@dataclass(frozen=True, slots=True)
class Page:
    """What was fetched; `title` may be empty."""

    title: str
    document_format: DocumentFormat
    content: str


class PageFetcher:
    """Fetches pages. `connector` is for tests, which have no public address."""

    def __init__(
        self, limits: FetchLimits | None = None, connector: aiohttp.BaseConnector | None = None
    ) -> None:
        self._limits = limits or FetchLimits()
        self._connector = connector
        self._turns = asyncio.Semaphore(self._limits.at_once)

    async def fetch(self, url: str) -> Page:
        """The page at `url`.

        Raises InvalidArgument for an address or a page that cannot be used, PermissionDenied for an address
        that is not public, Unavailable and DeadlineExceeded for what may be better later.
        """
        address = _address(url)
        try:
            async with asyncio.timeout(self._limits.seconds), self._turns:
                kind, charset, body = await self._get(address)
                return await asyncio.to_thread(_page, kind, charset, body)
        except TimeoutError:
            raise DeadlineExceeded("the page took too long") from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressRefused):
                raise PermissionDenied("the address is not a public one") from None
            raise Unavailable("the page's server cannot be reached") from None
        except aiohttp.InvalidURL:
            raise InvalidArgument("url", "is no address") from None
        except (aiohttp.ClientError, OSError):
            raise Unavailable("the page's server broke off") from None

    async def _get(self, address: URL) -> tuple[str, str | None, bytes]:
        async with self._session() as session:
            for _ in range(self._limits.redirects + 1):
                async with session.get(address, allow_redirects=False) as response:
                    if response.status not in _REDIRECTS:
                        return await self._read(response)
                    target = response.headers.get("Location", "")
                address = _address(_joined(address, target))
        raise InvalidArgument("url", f"redirects more than {self._limits.redirects} times")

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """A session of one fetch: no cookie and no open connection goes from one seller to another."""
        own = self._connector is None
        async with aiohttp.ClientSession(
            connector=self._connector or public_only_connector(limit=1),
            connector_owner=own,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "Frontdesk", "Accept": "text/html, text/plain, text/markdown"},
        ) as session:
            yield session

    async def _read(self, response: aiohttp.ClientResponse) -> tuple[str, str | None, bytes]:
        if response.status != 200:
            raise InvalidArgument("url", f"the page's server answers {response.status}")
        if response.content_type not in _FORMATS:
            raise InvalidArgument("url", "is neither HTML nor text")
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > self._limits.page_bytes:
                raise InvalidArgument("url", f"the page has more than {self._limits.page_bytes} bytes")
        return response.content_type, response.charset, bytes(body)


def _address(url: str) -> URL:
    if len(url) > MAX_URL:
        raise InvalidArgument("url", f"at most {MAX_URL} characters")
    try:
        address = URL(url)
        port = address.port
    except ValueError:
        raise InvalidArgument("url", "is no address") from None
    if address.scheme not in ("http", "https") or not address.host or not port:
        raise InvalidArgument("url", "must begin with http:// or https://")
    if address.user is not None or address.password is not None:
        raise InvalidArgument("url", "must not hold a name or a password")
    return address


def _joined(address: URL, target: str) -> str:
    try:
        return str(address.join(URL(target)))
    except ValueError:
        raise InvalidArgument("url", "redirects to what is no address") from None


def _page(kind: str, charset: str | None, body: bytes) -> Page:
    document_format = _FORMATS[kind]
    found = _CHARSET.search(body[:2048]) if charset is None else None
    text = _decoded(body, charset or (found[1].decode() if found else "utf-8"))
    if "html" in kind:
        title, text = page_text(text)
    else:
        title = ""
    return Page(title.replace("\x00", "")[:200], document_format, text.replace("\x00", ""))


def _decoded(body: bytes, charset: str) -> str:
    # gb18030 reads what gb2312 and gbk write, and more of what pages that say so hold.
    charset = "gb18030" if charset.lower() in ("gb2312", "gbk") else charset
    try:
        name = codecs.lookup(charset).name
    except (LookupError, ValueError):
        name = ""
    return body.decode(name if name in _CHARSETS else "utf-8", "replace")
