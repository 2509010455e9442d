"""Our own Goofish adapter against the simulator: both are written from the same facts and must agree."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from frontdesk.connection_gateway.platforms.errors import ErrorKind, PlatformError
from frontdesk.connection_gateway.platforms.goofish.adapter import Goofish
from frontdesk.connection_gateway.platforms.goofish.client import GoofishConnection
from frontdesk.connection_gateway.platforms.goofish.cookies import Cookies
from frontdesk.connection_gateway.platforms.goofish.http import MtopClient
from frontdesk.connection_gateway.platforms.goofish.settings import GoofishSettings
from frontdesk.connection_gateway.platforms.model import (
    ChatEvent,
    ChatMessage,
    CloseCause,
    OrderStatus,
    OrderUpdate,
    Push,
    SendState,
)
from frontdesk.kit.clock import SystemClock
from frontdesk.simulators.goofish.server import GoofishSimulator, SimulatorSettings
from frontdesk.simulators.goofish.state import Chat, Seller, World
from support.waiting import until

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (640).to_bytes(4, "big") + (480).to_bytes(4, "big")


@dataclass
class Bench:
    """A seller at the simulator and the adapter's parts for it."""

    simulator: GoofishSimulator
    goofish: Goofish
    seller: Seller
    cookies: Cookies
    said: list[ChatEvent] = field(default_factory=list)
    pushes: list[Push] = field(default_factory=list)

    @property
    def world(self) -> World:
        """The marketplace."""
        return self.simulator.world

    @property
    def http(self) -> MtopClient:
        """The adapter's HTTP calls."""
        return self.goofish.http(self.cookies)

    def messages(self) -> list[ChatMessage]:
        """Chat messages that were pushed."""
        return [event for event in self.said if isinstance(event, ChatMessage)]

    def orders(self) -> list[OrderUpdate]:
        """Order updates that were pushed."""
        return [event for event in self.said if isinstance(event, OrderUpdate)]

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[GoofishConnection]:
        """A connection that is ready and acknowledges."""

        async def take(push: Push, said: Sequence[ChatEvent]) -> None:
            self.pushes.append(push)
            self.said.extend(said)
            if made.ready:
                await made.ack(push)

        made = self.goofish.connection(self.seller.user_id, take)
        try:
            token = await self.http.token("DID")
            await made.connect(self.cookies, token.token, "DID")
            yield made
        finally:
            await made.close()


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """Simulator and adapter."""
    simulator = GoofishSimulator(SimulatorSettings())
    await simulator.start()
    url = simulator.http_url
    settings = GoofishSettings(
        ws_url=simulator.ws_url,
        api_url=url,
        passport_url=url,
        upload_url=f"{url}/api/upload.api?floderId=0&appkey=xy_chat&_input_charset=utf-8",
        request_timeout=2,
        ready_timeout=2,
        close_timeout=0.3,
    )
    goofish = Goofish(settings, SystemClock())
    seller = simulator.world.add_seller()
    try:
        yield Bench(simulator, goofish, seller, goofish.credentials(seller.cookies))
    finally:
        await goofish.close()
        await simulator.stop(1)


def _chat(shop: Bench) -> Chat:
    item = shop.world.add_item(shop.seller, "book", "9.90")
    return shop.world.chat(shop.seller, "anna", item.item_id)


async def test_message_is_understood_and_acknowledged() -> None:
    """Every field that the product stores of a buyer's message arrives as it was written."""
    async with bench() as shop, shop.connected():
        chat = _chat(shop)
        written = shop.world.buyer_says(shop.seller, chat, "在吗")
        await until(lambda: bool(shop.messages()))
        got = shop.messages()[0]
        assert (got.chat_id, got.message_id, got.text) == (chat.chat_id, written.message_id, "在吗")
        assert (got.sender_id, got.peer_id, got.sender_name) == (chat.buyer_id, chat.buyer_id, "anna")
        assert (got.item_id, got.created_at_ms) == (chat.item_id, written.created_at_ms)
        assert (got.own, got.system, got.content_type) == (False, False, 1)
        await until(lambda: shop.simulator.hub.acks >= 1)


