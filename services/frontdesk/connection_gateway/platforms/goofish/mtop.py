"""One signed call of the platform's HTTP gateway "mtop" (A3), and the page around it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import aiohttp

from frontdesk.connection_gateway.platforms.errors import (
    ErrorKind,
    PlatformError,
    WireError,
    from_http,
    from_ret,
    is_stale_token,
)
from frontdesk.connection_gateway.platforms.goofish.cookies import Cookies
from frontdesk.connection_gateway.platforms.goofish.settings import GoofishSettings
from frontdesk.connection_gateway.platforms.goofish.wire import payload
from frontdesk.connection_gateway.platforms.goofish.wire.frames import BROWSER_UA
from frontdesk.connection_gateway.platforms.goofish.wire.sign import APP_KEY, sign, token_of
from frontdesk.connection_gateway.platforms.goofish.wire.values import mapping, sequence, text
from frontdesk.kit.clock import Clock

logger = logging.getLogger(__name__)

MAX_REPEATS = 2
_MAX_ANSWER = 2 * 1024 * 1024
_ORIGIN = "https://www.goofish.com"
_SELLER_ORIGIN = "https://seller.goofish.com"
_QUERY = {
    "jsv": "2.7.2",
    "appKey": APP_KEY,
    "accountSite": "xianyu",
    "dataType": "json",
    "timeout": "20000",
    "sessionOption": "AutoLoginOnly",
    "spm_cnt": "a21ybx.im.0.0",
}


class Mtop:
    """Signs, calls, renews the signing token, and turns every failure into a PlatformError.

    `session` is shared by all accounts and must not keep cookies (DummyCookieJar).
    """

    __slots__ = ("_clock", "_session", "_settings", "cookies")

    def __init__(
        self, session: aiohttp.ClientSession, settings: GoofishSettings, cookies: Cookies, clock: Clock
    ) -> None:
        self._session = session
        self._settings = settings
        self._clock = clock
        self.cookies = cookies

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return self._clock.now_ms()

    async def call(
        self, api: str, data: Mapping[str, Any], *, version: str = "1.0", seller: bool = False
    ) -> dict[str, Any]:
        """The `data` of a successful answer.

        A stale signing token comes with a new one in Set-Cookie: the call is signed again with it, at most
        twice (A3, A22). An answer without a new token is not repeated, as it would only be refused again.
        """
        body = payload.dumps(data)
        for attempt in range(MAX_REPEATS + 1):
            answer, renewed = await self._once(api, version, body, seller)
            ret = [text(entry) for entry in sequence(answer.get("ret"))]
            if ret and all(entry.startswith("SUCCESS") for entry in ret):
                return mapping(answer, "data")
            if is_stale_token(ret) and renewed and attempt < MAX_REPEATS:
                logger.debug("mtop token renewed for %s", api)
                continue
            raise from_ret(ret, url=text(mapping(answer, "data").get("url")))
        raise AssertionError("unreachable")

    async def _once(self, api: str, version: str, body: str, seller: bool) -> tuple[dict[str, Any], bool]:
        token = token_of(self.cookies.get("_m_h5_tk"))
        t = str(self._clock.now_ms())
        query = {
            **_QUERY,
            "t": t,
            "sign": sign(token, t, body),
            "v": version,
            "type": "json" if seller else "originaljson",
            "api": api,
        }
        headers = {"idle_site_biz_code": "COMMONPRO"} if seller else {}
        answer = await self.post(
            f"{self._settings.api_url.rstrip('/')}/h5/{api}/{version}/",
            params=query,
            data={"data": body},
            headers=headers,
            origin=_SELLER_ORIGIN if seller else _ORIGIN,
        )
        return answer, token_of(self.cookies.get("_m_h5_tk")) != token

    async def post(
        self,
        url: str,
        *,
        data: Mapping[str, str] | aiohttp.FormData,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        origin: str = _ORIGIN,
    ) -> dict[str, Any]:
        """POST a form as the web page does; cookies are sent and renewed. The answer's JSON object.

        Raises PlatformError: NETWORK when it does not answer in time, RISK_CONTROL for a page instead
        of JSON.
        """
        sent = {
            "User-Agent": BROWSER_UA,
            "Accept": "application/json",
            "Accept-Language": "zh-CN,zh;q=0.9",
            "Origin": origin,
            "Referer": f"{origin}/",
            "Sec-Fetch-Dest": "empty",
            "Sec-Fetch-Mode": "cors",
            "Sec-Fetch-Site": "same-site",
            "Cookie": self.cookies.header(),
            **(headers or {}),
        }
        timeout = aiohttp.ClientTimeout(
            total=self._settings.http_timeout, connect=self._settings.open_timeout
        )
        try:
            async with self._session.post(
                url, params=params, data=data, headers=sent, timeout=timeout, allow_redirects=False
            ) as response:
                self.cookies.merge(response.headers.getall("Set-Cookie", []), self._clock.now_ms())
                content = await _limited(response)
                error = from_http(response.status, content, location=response.headers.get("Location", ""))
        except (aiohttp.ClientError, OSError) as exc:  # TimeoutError is an OSError
            raise PlatformError(
                ErrorKind.NETWORK, f"{type(exc).__name__} while calling the platform"
            ) from None
        if error is not None:
            raise error
        try:
            return mapping(payload.loads(content))
        except WireError:
            raise PlatformError(ErrorKind.NETWORK, "answer is no JSON") from None


async def _limited(response: aiohttp.ClientResponse) -> str:
    """The body as text. Raises PlatformError when it is longer than any real answer."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_chunked(64 * 1024):
        size += len(chunk)
        if size > _MAX_ANSWER:
            raise PlatformError(ErrorKind.NETWORK, f"answer longer than {_MAX_ANSWER} bytes")
        chunks.append(chunk)
    return b"".join(chunks).decode("utf-8", "replace")
