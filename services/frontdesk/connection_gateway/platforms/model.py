"""What every marketplace has in common: chats, orders, items and the outcome of a send.

Ids are the platform's own without its suffixes (`50000000001`, not `50000000001@goofish`), except
message ids, which are whole. Times are Unix milliseconds, 0 when the platform did not say. Prices are
yuan as text.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from frontdesk.connection_gateway.platforms.errors import PlatformError


class OrderStatus(enum.Enum):
    """Where an order stands; values equal `frontdesk.api.events.v1.OrderStatus`."""

    UNKNOWN = 0
    CREATED = 1
    PAID = 2
    SHIPPED = 3
    DONE = 4
    CLOSED = 5
    REFUND_REQUESTED = 6
    REFUNDED = 7


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """A message in a chat.

    `own` means the account itself wrote it (by hand or through us), `system` that the platform did:
    cards, tips and notices, never answered. `peer_id` is the other person of the chat, empty when the
    platform did not say.
    """

    chat_id: str
    message_id: str
    sender_id: str
    sender_name: str
    text: str
    content_type: int
    image_urls: tuple[str, ...]
    item_id: str
    created_at_ms: int
    own: bool
    system: bool
    peer_id: str


@dataclass(frozen=True, slots=True)
class OrderUpdate:
    """An order of a chat changed, said by the platform itself, never by a typed text.

    `message_id` is empty when the change is no message of its own (a reminder, or a card that was rewritten).
    """

    chat_id: str
    order_id: str
    status: OrderStatus
    text: str
    item_id: str
    buyer_id: str
    message_id: str
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class Typing:
    """The other person types."""

    chat_id: str


@dataclass(frozen=True, slots=True)
class ReadReceipt:
    """The other person read these messages."""

    chat_id: str
    message_ids: tuple[str, ...]
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that is neither a message nor an order.

    `kind` is `new_message` (there is a message, read the history if it does not arrive), `recalled`,
    `deleted`, `extension`, `cleared`, `read`, `typing`, `operation`, `card` or `unknown`.
    """

    kind: str
    chat_id: str = ""
    message_id: str = ""
    created_at_ms: int = 0


ChatEvent = ChatMessage | OrderUpdate | Typing | ReadReceipt | Notice
"""Everything one data item of a push may say."""


@dataclass(frozen=True, slots=True)
class Push:
    """A frame that wants an acknowledgement: hand it back to `ack` once its events are stored.

    `resync` means that the platform skipped messages: read the histories back.
    """

    path: str
    headers: dict[str, object]
    resync: bool = False


class SendState(enum.StrEnum):
    """How a send ended."""

    ACCEPTED = "accepted"
    """The platform has it."""
    REJECTED = "rejected"
    """The platform refused the content; saying the same again is refused again."""
    TEMPORARY = "temporary"
    """The platform could not take it now; not delivered as far as it says."""
    UNANSWERED = "unanswered"
    """Written, and no answer: only the history knows."""
    NOT_WRITTEN = "not_written"
    """Nothing reached the socket."""


@dataclass(frozen=True, slots=True)
class SendResult:
    """Outcome of one send. `message_id` and `created_at_ms` are set when ACCEPTED, `reason` otherwise."""

    state: SendState
    message_id: str = ""
    created_at_ms: int = 0
    reason: str = ""

    @property
    def written(self) -> bool:
        """Whether the frame may have reached the platform."""
        return self.state is not SendState.NOT_WRITTEN


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """One page of a chat, newest first as the platform gives it; `next_cursor` continues when `has_more`."""

    events: tuple[ChatMessage | OrderUpdate, ...]
    next_cursor: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class Conversation:
    """One chat of the list. `status` is the order state the platform shows beside it."""

    chat_id: str
    peer_id: str
    item_id: str
    item_title: str
    unread: int
    modified_at_ms: int
    status: OrderStatus
    last: ChatMessage | OrderUpdate | None


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """One page of the chats, most recently changed first."""

    conversations: tuple[Conversation, ...]
    next_cursor: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token that opens the session, tied to the device id it was asked for."""

    token: str
    expires_at_ms: int

    def __repr__(self) -> str:
        return f"AccessToken(expires_at_ms={self.expires_at_ms})"


@dataclass(frozen=True, slots=True)
class Sku:
    """A variant of an item; `spec` is its property values joined by `;`."""

    spec: str
    price: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Item:
    """An item of the marketplace."""

    item_id: str
    title: str
    description: str
    price: str
    quantity: int
    status: str
    skus: tuple[Sku, ...]


@dataclass(frozen=True, slots=True)
class ItemPage:
    """One page of the account's own items; descriptions and variants are not part of a list."""

    items: tuple[Item, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Order:
    """An order. `to_ship` means paid and not yet shipped, with nothing left to wait for."""

    order_id: str
    item_id: str
    buyer_id: str
    buyer_name: str
    quantity: int
    sku: str
    price: str
    status: OrderStatus
    to_ship: bool
    group_bargain: bool = False


@dataclass(frozen=True, slots=True)
class OrderPage:
    """One page of the account's sold orders."""

    orders: tuple[Order, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class UploadedImage:
    """An image the platform keeps; pixels, 0 when it did not say."""

    url: str
    width: int
    height: int


class CloseCause(enum.StrEnum):
    """Why a connection ended."""

    LOCAL = "local"
    """We closed it on purpose."""
    PEER = "peer"
    """The platform closed it, or the network did; `code` is the WebSocket code, 1006 for none."""
    KICKED = "kicked"
    """Another session took the account over, or heartbeats were missed."""
    SESSION_REMOVED = "session_removed"
    """The platform removed the session: its limit of connections."""
    HEARTBEAT = "heartbeat"
    """The link is dead: silence, or heartbeats without an answer."""
    TOKEN = "token"  # noqa: S105  # a cause, not a secret
    """The platform no longer takes the access token."""
    REJECTED = "rejected"
    """The platform refused to open the session."""
    INTERNAL = "internal"
    """The receiver of pushes failed."""


@dataclass(frozen=True, slots=True)
class Closed:
    """How a connection ended; `error` is what its session should act on, None when we closed it ourselves."""

    cause: CloseCause
    code: int = 0
    error: PlatformError | None = None