async def test_sends_are_accepted_and_echoed_as_own() -> None:
    """Text and image reach the buyer, and come back as the account's own."""
    async with bench() as shop, shop.connected() as made:
        chat = _chat(shop)
        text = await made.send_text(chat.chat_id, chat.buyer_id, "在的", "d.1")
        image = await shop.http.upload_image(PNG, "a.png")
        assert (image.width, image.height) == (640, 480)
        picture = await made.send_image(chat.chat_id, chat.buyer_id, image, "d.2")
        assert (text.state, picture.state) == (SendState.ACCEPTED, SendState.ACCEPTED)
        stored = list(chat.messages)
        assert [m.message_id for m in stored] == [text.message_id, picture.message_id]
        assert stored[1].image is not None
        assert (stored[0].text, stored[1].image.url) == ("在的", image.url)
        await until(lambda: len(shop.messages()) == 2)
        assert all(m.own and m.peer_id in ("", chat.buyer_id) for m in shop.messages())
        assert shop.messages()[1].image_urls == (image.url,)


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ({"reject_sends": "CSI_FORBID||安全拦截"}, SendState.REJECTED),
        ({"temporary_send_errors": 1}, SendState.TEMPORARY),
        ({"drop_send_answers": 1}, SendState.UNANSWERED),
    ],
)
async def test_send_outcomes(fault: dict[str, object], state: SendState) -> None:
    """Each way in which a send fails has its own state."""
    async with bench() as shop, shop.connected() as made:
        shop.simulator.faults.set(None, fault)
        chat = _chat(shop)
        assert (await made.send_text(chat.chat_id, chat.buyer_id, "x", "d.1")).state is state


async def test_missed_messages_are_found_in_list_and_history() -> None:
    """After an absence the list names the chat, and the history has the messages with all their fields."""
    async with bench() as shop:
        chat = _chat(shop)
        written = [shop.world.buyer_says(shop.seller, chat, text) for text in ("a", "b", "c")]
        async with shop.connected() as made:
            page = await made.conversations()
            assert [c.chat_id for c in page.conversations] == [chat.chat_id]
            assert page.conversations[0].unread == 3
            first = await made.history(chat.chat_id, limit=2)
            second = await made.history(chat.chat_id, limit=2, cursor=first.next_cursor)
            found = sorted((*first.events, *second.events), key=lambda m: m.created_at_ms)
            assert [(m.message_id, m.text) for m in found] == [(w.message_id, w.text) for w in written]
            assert all(isinstance(m, ChatMessage) and not m.own and not m.system for m in found)
            assert (first.has_more, second.has_more) == (True, False)
            await made.mark_read(chat.chat_id, [w.message_id for w in written])
            assert chat.unread == 0
        assert shop.messages() == []


async def test_chat_is_created() -> None:
    """The product may open a chat; the same pair gives the same."""
    async with bench() as shop, shop.connected() as made:
        chat = _chat(shop)
        assert await made.create_chat(chat.item_id, chat.buyer_id) == chat.chat_id
        assert await shop.http.user_name(chat.chat_id) == "anna"


