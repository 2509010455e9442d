"""The simulated marketplace itself: sellers, buyers, chats, messages, items, orders. No I/O.

Ids and times look like the platform's (facts A13, A19); every message of a seller has its own millisecond, so
that order in time is order of writing and cursors lose nothing.
"""

from __future__ import annotations

import itertools
import secrets
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from frontdesk.kit.clock import Clock

MAX_CHAT_MESSAGES = 2_000
TOKEN_LIFE_MS = 86_400_000
SIGNING_LIFE_MS = 7_200_000

# A state of an order: the card's words, the chat's red reminder, the steps done on its page (A14, A20).
ORDER_STATES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "created": ("[我已拍下，待付款]", "等待买家付款", ("已拍下",)),
    "paid": ("[我已付款，等待你发货]", "等待卖家发货", ("已拍下", "已付款")),
    "shipped": ("[你已发货]", "等待买家收货", ("已拍下", "已付款", "已发货")),
    "done": ("[买家确认收货，交易成功]", "交易成功", ("已拍下", "已付款", "已发货", "交易成功")),
    "closed": ("[你关闭了订单，钱款已原路退返]", "交易关闭", ("已拍下", "交易关闭")),
    "refunding": ("[我发起了退款申请]", "退款中", ("已拍下", "已付款", "退款中")),
    "refunded": ("[退款成功，钱款已原路退返]", "退款成功", ("已拍下", "已付款", "退款成功")),
}
ORDER_STEPS = ("已拍下", "已付款", "已发货", "交易成功")


@dataclass(frozen=True, slots=True)
class Image:
    """An image of a message; pixels."""

    url: str
    width: int = 800
    height: int = 600


@dataclass(slots=True)
class Order:
    """An order of a buyer with a seller."""

    order_id: str
    seller_id: str
    buyer_id: str
    buyer_name: str
    chat_id: str
    item_id: str
    price: str
    quantity: int
    state: str
    created_at_ms: int


@dataclass(slots=True)
class Item:
    """An item on sale; the price in yuan."""

    item_id: str
    title: str
    price: str
    quantity: int
    description: str


@dataclass(slots=True)
class Message:
    """A message of a chat. `hand` says that a seller's was typed in the app, not sent over a socket."""

    message_id: str
    chat_id: str
    sender_id: str
    sender_name: str
    text: str
    created_at_ms: int
    image: Image | None = None
    order: Order | None = None
    order_state: str = ""
    hand: bool = False
    uuid: str = ""


@dataclass(slots=True)
class Chat:
    """The chat of one buyer with one seller about one item."""

    chat_id: str
    seller_id: str
    buyer_id: str
    buyer_name: str
    item_id: str
    modified_at_ms: int = 0
    unread: int = 0
    reminder: str = ""
    messages: deque[Message] = field(default_factory=lambda: deque(maxlen=MAX_CHAT_MESSAGES))

    def unread_messages(self) -> list[Message]:
        """From the oldest unread question on; order cards do not count as questions."""
        found: list[Message] = []
        left = self.unread
        for message in reversed(self.messages):
            if left <= 0:
                break
            found.append(message)
            left -= message.sender_id == self.buyer_id and message.order is None
        return found[::-1]


class Listener(Protocol):
    """The socket that a seller is logged in on."""

    def push(self, message: Message, chat: Chat) -> None:
        """Tell the seller's client of a message."""
        ...

    def remind(self, chat: Chat, at_ms: int) -> None:
        """Tell it that a chat's order mark changed."""
        ...


@dataclass(slots=True)
class Seller:
    """An account. `tokens` are access tokens with their device id and end."""

    user_id: str
    nickname: str
    signing: str
    signing_until_ms: int
    session: str
    logged_in: bool = True
    renewable: bool = True
    tokens: dict[str, tuple[str, int]] = field(default_factory=dict)
    chats: dict[str, Chat] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)
    listener: Listener | None = None
    registrations: int = 0
    last_ms: int = 0
    last_error: str = ""

    @property
    def cookies(self) -> str:
        """The cookies that its browser would have."""
        values = {
            "unb": self.user_id,
            "_m_h5_tk": f"{self.signing}_{self.signing_until_ms}",
            "_m_h5_tk_enc": self.signing[::-1],
            "cookie2": self.session,
            "_tb_token_": self.session[:12],
            "XSRF-TOKEN": self.session[12:24],
            "cna": f"cna{self.user_id}",
            "sgcookie": self.session[::-1],
            "csg": self.session[:8],
            "t": self.session,
        }
        return "; ".join(f"{name}={value}" for name, value in values.items())


OnMessage = Callable[[Seller, Chat, Message], None]


