"""The simulator's own HTTP API: build a marketplace, let buyers speak, break things, read what happened.

| call | body or query | answer |
|---|---|---|
| GET /control | | this table |
| GET /control/status | | accounts, connected, sockets, registrations, kicks, pushes, sends, acks, calls |
| GET, POST /control/accounts | `{"count", "prefix"}` or `{"accounts": [{"user_id", "nickname"}]}` | all |
| GET /control/accounts/<id> | | one account with its cookies |
| POST /control/items | `{"account", "title", "price", "item_id", "quantity", "description"}` | the item |
| POST /control/say | `{"account", "buyer", "text", "item_id", "image_url"}` | message_id, chat_id |
| POST /control/type | `{"account", "buyer", "text"}` | message_id, chat_id; the seller types by hand |
| GET /control/chats | `?account=` and, for one chat's messages, `&chat=` | chats, or messages |
| POST /control/orders | `{"account", "buyer", "item_id", "quantity"}` | the order |
| GET /control/orders | `?account=` | orders |
| POST /control/orders/<id>/<state> | state: paid, shipped, done, closed, refunding, refunded | the order |
| POST /control/load | `{"messages", "rate_per_s", "in_flight", "chats_per_account", "text", …}` | load_id |
| GET /control/loads/<id> | | messages, sent, waiting, done |
| POST /control/loads/<id>/stop | | the same |
| GET /control/verdict | `?load=`; all loads without; `&words=` | simulators.goofish.load.verdict |
| GET, POST, DELETE /control/faults | `{"account": id or absent, …}` | the faults (faults.py) |
| POST /control/sockets/close | `{"account": id or absent, "code", "fraction"}` | closed |
| POST /control/kick | `{"account", "how": "kickout" or "remove"}` | |
| POST /control/expire | `{"account", "what": "im_token", "session", "login" or "m_h5_tk"}` | |
| GET /control/live | | messages as they are written, one JSON object a line |

Bad input is 400 with `{"error"}` naming the field. On another address than loopback every call needs
`Authorization: Bearer <control token>`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from frontdesk.kit.errors import FrontdeskError, InvalidArgument, NotFound
from frontdesk.simulators.goofish.faults import FaultBook
from frontdesk.simulators.goofish.load import MAX_IN_FLIGHT, MAX_MESSAGES, Load, Loads, verdict
from frontdesk.simulators.goofish.sessions import Hub, Session
from frontdesk.simulators.goofish.state import ORDER_STATES, Chat, Image, Message, Order, Seller

MAX_ACCOUNTS = 10_000
MAX_TEXT = 4_000
LIVE_QUEUE = 1_000
CLOSE_CODES = (1000, 1001, 1006, 1011, 1012, 1013)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Fields:
    """A JSON object whose fields are read with their types; every problem names the field."""

    def __init__(self, values: object) -> None:
        if not isinstance(values, dict):
            raise InvalidArgument("body", "must be a JSON object")
        self.values: dict[str, object] = values

    def text(self, name: str, default: str | None = None, *, most: int = MAX_TEXT) -> str:
        """A text; needed when there is no default."""
        value = self.values.get(name, default)
        if value is None:
            raise InvalidArgument(name, "is needed")
        if not isinstance(value, str) or len(value) > most:
            raise InvalidArgument(name, f"must be a text of at most {most} characters")
        return value

    def number(self, name: str, default: float, *, least: float = 0, most: float) -> float:
        """A number within bounds."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise InvalidArgument(name, f"must be a number from {least:g} to {most:g}")
        return value

    def list(self, name: str) -> list[Any] | None:
        """A list, None when it is not there."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, list):
            raise InvalidArgument(name, "must be a list")
        return value


class Control:
    """Handlers of the control API."""

    def __init__(self, hub: Hub, loads: Loads, faults: FaultBook, token: str = "") -> None:
        self._hub = hub
        self._world = hub.world
        self._loads = loads
        self._faults = faults
        self._token = token
        self._live: set[asyncio.Queue[bytes]] = set()
        hub.world.heard.append(self._heard)

    def routes(self) -> list[web.RouteDef]:
        """Where they are."""
        return [
            web.get("/control", self._door(self._help)),
            web.get("/control/status", self._door(self._status)),
            web.get("/control/accounts", self._door(self._list_accounts)),
            web.post("/control/accounts", self._door(self._add_accounts)),
            web.get("/control/accounts/{account}", self._door(self._account)),
            web.post("/control/items", self._door(self._add_item)),
            web.post("/control/say", self._door(self._say)),
            web.post("/control/type", self._door(self._type)),
            web.get("/control/chats", self._door(self._chats)),
            web.get("/control/orders", self._door(self._orders)),
            web.post("/control/orders", self._door(self._place_order)),
            web.post("/control/orders/{order}/{state}", self._door(self._move_order)),
            web.post("/control/load", self._door(self._start_load)),
            web.get("/control/loads/{load}", self._door(self._load)),
            web.post("/control/loads/{load}/stop", self._door(self._stop_load)),
            web.get("/control/verdict", self._door(self._verdict)),
            web.get("/control/faults", self._door(self._show_faults)),
            web.post("/control/faults", self._door(self._set_faults)),
            web.delete("/control/faults", self._door(self._clear_faults)),
            web.post("/control/sockets/close", self._door(self._close_sockets)),
            web.post("/control/kick", self._door(self._kick)),
            web.post("/control/expire", self._door(self._expire)),
            web.get("/control/live", self._door(self._watch)),
        ]

    def _door(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            given = request.headers.get("Authorization", "")
            if self._token and not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
                return _json({"error": "the control token is needed"}, 401)
            try:
                return await handler(request)
            except NotFound as error:
                return _json({"error": error.message}, 404)
            except FrontdeskError as error:
                return _json({"error": error.message}, 400)

        return guarded

    async def _fields(self, request: web.Request) -> Fields:
        try:
            return Fields(orjson.loads(await request.read() or b"{}"))
        except orjson.JSONDecodeError as error:
            raise InvalidArgument("body", "is no JSON") from error

    def _seller(self, user_id: str) -> Seller:
        seller = self._world.sellers.get(user_id)
        if seller is None:
            raise NotFound(f"account: there is none with the id {user_id}")
        return seller

    async def _help(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=__doc__ or "")

    async def _status(self, request: web.Request) -> web.StreamResponse:
        hub, sellers = self._hub, self._world.sellers.values()
        return _json(
            {
                "accounts": len(self._world.sellers),
                "connected": sum(1 for s in sellers if s.listener is not None),
                "sockets": len(hub.sessions),
                "registrations": hub.registrations,
                "kicks": hub.kicks,
                "pushes": hub.pushes,
                "sends": hub.sends,
                "acks": hub.acks,
                "calls": hub.calls,
            }
        )

    async def _list_accounts(self, request: web.Request) -> web.StreamResponse:
        return _json({"accounts": [_seller(s) for s in self._world.sellers.values()]})

    async def _account(self, request: web.Request) -> web.StreamResponse:
        seller = self._seller(request.match_info["account"])
        return _json(_seller(seller) | {"cookies": seller.cookies})

    async def _add_accounts(self, request: web.Request) -> web.StreamResponse:
        fields = await self._fields(request)
        wanted = fields.list("accounts")
        if wanted is None:
            count = int(fields.number("count", 1, least=1, most=MAX_ACCOUNTS))
            prefix = fields.text("prefix", "shop", most=100)
            made = [self._world.add_seller(nickname=f"{prefix}-{n + 1}") for n in range(count)]
        else:
            made = []
            for one in map(Fields, wanted):
                user_id = one.text("user_id", "", most=20)
                if user_id and not user_id.isdigit():
                    raise InvalidArgument("accounts.user_id", "must be digits")
                made.append(self._world.add_seller(user_id, one.text("nickname", "", most=100)))
        return _json({"accounts": [_seller(s) | {"cookies": s.cookies} for s in made]})

    async def _add_item(self, request: web.Request) -> web.StreamResponse:
        fields = await self._fields(request)
        item = self._world.add_item(
            self._seller(fields.text("account")),
            fields.text("title"),
            fields.text("price", most=20),
            fields.text("item_id", "", most=20),
            int(fields.number("quantity", 1, most=1_000_000)),
            fields.text("description", ""),
        )
        return _json(dataclasses.asdict(item))

    async def _chat_of(self, fields: Fields) -> tuple[Seller, Chat]:
        seller = self._seller(fields.text("account"))
        return seller, self._world.chat(seller, fields.text("buyer", most=100), fields.text("item_id", ""))

    async def _say(self, request: web.Request) -> web.StreamResponse:
        fields = await self._fields(request)
        seller, chat = await self._chat_of(fields)
        image = Image(fields.text("image_url")) if "image_url" in fields.values else None
        text = fields.text("text", "" if image else None)
        return _said(self._world.buyer_says(seller, chat, text, image))

    async def _type(self, request: web.Request) -> web.StreamResponse:
        fields = await self._fields(request)
        seller, chat = await self._chat_of(fields)
        return _said(self._world.seller_says(seller, chat, fields.text("text"), hand=True))

    async def _chats(self, request: web.Request) -> web.StreamResponse:
        seller = self._seller(request.query.get("account", ""))
        if "chat" not in request.query:
            return _json({"chats": [_chat(c) for c in seller.chats.values()]})
        chat = seller.chats.get(request.query["chat"])
        if chat is None:
            raise NotFound("chat: there is none with this id")
        return _json({"messages": [_message(seller, m) for m in chat.messages]})

    async def _orders(self, request: web.Request) -> web.StreamResponse:
        account = request.query.get("account")
        orders = [o for o in self._world.orders.values() if account in (None, o.seller_id)]
        return _json({"orders": [dataclasses.asdict(o) for o in orders]})

    async def _place_order(self, request: web.Request) -> web.StreamResponse:
        fields = await self._fields(request)
        seller, chat = await self._chat_of(fields)
        quantity = int(fields.number("quantity", 1, least=1, most=1_000))
        return _json(dataclasses.asdict(self._world.place_order(seller, chat, quantity)))

    async def _move_order(self, request: web.Request) -> web.StreamResponse:
        order: Order | None = self._world.orders.get(request.match_info["order"])
        state = request.match_info["state"]
        if order is None:
            raise NotFound("order: there is none with this id")
        if state not in ORDER_STATES:
            raise InvalidArgument("state", f"must be one of {', '.join(ORDER_STATES)}")
        self._world.move_order(order, state)
        return _json(dataclasses.asdict(order))

    async def _start_load(self, request: web.Request) -> web.StreamResponse:
        fields = await self._fields(request)
        wanted = fields.list("accounts")
        sellers = (
            list(self._world.sellers.values()) if wanted is None else [self._seller(str(u)) for u in wanted]
        )
        if not sellers:
            raise InvalidArgument("accounts", "there are none")
        text = fields.text("text", "is #{n} available")
        if "#{n}" not in text:
            raise InvalidArgument("text", "needs the mark #{n}, by which answers are counted")
        load = self._loads.start(
            sellers,
            messages=int(fields.number("messages", 1_000, least=1, most=MAX_MESSAGES)),
            rate_per_s=fields.number("rate_per_s", 0, most=100_000),
            in_flight=int(fields.number("in_flight", MAX_IN_FLIGHT, least=1, most=MAX_IN_FLIGHT)),
            chats_per_account=int(fields.number("chats_per_account", 1, least=1, most=1_000)),
            text=text,
        )
        return _load(load)

    def _find_load(self, load_id: str) -> Load:
        load = self._loads.loads.get(load_id)
        if load is None:
            raise NotFound("load: there is none with this id")
        return load

    async def _load(self, request: web.Request) -> web.StreamResponse:
        return _load(self._find_load(request.match_info["load"]))

    async def _stop_load(self, request: web.Request) -> web.StreamResponse:
        load = self._find_load(request.match_info["load"])
        self._loads.stop(load)
        return _load(load)

    async def _verdict(self, request: web.Request) -> web.StreamResponse:
        loads = list(self._loads.loads.values())
        if "load" in request.query:
            loads = [self._find_load(request.query["load"])]
        return _json(verdict(loads, request.query.get("words", "")))

    async def _show_faults(self, request: web.Request) -> web.StreamResponse:
        return _json(dataclasses.asdict(self._faults.of(request.query.get("account", ""))))

    async def _set_faults(self, request: web.Request) -> web.StreamResponse:
        fields = await self._fields(request)
        account = fields.values.pop("account", None)
        if account is not None:
            self._seller(str(account))
        found = self._faults.set(None if account is None else str(account), fields.values)
        return _json(dataclasses.asdict(found))

    async def _clear_faults(self, request: web.Request) -> web.StreamResponse:
        self._faults.clear()
        return _json({})

    async def _close_sockets(self, request: web.Request) -> web.StreamResponse:
        fields = await self._fields(request)
        code = int(fields.number("code", 1006, least=1000, most=4999))
        if code < 3000 and code not in CLOSE_CODES:
            raise InvalidArgument("code", f"must be one of {CLOSE_CODES} or from 3000 on")
        fraction = fields.number("fraction", 1.0, most=1)
        account = fields.text("account", "")
        closed = 0
        for session in list(self._hub.sessions):
            if account and (session.seller is None or session.seller.user_id != account):
                continue
            if self._hub.random.random() < fraction:
                session.close(code)
                closed += 1
        return _json({"closed": closed})

    async def _kick(self, request: web.Request) -> web.StreamResponse:
        fields = await self._fields(request)
        session = self._seller(fields.text("account")).listener
        how = fields.text("how", "kickout")
        if how not in ("kickout", "remove"):
            raise InvalidArgument("how", "must be kickout or remove")
        if isinstance(session, Session):
            session.kick() if how == "kickout" else session.remove()
        return _json({"kicked": session is not None})

    async def _expire(self, request: web.Request) -> web.StreamResponse:
        fields = await self._fields(request)
        seller, what = self._seller(fields.text("account")), fields.text("what")
        if what == "im_token":
            seller.tokens.clear()
        elif what == "session":
            seller.logged_in = False
        elif what == "login":
            seller.logged_in = seller.renewable = False
        elif what == "m_h5_tk":
            self._world.new_signing(seller)
        else:
            raise InvalidArgument("what", "must be im_token, session, login or m_h5_tk")
        return _json({})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        lines: asyncio.Queue[bytes] = asyncio.Queue(LIVE_QUEUE)
        self._live.add(lines)
        try:
            while line := await lines.get():
                await response.write(line)
        finally:
            self._live.discard(lines)
        return response

    def _heard(self, seller: Seller, chat: Chat, message: Message) -> None:
        if not self._live:
            return
        said = {"account": seller.user_id, "nickname": seller.nickname, "buyer": chat.buyer_name}
        line = orjson.dumps(said | _message(seller, message)) + b"\n"
        for lines in list(self._live):
            try:
                lines.put_nowait(line)
            except asyncio.QueueFull:  # it cannot follow: end it, rather than leave it open and silent
                self._live.discard(lines)
                lines.get_nowait()
                lines.put_nowait(b"")


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


def _seller(seller: Seller) -> dict[str, Any]:
    return {
        "user_id": seller.user_id,
        "nickname": seller.nickname,
        "connected": seller.listener is not None,
        "registrations": seller.registrations,
        "last_error": seller.last_error,
    }


def _chat(chat: Chat) -> dict[str, Any]:
    return {
        "chat_id": chat.chat_id,
        "buyer_id": chat.buyer_id,
        "buyer": chat.buyer_name,
        "item_id": chat.item_id,
        "messages": len(chat.messages),
        "unread": chat.unread,
        "reminder": chat.reminder,
    }


def _message(seller: Seller, message: Message) -> dict[str, Any]:
    author = "buyer"
    if message.order is not None:
        author = "system"
    elif message.sender_id == seller.user_id:
        author = "hand" if message.hand else "seller"
    return {
        "chat_id": message.chat_id,
        "message_id": message.message_id,
        "author": author,
        "text": message.text,
        "image_url": message.image.url if message.image else "",
        "created_at_ms": message.created_at_ms,
    }


def _said(message: Message) -> web.Response:
    return _json({"message_id": message.message_id, "chat_id": message.chat_id})


def _load(load: Load) -> web.Response:
    return _json(
        {
            "load_id": load.load_id,
            "messages": load.messages,
            "sent": load.sent,
            "waiting": load.waiting(),
            "done": load.done,
        }
    )
