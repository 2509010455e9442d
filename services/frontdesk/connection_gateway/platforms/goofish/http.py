"""The HTTP calls of one account (A4, A20, A21)."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import unquote

import aiohttp

from frontdesk.connection_gateway.platforms.errors import ErrorKind, PlatformError
from frontdesk.connection_gateway.platforms.goofish import http_model
from frontdesk.connection_gateway.platforms.goofish.cookies import Cookies
from frontdesk.connection_gateway.platforms.goofish.mtop import Mtop
from frontdesk.connection_gateway.platforms.goofish.settings import GoofishSettings
from frontdesk.connection_gateway.platforms.goofish.wire.frames import IM_APP_KEY
from frontdesk.connection_gateway.platforms.goofish.wire.ids import bare
from frontdesk.connection_gateway.platforms.goofish.wire.values import integer, mapping, text
from frontdesk.connection_gateway.platforms.model import (
    AccessToken,
    Item,
    ItemPage,
    Order,
    OrderPage,
    UploadedImage,
)
from frontdesk.kit.clock import Clock
from frontdesk.kit.errors import InvalidArgument

logger = logging.getLogger(__name__)

SOLD_PAGE = 30
_DEFAULT_TOKEN_LIFE_MS = 3_600_000  # the shortest life clients assume (A4)
_ABSOLUTE_MS = 10**12  # an expiry above this is a point in time, below it a duration
_ALREADY_SHIPPED = ("ORDER_ALREADY_DELIVERY", "已发货成功")
_ON_SALE_GROUP = {"groupName": "在售", "groupId": "58877261", "defaultGroup": True}
_IMAGE_TYPES = ((b"\x89PNG", "image/png"), (b"\xff\xd8", "image/jpeg"))


class MtopClient:
    """PlatformHttp of Goofish. `cookies` are renewed in place; every failure is a PlatformError."""

    __slots__ = ("_mtop", "_settings")

    def __init__(
        self, session: aiohttp.ClientSession, settings: GoofishSettings, cookies: Cookies, clock: Clock
    ) -> None:
        self._mtop = Mtop(session, settings, cookies, clock)
        self._settings = settings

    async def token(self, device_id: str) -> AccessToken:
        """A new access token for `/reg` with the same device id. The most risk-sensitive call (A4)."""
        data = await self._mtop.call(
            "mtop.taobao.idlemessage.pc.login.token", {"appKey": IM_APP_KEY, "deviceId": device_id}
        )
        token = unquote(text(data.get("accessToken")))  # as the web client does before /reg
        if not token or not (token.isascii() and token.isprintable()):  # it becomes a header
            raise PlatformError(ErrorKind.AUTHENTICATION, "answer without an access token")
        life = integer(data.get("accessTokenExpiredTime")) or _DEFAULT_TOKEN_LIFE_MS
        expires_at_ms = life if life > _ABSOLUTE_MS else self._mtop.now_ms() + life
        return AccessToken(token, expires_at_ms)

    async def item(self, item_id: str) -> Item:
        """One item, with variants."""
        data = await self._mtop.call("mtop.taobao.idle.pc.detail", {"itemId": item_id})
        return http_model.item(data, item_id)

    async def items(self, page: int = 1, size: int = 20) -> ItemPage:
        """The account's items on sale; pages count from 1."""
        data = await self._mtop.call(
            "mtop.idle.web.xyh.item.list",
            {
                "needGroupInfo": False,
                "pageNumber": page,
                "pageSize": size,
                **_ON_SALE_GROUP,
                "userId": self._mtop.cookies.user_id,
            },
        )
        return http_model.item_page(data, size)

    async def order(self, order_id: str) -> Order:
        """One order as it stands."""
        data = await self._mtop.call("mtop.idle.web.trade.order.detail", {"tid": order_id})
        return http_model.order(data, order_id)

    async def sold_orders(self, page: int = 1, *, to_ship: bool = False) -> OrderPage:
        """The account's sold orders, or only those to ship; pages count from 1."""
        data = await self._mtop.call(
            "mtop.taobao.idle.trade.merchant.sold.get",
            {
                "pageNumber": page,
                "rowsPerPage": SOLD_PAGE,
                "orderIds": "",
                "queryCode": "NOT_SHIP" if to_ship else "ALL",
                "orderSearchParam": "{}",
            },
            seller=True,
        )
        return http_model.order_page(data, SOLD_PAGE)

    async def confirm_shipping(self, order_id: str) -> bool:
        """Tell the platform that a virtual order is shipped. True when it was before this call."""
        try:
            await self._mtop.call(
                "mtop.taobao.idle.logistic.consign.dummy",
                {"orderId": order_id, "tradeText": "", "picList": [], "newUnconsign": True},
            )
        except PlatformError as exc:
            if any(words in exc.reason for words in _ALREADY_SHIPPED):
                return True
            raise
        return False

    async def user_name(self, chat_id: str) -> str:
        """The name of the other person in the chat."""
        data = await self._mtop.call(
            "mtop.taobao.idlemessage.pc.user.query",
            {"type": 0, "sessionType": 1, "sessionId": bare(chat_id), "isOwner": False},
            version="4.0",
        )
        return text(mapping(data, "userInfo").get("fishNick"))

    async def renew_login(self) -> bool:
        """Lengthen the login (A21); False when it is gone and a person has to log in again."""
        answer = await self._passport("hasLogin.do")
        if mapping(answer, "content").get("success") is not True:
            return False
        try:
            await self._passport("silentHasLogin.do")
        except PlatformError as exc:
            # The long session is renewed already; if the short one is not, the next call says so.
            logger.info("silent login renewal failed: %s", exc)
        return True

    async def upload_image(self, data: bytes, name: str) -> UploadedImage:
        """Store a PNG or JPEG at the platform. Raises InvalidArgument for anything else."""
        content_type = next((kind for magic, kind in _IMAGE_TYPES if data.startswith(magic)), None)
        if content_type is None:
            raise InvalidArgument("image", "neither PNG nor JPEG")
        form = aiohttp.FormData()
        form.add_field("file", data, filename=name or "image", content_type=content_type)
        answer = await self._mtop.post(self._settings.upload_url, data=form)
        image = http_model.uploaded(answer)
        if not image.url:
            reason = (
                text(answer.get("message")) or text(answer.get("errorMessage")) or "no address in the answer"
            )
            raise PlatformError(ErrorKind.BUSINESS, f"image not stored: {reason}"[:500])
        return image

    async def _passport(self, page: str) -> dict[str, Any]:
        cookies = self._mtop.cookies
        return await self._mtop.post(
            f"{self._settings.passport_url.rstrip('/')}/newlogin/{page}",
            params={"appName": "xianyu", "fromSite": "77"},
            data={
                "hid": cookies.user_id,
                "hsiz": cookies.get("cookie2"),
                "_csrf_token": cookies.get("XSRF-TOKEN"),
                "deviceId": cookies.get("cna"),
                "ltl": "true",
                "appName": "xianyu",
                "appEntrance": "web",
                "fromSite": "77",
                "lang": "zh_CN",
                "isMobile": "false",
                "defaultView": "hasLogin",
            },
        )
