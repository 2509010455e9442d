"""What the rest of the gateway may ask of a marketplace; one implementation a platform.

The account's session (accounts/) knows these interfaces only, so a second marketplace is a second
package here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from frontdesk.connection_gateway.platforms.model import (
    AccessToken,
    ChatEvent,
    Closed,
    ConversationPage,
    HistoryPage,
    Item,
    ItemPage,
    Order,
    OrderPage,
    Push,
    SendResult,
    UploadedImage,
)

OnPush = Callable[[Push, Sequence[ChatEvent]], Awaitable[None]]
"""Takes what the platform said. The next frame is read when it returns: it may wait for room (that is the
back-pressure), must not wait for an answer of the same connection, and acknowledges later with `ack`."""

OnWritten = Callable[[], None]
"""Called in the moment a frame goes to the socket; when it never was, nothing was sent."""


class Credentials(Protocol):
    """The login of one account.

    `changed` means the platform renewed it: store `header()`, then `mark_saved()`.
    """

    @property
    def user_id(self) -> str:
        """The account's id on the platform."""
        ...

    @property
    def changed(self) -> bool:
        """Whether the platform renewed something since `mark_saved`."""
        ...

    def header(self) -> str:
        """The whole login as text; parsing it gives the same credentials. A secret."""
        ...

    def mark_saved(self) -> None:
        """Forget that something changed."""
        ...


class PlatformHttp(Protocol):
    """The calls of one account outside its connection. All raise PlatformError."""

    async def token(self, device_id: str) -> AccessToken:
        """A new access token; the platform's most risk-sensitive call: keep and reuse the answer."""
        ...

    async def item(self, item_id: str) -> Item:
        """One item, with variants."""
        ...

    async def items(self, page: int = 1, size: int = 20) -> ItemPage:
        """The account's items on sale; pages count from 1."""
        ...

    async def order(self, order_id: str) -> Order:
        """One order as it stands."""
        ...

    async def sold_orders(self, page: int = 1, *, to_ship: bool = False) -> OrderPage:
        """The account's sold orders, or only those to ship; pages count from 1."""
        ...

    async def confirm_shipping(self, order_id: str) -> bool:
        """Tell the platform that the order is shipped. True when it was before this call."""
        ...

    async def user_name(self, chat_id: str) -> str:
        """The name of the other person in the chat."""
        ...

    async def renew_login(self) -> bool:
        """Lengthen the login; False when it is gone and a person has to log in again."""
        ...

    async def upload_image(self, data: bytes, name: str) -> UploadedImage:
        """Store a PNG or JPEG at the platform."""
        ...


class PlatformConnection(Protocol):
    """One live session of one account. Used once: connect, work, end."""

    @property
    def ready(self) -> bool:
        """Whether requests and sends are possible now."""
        ...

    @property
    def last_heartbeat_ms(self) -> int:
        """When a heartbeat was last answered, Unix milliseconds, 0 for never."""
        ...

    async def connect(self, credentials: Credentials, token: str, device_id: str) -> None:
        """Open and register; returns when ready. Raises PlatformError, and then nothing is left open."""
        ...

    async def wait_closed(self) -> Closed:
        """Return how the connection ended, once it has."""
        ...

    async def close(self) -> None:
        """End it on purpose; idempotent."""
        ...

    async def ack(self, push: Push) -> None:
        """Tell the platform that a push is stored. Raises NotConnectedError: it will push again."""
        ...

    async def send_text(
        self, chat_id: str, peer_id: str, text: str, outgoing_id: str, on_written: OnWritten | None = None
    ) -> SendResult:
        """Say `text`; frames go out in the order of the calls.

        Never raises for what the platform or link does.
        """
        ...

    async def send_image(
        self,
        chat_id: str,
        peer_id: str,
        image: UploadedImage,
        outgoing_id: str,
        on_written: OnWritten | None = None,
    ) -> SendResult:
        """Send an image that the platform keeps."""
        ...

    async def history(self, chat_id: str, limit: int = 20, cursor: int | None = None) -> HistoryPage:
        """The chat's messages from `cursor` (None: the newest) backwards. Raises PlatformError."""
        ...

    async def conversations(self, cursor: int | None = None, limit: int = 20) -> ConversationPage:
        """The account's chats from `cursor` (None: the newest) backwards. Raises PlatformError."""
        ...

    async def create_chat(self, item_id: str, buyer_id: str) -> str:
        """The id of the chat with a buyer about an item, made if needed. Raises PlatformError."""
        ...

    async def mark_read(self, chat_id: str, message_ids: Sequence[str]) -> None:
        """Show the messages as read to the buyer and clear the chat's unread mark. Raises PlatformError."""
        ...


class Platform(Protocol):
    """One marketplace: makes the parts of its accounts."""

    def credentials(self, text: str) -> Credentials:
        """Parse what a person pasted. Raises InvalidArgument with field `cookies`."""
        ...

    def device_id(self, user_id: str) -> str:
        """A new device id; keep it with the account as long as its token is used."""
        ...

    def http(self, credentials: Credentials) -> PlatformHttp:
        """The HTTP calls of an account; `credentials` are renewed in place."""
        ...

    def connection(self, user_id: str, on_push: OnPush) -> PlatformConnection:
        """A connection for an account, not yet open."""
        ...

    async def close(self) -> None:
        """Release what the accounts share."""
        ...