class World:
    """Everything that exists at the marketplace. `heard` is called for every message that is written."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self.sellers: dict[str, Seller] = {}
        self.orders: dict[str, Order] = {}
        self.heard: list[OnMessage] = []

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return self._clock.now_ms()

    def _moment(self, seller: Seller) -> int:
        """A time that no message of the seller has yet. Not of all sellers: under load it would run ahead."""
        seller.last_ms = max(seller.last_ms + 1, self._clock.now_ms())
        return seller.last_ms

    def add_seller(self, user_id: str = "", nickname: str = "") -> Seller:
        """A new account, or the one that has this id."""
        if user_id and user_id in self.sellers:
            return self.sellers[user_id]
        number = next(self._numbers)
        seller = Seller(
            user_id=user_id or str(2_200_000_000_000 + number),
            nickname=nickname or f"shop-{number}",
            signing=secrets.token_hex(16),
            signing_until_ms=self.now_ms() + SIGNING_LIFE_MS,
            session=secrets.token_hex(16),
        )
        self.sellers[seller.user_id] = seller
        return seller

    def add_item(
        self,
        seller: Seller,
        title: str,
        price: str,
        item_id: str = "",
        quantity: int = 1,
        description: str = "",
    ) -> Item:
        """An item on sale; the same id again changes it."""
        item_id = item_id or str(900_000_000_000 + next(self._numbers))
        description = description or f"{title}, as described"
        item = seller.items[item_id] = Item(item_id, title, price, quantity, description)
        return item

    def chat(self, seller: Seller, buyer: str, item_id: str = "") -> Chat:
        """The chat of a buyer (an id of digits, or a name) with a seller, made if needed."""
        for chat in seller.chats.values():
            if buyer in (chat.buyer_id, chat.buyer_name, chat.chat_id):
                chat.item_id = item_id or chat.item_id
                return chat
        number = next(self._numbers)
        buyer_id = buyer if buyer.isdigit() else str(3_300_000_000_000 + number)
        item_id = item_id or next(iter(seller.items), "") or str(900_000_000_000 + number)
        chat = Chat(str(50_000_000_000 + number), seller.user_id, buyer_id, buyer, item_id)
        seller.chats[chat.chat_id] = chat
        return chat

    def buyer_says(self, seller: Seller, chat: Chat, text: str, image: Image | None = None) -> Message:
        """A buyer's message; the seller's client is told when it is there."""
        chat.unread += 1
        return self._write(seller, chat, chat.buyer_id, chat.buyer_name, text, image=image)

    def seller_says(
        self, seller: Seller, chat: Chat, text: str, *, image: Image | None = None, hand: bool, uid: str = ""
    ) -> Message:
        """A seller's message, typed by hand or sent by a client; every socket of the seller shows it."""
        return self._write(
            seller, chat, seller.user_id, seller.nickname, text, image=image, hand=hand, uid=uid
        )

    def _write(
        self,
        seller: Seller,
        chat: Chat,
        sender_id: str,
        sender_name: str,
        text: str,
        *,
        image: Image | None = None,
        order: Order | None = None,
        hand: bool = False,
        uid: str = "",
    ) -> Message:
        at = self._moment(seller)
        message = Message(
            message_id=f"{at}{next(self._numbers) % 1000:03d}.PNM",
            chat_id=chat.chat_id,
            sender_id=sender_id,
            sender_name=sender_name,
            text=text,
            created_at_ms=at,
            image=image,
            order=order,
            order_state=order.state if order else "",
            hand=hand,
            uuid=uid,
        )
        chat.messages.append(message)
        chat.modified_at_ms = at
        for hear in self.heard:
            hear(seller, chat, message)
        if seller.listener is not None:
            seller.listener.push(message, chat)
        return message

    # Orders.

    def place_order(self, seller: Seller, chat: Chat, quantity: int = 1) -> Order:
        """A buyer takes an item; not paid yet."""
        item = seller.items.get(chat.item_id)
        order = Order(
            order_id=str(4_000_000_000_000_000 + next(self._numbers)),
            seller_id=seller.user_id,
            buyer_id=chat.buyer_id,
            buyer_name=chat.buyer_name,
            chat_id=chat.chat_id,
            item_id=chat.item_id,
            price=item.price if item else "1.00",
            quantity=quantity,
            state="created",
            created_at_ms=self.now_ms(),
        )
        self.orders[order.order_id] = order
        self._tell_order(order)
        return order

    def move_order(self, order: Order, state: str) -> None:
        """An order goes on; a card in the chat says so."""
        order.state = state
        self._tell_order(order)

    def _tell_order(self, order: Order) -> None:
        seller = self.sellers[order.seller_id]
        chat = seller.chats[order.chat_id]
        words, chat.reminder, _ = ORDER_STATES[order.state]
        author = seller.user_id if order.state in ("shipped", "closed") else order.buyer_id
        name = seller.nickname if author == seller.user_id else order.buyer_name
        message = self._write(seller, chat, author, name, words, order=order)
        if seller.listener is not None:
            seller.listener.remind(chat, message.created_at_ms)

    # Logins.

    def new_token(self, seller: Seller, device_id: str, life_ms: int = TOKEN_LIFE_MS) -> str:
        """An access token for a device; earlier ones of the device end."""
        seller.tokens = {t: v for t, v in seller.tokens.items() if v[0] != device_id}
        token = f"oauth_{uuid.uuid4().hex}{secrets.token_hex(16)}"
        seller.tokens[token] = (device_id, self.now_ms() + life_ms)
        return token

    def new_signing(self, seller: Seller) -> None:
        """A new `_m_h5_tk`."""
        seller.signing = secrets.token_hex(16)
        seller.signing_until_ms = self.now_ms() + SIGNING_LIFE_MS