async def test_order_is_followed_and_shipped_once() -> None:
    """Cards become order updates; shipping is confirmed, and the second time says that it was."""
    async with bench() as shop, shop.connected():
        chat = _chat(shop)
        order = shop.world.place_order(shop.seller, chat, 2)
        assert not (await shop.http.order(order.order_id)).to_ship
        shop.world.move_order(order, "paid")
        found = await shop.http.order(order.order_id)
        assert (found.to_ship, found.status, found.quantity) == (True, OrderStatus.PAID, 2)
        assert (found.item_id, found.buyer_id, found.price) == (chat.item_id, chat.buyer_id, "9.90")
        sold = (await shop.http.sold_orders(to_ship=True)).orders
        assert [(o.order_id, o.to_ship) for o in sold] == [(order.order_id, True)]
        assert [await shop.http.confirm_shipping(order.order_id) for _ in range(2)] == [False, True]
        shop.world.move_order(order, "done")
        cards = [OrderStatus.CREATED, OrderStatus.PAID, OrderStatus.SHIPPED, OrderStatus.DONE]
        await until(lambda: [o.status for o in shop.orders() if o.message_id] == cards)
        assert {o.order_id for o in shop.orders() if o.message_id} == {order.order_id}
        assert all(message.system for message in shop.messages())


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("closed", OrderStatus.CLOSED),
        ("refunding", OrderStatus.REFUND_REQUESTED),
        ("refunded", OrderStatus.REFUNDED),
    ],
)
async def test_order_ends_otherwise(state: str, status: OrderStatus) -> None:
    """Card, page and list of an order that fell through agree."""
    async with bench() as shop, shop.connected():
        order = shop.world.place_order(shop.seller, _chat(shop))
        shop.world.move_order(order, "paid")
        shop.world.move_order(order, state)
        await until(lambda: [o.status for o in shop.orders() if o.message_id][-1:] == [status])
        assert (await shop.http.order(order.order_id)).status is status
        assert [o.status for o in (await shop.http.sold_orders()).orders] == [status]
        assert not (await shop.http.order(order.order_id)).to_ship


async def test_items() -> None:
    """One item and the pages of items."""
    async with bench() as shop:
        made = [shop.world.add_item(shop.seller, f"book {n}", f"{n}.50", quantity=n) for n in range(1, 4)]
        item = await shop.http.item(made[1].item_id)
        assert (item.title, item.price, item.quantity) == ("book 2", "2.50", 2)
        first, second = await shop.http.items(1, 2), await shop.http.items(2, 2)
        assert [i.title for i in (*first.items, *second.items)] == ["book 1", "book 2", "book 3"]
        assert (first.has_more, second.has_more) == (True, False)


async def test_login_is_renewed_until_it_is_gone() -> None:
    """A session that ended is renewed with a new cookie; a login that ended needs a person."""
    async with bench() as shop:
        shop.seller.logged_in = False
        with pytest.raises(PlatformError) as caught:
            await shop.http.token("DID")
        assert caught.value.kind is ErrorKind.AUTHENTICATION
        assert await shop.http.renew_login()
        assert shop.cookies.get("cookie2") == shop.seller.session
        assert (await shop.http.token("DID")).token
        shop.seller.logged_in = shop.seller.renewable = False
        assert not await shop.http.renew_login()


async def test_stale_signing_token_is_renewed() -> None:
    """The adapter takes the new `_m_h5_tk` and repeats the call."""
    async with bench() as shop:
        shop.world.new_signing(shop.seller)
        assert (await shop.http.token("DID")).token
        assert shop.cookies.changed


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"risk_control": True}, ErrorKind.RISK_CONTROL),
        ({"html": True}, ErrorKind.RISK_CONTROL),
        ({"http_status": 503}, ErrorKind.NETWORK),
    ],
)
async def test_http_faults_have_their_kind(fault: dict[str, object], kind: ErrorKind) -> None:
    """Risk control is told from a gateway that is down."""
    async with bench() as shop:
        shop.simulator.faults.set(None, fault)
        with pytest.raises(PlatformError) as caught:
            await shop.http.token("DID")
        assert caught.value.kind is kind


async def test_second_connection_kicks_the_first() -> None:
    """The first connection ends with its own cause."""
    async with bench() as shop, shop.connected() as first, shop.connected():
        assert (await first.wait_closed()).cause is CloseCause.KICKED


@pytest.mark.parametrize(
    "fault",
    [
        {"batch_pushes": 3},
        {"plain_payloads": 1},
        {"malformed_frames": 6},
        {"duplicate_pushes": 1},
        {"forged_ackdiff_400": True},
        {"before_ready_400": True},
    ],
)
async def test_messages_arrive_despite(fault: dict[str, object]) -> None:
    """Nothing that the platform does to frames loses a message."""
    async with bench() as shop:
        shop.simulator.faults.set(None, fault)
        async with shop.connected() as made:
            chat = _chat(shop)
            for text in "abcdef":
                shop.world.buyer_says(shop.seller, chat, text)
            await until(lambda: {m.text for m in shop.messages()} == set("abcdef"))
            assert made.ready
