"""The platform's HTTP side: mtop (A3, A4, A20, A22), the login's renewal (A21) and the image store (A1)."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from frontdesk.simulators.goofish.faults import Faults
from frontdesk.simulators.goofish.sessions import Hub
from frontdesk.simulators.goofish.state import ORDER_STATES, ORDER_STEPS, TOKEN_LIFE_MS, Item, Order, Seller

APP_KEY = "34839810"
MAX_UPLOAD = 2 * 1024 * 1024
MAX_IMAGES = 200
PAGE = "<html><head><title>访问受限</title></head><body>请完成验证</body></html>"
SUCCESS = "SUCCESS::调用成功"


class MtopError(Exception):
    """`ret` of a call that failed."""

    def __init__(self, ret: str, data: dict[str, Any] | None = None, *, renew: bool = False) -> None:
        super().__init__(ret)
        self.ret = ret
        self.data = data or {}
        self.renew = renew


class PlatformWeb:
    """Handlers of the platform's HTTP paths."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._world = hub.world
        self._images: dict[str, tuple[str, bytes]] = {}

    def routes(self) -> list[web.RouteDef]:
        """Where they are."""
        return [
            web.post("/h5/{api}/{version}/", self.mtop),
            web.post("/newlogin/{page}", self.passport),
            web.post("/api/upload.api", self.upload),
            web.get("/images/{name}", self.image),
        ]

    def _seller(self, request: web.Request) -> Seller | None:
        return self._world.sellers.get(request.cookies.get("unb", ""))

    async def _fault(self, faults: Faults) -> web.Response | None:
        if faults.slow_answers_ms:
            await asyncio.sleep(faults.slow_answers_ms / 1000)
        if faults.http_status:
            return web.Response(status=faults.http_status, text="{}", content_type="application/json")
        return web.Response(text=PAGE, content_type="text/html") if faults.html else None

    async def mtop(self, request: web.Request) -> web.StreamResponse:
        """One signed call."""
        api, version = request.match_info["api"], request.match_info["version"]
        self._hub.calls[api] = self._hub.calls.get(api, 0) + 1
        seller = self._seller(request)
        faults = self._hub.faults.of(seller.user_id if seller else "")
        if (broken := await self._fault(faults)) is not None:
            return broken
        form = await request.post()
        text = str(form.get("data", ""))
        answer: dict[str, Any] = {"api": api, "v": version, "ret": [SUCCESS], "data": {}}
        renew = False
        try:
            answer["data"] = self._call(request, seller, api, text, faults)
        except MtopError as error:
            answer["ret"], answer["data"], renew = error.ret.split("|"), error.data, error.renew
            if seller is not None:
                seller.last_error = error.ret
        except (KeyError, TypeError, ValueError, AttributeError):
            answer["ret"] = ["FAIL_BIZ_PARAM_INVALID::参数错误"]
        response = web.Response(body=orjson.dumps(answer), content_type="application/json")
        if renew and seller is not None:
            self._world.new_signing(seller)
            response.set_cookie("_m_h5_tk", f"{seller.signing}_{seller.signing_until_ms}", path="/")
            response.set_cookie("_m_h5_tk_enc", seller.signing[::-1], path="/")
        return response

    def _call(
        self, request: web.Request, seller: Seller | None, api: str, text: str, faults: Faults
    ) -> dict[str, Any]:
        self._check_sign(request, seller, text)
        if seller is None or not seller.logged_in:
            raise MtopError("FAIL_SYS_SESSION_EXPIRED::Session过期")
        if faults.risk_control:
            url = f"https://{request.host}//h5/{api}/1.0/_____tmd_____/punish?x5secdata=x&x5step=2&action=captcha"
            raise MtopError(
                "FAIL_SYS_USER_VALIDATE|RGV587_ERROR::SM::哎哟喂,被挤爆啦,请稍后重试", {"url": url}
            )
        if api in faults.mtop_errors:
            raise MtopError(faults.mtop_errors[api])
        handle = _CALLS.get(api)
        if handle is None:
            raise MtopError("FAIL_SYS_API_NOT_FOUNDED::请求API不存在")
        data = orjson.loads(text or "{}")
        return handle(self, seller, data)

    def _check_sign(self, request: web.Request, seller: Seller | None, text: str) -> None:
        """The signature over token, time, key and the very text (A3)."""
        token = request.cookies.get("_m_h5_tk", "").partition("_")[0]
        if not token:
            raise MtopError("FAIL_SYS_TOKEN_EMPTY::令牌为空", renew=True)
        if seller is not None and (
            token != seller.signing or seller.signing_until_ms <= self._world.now_ms()
        ):
            raise MtopError("FAIL_SYS_TOKEN_EXOIRED::令牌过期", renew=True)
        whole = f"{token}&{request.query.get('t', '')}&{APP_KEY}&{text}"
        if hashlib.md5(whole.encode(), usedforsecurity=False).hexdigest() != request.query.get("sign"):
            raise MtopError("FAIL_SYS_ILLEGAL_ACCESS::非法请求")

    # Calls.

    def _token(self, seller: Seller, data: dict[str, Any]) -> dict[str, Any]:
        device_id = str(data["deviceId"])
        if not device_id:
            raise MtopError("FAIL_BIZ_PARAM_INVALID::deviceId")
        life = self._hub.faults.of(seller.user_id).token_life_ms or TOKEN_LIFE_MS
        token = self._world.new_token(seller, device_id, life)
        return {
            "accessToken": token,
            "accessTokenExpiredTime": str(life),
            "refreshToken": secrets.token_hex(16),
        }

    def _item(self, seller: Seller, data: dict[str, Any]) -> dict[str, Any]:
        item = self._find_item(str(data["itemId"]))
        if item is None:
            raise MtopError("FAIL_BIZ_ITEM_NOT_EXIST::商品不存在")
        return {
            "itemDO": {
                "itemId": item.item_id,
                "title": item.title,
                "desc": item.description,
                "soldPrice": item.price,
                "quantity": item.quantity,
                "itemStatus": 0,
                "skuList": [],
            }
        }

    def _find_item(self, item_id: str) -> Item | None:
        return next((s.items[item_id] for s in self._world.sellers.values() if item_id in s.items), None)

    def _items(self, seller: Seller, data: dict[str, Any]) -> dict[str, Any]:
        size, page = int(data["pageSize"]), int(data["pageNumber"])
        items = list(seller.items.values())[(page - 1) * size : page * size]
        cards = [
            {
                "id": i.item_id,
                "title": i.title,
                "priceInfo": {"price": i.price},
                "itemStatus": 0,
                "quantity": i.quantity,
            }
            for i in items
        ]
        return {"cardList": [{"cardData": card} for card in cards]}

    def _order(self, seller: Seller, data: dict[str, Any]) -> dict[str, Any]:
        order = self._own_order(seller, str(data["tid"]))
        done = ORDER_STATES[order.state][2]
        nodes = [{"title": step, "completed": step in done} for step in ORDER_STEPS]
        if order.state == "paid":
            nodes.insert(2, {"title": "待发货", "completed": False})
        nodes += [{"title": step, "completed": True} for step in done if step not in ORDER_STEPS]
        return {
            "itemId": order.item_id,
            "peerUserId": order.buyer_id,
            "components": [
                {
                    "render": "orderInfoVO",
                    "data": {
                        "itemInfo": {
                            "itemId": order.item_id,
                            "price": order.price,
                            "buyAmount": str(order.quantity),
                            "skuInfo": "",
                        }
                    },
                },
                {"render": "orderStatusVO", "data": {"orderStatusNodeList": nodes}},
            ],
        }

    def _sold(self, seller: Seller, data: dict[str, Any]) -> dict[str, Any]:
        size, page = int(data["rowsPerPage"]), int(data["pageNumber"])
        orders = [o for o in self._world.orders.values() if o.seller_id == seller.user_id]
        if data.get("queryCode") == "NOT_SHIP":
            orders = [o for o in orders if o.state == "paid"]
        shown = {"created": "待付款", "paid": "待发货", "shipped": "已发货", "done": "交易成功"}
        rows = [
            {
                "commonData": {
                    "orderId": o.order_id,
                    "itemId": o.item_id,
                    "orderStatus": shown.get(o.state, ORDER_STATES[o.state][1]),
                    "inRefund": o.state == "refunding",
                    "createTime": o.created_at_ms,
                },
                "buyerInfoVO": {"buyerId": o.buyer_id, "userNick": o.buyer_name},
                "priceVO": {"totalPrice": o.price, "buyNum": o.quantity},
                "rightVO": {"btnList": []},
            }
            for o in orders[(page - 1) * size : page * size]
        ]
        return {"items": rows}

    def _ship(self, seller: Seller, data: dict[str, Any]) -> dict[str, Any]:
        order = self._own_order(seller, str(data["orderId"]))
        if order.state in ("shipped", "done"):
            raise MtopError("ORDER_ALREADY_DELIVERY::已发货成功")
        if order.state != "paid":
            raise MtopError("ORDER_STATUS_ERROR::订单状态错误")
        self._world.move_order(order, "shipped")
        return {"result": True}

    def _own_order(self, seller: Seller, order_id: str) -> Order:
        order = self._world.orders.get(order_id)
        if order is None or order.seller_id != seller.user_id:
            raise MtopError("ORDER_NOT_EXIST::订单不存在")
        return order

    def _user(self, seller: Seller, data: dict[str, Any]) -> dict[str, Any]:
        chat = seller.chats.get(str(data["sessionId"]))
        if chat is None:
            raise MtopError("FAIL_BIZ_SESSION_NOT_EXIST::会话不存在")
        return {"userInfo": {"fishNick": chat.buyer_name, "userId": chat.buyer_id}}

    def _login_user(self, seller: Seller, data: dict[str, Any]) -> dict[str, Any]:
        return {"userId": seller.user_id, "nick": seller.nickname}

    # Login and images.

    async def passport(self, request: web.Request) -> web.StreamResponse:
        """hasLogin.do and silentHasLogin.do (A21)."""
        page = request.match_info["page"]
        self._hub.calls[page] = self._hub.calls.get(page, 0) + 1
        seller = self._seller(request)
        faults = self._hub.faults.of(seller.user_id if seller else "")
        if (broken := await self._fault(faults)) is not None:
            return broken
        if page not in ("hasLogin.do", "silentHasLogin.do"):
            return web.json_response({"content": {"success": False}, "hasError": True}, status=404)
        good = seller is not None and (seller.logged_in or seller.renewable)
        response = web.json_response({"content": {"success": good, "status": 0}, "hasError": not good})
        if good and seller is not None:
            seller.logged_in = True
            seller.session = secrets.token_hex(16)
            response.set_cookie("cookie2", seller.session, path="/")
        return response

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """Keep an image (A1)."""
        seller = self._seller(request)
        faults = self._hub.faults.of(seller.user_id if seller else "")
        if (broken := await self._fault(faults)) is not None:
            return broken
        form = await request.post()
        file = form.get("file")
        if seller is None or not isinstance(file, web.FileField):
            return web.json_response({"success": False, "message": "no file"})
        data = file.file.read(MAX_UPLOAD + 1)
        if len(data) > MAX_UPLOAD:
            return web.json_response({"success": False, "message": "too large"})
        name = secrets.token_hex(16)
        self._images[name] = (file.content_type, data)
        while len(self._images) > MAX_IMAGES:
            del self._images[next(iter(self._images))]
        width, height = _pixels(data)
        url = f"{request.scheme}://{request.host}/images/{name}"
        return web.json_response({"success": True, "object": {"url": url, "pix": f"{width}x{height}"}})

    async def image(self, request: web.Request) -> web.StreamResponse:
        """An image that was kept."""
        found = self._images.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        return web.Response(body=found[1], content_type=found[0])


_CALLS: dict[str, Callable[[PlatformWeb, Seller, dict[str, Any]], dict[str, Any]]] = {
    "mtop.taobao.idlemessage.pc.login.token": PlatformWeb._token,
    "mtop.taobao.idle.pc.detail": PlatformWeb._item,
    "mtop.idle.web.xyh.item.list": PlatformWeb._items,
    "mtop.idle.web.trade.order.detail": PlatformWeb._order,
    "mtop.taobao.idle.trade.merchant.sold.get": PlatformWeb._sold,
    "mtop.taobao.idle.logistic.consign.dummy": PlatformWeb._ship,
    "mtop.taobao.idlemessage.pc.user.query": PlatformWeb._user,
    "mtop.taobao.idlemessage.pc.loginuser.get": PlatformWeb._login_user,
}


def _pixels(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG; of anything else the platform's usual size."""
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return 800, 600
